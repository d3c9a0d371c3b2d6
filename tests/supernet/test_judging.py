"""Judging many architectures: what is shared changes nothing but the time."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MemoryShortageError,
)

torch = pytest.importorskip("torch")

from pnag_fast.supernet import evaluation, judging  # noqa: E402


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("mbv3-tiny", resolutions=(16,))


@pytest.fixture(scope="module")
def data():
    # Bright squares on noise: ten classes by their place, so that accuracies differ.
    rng = np.random.default_rng(0)
    labels = np.arange(900) % 10
    images = rng.integers(0, 160, (900, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 4)
        image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 60
    return pf.data.split(images, labels, [str(i) for i in range(10)], name="squares")


@pytest.fixture(scope="module")
def net(space, data):
    net = pf.supernet.build(space)
    pf.supernet.train(net, data, epochs=3, batch_size=50)
    return net


@pytest.fixture(scope="module")
def archs(space):
    """Independent ones, ones that share, equal ones, and all in no order."""
    archs = np.concatenate(
        [
            space.sample(10, seed=1, distribution="decisions"),
            pf.supernet.sample_related(space, 24, seed=2, together=(12, 4, 1)),
            pf.supernet.extremes(space),
        ]
    )
    archs = np.concatenate([archs, archs[:3]])
    return archs[np.random.default_rng(3).permutation(len(archs))]


@pytest.fixture(scope="module")
def alone(net, archs, data):
    return np.concatenate([pf.supernet.evaluate(net, arch[np.newaxis], data) for arch in archs])


def test_together_is_as_alone(net, archs, data, alone):
    assert len(np.unique(alone)) > 5
    calls = []
    top1 = pf.supernet.evaluate(net, archs, data, progress=lambda *call: calls.append(call))
    np.testing.assert_array_equal(top1, alone)
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert calls[-1][1:] == (len(archs), len(archs))


def test_is_what_an_extracted_network_reaches(net, archs, data, alone):
    part = data.validation
    for arch, top1 in zip(archs, alone, strict=True):
        static = pf.supernet.recalibrate(net.extract(arch), data)
        # Folding batch norm rounds differently, which an image between two classes may show.
        assert (
            abs(pf.supernet.accuracy(static, part.images, part.labels) - top1) * len(part) <= 1.01
        )


def test_every_layer_is_the_recalibrated_one(net, archs, data):
    images = evaluation.to_input(data.train.images[:100], torch.device("cpu"))
    for arch in archs[:5]:
        static = pf.supernet.recalibrate(net.extract(arch), data.train.images[:100], batch_size=40)
        batches = list(images.tensor_split(3))
        judge = judging.Judge(net, batches, images, torch.zeros(100), 64, torch.float32)
        slots = [-2, -1, *np.flatnonzero(arch).tolist()]
        with torch.inference_mode():
            for i, slot in enumerate(slots):
                block, layer = static.blocks[i], static.layers[i]
                run, batches = judge._calibrated(slot, block, batches)
                torch.testing.assert_close(run(images), layer(images), rtol=1e-4, atol=1e-5)
                images = layer(images)
        images = evaluation.to_input(data.train.images[:100], torch.device("cpu"))


def test_networks_with_identities_are_judged_as_extracted(data):
    space = pf.spaces.get("nasbench-macro", width=0.25, resolutions=(16,))
    net = pf.supernet.build(space, seed=1)
    some = space.from_strings(["00000000", "10020102", "01212000", "22222222", "01212000"])
    archs = np.concatenate([some, pf.supernet.sample_related(space, 6, seed=3, together=(3, 1))])
    part = data.validation
    judged = pf.supernet.evaluate(net, archs, data)
    assert len(np.unique(judged)) > 5
    for arch, top1 in zip(archs, judged, strict=True):
        static = pf.supernet.recalibrate(net.extract(arch), data)
        reached = pf.supernet.accuracy(static, part.images, part.labels)
        assert abs(reached - top1) * len(part) <= 1.01


def test_each_shared_layer_is_computed_once(net, space, data, monkeypatch):
    archs = np.unique(pf.supernet.sample_related(space, 24, seed=2, together=(12, 4, 1)), axis=0)
    edges = {
        tuple((s, c) for s, c in enumerate(arch.tolist()) if c)[: i + 1]
        for arch in archs
        for i in range(int((arch > 0).sum()))
    }
    calls = []
    original = judging.Judge._calibrated

    def counted(self, slot, block, calibration):
        calls.append(slot)
        return original(self, slot, block, calibration)

    monkeypatch.setattr(judging.Judge, "_calibrated", counted)
    pf.supernet.evaluate(net, archs, data)
    # Besides the slots: stem and first block.
    assert len(calls) == len(edges) + 2


def test_images_in_blocks_where_memory_is_short(net, archs, data, alone, monkeypatch):
    monkeypatch.setattr(judging, "_WAITING_BYTES", 1 << 16)
    calls = []
    top1 = pf.supernet.evaluate(
        net, archs, data, batch_size=64, progress=lambda *call: calls.append(call)
    )
    monkeypatch.undo()
    assert len(calls) > len(archs)
    np.testing.assert_array_equal(top1, pf.supernet.evaluate(net, archs, data, batch_size=64))


def test_bfloat16_is_near(net, archs, data, alone):
    top1 = pf.supernet.evaluate(net, archs, data, precision="bfloat16")
    assert np.abs(top1 - alone).max() < 0.03
    assert not np.array_equal(top1, alone)
    with pytest.raises(InvalidInputError, match="unknown precision 'float16'"):
        pf.supernet.evaluate(net, archs, data, precision="float16")


def judged(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {record["arch"]: record["correct"] for record in records if "arch" in record}


def test_a_journal_goes_on_after_an_interruption(net, archs, data, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_KEPT_TOGETHER", 8)
    path = tmp_path / "journal.json"

    def stop(description, done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pf.supernet.evaluate(net, archs, data, checkpoint=path, progress=stop)
    kept = judged(path)
    assert 8 <= len(kept) < 24
    calls = []
    top1 = pf.supernet.evaluate(
        net, archs, data, checkpoint=path, progress=lambda *call: calls.append(call)
    )
    np.testing.assert_array_equal(top1, alone)
    assert calls[0][1] > 8
    # Once all is known nothing is judged.
    monkeypatch.setattr(evaluation, "Judge", None)
    np.testing.assert_array_equal(pf.supernet.evaluate(net, archs, data, checkpoint=path), alone)


def test_a_journal_of_something_else_is_refused(net, archs, data, tmp_path):
    path = tmp_path / "journal.json"
    pf.supernet.evaluate(net, archs[:2], data, checkpoint=path)
    before = path.read_bytes()
    for options, message in (
        ({"split": "test"}, r"other split \('validation', now 'test'\); judge what"),
        ({"precision": "bfloat16"}, "other precision"),
        ({"recalibration_images": 5}, r"other recalibration images \(256, now 5\)"),
    ):
        with pytest.raises(FileFormatError, match=message):
            pf.supernet.evaluate(net, archs[:2], data, checkpoint=path, **options)
    other = pf.supernet.build(net.space, seed=9)
    with pytest.raises(FileFormatError, match="other weights"):
        pf.supernet.evaluate(other, archs[:2], data, checkpoint=path)
    assert path.read_bytes() == before
    path.write_text("{}")
    with pytest.raises(FileFormatError, match="pnag-judged"):
        pf.supernet.evaluate(net, archs[:2], data, checkpoint=path)


def test_the_former_name_of_checkpoint_warns(net, archs, data, alone, tmp_path):
    path = tmp_path / "judged.jsonl"
    with pytest.warns(DeprecationWarning, match="journal= is now checkpoint=") as warned:
        top1 = pf.supernet.evaluate(net, archs[:2], data, journal=path)
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(top1, alone[:2])
    assert len(judged(path)) == 2
    with pytest.raises(InvalidTypeError, match="former name of checkpoint; give checkpoint alone"):
        pf.supernet.evaluate(net, archs[:2], data, journal=path, checkpoint=path)


def test_a_judged_journal_loses_damaged_lines_alone(net, archs, data, tmp_path):
    path = tmp_path / "judged.jsonl"
    expected = pf.supernet.evaluate(net, archs[:6], data, checkpoint=path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"correct": ', b'"correct": 1')
    # Cut off in the middle of a line, as by a kill.
    path.write_bytes(b"".join(lines)[:-10])
    with pytest.warns(UserWarning, match="torn last line|1 damaged record"):
        top1 = pf.supernet.evaluate(net, archs[:6], data, checkpoint=path)
    np.testing.assert_array_equal(top1, expected)


def test_a_judged_journal_of_the_first_version_is_read(net, archs, data, tmp_path, monkeypatch):
    path = tmp_path / "judged.json"
    expected = pf.supernet.evaluate(net, archs[:6], data, checkpoint=path)
    correct = judged(path)
    identity = json.loads(path.read_text().splitlines()[1])["are"]
    document = {"format": "pnag-judged", "version": 1, "of": identity, "correct": correct}
    path.write_text(json.dumps(document, indent=1))
    monkeypatch.setattr(evaluation, "Judge", None)
    np.testing.assert_array_equal(
        pf.supernet.evaluate(net, archs[:6], data, checkpoint=path), expected
    )
    assert judged(path) == correct
    for bad in (-1, True, 1.5, 10**9, None):
        document["correct"] = {**correct, next(iter(correct)): bad}
        path.write_text(json.dumps(document, indent=1))
        before = path.read_bytes()
        with pytest.raises(FileFormatError, match="count"):
            pf.supernet.evaluate(net, archs[:6], data, checkpoint=path)
        assert path.read_bytes() == before


def test_memory_that_runs_out_is_one_clear_error(net, archs, data, monkeypatch):
    def exhausted(*_):
        torch.empty(1 << 60)

    monkeypatch.setattr(judging.Judge, "_calibrated", exhausted)
    with pytest.raises(MemoryShortageError, match="judge on fewer images"):
        pf.supernet.evaluate(net, archs[:2], data)


PROCESS = """
import pickle, sys
import numpy as np, torch, torch.distributed as dist
import pnag_fast as pf
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
net = pf.supernet.load(f"{folder}/net.safetensors")
with open(f"{folder}/data.pickle", "rb") as stream:
    archs, data = pickle.load(stream)
top1 = pf.supernet.evaluate(net, archs, data, checkpoint=f"{folder}/journal.json")
np.save(f"{folder}/top1.{rank}.npy", top1)
dist.barrier()  # who leaves first may pull the connection from under the other
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_work(net, archs, data, tmp_path):
    pf.supernet.save(net, tmp_path / "net.safetensors")
    (tmp_path / "data.pickle").write_bytes(pickle.dumps((archs, data)))
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    expected = pf.supernet.evaluate(net, archs, data)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"top1.{rank}.npy"), expected)
    # Each judged about half.
    kept = [judged(tmp_path / name) for name in ("journal.json", "journal.json.1")]
    assert min(len(part) for part in kept) >= len(np.unique(archs, axis=0)) // 3
    assert len({**kept[0], **kept[1]}) == len(np.unique(archs, axis=0))


def test_related_architectures_share_their_first_stages():
    space = pf.spaces.get("mbv3-cifar", resolutions=(24, 32))
    archs = pf.supernet.sample_related(space, 600, seed=1)
    space.validate(archs)
    assert np.array_equal(archs, pf.supernet.sample_related(space, 600, seed=1))
    assert len(np.unique(archs, axis=0)) == 600
    counts = [len(np.unique(archs[:, : 4 * (stage + 1)], axis=0)) for stage in range(5)]
    assert counts == [10, 50, 100, 300, 600]
    assert len(np.unique(archs[:60, space.resolution_slot])) == 1
    for together in ((), (6, 4), (0, 1)):
        with pytest.raises(InvalidInputError, match="multiple of the next"):
            pf.supernet.sample_related(space, 10, together=together)
