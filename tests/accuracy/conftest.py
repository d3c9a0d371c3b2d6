from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.spaces import nasbench201


@pytest.fixture
def skewed(tiny, tiny_model):
    """The same model, but wrong in level, in scale, and in what it sees in one code."""
    first = tiny_model.first.copy()
    linear = 0.5 * tiny_model.linear
    linear[:, 2] += 0.4
    return dataclasses.replace(tiny_model, linear=linear, first=first, source="skewed")


@pytest.fixture(scope="session")
def beyond():
    """Return what computes the variance beyond the measured range, in float64."""
    return _beyond


def _beyond(reach, x):
    place = x @ reach.directions.astype(float)
    half = (reach.high.astype(float) - reach.low) / 2
    error = np.zeros_like(place)
    for outside, growth in ((reach.low - place, reach.below), (place - reach.high, reach.above)):
        excess = outside.clip(min=0)
        error += growth * (2 * half * excess + excess**2)
    return error.max(axis=1) ** 2


@pytest.fixture(scope="session")
def measured_cells(cell):
    """What matters is the paths: convolutions on the longest one, and whether any is live."""
    archs = cell.sample(300, seed=4)
    features = nasbench201.cell_features(archs)
    top1 = 0.1 + 0.2 * features[:, -1] + 0.05 * features[:, -10]
    return archs, top1.astype(np.float64).clip(0, 1)


@pytest.fixture(scope="session")
def compofa():
    return pf.spaces.get("compofa-mbv3")


@pytest.fixture(scope="session")
def of_compofa(compofa):
    archs = compofa.enumerate()
    return pf.accuracy.fit(compofa, archs, 0.7 + 0.001 * (archs > 0).sum(axis=1), epochs=5)
