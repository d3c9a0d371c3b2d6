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


def test_repeats_are_left_out_together():
    """By rows, each network would be predicted by its own repeats."""
    blocks, measured, parts = networks(20, stages=(1.0, 1.2, 1.5), noise=0.05)
    once = fit_correction(blocks, measured, parts)
    rng = np.random.default_rng(0)
    repeated = np.repeat(measured, 6) * np.tile([0.98, 1.0, 1.02, 0.99, 1.01, 1.0], 20)
    order = rng.permutation(120)
    rows = np.repeat(np.arange(20), 6)[order]
    again = fit_correction(blocks[rows], repeated[order], parts[rows])
    assert again.networks == 20
    assert again.mean_error == pytest.approx(once.mean_error, rel=1e-6)
    assert again.r2 == pytest.approx(once.r2, rel=1e-6)
    assert again.scale == pytest.approx(once.scale, rel=1e-6)
    assert again.noise == pytest.approx(np.sqrt(0.001 / 5), rel=0.01)
    assert once.noise is None
    assert "noise" not in once.to_json()
    assert again.to_json()["noise"] == again.noise


def test_networks_of_the_same_blocks_may_be_told_apart():
    blocks = np.array([1.0, 1.0, 2.0, 3.0, 4.0])
    assert fit_correction(blocks, 2 * blocks).networks == 4
    assert fit_correction(blocks, 2 * blocks, networks="abcde").networks == 5
    with pytest.raises(InvalidInputError, match="at least 4 different networks, found 3"):
        fit_correction(blocks, 2 * blocks, networks="aabcc")
    with pytest.raises(InvalidInputError, match="5 names"):
        fit_correction(blocks, 2 * blocks, networks="abcd")


def test_repeats_of_three_networks_are_too_few():
    blocks = np.tile([1.0, 2.0, 3.0], 5)
    with pytest.raises(InvalidInputError, match="at least 4 different networks, found 3"):
        fit_correction(blocks, 2 * blocks)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_latencies_that_cannot_be_are_named(bad):
    blocks = np.arange(1.0, 7.0)
    measured = 2 * blocks
    measured[3] = bad
    with pytest.raises(InvalidInputError, match=r"measured_ms .*3"):
        fit_correction(blocks, measured)
    with pytest.raises(InvalidInputError, match="measured_ms has shape"):
        fit_correction(blocks, blocks[:5])


def test_a_poor_correction_says_so():
    rng = np.random.default_rng(0)
    blocks = rng.uniform(1, 10, 30)
    poor = fit_correction(blocks, (0.5 + 1.18 * blocks) * rng.lognormal(0, 0.4, 30))
    assert poor.r2 < 0.9
    assert len(poor.warnings) == 2
    assert all("measure again on a quiet machine" in line for line in poor.warnings)
    assert fit_correction(blocks, 0.5 + 1.18 * blocks).warnings == []


def test_an_offset_that_makes_the_cheapest_cost_nothing_is_left_out():
    blocks = np.array([1.0, 2.0, 3.0, 4.0])
    # Through -0.9 at nothing: a network of 0.5 would cost less than nothing.
    measured = np.array([0.1, 1.2, 2.0, 3.2])
    free = fit_correction(blocks, measured)
    assert free.offset_ms + 0.5 * free.scale < 0
    held = fit_correction(blocks, measured, cheapest_ms=0.5)
    assert held.offset_ms == 0.0
    assert held.scale > 0
    # The figures are those of the fit that is used.
    assert held.mean_error > free.mean_error
    usual = fit_correction(blocks, 0.5 + 1.2 * blocks, cheapest_ms=0.5)
    assert usual.offset_ms == pytest.approx(0.5)
