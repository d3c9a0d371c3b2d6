from __future__ import annotations

import dataclasses
import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import (
    DataError,
    FileFormatError,
    InvalidInputError,
    PnagError,
    TrainingError,
)
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from pnag_fast.runs.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_VERSION  # noqa: E402
from pnag_fast.supernet import training  # noqa: E402
from pnag_fast.supernet.augmentation import Augmentation  # noqa: E402


def small_space(resolutions=(8,), classes=10, expand_ratios=(2, 3)):
    network = MobileNetV3(
        channels=(8, 8, 16),
        strides=(1, 2),
        activations=("relu", "h_swish"),
        squeeze_excite=(False, True),
        expand_channels=48,
        feature_channels=48,
        stem_stride=1,
        max_depth=2,
        kernels=(3, 5),
        expand_ratios=expand_ratios,
        classes=classes,
    )
    return mobilenetv3_space("small", network, min_depth=1, resolutions=resolutions)


@pytest.fixture(scope="module")
def space():
    return small_space()


@pytest.fixture(scope="module")
def digits():
    return pf.data.load_digits(8)


@pytest.fixture(scope="module")
def few(digits):
    """So few digits that an epoch takes a moment."""
    part = digits.train
    return pf.data.split(part.images[:160], part.labels[:160], digits.classes, name="few")


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same_weights(a, b):
    assert list(a) == list(b)
    # The number of batches seen is not kept: with a fixed momentum it plays no part.
    different = [n for n in a if not n.endswith("tracked") and not torch.equal(a[n], b[n])]
    assert different == []


@pytest.fixture(scope="module")
def trained(space, digits):
    net = pf.supernet.build(space, seed=1)
    return net, pf.supernet.train(net, digits, epochs=8, batch_size=32, seed=1)


def test_training_teaches_large_and_small_networks(trained, space, digits):
    net, log = trained
    assert [record.epoch for record in log.epochs] == list(range(1, 9))
    assert log.recipe == "sandwich"
    assert log.resumed_after == 0
    assert log.epochs[-1].loss < 0.6 * log.epochs[0].loss
    assert log.epochs[-1].distillation_loss < 0.8 * log.epochs[0].distillation_loss
    assert log.epochs[-1].learning_rate < 0.01 * log.epochs[1].learning_rate
    assert not net.training
    smallest, largest = pf.supernet.evaluate(net, pf.supernet.extremes(space), digits)
    # Guessing gets 0.1.
    assert largest > 0.75
    assert smallest > 0.5


def test_same_seed_same_weights_whatever_the_global_random_state(space, few):
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        net = pf.supernet.build(space)
        pf.supernet.train(net, few, epochs=1, batch_size=16, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state(net))
    assert_same_weights(states[0], states[1])
    assert not torch.equal(states[0]["stem.conv.weight"], states[2]["stem.conv.weight"])


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("steps", [1, 7, 11, 15])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path, space, few, steps):
    options = {"epochs": 3, "batch_size": 16, "n_random": 1, "seed": 4, "flip": True}
    unbroken = pf.supernet.build(space, seed=2)
    expected = pf.supernet.train(unbroken, few, **options)

    def stop(description, done, total):
        assert total == 3 * (len(few.train) // 16)
        if done == steps:
            raise Interrupted

    path = tmp_path / "training.safetensors"
    net = pf.supernet.build(space, seed=2)
    with pytest.raises(Interrupted):
        pf.supernet.train(net, few, checkpoint=path, progress=stop, **options)
    done = (steps - 1) // (len(few.train) // 16)
    assert path.exists() == (done > 0)

    net = pf.supernet.build(space, seed=2)
    log = pf.supernet.train(net, few, checkpoint=path, **options)
    assert log.resumed_after == done
    assert_same_weights(state(net), state(unbroken))
    assert [r.loss for r in log.epochs] == [r.loss for r in expected.epochs]

    # A finished run is read, not repeated; its starting weights no longer matter.
    other = pf.supernet.build(space, seed=3)
    again = pf.supernet.train(other, few, checkpoint=path, **options)
    assert again.resumed_after == 3
    assert_same_weights(state(other), state(unbroken))


@pytest.fixture
def checkpoint(tmp_path, space, few):
    """One epoch of two."""
    path = tmp_path / "training.safetensors"

    def stop(description, done, total):
        if done == total // 2 + 1:
            raise Interrupted

    net = pf.supernet.build(space)
    with pytest.raises(Interrupted):
        pf.supernet.train(net, few, epochs=2, batch_size=16, checkpoint=path, progress=stop)
    return path


def test_a_checkpoint_of_another_run_is_refused(checkpoint, space, few, digits):
    before = checkpoint.read_bytes()
    net = pf.supernet.build(space)
    with pytest.raises(InvalidInputError, match=r"other phases \(epochs 2, now 3\)"):
        pf.supernet.train(net, few, epochs=3, batch_size=16, checkpoint=checkpoint)
    with pytest.raises(InvalidInputError, match="other data"):
        pf.supernet.train(net, digits, epochs=2, batch_size=16, checkpoint=checkpoint)
    wider = pf.supernet.build(small_space(expand_ratios=(2, 4)))
    with pytest.raises(InvalidInputError, match="other space"):
        pf.supernet.train(wider, few, epochs=2, batch_size=16, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def read_state(path):
    """Arrays and header of the one phase of a training."""
    arrays, body = files.read_safetensors(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
    assert list(body["phases"]) == ["training"]
    named = {name.removeprefix("training/"): array for name, array in arrays.items()}
    return named, body["phases"]["training"]["header"]


def write_state(path, arrays, header, **state):
    """Put others in the place of what `read_state` read."""
    _, body = files.read_safetensors(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
    state = {**body["phases"]["training"], **state, "header": header}
    named = {f"training/{name}": array for name, array in arrays.items()}
    body = {**body, "phases": {"training": state}}
    files.write_safetensors(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, named, body)


def test_a_broken_checkpoint_is_refused_and_changes_nothing(checkpoint, space, few):
    net = pf.supernet.build(space, seed=8)
    before = state(net)
    good = checkpoint.read_bytes()

    def refused(match):
        with pytest.raises(FileFormatError, match=match):
            pf.supernet.train(net, few, epochs=2, batch_size=16, checkpoint=checkpoint)
        assert_same_weights(state(net), before)

    for keep in (0, 7, 500, len(good) - 1):
        checkpoint.write_bytes(good[:keep])
        refused("truncated")
    pf.supernet.save(net, checkpoint)
    refused("is not a pnag-checkpoint file; it is a 'pnag-supernet' file")

    checkpoint.write_bytes(good)
    arrays, header = read_state(checkpoint)
    write_state(checkpoint, {k: v for k, v in arrays.items() if "head" not in k}, header)
    refused("lacks tensor")
    write_state(checkpoint, arrays, {**header, "epochs": []})
    refused("lists 0 epochs")
    write_state(checkpoint, arrays, {**header, "epochs": [{"a": 1}]})
    refused("unknown field 'a' in 'epochs")
    for key, value in (("phase", 0), ("epoch", 0), ("step", 10**6)):
        position = {**header["position"], "epoch": 2, key: value}
        write_state(checkpoint, arrays, {**header, "position": position})
        refused("lists 1 epochs")
    write_state(checkpoint, arrays, {**header, "position": {**header["position"], "step": -1}})
    refused("'position.step' should be an integer of at least 0, found -1")
    key = next(k for k in arrays if k.startswith("optimizer.exp_avg."))
    write_state(checkpoint, {**arrays, key: np.zeros(3, np.float32)}, header)
    refused("needs float32 of shape")
    write_state(checkpoint, {**arrays, "x": np.zeros(3)}, header)
    refused("extra tensor 'x'")
    write_state(checkpoint, arrays, header, step=2)
    refused("lists 1 epochs")


def test_a_checkpoint_with_a_right_sum_over_wrong_contents(variants, tmp_path, space, few):
    path = tmp_path / "training.safetensors"
    options = {"epochs": 2, "batch_size": 16, "checkpoint": path}
    pf.supernet.train(pf.supernet.build(space), few, **options)
    name, version = CHECKPOINT_FORMAT, CHECKPOINT_VERSION
    arrays, header = files.read_safetensors(path, name, version)
    rng = random.Random(0)
    refused = 0
    for _ in range(40):
        changed, body = arrays, header
        if rng.random() < 0.7:
            body = variants.vary(header, rng)
        else:
            changed = variants.vary_arrays(arrays, rng)
        files.write_safetensors(path, name, version, changed, body)
        net = pf.supernet.build(space)
        before = state(net)
        try:
            pf.supernet.train(net, few, **options)
        except PnagError:
            refused += 1
            assert_same_weights(state(net), before)
    assert refused > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": -1.0}, "'seconds' should be a number of at least 0"),
        ({"updates": True}, "'updates' should be an integer of at least 0"),
        ({"losses": [0.0]}, "'losses' should have 2 elements"),
        ({"losses": [0.0, "1"]}, r"'losses\[1\]' should be int or float"),
        ({"position": {"phase": 0, "epoch": 0, "step": 0.5}}, "'position.step' should be an int"),
        ({"position": {"phases": 0, "epoch": 0, "step": 0}}, "'phases' in 'position'; did you"),
        ({"teacher": [255]}, "'teacher' should have"),
        ({"scaler": {"scale": 0.0}}, "'scaler.scale' should be"),
        ({"secondss": 1.0}, "unknown field 'secondss'; did you mean 'seconds'"),
    ],
    ids=range(9),
)
def test_fields_of_a_checkpoint_are_named(tmp_path, space, few, change, message):
    path = tmp_path / "training.safetensors"
    options = {"epochs": 1, "batch_size": 16, "checkpoint": path}
    pf.supernet.train(pf.supernet.build(space), few, **options)
    arrays, header = read_state(path)
    write_state(path, arrays, {**header, **change})
    with pytest.raises(FileFormatError, match=message):
        pf.supernet.train(pf.supernet.build(space), few, **options)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, space, few):
    net = pf.supernet.build(space)
    path = tmp_path / "training.safetensors"
    options = {"epochs": 3, "batch_size": 16, "checkpoint": path}
    kept = []

    def poison(description, done, total):
        if done == total // 3 + 2:
            kept.append(path.read_bytes())
            with torch.no_grad():
                net.head.classifier.weight[0, 0] = float("nan")

    with pytest.raises(TrainingError, match="loss became nan in epoch 2, step 3 of phase"):
        pf.supernet.train(net, few, progress=poison, **options)
    assert path.read_bytes() == kept[0]
    pf.supernet.train(pf.supernet.build(space), few, **options)


def test_a_loss_that_overflows_is_named(space, few):
    net = pf.supernet.build(space)
    with pytest.raises(TrainingError, match="became (nan|inf)"):
        pf.supernet.train(net, few, epochs=6, batch_size=16, learning_rate=1e30, warmup_epochs=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "progresive"}, "unknown recipe 'progresive'; choose one of sandwich"),
        ({"recipe": []}, "at least one pnag_fast.supernet.Phase"),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"precision": "float16"}, "float16' is for GPUs"),
        ({"ema": 1.0}, "ema should be a number of at least 0 and below 1"),
        ({"min_area": 0.0}, "min_area should be a number above 0"),
        ({"distillation": -1.0}, "distillation"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"n_random": -1}, "n_random"),
        ({"max_shift": True}, "max_shift"),
        ({"seed": -1}, "seed"),
        ({"learning_rate": 0}, "learning_rate should be a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"gradient_clip": float("inf")}, "gradient_clip"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"label_smoothing": 1}, "label_smoothing"),
    ],
)
def test_options_are_checked_before_anything_is_trained(space, few, options, message):
    net = pf.supernet.build(space)
    before = state(net)
    with pytest.raises(InvalidInputError, match=message):
        pf.supernet.train(net, few, **options)
    assert_same_weights(state(net), before)


def test_data_that_does_not_fit_is_refused(few):
    for call in (
        lambda net: pf.supernet.train(net, few, epochs=1),
        lambda net: pf.supernet.evaluate(net, net.space.sample(1), few),
    ):
        with pytest.raises(DataError, match="10 classes, .* tell 7 apart"):
            call(pf.supernet.build(small_space(classes=7)))
        with pytest.raises(DataError, match="images of 8 px, .* takes 16 px"):
            call(pf.supernet.build(small_space((16,))))


def test_several_resolutions():
    space = small_space((8, 12))
    data = pf.data.load_digits(12, fractions=(0.1, 0.1, 0.8))
    net = pf.supernet.build(space)
    pf.supernet.train(net, data, epochs=1, batch_size=16)
    archs = space.sample(6, seed=1)
    assert {space.resolution_of(arch) for arch in archs} == {8, 12}
    top1 = pf.supernet.evaluate(net, archs, data)
    for arch, expected in zip(archs, top1, strict=True):
        static = pf.supernet.recalibrate(net.extract(arch), data)
        part = data.validation
        assert pf.supernet.accuracy(static, part.images, part.labels) == expected


def test_fewer_images_than_a_batch(space, few):
    log = pf.supernet.train(pf.supernet.build(space), few, epochs=1, batch_size=10_000)
    assert np.isfinite(log.epochs[0].loss)


def test_learning_rate_schedule():
    phase = pf.supernet.Phase("a", epochs=10, learning_rate=1.0, networks=1)
    rates = [training._learning_rate(phase, step, 4) for step in range(40)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1.0
    assert rates[22] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[4:]))
    cold = dataclasses.replace(phase, warmup_epochs=0)
    assert training._learning_rate(cold, 0, 4) == 1.0
    # A warm-up longer than the run ends half way.
    short = dataclasses.replace(phase, epochs=1, warmup_epochs=9)
    assert training._learning_rate(short, 2, 4) == 1.0


def test_augmentation():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.uint8).reshape(2, 3, 5, 5)
    plain = Augmentation(0, False, 1.0)(images, torch.Generator())
    expected = pf.data.normalize(images.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(plain.numpy(), expected)

    def shifted(image, dy, dx):
        rows = np.clip(np.arange(5) + dy, 0, 4)
        columns = np.clip(np.arange(5) + dx, 0, 4)
        return image[:, rows][:, :, columns]

    moves = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    seen = set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        moved = Augmentation(1, False, 1.0)(images, generator).numpy()
        found = [
            [m for m in moves if np.array_equal(moved[i], shifted(expected[i], *m))]
            for i in range(2)
        ]
        assert all(len(matches) == 1 for matches in found)
        seen |= {matches[0] for matches in found}
    assert seen == set(moves)

    mirrored = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        moved = Augmentation(0, True, 1.0)(images, generator).numpy()
        for i in range(2):
            same = np.array_equal(moved[i], expected[i])
            assert same or np.array_equal(moved[i], expected[i][:, :, ::-1])
            mirrored.add(same)
    assert mirrored == {True, False}


def test_crops_show_a_part_of_the_image_at_full_size():
    ramp = torch.arange(32).repeat(3, 32, 1).to(torch.uint8) * 8
    images = ramp.expand(64, 3, 32, 32)
    whole = Augmentation(0, False, 1.0)(images, torch.Generator())
    for min_area in (0.3, 0.999):
        x = Augmentation(0, False, min_area)(images, torch.Generator().manual_seed(3))
        assert x.shape == whole.shape
        # Brightness rises from left to right, by less the smaller the part.
        shares = (
            (x[:, 0, 0, -1] - x[:, 0, 0, 0]) / (whole[0, 0, 0, -1] - whole[0, 0, 0, 0])
        ).numpy()
        assert shares.max() <= 1.0
        assert shares.min() > (0.3 * 3 / 4) ** 0.5 - 0.1
        assert (shares.min() < 0.8) == (min_area == 0.3)


# --- judging ------------------------------------------------------------------------------------


def test_judging_leaves_the_supernet_as_it_was(trained, space, digits):
    net, _ = trained
    before = state(net)
    arch = space.sample(1, seed=3)[0]
    net.set_active(arch)
    x = torch.zeros(2, 3, 8, 8)
    output = net(x)
    archs = space.sample(4, seed=2)
    frozen = archs.copy()
    pf.supernet.evaluate(net, archs, digits)
    after = state(net)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(net(x), output)
    assert not net.training
    assert (archs == frozen).all()


def test_judging_is_what_an_extracted_network_reaches(trained, space, digits):
    net, _ = trained
    archs = space.sample(3, seed=5)
    calls = []
    for split in ("validation", "test"):
        top1 = pf.supernet.evaluate(
            net, archs, digits, split=split, progress=lambda *call: calls.append(call)
        )
        part = getattr(digits, split)
        for arch, expected in zip(archs, top1, strict=True):
            static = pf.supernet.recalibrate(net.extract(arch), digits)
            assert pf.supernet.accuracy(static, part.images, part.labels) == expected
            correct = np.mean(
                static(torch.from_numpy(pf.data.normalize(part.images))).argmax(1).numpy()
                == part.labels
            )
            assert correct == pytest.approx(expected, abs=1.01 / len(part))
    assert [call[1:] for call in calls] == [(1, 3), (2, 3), (3, 3)] * 2


def test_recalibration_measures_the_images_it_is_given(trained, space, digits):
    net, _ = trained
    arch = pf.supernet.extremes(space)[0]
    raw, static = net.extract(arch), net.extract(arch)
    images = digits.train.images[:100]
    assert pf.supernet.recalibrate(static, images, batch_size=1000) is static
    assert not static.training
    x = torch.from_numpy(pf.data.normalize(images))
    with torch.no_grad():
        y = static.layers[0].conv(x)
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3))
    norm = static.layers[0].bn
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not torch.allclose(norm.running_mean, raw.layers[0].bn.running_mean, atol=1e-6)
    # Statistics only: no weight moves.
    for a, b in zip(raw.parameters(), static.parameters(), strict=True):
        assert torch.equal(a, b)


def test_recalibration_is_what_makes_sub_networks_work(trained, space, digits):
    net, _ = trained
    archs = space.sample(6, seed=9, distribution="decisions")
    calibrated = pf.supernet.evaluate(net, archs, digits)
    part = digits.validation
    raw = [pf.supernet.accuracy(net.extract(a), part.images, part.labels) for a in archs]
    assert calibrated.mean() > np.mean(raw)


def test_judging_nothing_and_bad_input(trained, space, digits):
    net, _ = trained
    assert pf.supernet.evaluate(net, space.sample(0), digits).shape == (0,)
    bad = space.sample(2, seed=1)
    bad[1, 0] = 99
    with pytest.raises(InvalidInputError, match="row 1"):
        pf.supernet.evaluate(net, bad, digits)
    for options in ({"split": "all"}, {"recalibration_images": 0}, {"batch_size": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            pf.supernet.evaluate(net, space.sample(1), digits, **options)
    static = net.extract(space.sample(1)[0])
    with pytest.raises(InvalidInputError, match="at least one image"):
        pf.supernet.recalibrate(static, digits.train.images[:0])
    with pytest.raises(InvalidInputError, match="0 images"):
        pf.supernet.accuracy(static, digits.train.images[:0], digits.train.labels[:0])


# --- files --------------------------------------------------------------------------------------


def test_save_and_load(tmp_path, trained, space):
    net, _ = trained
    path = tmp_path / "net.safetensors"
    pf.supernet.save(net, path)
    rng = torch.get_rng_state()
    loaded = pf.supernet.load(path)
    assert torch.equal(torch.get_rng_state(), rng)
    assert loaded.space == space
    assert not loaded.training
    assert_same_weights(state(loaded), state(net))
    for arch in space.sample(3, seed=1):
        x = torch.ones(2, 3, 8, 8)
        assert torch.equal(loaded.extract(arch)(x), net.extract(arch)(x))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("name", ["ofa-mbv3", "compofa-mbv3", "mbv3-tiny"])
def test_save_and_load_the_built_in_spaces(tmp_path, name):
    net = pf.supernet.build(pf.spaces.get(name, classes=12), seed=4)
    pf.supernet.save(net, tmp_path / "net.safetensors")
    assert_same_weights(state(pf.supernet.load(tmp_path / "net.safetensors")), state(net))


def test_load_refuses_what_is_no_supernet(tmp_path, trained):
    net, _ = trained
    path = tmp_path / "net.safetensors"
    pf.supernet.save(net, path)
    good = path.read_bytes()
    arrays, header = files.read_safetensors(path, "pnag-supernet", 2)
    carried = arrays.pop("calibration.images")

    def refused(match):
        with pytest.raises(FileFormatError, match=match):
            pf.supernet.load(path)

    for keep in (0, 5, 300, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:keep])
        refused("truncated")
    path.write_bytes(b"\x80\x04K\x01." * 50)
    refused("not valid safetensors")
    net.space.save(path)
    refused("not valid safetensors")

    def rewrite(arrays=arrays, header=header, version=1):
        files.write_safetensors(path, "pnag-supernet", version, arrays, header)

    body = {"space": header["space"]}
    rewrite(header=body, version=3)
    refused("upgrade pnag-fast")
    rewrite({name: a for name, a in arrays.items() if name != "stem.conv.weight"}, body)
    refused("lacks tensor 'stem.conv.weight'")
    rewrite({**arrays, "more": np.zeros(2, np.float32)}, body)
    refused("extra tensor 'more'")
    rewrite({**arrays, "calibration.images": carried}, body)
    refused("extra tensor 'calibration.images'")
    rewrite({**arrays, "stem.bn.bias": np.zeros(9, np.float32)}, body)
    refused(r"'stem.bn.bias' is float32 of shape \(9,\)")
    rewrite({**arrays, "stem.bn.bias": np.zeros(8, np.float64)}, body)
    refused("is float64")
    rewrite({**arrays, "stem.bn.bias": np.full(8, np.inf, np.float32)}, body)
    refused("not finite")
    rewrite(header={})
    refused("lacks the field 'space'")
    rewrite(header={"space": {"name": "x"}})
    refused("needs 'name' and 'stages'")
    rewrite(header={"space": pf.spaces.get("nasbench201").definition})
    refused("no layered network")
    huge = {**body["space"], "mobilenetv3": {**body["space"]["mobilenetv3"], "classes": 10**6}}
    rewrite(header={"space": huge})
    refused("needs float32 of shape")


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import pnag_fast as pf\n"
        "assert pf.spaces.get('mbv3-tiny').n_slots\n"
        "try:\n"
        "    pf.supernet.build\n"
        "except pf.errors.MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs 'torch'" in done.stdout
    assert "pnag-fast[train]" in done.stdout


def test_importing_the_package_imports_no_torch():
    code = "import sys, pnag_fast, pnag_fast.data, pnag_fast.export; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_supernet_that_guesses_says_so(space, digits):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    noise = pf.data.split(images, rng.integers(0, 10, 400), digits.classes, name="noise")
    log = pf.supernet.train(pf.supernet.build(space), noise, epochs=1, batch_size=32)
    assert len(log.warnings) == 1
    assert "the largest network guesses: top-1" in log.warnings[0]
    assert "on 100 validation images" in log.warnings[0]


def test_guessing_is_measured_by_the_most_frequent_class(space):
    """Nine in ten images of one class are no success of a network that always names it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    labels = np.where(np.arange(400) < 373, 0, 1 + np.arange(400) % 9)
    skewed = pf.data.split(images, labels, tuple("abcdefghij"), name="skewed")
    log = pf.supernet.train(pf.supernet.build(space), skewed, epochs=2, batch_size=32)
    assert "most frequent class gives 9" in log.warnings[0]


def test_a_supernet_that_learned_has_nothing_to_say(trained):
    _, log = trained
    assert log.warnings == ()
