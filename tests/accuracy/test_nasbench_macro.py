"""A made-up file of the published format: the published one is not available here."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileAccessError, FileFormatError, InvalidInputError


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("nasbench-macro")


@pytest.fixture(scope="module")
def published(space):
    """Every string, those of one network with the same values, as the benchmark writes them."""
    names = ["".join(digits) for digits in itertools.product("012", repeat=8)]
    rows = space.from_strings(names)
    macs, parameters = pf.costs.macs(space)(rows), pf.costs.parameters(space)(rows)
    rng, drawn, document = np.random.default_rng(0), {}, {}
    for name, row, flops, params in zip(names, rows, macs, parameters, strict=True):
        accuracies = drawn.setdefault(row.tobytes(), 80 + 10 * rng.random() + rng.normal(0, 0.3, 3))
        document[name] = {
            "test_acc": accuracies.tolist(),
            "mean_acc": float(accuracies.mean()),
            "std": float(accuracies.std()),
            "params": int(params),
            "flops": int(flops),
        }
    return document


@pytest.fixture
def written(published, tmp_path):
    path = tmp_path / "nas-bench-macro_cifar10.json"

    def write(change=lambda document: None, some=None):
        document = published if some is None else {name: published[name] for name in some}
        document = json.loads(json.dumps(document))
        change(document)
        path.write_text(json.dumps(document))
        return path

    return write


def test_the_whole_benchmark(space, published, written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # counts agree
        model = pf.accuracy.load_nasbench_macro(written())
    names = ["12202110", "00000000", "02010020"]
    mean, std = model.predict(space.from_strings(names), return_std=True)
    expected = [published[name]["mean_acc"] / 100 for name in names]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12)
    # Three trainings with a deviation of 0.3 points each.
    np.testing.assert_allclose(std, 0.003 / np.sqrt(3), rtol=0.05)
    assert "3969 of 3969" in model.source
    front = pf.search.exhaustive(space, model, [pf.costs.macs(space)])
    assert len(front) > 3


def test_a_part_of_it(space, written):
    model = pf.accuracy.load_nasbench_macro(written(some=["12202110", "12200110"]))
    model.predict(space.from_strings(["12202110"]))
    with pytest.raises(InvalidInputError, match="22222222, is not in the accuracy table"):
        model.predict(space.from_strings(["22222222"]))


SOME = ["00000000", "02001020", "02010020"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.clear(), "one entry for each architecture"),
        (lambda d: d.update({"0123": d["00000000"]}), "row 3: expected 8 digits"),
        (lambda d: d.update({"00000000": [1]}), "architecture 00000000 should be an object"),
        (lambda d: d["00000000"].pop("test_acc"), "a list 'test_acc'"),
        (lambda d: d["00000000"].update(test_acc=[]), "'test_acc' is empty"),
        (lambda d: d["00000000"].update(test_acc=[101]), "in percent"),
        (lambda d: d["00000000"].update(test_acc=["90"]), "in percent"),
        (lambda d: d["00000000"].update(mean_acc=50), "'mean_acc' is 50, and that of 'test_acc'"),
        (lambda d: d["00000000"].update(std=3), "'std' is 3"),
        (lambda d: d["00000000"].update(params=1.5), "'params'"),
        (
            lambda d: d.update({"02001020": {"test_acc": [90]}}),
            "02001020 and 02010020 are the same network",
        ),
    ],
)
def test_what_is_no_such_table_is_named(written, change, message):
    with pytest.raises(FileFormatError, match=message):
        pf.accuracy.load_nasbench_macro(written(change, some=SOME))


def test_counts_that_differ_are_told(written):
    path = written(lambda d: d["00000000"].update(flops=7_713_281), some=SOME)
    with pytest.warns(UserWarning, match="'flops' of 1 arch.* of 00000000: 7713281 and 7713280"):
        pf.accuracy.load_nasbench_macro(path)
    # What was counted by nobody is compared with nothing.
    written(lambda d: [entry.pop("flops") for entry in d.values()], some=SOME)
    pf.accuracy.load_nasbench_macro(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileAccessError):
        pf.accuracy.load_nasbench_macro(tmp_path / "none.json")
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with pytest.raises(FileFormatError, match="one entry for each architecture"):
        pf.accuracy.load_nasbench_macro(path)
    path.write_text('{"00000000": {"test_acc": [90')
    with pytest.raises(FileFormatError, match="not valid JSON"):
        pf.accuracy.load_nasbench_macro(path)
