"""A supernet knows its images again, and refuses others."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import DataError, FileFormatError, InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

FRACTIONS = (0.4, 0.3, 0.3)


def pictures(n=60, classes=("ant", "bee"), size=16, seed=0, **options):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    options = {"name": "insects", "fractions": FRACTIONS, **options}
    return pf.data.split(images, np.arange(n) % len(classes), classes, **options)


@pytest.fixture(scope="module")
def data():
    return pictures()


@pytest.fixture(scope="module")
def net(data):
    space = pf.spaces.get("mbv3-tiny", classes=2, resolutions=(16,))
    net = pf.supernet.build(space)
    pf.supernet.train(net, data, epochs=1, batch_size=8)
    return net


@pytest.fixture
def again(net, tmp_path):
    pf.supernet.save(net, tmp_path / "net.safetensors")
    return pf.supernet.load(tmp_path / "net.safetensors")


def arch_of(net):
    return net.space.sample(1, seed=3)


def test_a_file_remembers_what_was_trained_on(again, data):
    known = again.trained_on
    assert (known.name, known.classes, known.resolution) == ("insects", ("ant", "bee"), 16)
    assert (known.seed, known.fractions, known.images) == (0, FRACTIONS, (24, 18, 18))
    assert known.train_sha256 == data.train.fingerprint
    np.testing.assert_array_equal(known.calibration, data.train.images)
    assert repr(known).count("\n") == 0
    assert pf.supernet.evaluate(again, arch_of(again), data).shape == (1,)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"classes": ("ant", "wasp")}, "class 1 is 'wasp' instead of 'bee'"),
        ({"seed": 1}, "other training images|seed=1 instead of 0"),
        ({"fractions": (0.5, 0.25, 0.25)}, "28/16/16 .* instead of 24/18/18"),
        ({"n": 80}, "32/24/24 training/validation/test images"),
    ],
)
def test_other_images_are_refused_and_the_difference_is_named(again, other, difference):
    changed = pictures(**other)
    static = again.extract(arch_of(again)[0])
    for use in (
        lambda **options: pf.supernet.evaluate(again, arch_of(again), changed, **options),
        lambda **options: pf.supernet.recalibrate(static, changed, **options),
    ):
        with pytest.raises(DataError, match=difference) as caught:
            use()
        assert "seed=0, fractions=(0.4, 0.3, 0.3)" in str(caught.value)
        assert "--other-data" in str(caught.value)
        use(other_data=True)


def test_another_split_of_the_same_images_is_refused(net):
    """A different seed puts images that were learned from among those that are judged on."""
    with pytest.raises(DataError, match="split with seed=5 instead of 0"):
        pf.supernet.evaluate(net, arch_of(net), _split_anew(5))


def _split_anew(seed):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    return pf.data.split(
        images,
        np.arange(60) % 2,
        ("ant", "bee"),
        name="insects",
        fractions=FRACTIONS,
        seed=seed,
    )


def test_fewer_images_to_judge_on_are_no_other_images(net, data):
    few = pf.data.Split(data.test.images[:5], data.test.labels[:5])
    part = dataclasses.replace(data, test=few)
    assert pf.supernet.evaluate(net, arch_of(net), part, split="test").shape == (1,)


def test_classes_without_names_fit_those_with(net, data):
    """Shards have numbers only, where the supernet may know names."""
    unnamed = dataclasses.replace(data, classes=("0", "1"))
    assert pf.supernet.evaluate(net, arch_of(net), unnamed).shape == (1,)


def test_recalibrating_without_data_is_recalibrating_with_it(again, data):
    row = arch_of(again)[0]
    with_data = pf.supernet.recalibrate(again.extract(row), data)
    without = pf.supernet.recalibrate(again.extract(row))
    assert all(
        torch.equal(a, b)
        for a, b in zip(with_data.state_dict().values(), without.state_dict().values(), strict=True)
    )


def test_without_images_nothing_is_guessed(net, tmp_path):
    fresh = pf.supernet.build(net.space)
    assert fresh.trained_on is None
    with pytest.raises(DataError, match="carries no training images"):
        pf.supernet.recalibrate(fresh.extract(arch_of(fresh)[0]))
    pf.supernet.save(net, tmp_path / "bare.safetensors", calibration=False)
    bare = pf.supernet.load(tmp_path / "bare.safetensors")
    assert bare.trained_on.calibration is None
    assert bare.trained_on.train_sha256 == net.trained_on.train_sha256
    with pytest.raises(DataError, match="trained on 'insects'"):
        pf.supernet.recalibrate(bare.extract(arch_of(bare)[0]))


def test_large_images_are_carried_in_small_numbers_or_not_at_all():
    from pnag_fast.supernet.trained_on import remember

    def carried(size, n=300):
        images = np.zeros((n, size, size, 3), np.uint8)
        part = pf.data.Split(images, np.zeros(n, np.int64))
        return remember(pf.data.ImageData(part, part, part, ("a", "b"), "x")).calibration

    assert len(carried(32)) == 256
    assert 32 <= len(carried(224)) < 256
    assert carried(224).nbytes <= 8 << 20
    assert carried(512, 40) is None
    assert len(carried(512, 3)) == 3


def test_files_of_the_first_version_are_read_and_know_nothing(net, data, tmp_path):
    from pnag_fast.supernet.checkpoint import weight_arrays

    path = tmp_path / "old.safetensors"
    body = {"space": net.space.definition}
    files.write_safetensors(path, "pnag-supernet", 1, weight_arrays(net), body)
    old = pf.supernet.load(path)
    assert old.trained_on is None
    assert pf.supernet.evaluate(old, arch_of(old), pictures(seed=4)).shape == (1,)
    pf.supernet.train(old, data, epochs=1, batch_size=8)
    assert old.trained_on.name == "insects"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("classes", ["ant"]),
        ("classes", ["ant", 2]),
        ("resolution", 0),
        ("resolution", 32),
        ("resize", {}),
        ("train_sha256", "abc"),
        ("images", [1, 2]),
        ("images", [1, 2, -3]),
        ("seed", -1),
        ("seed", 10**400),
        ("fractions", [0.5, 0.5]),
        ("fractions", [0.5, 0.5, "x"]),
        ("colour", "blue"),
    ],
)
def test_damaged_memories_are_refused(net, tmp_path, key, value):
    from pnag_fast.supernet.checkpoint import weight_arrays

    arrays = weight_arrays(net) | {"calibration.images": net.trained_on.calibration}
    known = net.trained_on.header() | {key: value}
    body = {"space": net.space.definition, "trained_on": known}
    path = tmp_path / "damaged.safetensors"
    files.write_safetensors(path, "pnag-supernet", 2, arrays, body)
    with pytest.raises(FileFormatError):
        pf.supernet.load(path)


def test_the_published_supernet_knows_its_images():
    known = pf.supernet.published("mbv3-cifar").trained_on
    assert known.name == "CIFAR-10"
    assert known.classes[:2] + known.classes[-1:] == ("airplane", "automobile", "truck")
    assert (known.resolution, known.images, known.seed) == (32, (45_000, 5_000, 10_000), 0)


@pytest.mark.shared_data
@pytest.mark.slow
def test_the_published_supernet_knows_cifar_again(shared_data):
    known = pf.supernet.published("mbv3-cifar").trained_on
    assert known.differences(pf.data.load(shared_data / "cifar10", 32)) == []
    assert known.differences(pf.data.load(shared_data / "cifar10", 32, seed=1))


# --- the command ---------------------------------------------------------------------------------


def tmp_out(folder):
    return Path(tempfile.mkdtemp(dir=folder))


@pytest.fixture(scope="module")
def command(data, net, tmp_path_factory):
    """Run ``pnag`` in a folder with supernets and images; returns its JSON."""
    from click.testing import CliRunner

    from pnag_fast.cli import pnag

    folder = tmp_path_factory.mktemp("command")
    pf.supernet.save(net, folder / "insects.safetensors")
    fresh = pf.supernet.build(net.space)
    pf.supernet.save(fresh, folder / "fresh.safetensors")
    images = np.concatenate([p.images for p in (data.train, data.validation, data.test)])
    labels = np.concatenate([p.labels for p in (data.train, data.validation, data.test)])
    names = np.array(data.classes)
    np.savez(folder / "other.npz", images=images, labels=labels, classes=names)
    arch = net.space.to_strings(arch_of(net))[0]

    def run(*arguments):
        paths = [
            str(folder / a) if str(a).endswith((".safetensors", ".npz")) else a for a in arguments
        ]
        if paths[0] == "export":
            paths += ["--arch", arch, "--out", str(tmp_out(folder) / "net.onnx")]
        else:
            paths += ["--architectures", "2", "--out", str(tmp_out(folder) / "net.csv")]
        done = CliRunner().invoke(pnag, [*paths, "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def test_export_without_data_uses_what_the_supernet_carries(command):
    """It used to recalibrate on handwritten digits, whatever the supernet was trained on."""
    pytest.importorskip("onnx")
    assert command("export", "--supernet", "insects.safetensors")["top1_validation"] is None
    with pytest.raises(DataError, match="carries no training images"):
        command("export", "--supernet", "fresh.safetensors")
    with pytest.raises(DataError, match="is not what this supernet was trained on"):
        command("export", "--supernet", "insects.safetensors", "--data", "other.npz")
    found = command(
        "export", "--supernet", "insects.safetensors", "--data", "other.npz", "--other-data"
    )
    assert 0 <= found["top1_validation"] <= 1


def test_evaluate_without_the_right_images_is_refused(command):
    for path, message in (
        ("insects.safetensors", "trained on 'insects'.*--data"),
        ("fresh.safetensors", "--data"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            command("supernet", "evaluate", path)
    with pytest.raises(DataError, match="is not what this supernet was trained on"):
        command("supernet", "evaluate", "insects.safetensors", "--data", "other.npz")
    found = command(
        "supernet", "evaluate", "insects.safetensors", "--data", "other.npz", "--other-data"
    )
    assert found["architectures"] == 2


def test_a_supernet_of_digits_finds_them_in_its_own_split(tmp_path):
    """Those of the quickstart are split by other fractions than the default."""
    from click.testing import CliRunner

    from pnag_fast.cli import pnag

    pytest.importorskip("sklearn")
    digits = pf.data.load_digits(16, fractions=(0.3, 0.35, 0.35), seed=2)
    net = pf.supernet.build(pf.spaces.get("mbv3-tiny", resolutions=(16,)))
    net.trained_on = pf.supernet.trained_on.remember(digits)
    pf.supernet.save(net, tmp_path / "net.safetensors")
    arguments = ["supernet", "evaluate", str(tmp_path / "net.safetensors"), "--architectures", "2"]
    arguments += ["--out", str(tmp_path / "table.csv"), "--seed", "1", "--json"]
    done = CliRunner().invoke(pnag, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
