"""The supernet that comes with the package."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib import resources

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import InvalidInputError


def test_published_supernet_is_what_its_record_says():
    pytest.importorskip("torch")
    folder = resources.files("pnag_fast") / "published"
    record = files.read_json(folder / "mbv3-cifar.json", "pnag-published", 1)
    raw = (folder / "mbv3-cifar.safetensors").read_bytes()
    assert len(raw) < 20 * 2**20
    assert hashlib.sha256(raw).hexdigest() == record["supernet_sha256"]
    net = pf.supernet.published("mbv3-cifar")
    assert net.space == pf.spaces.get("mbv3-cifar")
    archs, top1 = pf.supernet.published_accuracies("mbv3-cifar")
    assert len(np.unique(archs, axis=0)) == len(archs) == record["architectures"] >= 2000
    assert [top1.min(), top1.max()] == record["top1_range"]


@pytest.mark.shared_data
@pytest.mark.slow
def test_published_accuracies_are_those_of_the_weights(shared_data):
    pytest.importorskip("torch")
    folder = resources.files("pnag_fast") / "published"
    n = files.read_json(folder / "mbv3-cifar.json", "pnag-published", 1)["table_test_images"]
    data = pf.data.load(shared_data / "cifar10", 32)
    test = pf.data.Split(data.test.images[:n], data.test.labels[:n])
    archs, top1 = pf.supernet.published_accuracies("mbv3-cifar")
    rows = [0, len(archs) // 2]
    judged = pf.supernet.evaluate(
        pf.supernet.published("mbv3-cifar"),
        archs[rows],
        dataclasses.replace(data, test=test),
        split="test",
    )
    # Another release of torch or another processor may see an image differently.
    np.testing.assert_allclose(judged, top1[rows], atol=3 / n)


def test_unknown_published_supernet():
    pytest.importorskip("torch")
    with pytest.raises(InvalidInputError, match="this release has mbv3-cifar"):
        pf.supernet.published("mbv3")
