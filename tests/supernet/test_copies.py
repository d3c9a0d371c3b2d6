"""Supernets and networks are copied, pickled, sent to other processes, and printed."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest

import pnag_fast as pf

torch = pytest.importorskip("torch")


def saved_by_torch(module):
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved_by_torch,
}


@pytest.fixture(scope="module")
def net():
    net = pf.supernet.build(pf.spaces.get("mbv3-tiny", resolutions=(16,)), seed=3)
    net.input_scale = pf.supernet.InputScale((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    data = pf.data.split(images, np.arange(40) % 10, tuple("abcdefghij"), name="noise")
    net.trained_on = pf.supernet.trained_on.remember(data)
    return net.eval()


def logits(module):
    with torch.inference_mode():
        return module(torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16))


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_supernet_is_one_of_its_own(net, how):
    arch = net.space.sample(2, seed=1)
    net.set_active(arch[0])
    before = logits(net)
    copied = COPIES[how](net)
    # With the same network active, the same space, and what it remembers.
    assert torch.equal(logits(copied), before)
    assert copied.space == net.space
    assert copied.input_scale == net.input_scale
    assert copied.trained_on.train_sha256 == net.trained_on.train_sha256
    copied.set_active(arch[1])
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1.0)
    assert torch.equal(logits(net), before)
    assert not torch.equal(logits(copied), before)
    assert copied.extract(arch[0]).trained_on is copied.trained_on


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_network_computes_the_same(net, how):
    static = net.extract(net.space.sample(1, seed=2)[0])
    copied = COPIES[how](static)
    assert torch.equal(logits(copied), logits(static))
    assert copied.blocks == static.blocks
    assert copied.input_scale == static.input_scale


def test_averages_of_weights(net):
    from torch.optim.swa_utils import AveragedModel

    for module in (net, net.extract(net.space.sample(1, seed=2)[0])):
        average = AveragedModel(module)
        average.update_parameters(module)
        assert torch.equal(logits(average.eval()), logits(module))


def _shape_and_sum(module):
    return tuple(logits(module).shape), float(logits(module).sum())


@pytest.mark.timeout(300)
def test_other_processes_get_them(net):
    static = net.extract(net.space.sample(1, seed=2)[0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for module in (net, static):
            shape, total = pool.apply(_shape_and_sum, (module,))
            assert shape == (2, 10)
            assert total == pytest.approx(float(logits(module).sum()), abs=1e-4)


def test_they_print_in_a_line(net):
    static = net.extract(net.space.sample(1, seed=2)[0])
    assert repr(net).startswith("Supernet('mbv3-tiny', 10 classes, ")
    assert "trained on 'noise'" in repr(net)
    assert repr(static).startswith("StaticNetwork(")
    log = pf.supernet.TrainingLog("sandwich", (), 0)
    for thing in (net, static, net.trained_on, log):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 200
