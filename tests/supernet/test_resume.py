"""Runs that are killed, and runs of several processes, end with the weights of an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

SCRIPT = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {here!r})
import pnag_fast as pf
from test_resume import few, small_space
out, checkpoint, recipe, slow, stop_at = sys.argv[1:]
torch.set_num_threads(1)
if "WORLD_SIZE" in __import__("os").environ:
    dist.init_process_group("gloo")
import time
def progress(_, done, total):
    time.sleep(float(slow))
    if done == int(stop_at):
        sys.exit(0)
net = pf.supernet.build(small_space(), seed=1 + pf.supernet.distributed.world()[0])
pf.supernet.train(
    net, few(), recipe=recipe, epochs=2, batch_size=16, ema=0.9, flip=True, seed=3,
    checkpoint=None if checkpoint == "-" else checkpoint, checkpoint_every=1,
    progress=progress,
)
if pf.supernet.distributed.world()[0] == 0:
    pf.supernet.save(net, out)
"""


def small_space():
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
        expand_ratios=(2, 3),
        classes=10,
    )
    return mobilenetv3_space("small", network, min_depth=1, resolutions=(8,))


def few():
    digits = pf.data.load_digits(8).train
    return pf.data.split(
        digits.images[:140], digits.labels[:140], [str(d) for d in range(10)], name="few"
    )


def command(out, checkpoint="-", recipe="progressive", slow=0.0, stop_at=-1):
    script = SCRIPT.format(here=str(Path(__file__).parent))
    return [
        sys.executable,
        "-c",
        script,
        str(out),
        str(checkpoint),
        recipe,
        str(slow),
        str(stop_at),
    ]


def weights(path):
    return pf.files.read_safetensors(path, "pnag-supernet", 2)[0]


@pytest.mark.timeout(240)
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path):
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    checkpoint = tmp_path / "checkpoint.safetensors"
    subprocess.run(command(whole), check=True)
    for kill in range(3):
        run = subprocess.Popen(command(pieces, checkpoint, slow=0.02))
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        # Wait until it has got somewhere, then kill it wherever it is.
        while run.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                time.sleep(0.2 + 0.177 * kill)
                run.send_signal(signal.SIGKILL)
                run.wait()
            time.sleep(0.005)
        assert run.returncode == -signal.SIGKILL
    subprocess.run(command(pieces, checkpoint), check=True)
    expected, found = weights(whole), weights(pieces)
    assert set(expected) == set(found)
    assert [name for name in expected if not np.array_equal(expected[name], found[name])] == []


@pytest.mark.parametrize("recipe", ["progressive", "sandwich"])
def test_every_place_to_resume_from_ends_the_same(tmp_path, recipe):
    torch.set_num_threads(1)
    options = {"recipe": recipe, "epochs": 2, "batch_size": 16, "ema": 0.9, "seed": 3}
    images = few()
    whole = pf.supernet.build(small_space(), seed=1)
    log = pf.supernet.train(whole, images, **options)

    class Stopped(Exception):
        pass

    path = tmp_path / "checkpoint.safetensors"
    total = 4 * len(log.epochs)
    assert len(images.train) // 16 == 4
    for stop_at in [*range(3, total, 5), total]:
        # Every piece starts from other weights: nothing but the file may matter.
        net = pf.supernet.build(small_space(), seed=1 if not path.exists() else 90 + stop_at)

        def stop(description, done, total, stop_at=stop_at):
            if done == stop_at != total:
                raise Stopped

        try:
            again = pf.supernet.train(
                net, images, checkpoint=path, checkpoint_every=1, progress=stop, **options
            )
        except Stopped:
            continue
    assert [(r.loss, r.distillation_loss, r.phase) for r in again.epochs] == [
        (r.loss, r.distillation_loss, r.phase) for r in log.epochs
    ]
    for (name, a), b in zip(whole.state_dict().items(), net.state_dict().values(), strict=True):
        assert name.endswith("tracked") or torch.equal(a, b), name


@pytest.mark.timeout(240)
def test_two_processes_train_what_one_does(tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    # Stopped in the second step, so that the file holds the first one's gradients.
    subprocess.run(command("-", one, "sandwich", stop_at=2), check=True)
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment |= {"MASTER_PORT": str(20_000 + os.getpid() % 20_000), "GLOO_SOCKET_IFNAME": "lo"}
    runs = [
        subprocess.Popen(
            command("-", two, "sandwich", stop_at=2), env={**environment, "RANK": str(rank)}
        )
        for rank in range(2)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    expected, body = pf.files.read_safetensors(one, "pnag-checkpoint", 1)
    found, other = pf.files.read_safetensors(two, "pnag-checkpoint", 1)
    header, other = (both["phases"]["training"]["header"] for both in (body, other))
    assert header["losses"] == pytest.approx(other["losses"], rel=1e-5)
    compared = 0
    scale = max(np.abs(a).max() for n, a in expected.items() if "exp_avg." in n)
    for name, array in expected.items():
        if name.startswith("training/optimizer.exp_avg.") or "running" in name:
            # What is 0 but for rounding differs by rounding: a shift before a batch norm has
            # hardly any gradient, the difference of large ones.
            size = max(np.abs(array).max(), 1e-2 * scale, 1e-2 * ("running" in name))
            assert np.abs(array - found[name]).max() < 1e-4 * size, name
            compared += 1
    assert compared > 60


@pytest.mark.timeout(240)
def test_torchrun_starts_the_command(tmp_path):
    rng = np.random.default_rng(0)
    data, out = tmp_path / "images.npz", tmp_path / "net.safetensors"
    images = rng.integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    np.savez(data, images=images, labels=np.arange(200) % 2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["-m", "pnag_fast", "supernet", "train", "--epochs", "1", "--threads", "1", "--json"]
    run = subprocess.run(
        [*torchrun, *train, "--data", str(data), "--out", str(out)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(json.loads(run.stdout)) > 0  # one document: only the first process prints
    assert pf.supernet.load(out).space.network.classes == 2
