from __future__ import annotations

import copy
import importlib
import json
import pickle
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError, MeasurementError

PERPLEXITY = pf.accuracy.Objective("perplexity", direction="min", low=1.0)


# What other processes import: this file is no module to them.
FUNCTIONS = '''
def convolutions(archs):
    """Share of 3x3 convolutions."""
    return (archs == 4).mean(axis=1)


def fails_for_pooling(archs):
    """The same, but no answer where the first edge pools."""
    if (archs[:, 0] == 5).any():
        raise RuntimeError("no pooling here")
    return convolutions(archs)
'''


def convolutions(archs):
    return (archs == 4).mean(axis=1)


class Counting:
    """Counts what it is asked, and how often."""

    def __init__(self, function=convolutions):
        self.function, self.rows, self.calls = function, [], 0

    def __call__(self, archs):
        self.calls += 1
        self.rows += [row.tobytes() for row in archs]
        return self.function(archs)


class Reversed:
    """An executor that answers the youngest question first."""

    def __init__(self, n):
        self.n, self.waiting = n, []

    def submit(self, function, *arguments):
        future = Future()
        self.waiting.append((future, function, arguments))
        if len(self.waiting) == self.n:
            for future_, call, given in reversed(self.waiting):
                future_.set_result(call(*given))
            self.waiting = []
        return future


def test_asks_each_architecture_once(cell):
    function = Counting()
    oracle = pf.accuracy.oracle(cell, function, batch=7)
    archs = cell.sample(40, seed=0)
    asked = np.concatenate([archs, archs[::-1], archs[:3]])
    np.testing.assert_array_equal(oracle(asked), convolutions(asked))
    unique = len(np.unique(archs, axis=0))
    assert len(function.rows) == len(set(function.rows)) == oracle.n_known == unique
    assert function.calls == -(-unique // 7)
    oracle(asked)
    assert len(function.rows) == unique
    assert oracle(asked[:0]).shape == (0,)


def test_what_was_asked_is_on_disk_before_the_next_question(cell, tmp_path):
    path, archs = tmp_path / "asked", np.unique(cell.sample(30, seed=0), axis=0)
    kept = []

    def function(rows):
        # The head, the conditions, and one line for every question before this one.
        kept.append(path.read_bytes().count(b"\n"))
        if len(kept) == 12:
            raise KeyboardInterrupt
        return convolutions(rows)

    with pytest.raises(KeyboardInterrupt):
        pf.accuracy.oracle(cell, function, source="s", checkpoint=path)(archs)
    assert kept == [1, *range(3, 14)]
    again = Counting()
    oracle = pf.accuracy.oracle(cell, again, source="s", checkpoint=path)
    assert oracle.n_known == 11
    np.testing.assert_array_equal(oracle(archs), convolutions(archs))
    assert again.calls == len(archs) - 11
    # A torn last line is what was being written when the machine went down.
    path.write_bytes(path.read_bytes()[:-5])
    oracle = pf.accuracy.oracle(cell, again, source="s", checkpoint=path)
    assert oracle.n_known == len(archs) - 1
    assert "torn" in oracle.notices[0]


def test_failures_are_values_and_remembered(cell, functions, tmp_path):
    path, archs = tmp_path / "asked", np.unique(cell.sample(60, seed=1), axis=0)
    function = Counting(functions.fails_for_pooling)
    oracle = pf.accuracy.oracle(cell, function, source="s", checkpoint=path)
    values, errors = oracle.ask(archs)
    failed = archs[:, 0] == 5
    assert 0 < failed.sum() < len(archs)
    np.testing.assert_array_equal(np.isnan(values), failed)
    np.testing.assert_array_equal(values[~failed], convolutions(archs[~failed]))
    assert {error for error, bad in zip(errors, failed, strict=True) if bad} == {
        "RuntimeError: no pooling here"
    }
    later = Counting()
    oracle = pf.accuracy.oracle(cell, later, source="s", checkpoint=path)
    np.testing.assert_array_equal(np.isnan(oracle(archs)), failed)
    assert later.calls == 0
    oracle = pf.accuracy.oracle(cell, later, source="s", checkpoint=path, retry_failed=True)
    np.testing.assert_array_equal(oracle(archs), convolutions(archs))
    assert later.calls == failed.sum()
    oracle = pf.accuracy.oracle(cell, later, source="s", checkpoint=path)
    assert np.isfinite(oracle(archs)).all()


def test_one_failure_is_that_of_all_asked_together(cell, functions):
    archs = np.array([[1] * 6, [5] * 6, [4] * 6], dtype=np.uint8)
    _, errors = pf.accuracy.oracle(cell, functions.fails_for_pooling, batch=3).ask(archs)
    assert errors == ["RuntimeError: no pooling here (one of 3 asked together)"] * 3


def test_not_a_number_is_a_failure(cell):
    archs = cell.sample(3, seed=0)
    values, errors = pf.accuracy.oracle(cell, lambda a: np.full(len(a), np.nan)).ask(archs)
    assert np.isnan(values).all()
    assert errors == ["the oracle returned nan"] * 3


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda a: 71.3 * np.ones(len(a)), r"returned 71.3 for top-1, which lies in \[0, 1\]"),
        (lambda a: np.zeros((len(a), 2)), "has shape"),
        (lambda a: None, "returns is a NoneType"),
        (lambda a: ["x"] * len(a), "text"),
    ],
)
def test_what_is_no_answer_is_refused_at_once(cell, returned, message):
    oracle = pf.accuracy.oracle(cell, returned)
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        oracle(cell.sample(2, seed=0))
    assert oracle.n_known == 0


def test_another_objective_has_other_limits(cell, tmp_path):
    archs = cell.sample(5, seed=0)
    path = tmp_path / "asked"
    oracle = pf.accuracy.oracle(
        cell, lambda a: 20 + a.sum(axis=1), objective=PERPLEXITY, source="s", checkpoint=path
    )
    np.testing.assert_array_equal(oracle(archs), 20 + archs.sum(axis=1))
    with pytest.raises(InvalidInputError, match="perplexity, which lies in"):
        pf.accuracy.oracle(cell, convolutions, objective=PERPLEXITY)(archs)
    # The same file does not serve another question.
    other = Counting()
    oracle = pf.accuracy.oracle(cell, other, source="s", checkpoint=path)
    assert oracle.n_known == 0
    oracle(archs)
    assert other.calls == len(np.unique(archs, axis=0))


def test_answers_in_any_order_are_the_same(cell):
    archs = np.unique(cell.sample(40, seed=0), axis=0)[:24]
    oracle = pf.accuracy.oracle(cell, convolutions, executor=Reversed(24))
    np.testing.assert_array_equal(oracle(archs), convolutions(archs))


def test_the_slowest_holds_nobody_up(cell):
    """One question waits for all others: asked in waves, or in order, it would wait for ever."""
    archs = np.unique(cell.sample(40, seed=0), axis=0)[:20]
    slow, done, others = archs[3].tobytes(), [], threading.Event()

    def function(rows):
        if rows[0].tobytes() == slow:
            assert others.wait(60)
        done.append(rows[0].tobytes())
        if len(done) == len(archs) - 1:
            others.set()
        return convolutions(rows)

    with ThreadPoolExecutor(2) as pool:
        values = pf.accuracy.oracle(cell, function, executor=pool)(archs)
    np.testing.assert_array_equal(values, convolutions(archs))
    assert done[-1] == slow


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    """The functions in a module that other processes can import."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "pnag_asked_functions.py").write_text(FUNCTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("pnag_asked_functions")


@pytest.fixture(scope="module")
def processes(functions):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


SEARCHES = [("random", {}), ("nsga2", {"population": 20}), ("evolution", {"population": 10})]


@pytest.mark.parametrize(("name", "settings"), SEARCHES)
def test_searches_do_not_depend_on_who_answers(
    cell, processes, functions, tmp_path, name, settings
):
    tables, search = [pf.costs.macs(cell)], getattr(pf.search, name)
    function = functions.fails_for_pooling
    fronts = []
    for executor in (None, processes, Reversed(1)):
        oracle = pf.accuracy.oracle(cell, function, executor=executor)
        fronts.append(search(cell, oracle, tables, evaluations=70, **settings))
    for front in fronts[1:]:
        np.testing.assert_array_equal(front.archs, fronts[0].archs)
        np.testing.assert_array_equal(front.top1, fronts[0].top1)
        assert front.evaluations == fronts[0].evaluations == 70
    assert (fronts[0].archs[:, 0] != 5).all()
    # Killed in the middle and run again, nothing is asked twice.
    path, asked = tmp_path / "asked", Counting(functions.fails_for_pooling)

    def stop(what, count, limit):
        if asked.calls == 33:
            raise KeyboardInterrupt

    oracle = pf.accuracy.oracle(cell, asked, source="s", checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        search(cell, oracle, tables, evaluations=70, progress=stop, **settings)
    oracle = pf.accuracy.oracle(cell, asked, source="s", checkpoint=path)
    front = search(cell, oracle, tables, evaluations=70, **settings)
    np.testing.assert_array_equal(front.archs, fronts[0].archs)
    assert asked.calls == len(set(asked.rows)) == 70


def test_dask_asks_too(cell, functions):
    distributed = pytest.importorskip("distributed")
    tables, function = [pf.costs.macs(cell)], functions.convolutions
    expected = pf.search.nsga2(
        cell, pf.accuracy.oracle(cell, function), tables, evaluations=40, population=10
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        oracle = pf.accuracy.oracle(cell, function, executor=executor)
        front = pf.search.nsga2(cell, oracle, tables, evaluations=40, population=10)
    np.testing.assert_array_equal(front.archs, expected.archs)


def test_a_broken_executor_is_no_failure_of_an_architecture(cell, tmp_path):
    path, archs = tmp_path / "asked", np.unique(cell.sample(30, seed=0), axis=0)
    with ThreadPoolExecutor(1) as pool:
        pass
    oracle = pf.accuracy.oracle(cell, convolutions, executor=pool, checkpoint=path)
    with pytest.raises(MeasurementError, match="could not ask the oracle"):
        oracle(archs)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(MeasurementError, match="pickle"),
    ):
        pf.accuracy.oracle(cell, lambda a: a.mean(axis=1), executor=pool)(archs[:2])
    oracle = pf.accuracy.oracle(cell, convolutions, checkpoint=path)
    assert oracle.n_known == 0


def test_an_oracle_that_always_fails_ends_a_search_early(cell):
    def function(archs):
        raise OSError("no GPU")

    oracle = pf.accuracy.oracle(cell, function)
    with pytest.raises(InvalidInputError, match=r"first 20 architectures asked: OSError: no GPU"):
        pf.search.random(cell, oracle, [pf.costs.macs(cell)], evaluations=1000)


def test_a_small_space_is_known_before_the_questions_are_used_up(cell):
    """A method that goes on proposing what is known ends; a question is an architecture."""
    small = pf.spaces.get("compofa-mbv3")
    function = Counting(lambda archs: archs.mean(axis=1) / 20)
    oracle = pf.accuracy.oracle(small, function, batch=50)
    front = pf.search.nsga2(small, oracle, [pf.costs.macs(small)], evaluations=5000)
    assert 200 < front.evaluations == oracle.n_known == len(function.rows) <= 243


def test_time_ends_a_search_of_slow_answers(cell):
    def function(archs):
        time.sleep(0.02)
        return convolutions(archs)

    oracle = pf.accuracy.oracle(cell, function)
    front = pf.search.random(
        cell, oracle, [pf.costs.macs(cell)], evaluations=5000, time_limit_s=0.5
    )
    assert 0 < front.evaluations == oracle.n_known < 100


def test_progress_tells_of_every_answer(cell):
    reports = []
    pf.search.random(
        cell,
        pf.accuracy.oracle(cell, convolutions),
        [pf.costs.macs(cell)],
        evaluations=25,
        progress=lambda *report: reports.append(report),
    )
    assert [count for _, count, _ in reports] == [*range(1, 26), 25]
    assert reports[0][0].startswith("random search")


def test_journals_of_others_are_refused(cell, tmp_path):
    path = tmp_path / "asked"
    path.write_text(json.dumps({"format": "pnag-judged", "version": 2}) + "\n")
    with pytest.raises(FileFormatError, match="pnag-judged"):
        pf.accuracy.oracle(cell, convolutions, checkpoint=path)
    path.unlink()
    oracle = pf.accuracy.oracle(cell, convolutions, source="s", checkpoint=path)
    oracle(cell.sample(5, seed=0))
    lines = path.read_bytes().splitlines()
    lines[2] = lines[2].replace(b'"value": 0.', b'"value": 9.')
    path.write_bytes(b"\n".join(lines) + b"\n")
    oracle = pf.accuracy.oracle(cell, convolutions, source="s", checkpoint=path)
    assert "damaged" in oracle.notices[0]


def test_copies_leave_files_and_executors_where_they_are(cell, processes, tmp_path):
    oracle = pf.accuracy.oracle(
        cell, convolutions, executor=processes, checkpoint=tmp_path / "asked"
    )
    archs = cell.sample(5, seed=0)
    for other in (copy.deepcopy(oracle), copy.copy(oracle)):
        np.testing.assert_array_equal(other(archs), convolutions(archs))
    again = pickle.loads(pickle.dumps(pf.accuracy.oracle(cell, partial(np.mean, axis=1))))
    assert again.source == "function mean"
    assert "0 known" in repr(again)


def test_other_spaces_and_wrong_arguments_are_named(cell, tiny, odd_values, refusal):
    oracle = pf.accuracy.oracle(cell, convolutions)
    with pytest.raises(InvalidInputError, match="this oracle is for space 'nasbench201'"):
        pf.search.random(tiny, oracle, [pf.costs.macs(tiny)])
    with pytest.raises(InvalidInputError, match="not an architecture"):
        oracle(np.full((1, 6), 9, dtype=np.uint8))
    good = {"space": cell, "function": convolutions}
    for argument in ("space", "function", "objective", "source", "batch", "executor"):
        refused = 0
        for value in odd_values():
            text = argument == "source" and isinstance(value, str)
            if text or (argument == "function" and callable(value)):
                continue
            message = refusal(lambda given: pf.accuracy.oracle(**given), good | {argument: value})
            refused += bool(message)
        assert refused > 15, argument


def numbered(counts):
    """Answers about an architecture, each different from the last one: 0.1, 0.2, 0.3."""

    def function(archs):
        for arch in archs:
            counts[arch.tobytes()] = counts.get(arch.tobytes(), 0) + 1
        return np.array([counts[arch.tobytes()] / 10 for arch in archs])

    return function


def test_every_answer_is_kept_and_the_value_is_their_mean(cell, tmp_path):
    path, counts = tmp_path / "asked.jsonl", {}
    oracle = pf.accuracy.oracle(
        cell, numbered(counts), checkpoint=path, repeats=5, noise=0.05, source="f"
    )
    assert (oracle.repeats, oracle.noise) == (5, 0.05)
    archs = np.unique(cell.sample(4, seed=0), axis=0)
    values, _ = oracle.ask(archs[[0, 0, 1, 2]], np.array([0, 2, 0, 1]))
    np.testing.assert_allclose(values, [0.1, 0.3, 0.1, 0.2])
    value, std, count = oracle.remembered(archs)
    np.testing.assert_array_equal(count, [3, 1, 2, 0])
    np.testing.assert_allclose(value, [0.2, 0.1, 0.15, np.nan])
    np.testing.assert_allclose(std, [0.1, np.nan, np.std([0.1, 0.2], ddof=1), np.nan])
    # Whatever was asked is not asked again, by another process neither.
    for again in (oracle, pf.accuracy.oracle(cell, numbered(counts), checkpoint=path, source="f")):
        np.testing.assert_allclose(again(archs[:3]), [0.2, 0.1, 0.15])
        np.testing.assert_allclose(again.ask(archs[:1], np.array([1]))[0], [0.2])
    assert sum(counts.values()) == 6 == len(path.read_text().splitlines()) - 2
    # What another process added meanwhile counts once, and comes before what is asked now.
    again.ask(archs[:1], np.array([3]))
    np.testing.assert_allclose(oracle.ask(archs[[0, 1]], np.array([4, 1]))[0], [0.5, 0.2])
    np.testing.assert_array_equal(oracle.remembered(archs)[2], [5, 2, 2, 0])
    assert sum(counts.values()) == 9


def test_where_repeats_differ_a_failure_is_one_answer(cell, tmp_path):
    """Otherwise the second answer would become the first, and who asked for it got none."""
    path, calls = tmp_path / "asked.jsonl", []

    def function(archs):
        calls.append(len(archs))
        return np.full(len(archs), np.nan if len(calls) == 1 else 0.1 * len(calls))

    archs = cell.sample(1, seed=0)
    oracle = pf.accuracy.oracle(cell, function, checkpoint=path, source="f", repeats=4)
    assert np.isnan(oracle(archs)).all()
    np.testing.assert_allclose(oracle.ask(archs, np.array([2]))[0], [0.3])
    later = pf.accuracy.oracle(cell, function, checkpoint=path, source="f", repeats=4)
    for again in (oracle, later):
        values, errors = again.ask(archs[[0, 0, 0]], np.arange(3))
        np.testing.assert_allclose(values, [np.nan, 0.2, 0.3])
        assert [bool(error) for error in errors] == [True, False, False]
        np.testing.assert_allclose(again.remembered(archs)[0], [0.25])
    assert len(calls) == 3


def test_a_value_replaces_failures(cell, tmp_path):
    path, works = tmp_path / "asked.jsonl", []

    def function(archs):
        return np.full(len(archs), 0.5 if works else np.nan)

    archs = cell.sample(1, seed=0)
    oracle = pf.accuracy.oracle(cell, function, checkpoint=path, source="f")
    assert np.isnan(oracle(archs)).all()
    works.append(True)
    again = pf.accuracy.oracle(cell, function, checkpoint=path, source="f", retry_failed=True)
    assert again(archs) == 0.5
    later = pf.accuracy.oracle(cell, function, checkpoint=path, source="f")
    assert later(archs) == 0.5
    np.testing.assert_array_equal(later.remembered(archs)[2], [1])


@pytest.mark.parametrize(
    ("given", "message"), [({"repeats": 0}, "repeats"), ({"noise": -1.0}, "noise")]
)
def test_repeats_and_noise_are_checked(cell, given, message):
    with pytest.raises(InvalidInputError, match=message):
        pf.accuracy.oracle(cell, convolutions, **given)
