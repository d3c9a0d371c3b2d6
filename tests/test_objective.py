from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.accuracy import Objective
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError
from pnag_fast.objective import TOP1

PERPLEXITY = Objective("perplexity", direction="min", low=1.0)
ERROR = Objective("depth error", unit="mm", direction="min", low=0.0)
IOU = Objective("mIoU", low=0.0, high=1.0)


def test_texts():
    values = np.array([0.701, 0.765])
    assert (TOP1.label, TOP1.title) == ("top-1 (%)", "top-1")
    assert TOP1.span(values) == "top-1 70.1 to 76.5 %"
    assert TOP1.with_std(0.7654, 0.0123) == "76.5 ± 1.2"
    assert TOP1.difference(-0.0123, 1) == "-1.2 points"
    assert TOP1.size(-0.0123) == "1.23 points"
    assert TOP1.column == "top1"
    np.testing.assert_allclose(TOP1.shown(values), [70.1, 76.5])
    assert IOU.label == "mIoU (%)"
    assert PERPLEXITY.title == "perplexity, smaller is better"
    assert PERPLEXITY.text(12.3456) == "12.35"
    assert ERROR.text(12.3456) == "12.35 mm"
    assert ERROR.title == "depth error (mm), smaller is better"
    assert ERROR.span(np.array([3.0, 41.5])) == "depth error 3 to 41.5 mm"
    assert ERROR.difference(0.5) == "+0.5 mm"
    assert ERROR.column == "depth_error_mm"
    assert ERROR.shown(values) is values
    # A fraction with a unit, or with other limits, is shown as it is.
    assert not Objective("power", unit="W", low=0.0, high=1.0).is_fraction
    assert not Objective("R2", high=1.0).is_fraction


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("top-1", TOP1),
        ("perplexity, min, low=1", PERPLEXITY),
        ("depth error,min,unit=mm,low=0", ERROR),
        ("mIoU,max,low=0,high=1", IOU),
    ],
)
def test_parse(text, objective):
    assert Objective.parse(text) == objective


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "should have a name"),
        ("loss,smaller", r"NAME\[,min\]"),
        ("loss,low=none", "low of an objective should be a number"),
        ("loss,low=2,high=1", "should ascend"),
    ],
)
def test_parse_says_what_is_wrong(text, message):
    with pytest.raises(InvalidInputError, match=message):
        Objective.parse(text)


def test_values_beyond_the_limits(tiny):
    archs = tiny.sample(30, seed=0)
    for objective, value, message in (
        (TOP1, 71.0, "fraction from 0 to 1; divide percentages by 100"),
        (PERPLEXITY, 0.5, "value of perplexity, from 1 to inf"),
        (PERPLEXITY, np.nan, "perplexity of row 3"),
        (ERROR, np.inf, "depth_error_mm of row 3"),
    ):
        values = np.full(30, 2.0 if objective is not TOP1 else 0.5)
        values[3] = value
        for make in (pf.accuracy.fit, pf.accuracy.table):
            with pytest.raises(InvalidInputError, match=message):
                make(tiny, archs, values, objective=objective)
    with pytest.raises(InvalidTypeError, match="Objective"):
        pf.accuracy.table(tiny, archs, values, objective="perplexity")


def test_objectives_in_files_are_checked(tmp_path):
    assert Objective.from_json(json.loads(json.dumps(ERROR.to_json())), "f") == ERROR
    for wrong in ({"unit": "mm"}, {"name": "x", "direction": "up"}, {"name": "x", "more": 1}):
        with pytest.raises(FileFormatError, match="objective"):
            Objective.from_json(wrong, "f")
