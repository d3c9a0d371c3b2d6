"""What every search method keeps to; a new one is in here by being found."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError, InvalidTypeError
from pnag_fast.runs import Checkpoint
from pnag_fast.search import objectives
from pnag_fast.search.methods import front as front_search

METHODS = pf.search.names()
# Those that do not look at everything.
SAMPLING = [name for name in METHODS if name != "exhaustive"]
# Fast ones of these take a handful of questions.
FEW = {"population": 10, "samples": 4, "updates": 1}


@pytest.fixture(autouse=True)
def never_exhaustive(monkeypatch):
    monkeypatch.setattr(front_search, "EXHAUSTIVE_LIMIT", 0)


@pytest.fixture(scope="module")
def small():
    """A space whose architectures can all be looked at."""
    return pf.spaces.get("compofa-mbv3")


@pytest.fixture(scope="module")
def small_model(small):
    archs = small.enumerate()
    return pf.accuracy.table(small, archs, smooth_top1(small, archs))


def few(name):
    options = inspect.signature(getattr(pf.search, name)).parameters
    return {key: value for key, value in FEW.items() if key in options}


def quick(name):
    """Without what takes time and asks nothing; as many questions at once as by default."""
    return {key: value for key, value in few(name).items() if key == "updates"}


def same(a, b):
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_array_equal(a.top1, b.top1)
    np.testing.assert_array_equal(a.costs, b.costs)
    assert a.evaluations == b.evaluations


def check_front(found, model, tables):
    found.space.validate(found.archs)
    assert pf.pareto.is_non_dominated(objectives(found.top1, found.costs)).all()
    assert len(np.unique(found.archs, axis=0)) == len(found)
    assert (np.diff(found.costs[:, 0]) >= 0).all()
    np.testing.assert_array_equal(found.costs, pf.costs.stack(tables)(found.archs))
    if found.accuracy_source == model.source:
        np.testing.assert_allclose(found.top1, model.predict(found.archs), atol=1e-6)
    else:
        # It says that its values are not the model's own, and of what they are made.
        assert found.accuracy_source.endswith(f" of {model.source}")


def test_all_methods_are_found():
    expected = {"evolution", "exhaustive", "front", "independent", "nsga2", "random", "reinforce"}
    assert expected <= set(METHODS)
    assert set(METHODS) <= set(dir(pf.search))
    with pytest.raises(AttributeError, match="fronts"):
        _ = pf.search.fronts


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_documented_and_signed(name):
    search = getattr(pf.search, name)
    assert search is getattr(pf.search, name)
    assert pickle.loads(pickle.dumps(search)) is search
    assert search.__name__ == name
    common = [
        "space",
        "model",
        "tables",
        "seed",
        "evaluations",
        "time_limit_s",
        "threads",
        "checkpoint",
        "progress",
    ]
    assert list(inspect.signature(search).parameters)[: len(common)] == common
    for argument in inspect.signature(search).parameters:
        assert argument in search.__doc__, argument
    assert search.__doc__.count("Parameters\n---") == search.__doc__.count("Returns\n---") == 1


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("limit", [1, 7, 250, 1999])
def test_limits_are_kept_to_the_question(tiny, tiny_model, tiny_table, name, limit):
    calls = []
    found = getattr(pf.search, name)(
        tiny,
        tiny_model,
        [tiny_table],
        evaluations=limit,
        progress=lambda *c: calls.append(c),
        **quick(name),
    )
    assert found.evaluations == limit == calls[-1][1] == calls[-1][2]
    assert [c[1] for c in calls] == sorted(c[1] for c in calls)
    check_front(found, tiny_model, [tiny_table])


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_front_whatever_the_threads(small, small_model, name):
    search, tables = getattr(pf.search, name), [pf.costs.macs(small)]
    limit = {} if name == "exhaustive" else {"evaluations": 120}
    runs = [
        search(small, small_model, tables, seed=s, threads=t, **few(name), **limit)
        for s, t in ((3, 1), (3, 2), (4, 1))
    ]
    same(runs[0], runs[1])
    check_front(runs[2], small_model, tables)


@pytest.mark.parametrize("name", SAMPLING)
def test_seeds_differ(tiny, tiny_model, tiny_table, name):
    search = getattr(pf.search, name)
    a, b = (
        search(tiny, tiny_model, [tiny_table], evaluations=600, seed=s, **quick(name))
        for s in (3, 4)
    )
    assert a.archs.shape != b.archs.shape or (a.archs != b.archs).any()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("slopes", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_a_search_killed_at_any_moment_ends_the_same(
    small, tiny, tiny_model, tiny_table, tmp_path, monkeypatch, name, slopes
):
    """Kill each run at its k-th report, for growing k: every report is a place to die once."""
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    if not slopes:
        monkeypatch.setattr(type(tiny_model), "sensitivity", lambda self, archs: None)
    monkeypatch.setattr("pnag_fast.search.methods.random._BATCH", 90)
    path = tmp_path / "checkpoint"
    space, model, tables = tiny, tiny_model, [tiny_table]
    if name == "exhaustive":
        space, tables = small, [pf.costs.macs(small)]
        monkeypatch.setattr("pnag_fast.search.methods.exhaustive._ROWS", 20)
        archs = small.enumerate()
        model = pf.accuracy.table(small, archs, smooth_top1(small, archs))
    options = few(name) | ({} if name == "exhaustive" else {"evaluations": 700})

    def search(**more):
        return getattr(pf.search, name)(space, model, tables, seed=2, **options, **more)

    whole, kills, reached = search(), 0, []
    while True:
        reports = []

        def die(what, count, limit, reports=reports, dies_at=2 + kills % 4):
            reports.append(count)
            if len(reports) == dies_at and count < limit:
                raise Killed

        try:
            resumed = search(checkpoint=path, progress=die)
            break
        except Killed:
            kills += 1
            reached.append(reports[-1])
            assert kills < 500
    same(resumed, whole)
    assert kills >= 2
    # It went on each time: what had been asked by the time of the kill is asked once more at most.
    assert reached == sorted(reached)
    again = []
    same(search(checkpoint=path, progress=lambda *call: again.append(call)), whole)
    assert not again
    with pytest.raises(InvalidInputError, match="belongs to a run with other seed"):
        getattr(pf.search, name)(space, model, tables, seed=3, checkpoint=path, **options)


@pytest.mark.parametrize("name", METHODS)
def test_one_architecture(name):
    """A space with a single architecture has a front of one, whatever may be asked."""
    space = one_architecture()
    archs = space.enumerate()
    model = pf.accuracy.table(space, archs, np.array([0.5]))
    found = getattr(pf.search, name)(
        space, model, [pf.costs.parameters(space)], evaluations=12, **few(name)
    )
    np.testing.assert_array_equal(found.archs, archs)


@pytest.mark.parametrize("name", METHODS)
def test_questions_that_fail_first(small, small_model, name):
    """A judge that is not ready yet, and one that never is for the only architecture there is."""
    asked = []

    def judge(archs):
        asked.extend(archs)
        if len(asked) <= 15:
            raise OSError("not yet")
        return small_model.predict(archs)

    search = getattr(pf.search, name)
    limit = 243 if name == "exhaustive" else 40
    oracle = pf.accuracy.oracle(small, judge)
    found = search(small, oracle, [pf.costs.macs(small)], evaluations=limit, **few(name))
    assert len(asked) == found.evaluations <= limit
    failed = np.array(asked[:15])
    assert not (found.archs[:, None] == failed).all(axis=2).any()
    assert len(found) > 0
    if name == "exhaustive":  # which asks once here: of that the oracle complains
        return
    space = one_architecture()
    oracle = pf.accuracy.oracle(space, lambda archs: np.full(len(archs), np.nan))
    found = search(space, oracle, [pf.costs.parameters(space)], evaluations=12, **few(name))
    assert (len(found), found.evaluations) == (0, 1)


@pytest.mark.parametrize("name", METHODS)
def test_several_costs(small, small_model, name):
    tables = [pf.costs.macs(small), pf.costs.parameters(small), small_latency(small)]
    limit = {} if name == "exhaustive" else {"evaluations": 200}
    found = getattr(pf.search, name)(small, small_model, tables, **few(name), **limit)
    assert found.costs.shape == (len(found), 3)
    check_front(found, small_model, tables)


@pytest.mark.parametrize("name", METHODS)
def test_smaller_is_better_mirrors_larger_is_better(small, small_model, name):
    """The same values, negated, with the other direction: the same architectures."""
    objective = pf.accuracy.Objective("loss", direction="min")
    tables = [pf.costs.macs(small)]
    limit = {} if name == "exhaustive" else {"evaluations": 150}
    settings = few(name)
    if "reward" in inspect.signature(getattr(pf.search, name)).parameters:
        settings["reward"] = "tunas"  # that of MnasNet is a product, made for positive values
    search = getattr(pf.search, name)

    def values(archs):
        return -small_model.predict(archs)

    up = pf.accuracy.oracle(small, small_model.predict, batch=100)
    down = pf.accuracy.oracle(small, values, objective=objective, batch=100)
    a, b = (search(small, asked, tables, **settings, **limit) for asked in (up, down))
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_array_equal(a.top1, -b.top1)
    assert b.objective == objective
    np.testing.assert_array_equal(a.best(a.costs), b.best(b.costs))


@pytest.mark.parametrize("name", METHODS)
def test_infeasible_and_odd_costs(cell, name):
    """Costs that are equal for all, and budgets that nothing meets."""
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, smooth_top1(cell, archs))
    flat = pf.CostTable.build(
        cell,
        metric="energy",
        unit="mJ",
        device="d",
        constants=[2.0],
        entries=np.zeros((1, cell.n_slots, max(cell.n_codes))),
    )
    search = getattr(pf.search, name)
    limit = {"evaluations": 20_000 if name == "exhaustive" else 300}
    found = search(cell, model, [flat], **few(name), **limit)
    # With nothing to trade there is one best value.
    assert len(np.unique(found.top1)) == 1
    assert (found.costs == 2.0).all()
    if "budgets" in inspect.signature(search).parameters:
        with pytest.raises(BudgetInfeasibleError, match="below the cheapest"):
            search(cell, model, [flat], budgets=1.0, **limit)


@pytest.mark.parametrize("name", SAMPLING)
def test_time_ends_a_search(tiny, tiny_model, tiny_table, name):
    options = {"generations": 10**6} if name == "evolution" else {}
    found = getattr(pf.search, name)(
        tiny, tiny_model, [tiny_table], evaluations=10**9, time_limit_s=0.3, **options
    )
    assert 0 < found.evaluations < 10**9


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_problem_is_named(small, small_model, name):
    search, tables = getattr(pf.search, name), [pf.costs.macs(small)]
    for wrong, error, message in (
        ({"evaluations": 0}, InvalidInputError, "evaluations"),
        ({"time_limit_s": 0.0}, InvalidInputError, "time_limit_s"),
        ({"seed": -1}, InvalidInputError, "seed"),
        ({"progress": 3}, InvalidTypeError, "progress"),
        ({"checkpoint": 3}, InvalidTypeError, "named by a string"),
        ({"populations": 3}, InvalidTypeError, "unknown field 'populations'"),
    ):
        with pytest.raises(error, match=message):
            search(small, small_model, tables, **wrong)
    with pytest.raises(InvalidInputError, match="at least one cost table"):
        search(small, small_model, [])
    other = pf.spaces.get("nasbench201")
    with pytest.raises(InvalidInputError, match="space"):
        search(small, small_model, [pf.costs.macs(other)])


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_written_into_what_is_passed(small, small_model, name):
    tables = [pf.costs.macs(small)]
    before = copy.deepcopy((small_model.cells, tables[0].entries))
    limit = {} if name == "exhaustive" else {"evaluations": 100}
    getattr(pf.search, name)(small, small_model, tables, **few(name), **limit)
    np.testing.assert_array_equal(small_model.cells, before[0])
    np.testing.assert_array_equal(tables[0].entries, before[1])


# Large numbers of these are right, and take for ever.
COUNTS = ("evaluations", "generations", "population", "samples", "threads")


@pytest.mark.parametrize("name", METHODS)
def test_odd_arguments_raise_our_own_errors_only(
    name, small, odd_values, refusal, small_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # a text is the path of a checkpoint
    search = getattr(pf.search, name)
    good = {"space": small, "model": small_model, "tables": [pf.costs.parameters(small)]}
    good["evaluations"] = 243 if name == "exhaustive" else 40
    options = inspect.signature(search).parameters
    good |= few(name)
    for argument in options:
        refused = 0
        for value in odd_values():
            large = isinstance(value, int) and value > 10**9
            if (argument in COUNTS and large) or (argument == "progress" and callable(value)):
                continue
            message = refusal(lambda given: search(**given), good | {argument: value})
            assert len(message) < 1000
            refused += bool(message)
        assert refused > 15, argument


def one_architecture():
    """The smallest space there is: nothing is left to choose."""
    definition = copy.deepcopy(pf.spaces.get("mbv3-tiny").definition)
    definition["mobilenetv3"] |= {"max_depth": 1, "kernels": [3], "expand_ratios": [2]}
    return pf.spaces.from_definition(definition | {"name": "one"})


def small_latency(space):
    entries = np.random.default_rng(1).uniform(0.1, 1.0, (1, space.n_slots, max(space.n_codes)))
    return pf.CostTable.build(
        space, metric="latency", unit="ms", device="d", constants=[1.0], entries=entries
    )
