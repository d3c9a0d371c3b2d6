from __future__ import annotations

import dataclasses
import math

import pytest

import pnag_fast as pf
from pnag_fast import quantities


def test_costs_are_printed_as_they_can_be_typed():
    assert quantities.shown(20.123456, "ms") == "20.12"
    assert quantities.shown(123456, "ms") == "1.235e+05"
    assert quantities.shown(4_980_000, "parameters") == "4.98M"
    assert quantities.shown(98_765, "MACs") == "98.77K"
    assert quantities.shown(1234, "MACs") == "1234"
    assert quantities.shown(math.inf, "MACs") == "inf"
    assert quantities.shown(2e9, "") == "2G"
    assert quantities.shown(2_100_000, "bytes") == "2.1M"
    assert quantities.shown(20_000.0, "KB") == "2e+04"
    assert quantities.with_std(20.123, 0.456, "ms") == "20.12 ± 0.46"
    assert quantities.with_std(4_980_000, 123_456, "MACs") == "4.98M ± 123K"
    for none in (0.0, 1e-14):
        assert quantities.with_std(20.123, none, "ms") == "20.12"


@pytest.mark.parametrize("unit", ["MACs", "parameters", "bytes"])
@pytest.mark.parametrize("value", [1e4, 12_345, 999_999, 1e6, 4.98e7, 3e12])
def test_what_is_printed_can_be_read(unit, value):
    text = quantities.shown(value, unit)
    number = float(text.rstrip("KMGT"))
    assert number * quantities.factor(text[-1], unit) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("suffix", "unit", "expected"),
    [
        ("us", "ms", 1e-3), ("µs", "ms", 1e-3), ("s", "ms", 1e3), ("ms", "s", 1e-3),
        ("MJ", "mJ", 1e9), ("mJ", "mJ", 1.0), ("KiB", "B", 1024.0), ("Mi", "bytes", 2.0**20),
        ("K", "MB", 1e-3), ("M", "MACs", 1e6), ("MACs", "MACs", 1.0), ("M MACs", "MACs", 1e6),
        ("G", "", 1e9), ("ms", "MB", None), ("M", "ms", None), ("m", "MACs", None),
        ("x", "", None), ("W", "Wh", None),
    ],
)  # fmt: skip
def test_units_are_turned_into_each_other(suffix, unit, expected):
    found = quantities.factor(suffix, unit)
    assert found == (None if expected is None else pytest.approx(expected))


def test_costs_of_one_metric_are_told_apart_by_device(tiny, tiny_table):
    tables = [
        tiny_table, dataclasses.replace(tiny_table, device="pi5"), pf.costs.macs(tiny),
        pf.costs.parameters(tiny),
    ]  # fmt: skip
    assert quantities.names(tables[1:]) == ["latency", "macs", "parameters"]
    names = ["latency@test device", "latency@pi5", "macs", "parameters"]
    assert quantities.names(tables) == names
    assert quantities.names(tables, apart=True) == ["latency", *names[1:]]
    assert quantities.labels(tables, apart=True) == [
        "latency ms", "latency@pi5 ms", "macs", "parameters",
    ]  # fmt: skip
