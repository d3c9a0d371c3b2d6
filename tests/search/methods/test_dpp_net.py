from __future__ import annotations

import csv
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.search import objectives
from pnag_fast.search.methods import dpp_net
from pnag_fast.spaces.decisions import MASKED, Decisions


@pytest.fixture(scope="module")
def macro():
    return pf.spaces.get("nasbench-macro")


@pytest.fixture(scope="module")
def costs(macro):
    return [pf.costs.macs(macro), pf.costs.parameters(macro)]


@pytest.fixture(scope="module")
def exact(macro):
    """A value for every network, in which decisions interact."""
    archs = macro.enumerate()
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (8, 4))
    pairs = rng.normal(0, 0.4, (7, 4, 4))
    rows = archs.astype(np.intp)
    score = values[np.arange(8), rows].sum(axis=1) + rows.sum(axis=1)
    for slot, (a, b) in enumerate(itertools.pairwise(rows.T)):
        score += pairs[slot, a, b]
    return pf.accuracy.table(macro, archs, 1 / (1 + np.exp(-0.3 * (score - score.mean()))))


def volume(front, reference):
    return pf.pareto.hypervolume(objectives(front.top1, front.costs), reference)


def test_an_exact_surrogate_and_every_prefix_kept_find_the_exact_front(
    macro, exact, costs, monkeypatch
):
    whole = pf.search.exhaustive(macro, exact, costs, evaluations=5000)
    monkeypatch.setattr(
        dpp_net.DppNet, "predicted", lambda self, problem, state, archs: exact.predict(archs)
    )
    oracle = pf.accuracy.oracle(macro, exact.predict, batch=200)
    found = pf.search.dpp_net(macro, oracle, costs, keep=10**9, ask=150, rounds=1, evaluations=4000)
    np.testing.assert_array_equal(found.archs, whole.archs)
    # It is Pareto selection that found it, not enumeration.
    assert len(whole) <= 150
    assert found.evaluations == oracle.n_known < 0.4 * macro.n_architectures
    # Nor does chance: where few prefixes are kept, members of the front are lost.
    lost = pf.search.dpp_net(macro, oracle, costs, keep=3, ask=3, rounds=1, evaluations=4000)
    assert len(lost) < len(whole)


def test_hypervolume_grows_with_what_is_kept(macro, exact, costs):
    whole = pf.search.exhaustive(macro, exact, costs, evaluations=5000)
    reference = objectives(whole.top1, whole.costs).max(axis=0)
    shares = []
    for keep in (2, 8, 64):
        fronts = [
            pf.search.dpp_net(
                macro,
                pf.accuracy.oracle(macro, exact.predict, batch=200),
                costs,
                keep=keep,
                rounds=1,
                evaluations=4000,
                seed=seed,
            )
            for seed in range(2)
        ]
        share = [volume(front, reference) for front in fronts]
        shares.append(np.mean(share) / volume(whole, reference))
    assert shares == sorted(shares)
    assert shares[0] < 0.97
    assert shares[-1] > 0.995


def test_of_judged_networks_the_front_is_nearly_exact_after_300_questions(macro, costs):
    """Every network of the space, judged on the digits by a supernet (bench/nasbench_macro.py)."""
    path = Path(__file__).parents[3] / "bench" / "data" / "nasbench_macro_digits.csv.gz"
    with gzip.open(path, "rt") as stream:
        rows = list(csv.DictReader(stream))
    archs = macro.from_strings([row["arch"] for row in rows])
    model = pf.accuracy.table(macro, archs, np.array([float(row["test"]) for row in rows]))
    whole = pf.search.exhaustive(macro, model, costs, evaluations=5000)
    assert whole.evaluations == len(rows) == 3969
    reference = objectives(whole.top1, whole.costs).max(axis=0)
    for seed in range(3):
        oracle = pf.accuracy.oracle(macro, model.predict, batch=100)
        found = pf.search.dpp_net(macro, oracle, costs, evaluations=300, seed=seed)
        assert found.evaluations == oracle.n_known == 300
        assert volume(found, reference) > 0.99 * volume(whole, reference)


def test_a_prefix_is_expanded_by_what_there_is_to_choose():
    tiny = pf.spaces.get("mbv3-tiny")
    decisions = Decisions(tiny, by="slot")
    # The first stage has one layer: depth, then a choice for each of three slots.
    prefixes = np.full((2, len(decisions)), MASKED)
    prefixes[:, 0] = [0, 2]
    first = dpp_net._expanded(decisions, prefixes, 1)
    assert first[:, :2].tolist() == [[d, c] for d in (0, 2) for c in range(9)]
    second = dpp_net._expanded(decisions, prefixes, 2)
    assert second[:, 2].tolist() == [MASKED, *range(9)]


def test_a_question_without_an_answer_is_asked_once(macro, exact, costs):
    asked = []

    def judge(archs):
        asked.extend(row.tobytes() for row in archs)
        if (archs[:, 0] == 2).any():
            raise RuntimeError("diverged")
        return exact.predict(archs)

    oracle = pf.accuracy.oracle(macro, judge)
    found = pf.search.dpp_net(macro, oracle, costs, evaluations=200)
    assert len(asked) == len(set(asked)) == found.evaluations == 200
    assert len(found) > 10
    assert (found.archs[:, 0] != 2).all()


def test_a_space_is_asked_to_its_end():
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    values = np.random.default_rng(0).uniform(0.2, 0.9, len(archs))
    oracle = pf.accuracy.oracle(space, pf.accuracy.table(space, archs, values).predict, batch=50)
    found = pf.search.dpp_net(space, oracle, [pf.costs.macs(space)], evaluations=1000)
    assert found.evaluations == oracle.n_known == space.n_architectures


def test_oracles_where_everything_fails_at_first_are_searched_on(macro, exact, costs):
    """Nothing is known of any prefix until something answers."""
    count = itertools.count()

    def judge(archs):
        if next(count) < 15:
            raise RuntimeError("not ready")
        return exact.predict(archs)

    found = pf.search.dpp_net(macro, pf.accuracy.oracle(macro, judge), costs, evaluations=60)
    assert found.evaluations == 60
    assert len(found) > 3


@pytest.mark.shared_data
def test_three_devices_get_three_networks(shared_data, read_csv):
    """One search for the costs of three devices; each takes what suits it."""
    space = pf.spaces.get("nasbench201")
    names, devices = ("1080ti_1", "fpga", "essential_ph_1"), []
    rows = {row["index"]: row for row in read_csv(shared_data / "nasbench201" / "latency_ms.csv")}
    cells = read_csv(shared_data / "nasbench201" / "accuracy_12_epochs.csv")
    archs = space.from_strings([row["arch"] for row in cells])
    top1 = np.array([float(row["cifar100-test"]) for row in cells]) / 100
    some = np.sort(np.random.default_rng(0).permutation(len(cells))[:400])
    for name in names:
        latency = np.array([float(rows[cells[i]["index"]][name]) for i in some])
        devices.append(
            pf.costs.fit(space, archs[some], latency, metric="latency", unit="ms", device=name)
        )
    model = pf.accuracy.table(space, archs, top1)
    oracle = pf.accuracy.oracle(space, model.predict, batch=100)
    found = pf.search.dpp_net(space, oracle, devices, evaluations=300)
    assert found.evaluations == 300
    budgets = np.full((3, 3), np.inf)
    for device, table in enumerate(devices):
        low, high = table.bounds
        budgets[device, device] = low + 0.15 * (high - low)
    picks = found.best(budgets)
    assert len(set(picks.tolist())) == 3
    # Each is better than what the other devices' picks are where they fit at all.
    for device, pick in enumerate(picks):
        others = [p for p in picks if found.costs[p, device] <= budgets[device, device]]
        assert found.top1[pick] == max(found.top1[others])
