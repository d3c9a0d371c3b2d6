from __future__ import annotations

import dataclasses
import json
import re

import pytest

from pnag_fast.errors import FileFormatError
from pnag_fast.report import Answer, Evaluated, FrontReport, OtherCost


def answer(budget=1.0, predicted=0.9, measured=0.95, top1=0.9, validation=0.91, test=0.88):
    return Answer(
        budget_ms=budget,
        arch="1:<3>:2",
        source="policy",
        predicted_latency_ms=predicted,
        measured_latency_ms=measured,
        predicted_top1=top1,
        predicted_top1_std=0.01,
        top1_validation=validation,
        top1_test=test,
        evaluated_top1_test=0.87,
        macs=123456,
        parameters=7890,
        onnx="networks/a.onnx",
    )


@pytest.fixture
def report():
    evaluated = (
        Evaluated("a", 0.5, 0.80),
        Evaluated("b", 0.8, 0.90),
        Evaluated("c", 0.9, 0.85),
        Evaluated("d", 1.5, 0.95),
    )
    answers = (answer(), answer(budget=1.6, predicted=1.5, measured=1.65, validation=0.94))
    return FrontReport(
        "space <x>", "cpu", "a model", evaluated, answers, 1.1, {"Facts": {"a": 1.23456}}
    )


def test_measured_front(report):
    assert [row.arch for row in report.measured_front()] == ["a", "b", "d"]


def test_findings_say_how_far_predictions_were_off(report):
    text = " ".join(report.findings())
    # (0.95/0.9 + 1.65/1.5) / 2 - 1 and the farther of the two.
    assert "+7.8 % of predicted on average, +10.0 % at worst (budget 1.6 ms)" in text
    assert "-2.0 points" in text
    assert "the device ran +10.0 % slower" in text
    assert "1 of 2 answers meet their budget by the table but measured above it, by 3.1 %" in text
    assert "On the validation images, 1 of 2 answers are at least as good" in text
    assert "+1.0 points on average, and at least as good in 2 of 2" in text


def test_answers_are_compared_with_a_random_search_of_its_own(report, tmp_path):
    answers = tuple(
        dataclasses.replace(a, random_top1_validation=v, random_top1_test=t)
        for a, v, t in zip(report.answers, (0.90, 0.92), (0.87, 0.91), strict=True)
    )
    evaluated = tuple(dataclasses.replace(row, chosen=row.arch in "cd") for row in report.evaluated)
    compared = dataclasses.replace(report, answers=answers, evaluated=evaluated, drawn=40)
    text = compared.findings()[-1]
    # Test 0.88 - 0.87 and 0.88 - 0.91, validation 0.91 - 0.90 and 0.94 - 0.92.
    assert text.startswith("Random search: of 40 architectures drawn at random")
    assert "-1.0 points on average on the test images, at least as good in 1 of 2" in text
    assert text.endswith("+1.5 points on the validation images, at least as good in 2.")
    assert "nobody confirmed" not in text
    assert "random search" not in " ".join(compared.findings()[:-1])
    assert compared.plot() != report.plot()
    compared.save(tmp_path / "front.json")
    assert FrontReport.load(tmp_path / "front.json") == compared


def test_files_round_trip(report, tmp_path):
    report.save(tmp_path / "front.json")
    assert FrontReport.load(tmp_path / "front.json") == report
    report.write_csv(tmp_path / "front.csv")
    lines = (tmp_path / "front.csv").read_text().splitlines()
    assert lines[0].startswith("budget_ms,arch,source,predicted_latency_ms")
    assert len(lines) == 3


@pytest.fixture
def confirmed(report):
    """A report of two costs, whose answers were confirmed by measurement, but for one."""
    answers = tuple(
        dataclasses.replace(a, predicted_latency_std_ms=0.02, confirmed=value)
        for a, value in zip(report.answers, (True, False), strict=True)
    )
    other = OtherCost("parameters", "parameters", "any", (2e4, None), (7890.0, 1.2e4))
    return dataclasses.replace(report, answers=answers, others=(other,))


def test_several_costs_and_what_measurement_confirmed(report, confirmed, tmp_path):
    confirmed.save(tmp_path / "front.json")
    loaded = FrontReport.load(tmp_path / "front.json")
    assert loaded.table() == confirmed.table()
    cells = [dict(zip(loaded.head, row, strict=True)) for row in loaded.table()]
    assert [row["within"] for row in cells] == ["yes", "no"]
    assert [row["parameters budget"] for row in cells] == ["2e+04", "open"]
    assert [row["parameters"] for row in cells] == ["7890", "1.2e+04"]
    assert cells[0]["predicted ms"] == "0.900 ± 0.020"
    text = " ".join(confirmed.findings())
    assert "1 of 2 answers could not be confirmed within their budget" in text
    every = dataclasses.replace(confirmed, answers=confirmed.answers[:1], others=())
    assert "Every answer was confirmed within its budget" in " ".join(every.findings())
    # Without it, what was measured once decides.
    assert [row[4:6] for row in report.table()] == [["+5.0 %", "yes"], ["-3.1 %", "no"]]


def test_how_answers_were_confirmed_is_said(report):
    first, second = (dataclasses.replace(answer(measured=0.9), confirmed=True) for _ in range(2))
    answers = (dataclasses.replace(first, measurements=2, round=3), second)
    (line,) = [
        line
        for line in dataclasses.replace(report, answers=answers).findings()
        if "confirmed" in line
    ]
    assert "once or more, in at most 3 rounds" in line
    assert line.endswith("10.0 % of the budgets is left on average.")


def test_reports_of_earlier_releases_are_read(report, tmp_path):
    path = tmp_path / "front.json"
    report.save(path)
    document = json.loads(path.read_text())
    del document["sha256"], document["others"]
    document["version"] = 1
    for row in document["answers"]:
        for name in ("predicted_latency_std_ms", "confirmed", "measurements", "round"):
            del row[name]
    path.write_text(json.dumps(document))
    assert FrontReport.load(path) == FrontReport(**{**report.__dict__, "others": ()})


def test_a_report_of_two_costs_is_judged_as_a_front(tiny, confirmed, tmp_path):
    names = tiny.to_strings(tiny.sample(2, seed=0))
    # The dearer first: a front is sorted.
    answers = tuple(
        dataclasses.replace(a, arch=name)
        for a, name in zip(confirmed.answers[::-1], names, strict=True)
    )
    front = dataclasses.replace(confirmed, space="mbv3-tiny", answers=answers).front("x")
    assert front.costs.tolist() == [[0.9, 1.2e4], [1.5, 7890.0]]
    assert front.cost_labels == ("latency (ms)", "parameters")


@pytest.mark.parametrize(
    "other",
    [
        {"metric": 3},
        {"budgets": [1.0]},
        {"budgets": [1.0, "x"]},
        {"predicted": [1.0, None]},
        {"predicted": None},
        {"more": 1},
    ],
)
def test_damaged_costs_are_refused(confirmed, tmp_path, other):
    path = tmp_path / "front.json"
    confirmed.save(path)
    document = json.loads(path.read_text())
    del document["sha256"]
    document["others"][0].update(other)
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="others|more"):
        FrontReport.load(path)


def test_damaged_reports_are_refused(report, tmp_path):
    path = tmp_path / "front.json"
    report.save(path)
    document = json.loads(path.read_text())
    del document["sha256"], document["answers"][0]["macs"]
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="macs"):
        FrontReport.load(path)


def test_page_is_self_contained_and_escaped(report):
    pytest.importorskip("matplotlib")
    picture = report.plot()
    assert picture.startswith(b"\x89PNG")
    page = report.to_html(picture)
    assert "space &lt;x&gt;" in page
    assert "1:&lt;3&gt;:2" in page
    assert "<x>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    for cell in report.table()[0]:
        assert len(report.table()[0]) == len(report.head)
        assert cell.replace("<", "&lt;").replace(">", "&gt;") in page


def test_an_empty_report_can_be_drawn():
    pytest.importorskip("matplotlib")
    empty = FrontReport("s", "d", "m", (), ())
    assert empty.plot().startswith(b"\x89PNG")
    assert empty.findings() == []
    assert empty.measured_front() == []
