"""What TVM compiles computes the same as torch, and the public functions work end to end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from pnag_fast.latency.networks import block_program, network_program, pack_weights, random_weights
from pnag_fast.latency.runners import open_device
from pnag_fast.progress import ignore_progress
from pnag_fast.spaces import Head, MBConv, Pointwise, Stem

pytest.importorskip("tvm")
torch = pytest.importorskip("torch")
functional = torch.nn.functional


def activate(x, activation):
    if activation == "relu":
        return functional.relu(x)
    return x * torch.clamp(x + 3, 0, 6) / 6


def reference(blocks, weights, image):
    """Compute blocks with torch's functions, in float64; image of shape (1, channels, h, w)."""
    x = torch.from_numpy(image).double()
    for block, given in zip(blocks, weights, strict=True):
        w = {name: torch.from_numpy(value).double() for name, value in given.items()}
        x = reference_block(block, w, x)
    return x.numpy()


def reference_block(block, w, x):
    if isinstance(block, Stem):
        x = functional.conv2d(x, w["weight"], w["bias"], block.stride, block.kernel // 2)
        return activate(x, block.activation)
    if isinstance(block, Head):
        y = functional.conv2d(x, w["expand.weight"], w["expand.bias"])
        y = activate(y, block.activation).mean((2, 3))
        if block.feature_channels:
            y = activate(functional.linear(y, w["feature.weight"]), block.activation)
        return functional.linear(y, w["classifier.weight"], w["classifier.bias"])
    if isinstance(block, Pointwise):
        return functional.conv2d(x, w["weight"], w["bias"], block.stride)
    y = x
    if block.expand:
        y = activate(functional.conv2d(y, w["expand.weight"], w["expand.bias"]), block.activation)
    y = functional.conv2d(
        y,
        w["depthwise.weight"],
        w["depthwise.bias"],
        block.stride,
        block.kernel // 2,
        groups=block.mid_channels,
    )
    y = activate(y, block.activation)
    if block.squeeze_excite:
        gate = functional.linear(
            y.mean((2, 3)), w["squeeze.reduce.weight"], w["squeeze.reduce.bias"]
        )
        gate = functional.linear(
            functional.relu(gate), w["squeeze.expand.weight"], w["squeeze.expand.bias"]
        )
        y = y * (torch.clamp(gate + 3, 0, 6) / 6)[:, :, None, None]
    y = functional.conv2d(y, w["project.weight"], w["project.bias"])
    return x + y if block.residual else y


BLOCKS = {
    "stem": Stem(16, 3, 8, 1),
    "stem of odd size and stride 2": Stem(15, 3, 16, 2),
    "stem with 5 channels in": Stem(9, 5, 16, 2, kernel=5),
    "no expansion": MBConv(8, 8, 8, 8, 3, 1, "relu", False, expand=False),
    "residual": MBConv(8, 16, 48, 16, 5, 1, "relu", False),
    "residual and squeeze": MBConv(8, 24, 72, 24, 7, 1, "h_swish", True),
    "stride on even size": MBConv(8, 24, 96, 40, 5, 2, "h_swish", True),
    "stride on odd size": MBConv(7, 24, 96, 40, 3, 2, "h_swish", True),
    "image larger than channels": MBConv(20, 8, 24, 16, 3, 1, "h_swish", True),
    "prime size": MBConv(13, 8, 16, 8, 7, 1, "relu", False),
    "one pixel": MBConv(1, 16, 64, 16, 7, 1, "h_swish", True),
    "large weights": MBConv(4, 160, 640, 160, 3, 1, "h_swish", True),
    "pointwise": Pointwise(9, 16, 32, 2),
    "head": Head(4, 40, 120, 160, 10),
    "head with odd classes": Head(3, 16, 32, 40, 101),
    "head without features": Head(4, 40, 120, 0, 10, "relu"),
}

SOME = ("stem", "residual and squeeze", "image larger than channels", "large weights", "head")

TARGETS = {
    "this processor": ("llvm", 1, tuple(BLOCKS)),
    "threads": ("llvm", 2, SOME),
    # Narrower vectors and fewer registers than this processor may have.
    "baseline": (f"llvm -mtriple={platform.machine()}-unknown-linux-gnu", 1, SOME),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_blocks_agree_with_torch(kind):
    target, threads, names = TARGETS[kind]
    blocks = {name: BLOCKS[name] for name in names}
    device = open_device(target, threads=threads)
    weights = {name: random_weights([block], 7) for name, block in blocks.items()}
    loaded = device.compile(
        {name: block_program(block) for name, block in blocks.items()},
        {name: pack_weights([block], weights[name]) for name, block in blocks.items()},
        ignore_progress,
    )
    assert loaded.failures == {}
    rng = np.random.default_rng(0)
    for name, block in blocks.items():
        shape = (1, block.in_channels, block.resolution, block.resolution)
        image = 2 * rng.standard_normal(shape, dtype=np.float32)
        result = loaded.run(name, np.ascontiguousarray(image[0].transpose(1, 2, 0)))
        expected = reference([block], weights[name], image)
        if isinstance(block, Head):
            result = result.reshape(1, -1)[:, : block.classes]
        else:
            result = result.transpose(2, 0, 1)[None]
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        assert loaded.seconds(name, 2) > 0


def test_a_network_agrees_with_torch(tiny):
    arch = tiny.sample(1, seed=3)[0]
    blocks = tiny.layers(arch)
    weights = random_weights(blocks, 5)
    network = pf.latency.compile_network(tiny, arch, weights)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    logits = network.run(images)
    assert logits.shape == (3, 10)
    for image, row in zip(images, logits, strict=True):
        expected = reference(blocks, weights, image[None])[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert network.time(passes=3) > 0


def test_images_that_do_not_fit_are_refused(mini):
    network = pf.latency.compile_network(mini, mini.sample(1)[0])
    with pytest.raises(InvalidInputError, match=r"\(n, 3, 8, 8\)"):
        network.run(np.zeros((1, 8, 8, 3), dtype=np.float32))
    with pytest.raises(InvalidTypeError, match="float64"):
        network.run(np.zeros((1, 3, 8, 8)))
    assert network.run(np.zeros((0, 3, 8, 8), dtype=np.float32)).shape == (0, 3)


def test_a_space_is_measured_and_resumed(mini, tmp_path):
    notes = []
    options = {"work_dir": tmp_path / "work", "n_networks": 4, "passes": 3, "tuning_trials": 0}
    table = pf.latency.measure(mini, **options)
    assert (table(mini.enumerate()) > 0).all()
    assert table.provenance["conditions"]["threads"] == 1
    assert "0.27" in table.provenance["conditions"]["tvm"]
    table.save(tmp_path / "table.json")
    again = pf.latency.measure(mini, progress=lambda text, *_: notes.append(text), **options)
    # 7 blocks, 4 networks, the empty program.
    assert notes == ["reusing 36 of 36 measurements"]
    np.testing.assert_array_equal(table.entries, again.entries)
    np.testing.assert_array_equal(pf.CostTable.load(tmp_path / "table.json").entries, table.entries)


def test_networks_are_measured_with_and_without_weights(mini, tmp_path):
    archs = mini.sample(2, seed=0)
    weights = [random_weights(mini.layers(arch), 1) for arch in archs]
    times = pf.latency.measure_networks(mini, archs, weights=weights, work_dir=tmp_path, passes=3)
    assert times.ms.shape == (2,)
    assert (times.ms > 0).all()
    assert times.reference_ms > 0
    assert pf.latency.measure_network(mini, archs[0]) > 0
    with pytest.raises(InvalidInputError, match="1 networks"):
        pf.latency.measure_networks(mini, archs, weights=weights[:1])
    with pytest.raises(InvalidInputError):
        pf.latency.measure_networks(mini, np.full((1, mini.n_slots), 99, dtype=np.uint8))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("rocm", "'rocm' is not supported"),
        ("", "is not supported"),
        ("llvm -foo", "'-foo' should read -name=value"),
        ("llvm -nonsense=3", "not known to TVM"),
        ("{bad", "not valid JSON"),
        ("llvm -mtriple=hexagon-unknown-linux", "is for hexagon"),
    ],
)
def test_targets_that_cannot_be_are_named(mini, tmp_path, target, text):
    with pytest.raises(InvalidInputError, match=text):
        pf.latency.measure(mini, target=target, work_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "threads"),
        ({"runner": "rpc://host/pi5"}, "runner"),
        ({"tuning_trials": -1}, "tuning_trials"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"passes": 1}, "passes"),
        ({"n_networks": 2}, "n_networks"),
    ],
)
def test_options_that_cannot_be_are_named(mini, tmp_path, options, text):
    with pytest.raises(InvalidInputError, match=text):
        pf.latency.measure(mini, work_dir=tmp_path, **options)


def test_a_kernel_that_cannot_be_scheduled_fails_alone(mini):
    good = block_program(BLOCKS["residual"])
    # A convolution without output channels.
    bad = block_program(MBConv(8, 16, 48, 0, 3, 1, "relu", False))
    parameters = {
        "good": pack_weights([BLOCKS["residual"]], random_weights([BLOCKS["residual"]], 0))
    }
    parameters["bad"] = {k: np.zeros(s, np.float32) for k, s in bad.parameters.items()}
    loaded = open_device("llvm").compile({"bad": bad, "good": good}, parameters, ignore_progress)
    assert set(loaded.failures) == {"bad"}
    assert loaded.seconds("good", 1) > 0


def test_threads_leave_the_process_where_it_was(mini):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this operating system shows no affinity")
    before = os.sched_getaffinity(0), torch.get_num_threads()
    pf.latency.compile_network(mini, mini.sample(1)[0], threads=2).time(passes=3)
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before


def test_a_network_is_a_program_of_all_its_blocks(tiny):
    blocks = tiny.layers(tiny.sample(1, seed=0)[0])
    steps = sum(len(block_program(block).steps) for block in blocks)
    assert len(network_program(blocks).steps) == steps


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )


def test_importing_the_package_loads_neither_tvm_nor_torch():
    child = python(
        "import sys, pnag_fast.latency\n"
        "assert not {'tvm', 'tvm_ffi', 'torch'} & set(sys.modules), 'loaded'"
    )
    assert child.returncode == 0, child.stderr


def test_without_tvm_the_error_names_the_extra(mini, tmp_path, monkeypatch):
    (tmp_path / "tvm.py").write_text("raise ModuleNotFoundError('no tvm', name='tvm')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pnag-fast\[tvm\]'"):
        pf.latency.measure(mini, work_dir=tmp_path / "work")


def test_check_tvm_passes_here():
    findings = pf.latency.check_tvm()
    assert [finding.subject for finding in findings][:2] == ["apache-tvm", "apache-tvm-ffi"]
    assert all(finding.ok and not finding.remedy for finding in findings)
