from __future__ import annotations

import numpy as np

import pnag_fast as pf
from pnag_fast.spaces import nasbench201


def test_notation_of_nasbench201():
    space = pf.spaces.get("nasbench201")
    text = (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    archs = space.from_strings([text])
    assert archs.tolist() == [[5, 3, 2, 3, 2, 2]]
    assert space.to_strings(archs) == [text]


def test_cells_that_compute_the_same_have_the_same_features():
    cell = pf.spaces.get("nasbench201")
    n, s, a, b, p = "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"

    def features(*edges):
        row = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*edges)
        return cell.features(cell.from_strings([row]))[0]

    # Node 2 leads nowhere; node 1 is fed by nothing; nodes 1 and 2 change places.
    np.testing.assert_array_equal(features(a, b, p, s, b, n), features(a, n, n, s, b, n))
    np.testing.assert_array_equal(features(n, b, p, s, b, a), features(n, b, n, s, n, a))
    np.testing.assert_array_equal(features(a, b, n, s, p, s), features(b, a, n, s, s, p))
    # An edge between the nodes tells them apart, and so does an operation that is alive.
    assert (features(a, b, s, s, p, s) != features(b, a, s, s, s, p)).any()
    assert (features(a, b, p, s, b, a) != features(a, b, p, s, b, b)).any()
    assert features(n, n, n, n, n, n)[-1] == 0
    assert pf.spaces.get("ofa-mbv3").features is None


def test_features_that_are_looked_up_are_those_that_are_computed():
    cell = pf.spaces.get("nasbench201")
    archs = cell.sample(300, seed=0)
    found = cell.features(archs)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, nasbench201._computed_features(archs))
    assert cell.features(archs[:0]).shape == (0, 223)
