from __future__ import annotations

import csv
import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import PnagError

SHARED_DATA = Path(
    os.environ.get("PNAG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")
)


# A shell without job control starts what runs in its background with Ctrl-C ignored, which whatever
# the tests start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if SHARED_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason="the folder of shared measurements is not here")
    for item in items:
        if "shared_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Small networks gain little from two threads, which on busy cores wait for each other."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data():
    return SHARED_DATA


@pytest.fixture(scope="session")
def variants():
    """The module that makes wrong documents of right ones."""
    path = Path(__file__).with_name("variants.py")
    spec = importlib.util.spec_from_file_location("variants", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read_csv():
    def read(path):
        with open(path, newline="") as stream:
            return list(csv.DictReader(stream))

    return read


@pytest.fixture(scope="session")
def tiny():
    return pf.spaces.get("mbv3-tiny")


@pytest.fixture(scope="session")
def cell():
    return pf.spaces.get("nasbench201")


def smooth_top1(space, archs):
    """A known accuracy: every present layer and every larger choice adds a little, with noise."""
    rng = np.random.default_rng(0)
    gain = rng.uniform(0.2, 1.0, size=(space.n_slots, max(space.n_codes)))
    gain = np.cumsum(gain, axis=1) - gain[:, :1]
    total = gain[np.arange(space.n_slots), archs].sum(axis=1)
    return 0.5 + 0.4 * total / gain.max(axis=1).sum()


@pytest.fixture(scope="session")
def tiny_samples(tiny):
    archs = np.concatenate(
        [tiny.sample(200, seed=1), tiny.sample(200, seed=1, distribution="decisions")]
    )
    noise = np.random.default_rng(1).normal(0, 0.002, len(archs))
    return archs, np.clip(smooth_top1(tiny, archs) + noise, 0, 1)


@pytest.fixture(scope="session")
def tiny_model(tiny, tiny_samples):
    pytest.importorskip("torch")
    return pf.accuracy.fit(tiny, *tiny_samples)


@pytest.fixture(scope="session")
def tiny_table(tiny):
    """A latency-like table: multiply-adds in millions, plus a fixed cost per layer."""
    macs = pf.costs.macs(tiny)
    entries = macs.entries / 1e6
    entries[:, :, 1:] += 0.05
    return pf.CostTable.build(
        tiny,
        metric="latency",
        unit="ms",
        device="test device",
        constants=macs.constants / 1e6,
        entries=entries,
    )


@pytest.fixture(scope="session")
def quick_settings():
    from pnag_fast.generator import ExpertSettings

    return ExpertSettings(evaluations=10_000, steps=250, batch=128)


@pytest.fixture(scope="session")
def quick_pnag_settings():
    from pnag_fast.generator import PnagSettings

    return PnagSettings(n_architectures=2000, evaluator_steps=80, steps=40)


@pytest.fixture(scope="session")
def tiny_generator(tiny, tiny_model, tiny_table, quick_settings):
    return pf.train_generator(tiny, tiny_model, [tiny_table], settings=quick_settings)


@pytest.fixture(scope="session")
def tiny_pnag_generator(tiny, tiny_model, tiny_table, quick_pnag_settings):
    return pf.train_generator(
        tiny, tiny_model, [tiny_table], method="pnag", settings=quick_pnag_settings
    )


@pytest.fixture(scope="session")
def tiny_generator_path(tiny_generator, tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    tiny_generator.save(path)
    return path


# --- what users pass ------------------------------------------------------------------------------


class Hostile:
    """An object whose every conversion and description fails."""

    def _fail(self, *args, **kwargs):
        raise RuntimeError("no")

    __repr__ = __str__ = __index__ = __float__ = __len__ = __iter__ = __array__ = _fail
    __eq__ = __hash__ = __bool__ = _fail


def _odd_values():
    """Values that no argument is for; some are good arrays that mean something else."""
    masked = np.ma.masked_array(np.ones((2, 6), np.uint8), mask=np.eye(2, 6))
    values = [
        None, True, np.bool_(False), -1, 2**64, 10**30, 10**400, 10**6000, 1.5, np.nan, np.inf,
        -np.inf, 1j, "x", "224", "", "a\0b", "\ud800", b"x", bytearray(b"x"), (), [], {}, set(),
        {"d": 1}, [None], [[1, 2]], [[]], ["x"], object(), object, len, np, ..., range(3),
        (x for x in [1]), np.array(3), np.array([1.5]), np.ones((2, 6)), np.zeros((0, 6), np.uint8),
        np.ones((2, 6), np.uint8)[:, ::-1], np.array([["x"]]), np.array([None]), masked,
        np.zeros(2, dtype=[("a", np.uint8)]), np.array("2020", "M8[D]"), memoryview(b"ab"),
        np.random.default_rng(0), Hostile(), [Hostile()],
    ]  # fmt: skip
    try:
        import torch
    except ImportError:
        return values
    return [
        *values,
        torch.ones(2, 6, dtype=torch.uint8),
        torch.ones(2, 6, dtype=torch.bfloat16),
        torch.ones(2, 6, requires_grad=True),
        torch.tensor(True),
    ]


def _refusal(call, *arguments, error=PnagError):
    """Text of the error that refuses the arguments; nothing where they are accepted."""
    try:
        call(*arguments)
    except error as refused:
        return str(refused)
    return ""


@pytest.fixture
def odd_values():
    """What nobody should pass, but somebody will: for tests that only our own errors come out."""
    return _odd_values


@pytest.fixture
def refusal():
    return _refusal


@pytest.fixture
def nasty():
    """A name, as somebody's file may hold it, that commands the terminal which it is shown on."""
    return "cpu\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnp.exe\u2028\ttail\nnext"


@pytest.fixture
def harmless():
    """Whether a text commands no terminal."""
    return lambda text: not any(c in text for c in "\x1b\x07\r\x9b\u202e\u2028\t")
