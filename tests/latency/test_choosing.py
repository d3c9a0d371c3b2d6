"""Which networks to measure on a device."""

from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("mbv3-tiny")


def codes(archs):
    return {row.tobytes() for row in archs}


def device(space, seed):
    """A device that is slow at some of what networks are made of, like no other."""
    rng = np.random.default_rng(seed)
    macs = pf.costs.macs(space)
    per_code = rng.uniform(0.3, 1.0) * macs.entries / macs.bounds[1] + rng.uniform(0.01, 0.1)
    per_code[..., 0] = 0.0
    factor = rng.uniform(0.7, 1.4, (1, space.n_slots, 1))
    return pf.CostTable.build(
        space, metric="latency", unit="ms", device=f"device {seed}",
        constants=[rng.uniform(0.05, 0.3)], entries=per_code * factor,
    )  # fmt: skip


def error(table, truth, archs):
    return float(np.abs(table(archs) / truth(archs) - 1).mean())


@pytest.mark.parametrize("name", ["mbv3-tiny", "nasbench201", "ofa-mbv3"])
def test_choices_are_valid_different_and_the_same_again(name):
    space = pf.spaces.get(name)
    archs = pf.latency.choose(space, 12, seed=3)
    assert archs.shape == (12, space.n_slots)
    assert archs.dtype == np.uint8
    assert archs.flags.c_contiguous
    space.validate(archs)
    assert len(codes(archs)) == 12
    np.testing.assert_array_equal(archs, pf.latency.choose(space, 12, seed=3))
    np.testing.assert_array_equal(archs[:5], pf.latency.choose(space, 5, seed=3))
    # What was measured is not chosen again, and changes what is.
    more = pf.latency.choose(space, 12, seed=3, measured=archs)
    assert not codes(archs) & codes(more)


def test_choices_tell_more_than_random_networks(space):
    known = [device(space, seed) for seed in range(2)]
    fresh = space.sample(500, seed=9)
    chosen, random = [], []
    for seed in range(10, 18):
        truth = device(space, seed)
        noise = np.random.default_rng(seed).normal(1, 0.005, 5)
        for errors, archs in (
            (chosen, pf.latency.choose(space, 5, prior=known, seed=seed)),
            (random, space.sample(5, seed=seed)),
        ):
            table = pf.costs.fit(
                space, archs, truth(archs) * noise, metric="latency", unit="ms", prior=known
            )
            errors.append(error(table, truth, fresh))
    assert np.mean(chosen) < 0.8 * np.mean(random)


def test_a_table_of_the_device_says_what_it_does_not_know(space):
    """After a batch has told about all slots but one, that one is asked about."""
    known, truth = [device(space, seed) for seed in range(4)], device(space, 5)
    archs = space.sample(60, seed=0, distribution="decisions")
    kept = archs[archs[:, 0] == archs[0, 0]]
    table = pf.costs.fit(space, kept, truth(kept), metric="latency", unit="ms", prior=known)
    chosen = pf.latency.choose(space, 6, prior=table)
    assert (chosen[:, 0] != kept[0, 0]).sum() >= 4


def test_candidates_are_chosen_from(space):
    offered = space.sample(40, seed=1, distribution="decisions")
    offered = np.concatenate([offered, offered])
    chosen = pf.latency.choose(space, 10, candidates=offered, measured=offered[:5])
    assert codes(chosen) <= codes(offered[5:40])
    everything = pf.latency.choose(space, len(codes(offered)), candidates=offered)
    assert codes(everything) == codes(offered)


def test_of_many_the_rest_is_random(space):
    chosen = pf.latency.choose(space, 260, seed=1)
    assert len(codes(chosen)) == 260
    np.testing.assert_array_equal(chosen[:200], pf.latency.choose(space, 200, seed=1))
    np.testing.assert_array_equal(chosen, pf.latency.choose(space, 260, seed=1))


@pytest.mark.parametrize(
    ("n", "options", "kind", "message"),
    [
        (0, {}, InvalidInputError, "n should be an integer from 1 to 100000, found 0"),
        (10**6, {}, InvalidInputError, "n should be an integer"),
        (2.5, {}, InvalidInputError, "n should be an integer"),
        (
            3,
            {"prior": "table.json"},
            InvalidTypeError,
            "prior should be a list of CostTables, found str",
        ),
        (3, {"prior": 3}, InvalidTypeError, "prior should be a list of CostTables, found int"),
        (3, {"prior": [3]}, InvalidTypeError, "prior should hold CostTables, found int"),
        (3, {"measured": np.zeros((1, 3), np.uint8)}, InvalidInputError, "3 columns"),
    ],
)
def test_refusals(space, n, options, kind, message):
    with pytest.raises(kind, match=message):
        pf.latency.choose(space, n, **options)


def test_too_few_to_choose_from():
    space = pf.spaces.get("compofa-mbv3")
    all_of_them = space.enumerate()
    assert len(pf.latency.choose(space, len(all_of_them))) == len(all_of_them)
    message = r"244 networks were asked for, and there are 243 different ones of 'compofa-mbv3'"
    with pytest.raises(InvalidInputError, match=message):
        pf.latency.choose(space, 244)
    with pytest.raises(InvalidInputError, match="that were not measured yet: ask for fewer"):
        pf.latency.choose(space, 240, measured=all_of_them[:10])


def test_an_exact_table_leaves_nothing_to_measure(space):
    macs = pf.costs.macs(space)
    with pytest.raises(InvalidInputError, match=r"give it in a list: prior=\[table\]"):
        pf.latency.choose(space, 3, prior=macs)
    assert len(pf.latency.choose(space, 3, prior=[macs])) == 3
    with pytest.raises(InvalidInputError, match="not for 'nasbench201'"):
        pf.latency.choose(pf.spaces.get("nasbench201"), 3, prior=[macs])
    peak = pf.CostTable.build(
        space, metric="memory", unit="bytes", device="any", constants=[1.0],
        entries=macs.entries, reduce="max",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="leave it out of prior"):
        pf.latency.choose(space, 3, prior=[macs, peak])


def test_arguments_are_left_alone(space):
    offered, measured = space.sample(30, seed=1), space.sample(5, seed=2)
    offered.flags.writeable = measured.flags.writeable = False
    pf.latency.choose(space, 4, candidates=offered, measured=measured)
