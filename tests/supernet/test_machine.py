"""Devices and threads."""

from __future__ import annotations

import contextlib

import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError

torch = pytest.importorskip("torch")

from pnag_fast.supernet import machine  # noqa: E402


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:9", "there is no device 'cuda:9' here.*there are: cpu"),
        ("mps:3", "there is no device 'mps:3' here"),
        ("meta", "there is no device 'meta' here"),
        ("cpu:4", "there is no device 'cpu:4' here"),
        ("gpu", "torch knows no device 'gpu'; there are: cpu"),
        ("", "torch knows no device"),
        ("cuda:x", "torch knows no device"),
        (None, "torch knows no device None"),
    ],
)
def test_devices_that_are_not_there_are_named_with_those_that_are(name, message):
    with pytest.raises(InvalidInputError, match=message):
        pf.supernet.device(name)


def test_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(InvalidInputError, match="this torch is built without CUDA"):
        pf.supernet.device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    with pytest.raises(InvalidInputError, match="no GPU is found"):
        pf.supernet.device("cuda")


def test_devices_that_are_there():
    assert pf.supernet.devices()[0] == "cpu"
    for name in pf.supernet.devices():
        assert pf.supernet.device(name).type == name.partition(":")[0]


def test_a_gpu_that_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: False)
    with pytest.raises(InvalidInputError, match="does not compute in bfloat16"):
        machine.require_precision("bfloat16", torch.device("cuda:0"))
    machine.require_precision("bfloat16", torch.device("cpu"))
    machine.require_precision("float16", torch.device("cuda:0"))


@contextlib.contextmanager
def torch_set_to(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_inside(given, network, cores, monkeypatch):
    blocks = network.layers(pf.supernet.extremes(network.space)[1])
    monkeypatch.setattr(machine, "resolve_threads", lambda n: cores if n is None else n)
    with torch_set_to(16):
        with machine.helpful_threads(given, blocks, torch.device("cpu")):
            found = torch.get_num_threads()
        assert torch.get_num_threads() == 16
    return found


def test_networks_get_as_many_threads_as_help(monkeypatch):
    small = pf.supernet.build(pf.spaces.get("mbv3-tiny"))
    large = pf.supernet.build(pf.spaces.get("ofa-mbv3"))
    assert threads_inside(None, small, 8, monkeypatch) == 1
    assert threads_inside(3, small, 8, monkeypatch) == 3
    # One core is left to the program that would make all others wait.
    assert threads_inside(None, large, 8, monkeypatch) == 7
    assert threads_inside(None, large, 2, monkeypatch) == 1
    assert threads_inside(None, large, 1, monkeypatch) == 1
    assert threads_inside(None, large, 64, monkeypatch) == 16
    monkeypatch.undo()
    for threads in (0, -1, 1.5, True, "all"):
        with pytest.raises((InvalidInputError, InvalidTypeError), match="threads"):
            machine.helpful_threads(threads, (), torch.device("cpu")).__enter__()


def test_training_judging_and_recalibrating_use_them(monkeypatch):
    digits = pf.data.load_digits(8)
    few = pf.data.split(
        digits.train.images[:90], digits.train.labels[:90], digits.classes, name="few"
    )
    space = pf.spaces.get("mbv3-tiny", resolutions=(8,))
    net = pf.supernet.build(space)
    seen = set()
    forward = type(net.head).forward
    counted = lambda head, x: (seen.add(torch.get_num_threads()), forward(head, x))[1]  # noqa: E731
    monkeypatch.setattr(type(net.head), "forward", counted)
    calibrated = pf.supernet.judging._calibrated_head
    monkeypatch.setattr(
        pf.supernet.judging,
        "_calibrated_head",
        lambda *given: (seen.add(torch.get_num_threads()), calibrated(*given))[1],
    )
    with torch_set_to(5):
        for threads, expected in ((None, 1), (2, 2)):
            arch = space.sample(1)
            uses = (
                lambda n: pf.supernet.train(net, few, epochs=1, batch_size=16, threads=n),
                lambda n: pf.supernet.evaluate(net, arch, few, threads=n),  # noqa: B023
                lambda n: pf.supernet.recalibrate(net.extract(arch[0]), few, threads=n),  # noqa: B023
            )
            for use in uses:
                seen.clear()
                use(threads)
                assert seen == {expected}
        assert torch.get_num_threads() == 5
