"""Published checkpoints, against the package that publishes them."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import cli
from pnag_fast.errors import DataError, FileAccessError, FileFormatError, UnsupportedSpaceError

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pnag_fast.supernet.model import IMAGENET_INPUT  # noqa: E402
from pnag_fast.supernet.once_for_all import published_name  # noqa: E402

CHOICES = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}


@pytest.fixture(scope="module")
def once_for_all():
    """The package `ofa`, whose imports of things that its networks do not use are stubbed."""
    stubs = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "gdown")
    absent = [name for name in stubs if name not in sys.modules]
    with pytest.MonkeyPatch.context() as patch:
        for name in absent:
            parent, _, child = name.rpartition(".")
            patch.setitem(sys.modules, name, types.ModuleType(name))
            if parent:
                patch.setattr(sys.modules[parent], child, sys.modules[name], raising=False)
        sys.modules["torchvision.transforms"].RandomResizedCrop = object
        yield pytest.importorskip(
            "ofa.imagenet_classification.elastic_nn.networks",
            reason="the package 'ofa' is not installed; see tests/oracles.txt",
        )
        for name in [name for name in sys.modules if name.partition(".")[0] == "ofa"]:
            patch.delitem(sys.modules, name)


def scrambled(net, seed=0):
    """Give every weight, statistic and kernel transform its own value, so that a mix-up shows.

    Signals neither fade, which would hide it, nor grow from layer to layer, which would blow up
    what the two packages round differently: 1 % off in any one tensor shows 100 times above that.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("_matrix"):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
            elif tensor.ndim == 4:
                tensor.mul_(2.2)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return net.eval()


def saved(net, path):
    """Save as Once-for-All does."""
    torch.save({"state_dict": net.state_dict()}, path)
    return path


@pytest.fixture(scope="module", params=[1.0, 1.2], ids=["w1.0", "w1.2"])
def published(request, once_for_all, tmp_path_factory):
    """Their supernet of random weights, and ours of the checkpoint that it saved."""
    theirs = once_for_all.OFAMobileNetV3(dropout_rate=0, width_mult=request.param, **CHOICES)
    scrambled(theirs)
    folder = tmp_path_factory.mktemp("ofa")
    path = saved(theirs, folder / f"ofa_mbv3_d234_e346_k357_w{request.param}")
    return theirs, pf.supernet.load_ofa(path, pf.spaces.get("ofa-mbv3", width=request.param)), path


def activate(theirs, space, arch):
    """Set an architecture there; absent layers keep any value."""
    (row,) = space.to_dicts(arch[np.newaxis])
    theirs.set_active_subnet(
        ks=[k or 3 for k in row["ks"]], e=[e or 3 for e in row["e"]], d=row["d"]
    )


def sampled(space, n=100):
    half = n // 2
    return np.concatenate(
        [
            pf.supernet.extremes(space),
            space.sample(half, seed=1),
            space.sample(n - half, seed=2, distribution="decisions"),
        ]
    )


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def images(size):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.slow
def test_every_network_computes_the_same(published):
    theirs, ours, _ = published
    answers = []
    with torch.inference_mode():
        for arch in sampled(ours.space):
            activate(theirs, ours.space, arch)
            ours.set_active(arch)
            their_part = theirs.get_active_subnet(preserve_weight=True).eval()
            our_part = ours.extract(arch)
            count = sum(p.numel() for p in their_part.parameters())
            assert sum(p.numel() for p in our_part.parameters()) == count
            for size in (64, 96):
                x = images(size)
                expected = theirs(x)
                assert_close(ours(x), expected)
                assert_close(our_part(x), their_part(x))
            answers.append(expected[0])
    # The test can tell networks apart.
    answers = torch.stack(answers)
    differences = torch.cdist(answers, answers) + torch.eye(len(answers)) * 1e9
    assert float(differences.min()) > 1e-3 * float(answers.norm(dim=1).median())


def test_every_batch_norm_has_their_settings(published):
    theirs, ours, _ = published
    settings = {
        (m.momentum, m.eps) for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)
    }
    arch = ours.space.sample(1, seed=0)[0]
    for net in (ours, ours.extract(arch)):
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert {(m.momentum, m.eps) for m in norms} == settings == {(0.1, 1e-5)}


def test_channels_are_rounded_as_theirs(published):
    theirs, ours, _ = published
    network = ours.space.network
    for slot, block in enumerate(theirs.blocks[1:]):
        for code in range(1, 10):
            kernel, expand = network.choice(code)
            block.conv.active_kernel_size, block.conv.active_expand_ratio = kernel, expand
            mine = network.layer(slot, code, 224)
            config = block.conv.get_active_subnet_config(mine.in_channels)
            assert mine.mid_channels == config["mid_channels"]
            assert mine.out_channels == config["out_channels"]
            assert (mine.kernel, mine.stride) == (config["kernel_size"], config["stride"])
            assert (mine.activation, mine.squeeze_excite) == (config["act_func"], config["use_se"])


@pytest.mark.parametrize("kernel", ["fixed", "elastic"])
def test_compound_spaces_take_their_part(published, kernel):
    theirs, ours, path = published
    space = pf.spaces.get("compofa-mbv3", width=ours.space.network.width, kernel=kernel)
    part = pf.supernet.load_ofa(path, space)
    with torch.inference_mode():
        for arch in sampled(space, 6):
            activate(theirs, space, arch)
            part.set_active(arch)
            assert_close(part(images(96)), theirs(images(96)))


def spelled_before(name):
    """Name a tensor as the first releases did, when the published checkpoints were made."""
    name = name.replace(".conv.", ".mobile_inverted_conv.", 1) if "blocks" in name else name
    return name.replace("classifier.linear.", "classifier.linear.linear.")


def spelled_short(name):
    for long in (".bn.bn.", ".conv.conv.weight"):
        name = name.replace(long, long[len(long.split(".")[1]) + 1 :])
    return name


@pytest.mark.parametrize("spell", [spelled_before, spelled_short])
def test_every_spelling_of_the_names(published, tmp_path, spell):
    theirs, ours, _ = published
    state = OrderedDict((spell(name), t) for name, t in theirs.state_dict().items())
    assert set(state) != set(theirs.state_dict())
    # Once-for-All itself reads this spelling.
    theirs.load_state_dict(state)
    path = tmp_path / "published"
    # The published files are older than the zip format.
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    read = pf.supernet.load_ofa(path, ours.space)
    expected = ours.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in read.state_dict().items())


# --- without the package: a checkpoint of our own weights under their names -----------------------


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("ofa-mbv3", classes=5, resolutions=(32,))


@pytest.fixture
def state(space):
    net = pf.supernet.build(space)
    return OrderedDict((published_name(name), t) for name, t in net.state_dict().items())


def write(path, state):
    torch.save({"state_dict": state}, path)
    return path


def test_published_names_and_back(space, state, tmp_path):
    net = pf.supernet.load_ofa(write(tmp_path / "x", state), space)
    assert not net.training
    expected = pf.supernet.build(space).state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


def test_what_is_known_of_imagenet_is_known_of_its_supernets(space, state, tmp_path, monkeypatch):
    path = write(tmp_path / "x", state)
    assert pf.supernet.load_ofa(path, space).trained_on is None  # of five classes
    monkeypatch.setattr(pf.supernet.once_for_all, "_IMAGENET_CLASSES", 5)
    net = pf.supernet.load_ofa(path, space)
    pf.supernet.save(net, tmp_path / "own.safetensors")
    known = pf.supernet.load(tmp_path / "own.safetensors").trained_on
    assert (known.name, known.resize) == ("ImageNet", "centre-crop")
    assert (known.classes, known.train_sha256, known.calibration) == (None, None, None)
    with pytest.raises(DataError, match="trained on 'ImageNet'"):
        pf.supernet.recalibrate(net.extract(space.sample(1, seed=0)[0]))


def test_images_are_scaled_as_on_imagenet(space, state, tmp_path):
    net = pf.supernet.load_ofa(write(tmp_path / "x", state), space)
    assert net.input_scale == IMAGENET_INPUT
    assert net.extract(space.sample(1, seed=0)[0]).input_scale == IMAGENET_INPUT
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    inputs = pf.supernet.evaluation.to_input(pixels, torch.device("cpu"), net.input_scale)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(inputs.permute(0, 2, 3, 1), expected, atol=1e-5)
    # Our own files keep the scale.
    pf.supernet.save(net, tmp_path / "own.safetensors")
    assert pf.supernet.load(tmp_path / "own.safetensors").input_scale == IMAGENET_INPUT


def test_the_command_imports(space, state, tmp_path, capsys):
    checkpoint, out = write(tmp_path / "published", state), tmp_path / "own.safetensors"
    options = ["--space", "ofa-mbv3", "--classes", "5", "--resolution", "32", "--out", str(out)]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["supernet", "import", str(checkpoint), *options, "--json"])
    facts = json.loads(capsys.readouterr().out)
    net = pf.supernet.load(out)
    assert facts["parameters"] == sum(p.numel() for p in net.parameters())
    assert net.space == space
    before = out.read_bytes()
    write(checkpoint, {"x": torch.zeros(1)})
    with pytest.raises(SystemExit, match="1"):
        cli.main(["supernet", "import", str(checkpoint), *options])
    assert "lacks tensor" in capsys.readouterr().err
    assert out.read_bytes() == before


class Bomb:
    """What a hostile pickle does when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def first(state):
    return next(iter(state))


BAD = {
    "lacks": (lambda s, p: write(p, {n: t for n, t in s.items() if "blocks.7" not in n}), "lacks"),
    "extra": (
        lambda s, p: write(p, {**s, "blocks.21.x": torch.zeros(1)}),
        "extra tensor 'blocks.2",
    ),
    "nan": (lambda s, p: write(p, {**s, first(s): s[first(s)] * float("nan")}), "not finite"),
    "half": (lambda s, p: write(p, {n: t.half() for n, t in s.items()}), "is float16"),
    "shape": (lambda s, p: write(p, {**s, first(s): torch.zeros(16, 3, 5, 5)}), r"\(16, 3, 5, 5\)"),
    "twice": (
        lambda s, p: write(p, {**s, "first_conv.bn.bn.bias": s["first_conv.bn.bias"]}),
        "twice, under two spellings",
    ),
    "sparse": (
        lambda s, p: write(p, {**s, first(s): s[first(s)].to_sparse()}),
        "no ordinary array",
    ),
    "list": (lambda s, p: write(p, list(s.values())), "found dict"),
    "not tensors": (lambda s, p: write(p, {"a": 1}), "entry 'a' is a int"),
    "not a dictionary": (lambda s, p: torch.save(torch.zeros(3), p), "found Tensor"),
    "empty": (lambda s, p: write(p, {}), "an empty one"),
    "code": (lambda s, p: write(p, {**s, "x": Bomb(p.with_name("ran"))}), "could run code"),
    "plain pickle": (
        lambda s, p: p.write_bytes(pickle.dumps({"x": Bomb(p.with_name("ran"))})),
        "no checkpoint as torch.save",
    ),
    "truncated": (lambda s, p: write(p, s) and p.write_bytes(p.read_bytes()[:-5000]), "truncated"),
    "text": (lambda s, p: p.write_text("<html>not found</html>"), "truncated, or another kind"),
    "nothing": (lambda s, p: p.write_bytes(b""), "truncated, or another kind"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints_are_refused(space, state, tmp_path, case):
    make, message = BAD[case]
    path = tmp_path / "checkpoint"
    make(state, path)
    with pytest.raises(FileFormatError, match=message) as caught:
        pf.supernet.load_ofa(path, space)
    assert "checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_another_width_is_named(space, state, tmp_path):
    wide = pf.spaces.get("ofa-mbv3", width=1.2, classes=5)
    path = write(tmp_path / "x", state)
    with pytest.raises(FileFormatError, match=r"another width: .* 16 channels, .* 1\.2 has 24"):
        pf.supernet.load_ofa(path, wide)
    with pytest.raises(FileFormatError, match=r"float32 of shape \(5, 1280\)"):
        pf.supernet.load_ofa(
            write(tmp_path / "y", {**state, "classifier.linear.weight": torch.zeros(7, 1280)}),
            space,
        )
    with pytest.raises(UnsupportedSpaceError, match="nasbench201"):
        pf.supernet.load_ofa(path, pf.spaces.get("nasbench201"))
    with pytest.raises(FileAccessError, match="No such file"):
        pf.supernet.load_ofa(tmp_path / "absent", space)


def test_a_checkpoint_that_claims_all_memory_is_refused(space, tmp_path):
    path = tmp_path / "huge"
    tensor = torch.zeros(12345)
    torch.save({"state_dict": {"x": tensor}}, path, _use_new_zipfile_serialization=False)
    claimed = path.read_bytes().replace(b"M90", b"\x8a\x07" + (2**48).to_bytes(7, "little"))
    path.write_bytes(claimed)
    with pytest.raises(FileAccessError, match="more memory than there is"):
        pf.supernet.load_ofa(path, space)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(60)
def test_pipes_and_packed_checkpoints_are_refused(space, state, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileAccessError, match="it is a pipe"):
        pf.supernet.load_ofa(tmp_path / "pipe", space)
    plain, tight = write(tmp_path / "plain", state), tmp_path / "tight"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tight, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(FileFormatError, match="no checkpoint as torch"):
        pf.supernet.load_ofa(tight, space)


# --- sizes of the networks ------------------------------------------------------------------------


def counted_macs(network, size):
    """Multiply-adds of convolutions and linear layers, counted by torch."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ofa-mbv3", {}),
        ("ofa-mbv3", {"width": 1.2, "resolutions": (96, 128)}),
        ("compofa-mbv3", {}),
        ("compofa-mbv3", {"width": 1.2, "kernel": "elastic"}),
        ("mbv3-cifar", {}),
        ("mbv3-tiny", {}),
    ],
)
def test_networks_have_the_multiply_adds_and_parameters_of_the_tables(name, options):
    space = pf.spaces.get(name, **options)
    net = pf.supernet.build(space)
    archs = sampled(space, 4)
    macs, parameters = pf.costs.macs(space)(archs), pf.costs.parameters(space)(archs)
    for arch, m, p in zip(archs, macs.tolist(), parameters.tolist(), strict=True):
        network = net.extract(arch)
        assert counted_macs(network, space.resolution_of(arch)) == m
        assert sum(parameter.numel() for parameter in network.parameters()) == p


@pytest.mark.shared_data
def test_published_networks_have_the_multiply_adds_that_were_published(shared_data, read_csv):
    rows = read_csv(shared_data / "ofa_imagenet" / "pnag_published.csv")
    space = pf.spaces.get("ofa-mbv3", width=1.2)
    net = pf.supernet.build(space)
    assert len(rows) == 15
    for row, arch in zip(rows, space.from_strings([row["arch"] for row in rows]), strict=True):
        network = net.extract(arch)
        macs = counted_macs(network, 224)
        assert macs == int(row["computed_macs"])
        assert sum(p.numel() for p in network.parameters()) == int(row["computed_params"])
        # What was published leaves the classifier out and is in whole millions.
        without = macs - network.layers[-1].classifier.weight.numel()
        assert abs(without / 1e6 - float(row["published_madds_M"])) < 0.51


@pytest.mark.shared_data
def test_published_specialised_networks_build(shared_data, read_csv):
    rows = read_csv(shared_data / "ofa_imagenet" / "searched_networks.csv")
    assert len(rows) == 14
    for row in rows:
        space = pf.spaces.get(
            "ofa-mbv3", width=float(row["width"]), resolutions=(int(row["resolution"]),)
        )
        arch = space.from_strings([row["arch"]])
        network = pf.supernet.build(space).extract(arch[0])
        assert counted_macs(network, int(row["resolution"])) == pf.costs.macs(space)(arch)[0]
