"""Works of every kind that goes on after a kill, as small as they can be.

    python tests/runs/works.py KIND FOLDER

stops one at several points, by a kill and by Ctrl-C, goes on with it, and compares. The files of
earlier releases in ``files/`` were made of these works, so their space and images stay as they are.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np

import pnag_fast as pf
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space

HERE = Path(__file__).parent
FILES = HERE / "files"

TRAINING = {"epochs": 2, "batch_size": 16, "ema": 0.9, "seed": 3}


def module(path):
    """Load a file that is no part of a package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def space():
    """One elastic stage, 20 architectures, networks of 2,000 weights."""
    network = MobileNetV3(
        channels=(8, 8),
        strides=(1,),
        activations=("h_swish",),
        squeeze_excite=(True,),
        expand_channels=16,
        feature_channels=16,
        stem_stride=1,
        max_depth=2,
        kernels=(3, 5),
        expand_ratios=(2, 3),
        classes=3,
    )
    return mobilenetv3_space("mini", network, min_depth=1, resolutions=(8,))


def images():
    """Bright rows on noise: three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    pixels = rng.integers(0, 160, (120, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label * 2 : label * 2 + 2] += 90
    return pf.data.split(pixels, labels, ["a", "b", "c"], name="rows")


def train(path, progress):
    # Started again it begins with other weights: nothing but the file may matter.
    net = pf.supernet.build(space(), seed=90 if Path(path).exists() else 1)
    log = pf.supernet.train(
        net, images(), recipe="sandwich", checkpoint=path, checkpoint_every=1, progress=progress,
        **TRAINING,
    )  # fmt: skip
    state = net.state_dict().items()
    found = {name: t.numpy() for name, t in state if not name.endswith("tracked")}
    return {**found, "losses": np.array([record.loss for record in log.epochs])}


def judge(path, progress):
    from pnag_fast.supernet import evaluation

    net = pf.supernet.load(FILES / "net.safetensors")
    with mock.patch.object(evaluation, "_KEPT_TOGETHER", 4):
        top1 = pf.supernet.evaluate(
            net, space().enumerate(), images(), checkpoint=path, progress=progress
        )
    return {"top1": top1}


def measure(path, progress, device=None):
    """Tune and measure on a device whose time is arithmetic; it is new each time."""
    from pnag_fast import latency
    from pnag_fast.latency.fleet import Fleet

    device = device or module(HERE.parent / "latency" / "conftest.py").FakeDevice()
    with mock.patch.object(latency, "open_fleet", return_value=Fleet([device])):
        table = pf.latency.measure(
            space(), checkpoint=path, tuning_trials=12, passes=3, n_networks=6, progress=progress
        )
    return {"entries": table.entries, "constants": table.constants}


def cross_validate(path, progress):
    """By a model that says the mean of what it has seen, and of one code nothing."""

    class Mean:
        def __init__(self, top1):
            self.mean = top1.mean()

        def knows(self, archs):
            return archs[:, 1] != 3

        def predict(self, archs, return_std):
            assert return_std
            return np.full(len(archs), self.mean), np.full(len(archs), 0.1)

    def fit(_, archs, top1):
        progress("fitting", len(archs), 0)
        return Mean(top1)

    archs = space().enumerate()
    top1 = np.linspace(0.5, 0.9, len(archs))
    found = pf.accuracy.cross_validate(space(), archs, top1, fit, folds=6, checkpoint=path)
    figures = [found["refused"], found["mean_error"], found["spread"]]
    return {"figures": np.array([*figures, *(fold["bias"] for fold in found["folds"])])}


def results(path, progress):
    sys.path.insert(0, str(HERE.parents[1] / "bench"))
    from proof.records import Records

    records = Records(Path(path), "part")

    def run(seed):
        progress("running", seed, 6)
        return {"value": 10 * seed}

    return {"values": np.array([records.get(run, s, seed=s)["value"] for s in range(6)])}


KINDS = {work.__name__: work for work in (train, judge, measure, cross_validate, results)}


def stopped(work, path, at, how):
    """Do a work in a process of its own that ends at a call of its progress; returns how it did."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return "killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    calls, code = 0, 1

    def stop(*_):
        nonlocal calls
        calls += 1
        if calls == at and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif calls == at:
            raise KeyboardInterrupt

    try:
        work(path, stop)
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def conform(kind, folder):
    """Check that a work goes on from wherever it is stopped, and from wherever it is again."""
    work, calls = KINDS[kind], []
    whole = work(folder / "whole", lambda *call: calls.append(call))

    def check(path):
        for name, array in work(path, lambda *_: None).items():
            np.testing.assert_array_equal(array, whole[name], f"{path.name}: {name}")

    n = len(calls)
    for how, ends in (("kill", "killed"), ("interrupt", 130)):
        for at in sorted({1, 2, n // 3, 2 * n // 3, n}):
            path = folder / f"{how}-{at}"
            assert stopped(work, path, at, how) == ends
            check(path)
    times = 0
    while stopped(work, folder / "again", n // 3 + 1, "kill") != 0:
        times += 1
        assert times < 20, "it does not come forward"
    assert times >= 2
    check(folder / "again")
    print(f"{kind}: {n} calls of progress, stopped again {times} times")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    conform(sys.argv[1], Path(sys.argv[2]))
