from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.errors import InvalidInputError, MeasurementError
from pnag_fast.latency import fit_correction


def test_a_known_offset_and_scale_are_found():
    rng = np.random.default_rng(0)
    blocks = rng.uniform(1, 10, 30)
    measured = (0.5 + 1.18 * blocks) * rng.normal(1, 0.01, 30)
    correction = fit_correction(blocks, measured)
    assert correction.offset_ms == pytest.approx(0.5, abs=0.1)
    assert correction.scale == pytest.approx(1.18, rel=0.03)
    assert correction.r2 > 0.99
    assert correction.rank_correlation > 0.98
    assert 0.003 < correction.mean_error < 0.02
    assert correction.mean_error < correction.worst_error < 0.05
    assert correction.networks == 30


def test_the_errors_are_those_of_networks_left_out():
    blocks = np.array([1.0, 2.0, 3.0, 4.0])
    measured = np.array([1.0, 2.0, 3.0, 8.0])
    # Fitted to the other three, the last is predicted as 4.
    correction = fit_correction(blocks, measured)
    assert correction.worst_error >= 0.5 - 1e-9


def networks(n, *, stages, noise, seed=0):
    """Blocks of three stages, and networks in which each stage has a scale of its own."""
    rng = np.random.default_rng(seed)
    parts = rng.uniform(1, 5, (n, 3))
    measured = (0.5 + parts @ np.array(stages)) * rng.normal(1, noise, n)
    return parts.sum(axis=1), measured, parts


def test_stages_get_scales_of_their_own_where_these_help():
    blocks, measured, parts = networks(20, stages=(1.0, 1.2, 1.5), noise=0.002)
    correction = fit_correction(blocks, measured, parts)
    np.testing.assert_allclose(correction.stage_scales, (1.0, 1.2, 1.5), rtol=0.05)
    line = fit_correction(blocks, measured)
    assert line.stage_scales == ()
    assert correction.mean_error < 0.3 * line.mean_error
    # What is reported holds for networks that were not there.
    blocks, measured, parts = networks(200, stages=(1.0, 1.2, 1.5), noise=0.002, seed=1)
    predicted = correction.offset_ms + parts @ np.array(correction.stage_scales)
    fresh = np.abs(predicted / measured - 1).mean()
    assert fresh < 2 * correction.mean_error


@pytest.mark.parametrize("seed", range(5))
def test_stages_share_a_scale_where_they_do(seed):
    correction = fit_correction(*networks(20, stages=(1.1, 1.1, 1.1), noise=0.03, seed=seed))
    np.testing.assert_allclose(correction.stage_scales, correction.scale, rtol=0.1)


def test_few_networks_do_not_tell_stages_apart():
    correction = fit_correction(*networks(8, stages=(1.0, 1.2, 1.5), noise=0.002))
    assert len(set(correction.stage_scales)) == 1


def test_inputs_are_not_changed():
    blocks, measured = np.arange(1.0, 6.0), np.arange(2.0, 7.0)
    blocks.flags.writeable = measured.flags.writeable = False
    fit_correction(blocks, measured)


def test_ties_share_a_rank():
    blocks = np.array([1.0, 1.0, 2.0, 3.0, 4.0])
    assert fit_correction(blocks, 2 * blocks).rank_correlation == pytest.approx(1.0)


def test_networks_that_do_not_follow_their_blocks_are_refused():
    with pytest.raises(MeasurementError, match="does not grow"):
        fit_correction(np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 3.0, 2.0, 1.0]))


def test_too_few_networks_are_refused():
    with pytest.raises(InvalidInputError, match="at least 4"):
        fit_correction(np.ones(3), np.ones(3))
