from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.search import objectives


def test_exhaustive_is_the_exact_front():
    space = pf.spaces.get("compofa-mbv3")
    macs = pf.costs.macs(space)
    pytest.importorskip("torch")
    archs = space.sample(200, seed=0)
    model = pf.accuracy.fit(space, archs, 0.5 + 0.3 * macs(archs) / macs.bounds[1])
    front = pf.search.exhaustive(space, model, [macs])
    everything = space.enumerate()
    assert front.evaluations == len(everything) == 243
    points = objectives(model.predict(everything), macs(everything)[:, None])
    expected = everything[pf.pareto.is_non_dominated(points)]
    np.testing.assert_array_equal(np.unique(front.archs, axis=0), np.unique(expected, axis=0))
    with pytest.raises(InvalidInputError, match="243 architectures, more than evaluations=242"):
        pf.search.exhaustive(space, model, [macs], evaluations=242)
