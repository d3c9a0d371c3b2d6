from __future__ import annotations

import dataclasses
import math

import click
import pytest

import pnag_fast as pf
from pnag_fast.cli import bounds


@pytest.fixture(scope="module")
def tables(tiny, tiny_table):
    memory = dataclasses.replace(tiny_table, metric="memory", unit="MB", device="pi5")
    return [tiny_table, pf.costs.parameters(tiny), memory]


def test_bounds_have_names_and_units(tables):
    inf = math.inf
    for text, row in {
        "latency=20ms": [20, inf, inf],
        "latency=20": [20, inf, inf],
        "Latency = 0.02 s": [20, inf, inf],
        "latency=500us": [0.5, inf, inf],
        "latency=5e2 µs": [0.5, inf, inf],
        "test device=20ms": [20, inf, inf],
        "latency@test device=20": [20, inf, inf],
        "latency=inf,parameters=5M": [inf, 5e6, inf],
        "parameters=1.5k": [inf, 1500, inf],
        "parameters=2Kparameters": [inf, 2000, inf],
        "parameters=7 parameters": [inf, 7, inf],
        "parameters=7 Mparameters": [inf, 7e6, inf],
        "memory=512KB": [inf, inf, 0.512],
        "memory=1GiB": [inf, inf, 2**30 / 1e6],
        "memory=2G": [inf, inf, 2000],
        "memory=2Ki": [inf, inf, 2048 / 1e6],
        "pi5=1": [inf, inf, 1],
        "1,2,3": [1, 2, 3],
        "1ms,2M,3GB": [1, 2e6, 3000],
        "inf,inf,4": [inf, inf, 4],
    }.items():
        (found,) = bounds.vectors([text], tables)
        assert found == pytest.approx(row), text
    low, high = tables[1].bounds
    assert bounds.vectors(["parameters=25%"], tables)[0][1] == low + (high - low) / 4
    assert bounds.vectors(["parameters=100%"], tables)[0][1] == high


def test_options_of_the_same_costs_are_alternatives_and_others_hold_together(tables):
    def rows(*options):
        return [row[:2] for row in bounds.vectors(options, tables)]

    assert rows("latency=20ms", "parameters=5M") == [[20, 5e6]]
    assert rows("latency=20", "latency=30") == [[20, math.inf], [30, math.inf]]
    assert rows("latency=20", "latency=30", "parameters=5M") == [[20, 5e6], [30, 5e6]]
    assert rows("parameters=5", "latency=1", "parameters=6", "latency=2") == [
        [1, 5], [2, 5], [1, 6], [2, 6],
    ]  # fmt: skip
    assert rows("latency=1,parameters=2", "parameters=3,latency=4") == [[1, 2], [4, 3]]
    assert rows("1,2,inf", "3,4,inf") == [[1, 2], [3, 4]]
    with pytest.raises(click.BadParameter, match="bound latency alone and others with more"):
        rows("latency=1,parameters=2", "latency=3")


def test_names_of_several_words(tiny_table):
    memory = dataclasses.replace(tiny_table, metric="peak memory", unit="bytes")
    for text in ("peak-memory=2MiB", "peak memory = 2 MiB", "Peak_Memory=2097152"):
        assert bounds.vectors([text], [memory]) == [[2097152.0]]


def test_large_and_small_units_are_told_apart(tiny_table):
    energy = dataclasses.replace(tiny_table, metric="energy", unit="mJ")
    assert bounds.vectors(["energy=5MJ", "5mJ"], [energy]) == [[pytest.approx(5e9)], [5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20", "one number for each of: latency in ms on test device, .*as latency=20"),
        ("1,2", "one number for each of"),
        ("latency=20,5", "names some of its bounds"),
        ("latency=20,latency=30", "bounds latency twice"),
        ("latencey=20", "none of the costs: latency, parameters, memory; did you mean 'latency'"),
        ("latency=20MB", "numbers are in ms, or with us, ms or s"),
        ("latency=20M", "no latency"),
        ("latency=2_0", "no latency"),
        ("parameters=20ms", "numbers are in parameters, or with K, M or G"),
        ("parameters=5m", "no parameters"),
        ("memory=1s", "KB, MB, GB"),
        ("latency=", "a budget is a number, a percentage or inf: '' is no latency"),
        ("latency=fast", "a number"),
        ("latency=-5%", "from 0% to 100%"),
        ("latency=x%", "from 0% to 100%"),
        ("=5", "none of the costs"),
    ],
)
def test_what_is_no_budget_is_refused(tables, text, message):
    with pytest.raises(click.BadParameter, match=message):
        bounds.vectors([text], tables)


def test_tables_of_one_metric_are_told_apart_by_device(tiny_table):
    two = [tiny_table, dataclasses.replace(tiny_table, device="pi5")]
    assert bounds.vectors(["7,8"], two) == [[7, 8]]
    assert bounds.vectors(["pi5=1s"], two) == [[math.inf, 1000]]
    with pytest.raises(click.BadParameter, match="any of latency@test device, latency@pi5"):
        bounds.vectors(["latency=1"], two)
