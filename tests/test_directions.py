"""Quality is not always top-1: everything that predicts, searches, answers or reports in its unit.

A mirrored problem has the values of another, times -10, in millimetres, and smaller is better.
"""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.accuracy import Objective
from pnag_fast.accuracy.validation import saved_front
from pnag_fast.errors import FileFormatError, InvalidInputError
from pnag_fast.objective import TOP1
from pnag_fast.report import Answer, Evaluated, FrontReport

UP = Objective("sharpness", unit="dB")
DOWN = Objective("error", unit="mm", direction="min")


@pytest.fixture(scope="module")
def samples(tiny_samples):
    archs, top1 = tiny_samples
    return archs, 30 * top1


def mirrored(values):
    return -10 * values


@pytest.fixture(scope="module", params=["fit", "calibrate", "table", "cells"])
def both(request, tiny, cell, samples):
    """The same model of both problems, and architectures that it knows."""
    archs, values = samples
    if request.param == "table":
        return *(
            pf.accuracy.table(tiny, *once(archs, of), objective=objective)
            for of, objective in ((values, UP), (mirrored(values), DOWN))
        ), archs
    if request.param == "cells":
        archs = cell.sample(120, seed=3)
        values = 20 + (archs == 4).sum(axis=1) + 0.3 * (archs == 3).sum(axis=1)
        return *(
            pf.accuracy.fit(cell, archs, of, objective=objective)
            for of, objective in ((values, UP), (mirrored(values), DOWN))
        ), cell.sample(200, seed=4)
    pytest.importorskip("torch")
    up, down = (
        pf.accuracy.fit(tiny, archs, of, objective=objective, epochs=20)
        for of, objective in ((values, UP), (mirrored(values), DOWN))
    )
    if request.param == "calibrate":
        up = pf.accuracy.calibrate(up, archs, values + 1)
        down = pf.accuracy.calibrate(down, archs, mirrored(values + 1))
    return up, down, tiny.sample(200, seed=5)


def once(archs, values):
    first = np.unique(archs, axis=0, return_index=True)[1]
    return archs[first], values[first]


def test_models_mirror(both, tmp_path):
    up, down, archs = both
    assert (up.objective, down.objective) == (UP, DOWN)
    for name in set(up.report) & {"kendall", "spearman"}:
        assert up.report[name] == pytest.approx(down.report[name], abs=0.02)
    for caution in (0, 1.5):
        mean, std = up.cautious(caution).predict(archs, return_std=True)
        other, other_std = down.cautious(caution).predict(archs, return_std=True)
        np.testing.assert_allclose(other, mirrored(mean), rtol=1e-3)
        np.testing.assert_allclose(other_std, 10 * std, rtol=2e-2, atol=1e-6)
        slopes = (model.cautious(caution).sensitivity(archs) for model in (up, down))
        a, b = slopes
        assert (a is None) == (b is None)
        if a is not None:
            assert np.corrcoef(a.ravel(), -b.ravel())[0, 1] > 0.99
    # A bound is never better than the mean.
    worse = down.cautious(2).predict(archs) - down.predict(archs)
    assert (worse >= 0).all()
    assert down.cautious(2).source.endswith("upper bound, mean + 2 std")
    assert down.cautious(2).cautious(0).source == down.source
    down.save(tmp_path / "model.safetensors")
    loaded = pf.accuracy.load(tmp_path / "model.safetensors")
    assert loaded.objective == DOWN
    np.testing.assert_array_equal(loaded.predict(archs), down.predict(archs))
    assert "error (mm), smaller is better" in repr(loaded)


def test_models_without_an_objective_in_their_file_are_of_top1(tiny_model, tmp_path):
    tensors, body = tiny_model.to_tensors()
    assert "objective" not in body
    assert tiny_model.from_tensors(tensors, body, "f").objective == TOP1
    with pytest.raises(FileFormatError, match="link"):
        # A logit is of a fraction.
        tiny_model.from_tensors(
            tensors, {**body, "link": "logit", "objective": DOWN.to_json()}, "f"
        )


@pytest.fixture(scope="module")
def exact(tiny, tiny_model):
    """Both problems by tables of a space that can be enumerated: no fit stands between them."""
    cell = pf.spaces.get("nasbench201")
    archs = cell.enumerate()
    values = 20 + (archs == 4).sum(axis=1) + 0.3 * (archs == 3).sum(axis=1) + 0.01 * archs[:, 0]
    models = (
        pf.accuracy.table(cell, archs, values, objective=UP),
        pf.accuracy.table(cell, archs, mirrored(values), objective=DOWN),
    )
    cost = pf.CostTable.build(
        cell,
        metric="energy",
        unit="mJ",
        device="a phone",
        constants=[1.0],
        entries=np.tile([0.0, 0.1, 0.5, 1.0, 2.5, 0.7], (1, 6, 1)),
    )
    return cell, models, cost


def test_fronts_mirror(exact, tmp_path):
    cell, models, cost = exact
    tables = [cost, pf.costs.parameters(cell)]
    up, down = (pf.search.front(cell, model, tables, evaluations=4000, seed=1) for model in models)
    np.testing.assert_array_equal(up.archs, down.archs)
    np.testing.assert_allclose(mirrored(up.top1), down.top1)
    assert down.quality is down.top1
    np.testing.assert_array_equal(up.best(up.costs), down.best(down.costs))
    text = repr(down)
    assert f"error {down.top1.min():.4g} to {down.top1.max():.4g} mm" in text
    assert "smaller is better" in text
    assert "mJ" in text
    assert "%" not in text
    assert "top-1" not in text
    head = next(csv.reader(io.StringIO(down.to_csv())))
    assert head[:3] == ["arch", "error_mm", "energy_mJ"]
    down.save(tmp_path / "front.json")
    for loaded in (
        pf.Front.load(tmp_path / "front.json", tables),
        saved_front(tmp_path / "front.json"),
    ):
        assert loaded.objective == DOWN
        assert loaded.cost_labels == down.cost_labels
        np.testing.assert_array_equal(loaded.archs, down.archs)

    confirmed = [pf.accuracy.confirm(f, m) for f, m in zip((up, down), models, strict=True)]
    assert confirmed[0].verdicts == confirmed[1].verdicts
    np.testing.assert_allclose(10 * confirmed[0].predicted_gain, confirmed[1].predicted_gain)
    head = ["energy (mJ)", "parameters", "predicted error (mm)", "judged error (mm)"]
    assert confirmed[1].head[:5] == [*head, "gain, mm"]
    assert len(confirmed[1].table(3)[0]) == len(confirmed[1].head)
    said = " ".join(confirmed[1].findings())
    assert "error (mm), smaller is better" in said
    assert "points" not in said
    assert "%" not in said
    with pytest.raises(InvalidInputError, match="sharpness"):
        pf.accuracy.confirm(down, models[0])


def test_a_judge_finds_the_members_that_are_overrated(exact):
    """Of a front the worst member is overrated by 50 mm; in the mirror it would be underrated."""
    cell, models, cost = exact
    front = pf.search.front(cell, models[1], [cost], evaluations=2000, seed=1)
    values = front.top1.copy()
    values[values.argmin()] += 50
    judge = pf.accuracy.table(cell, front.archs, values, objective=DOWN)
    summary = pf.accuracy.confirm(front, judge).summary()
    assert summary["most_overrated"] == pytest.approx(50)
    assert "is not the judge's choice" in pf.accuracy.confirm(front, judge).findings()[-1]


def test_fronts_without_an_objective_in_their_file_are_of_top1(
    tiny, tiny_model, tiny_table, tmp_path
):
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=500)
    front.save(tmp_path / "front.json")
    assert "objective" not in json.loads((tmp_path / "front.json").read_text())
    assert pf.Front.load(tmp_path / "front.json", [tiny_table]).objective == TOP1
    assert front.to_csv().startswith("arch,top1,latency_ms\n")


@pytest.mark.parametrize("method", ["expert", "pnag"])
def test_generators_mirror(exact, method, quick_settings, quick_pnag_settings, tmp_path):
    pytest.importorskip("torch")
    cell, models, cost = exact
    settings = quick_settings if method == "expert" else quick_pnag_settings
    up, down = (
        pf.train_generator(cell, model, [cost], method=method, settings=settings)
        for model in models
    )
    budgets = np.linspace(*cost.bounds, 7)[1:]
    a, b = (generator.generate(budgets, neighbour_steps=1, seed=2) for generator in (up, down))
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_allclose(mirrored(a.top1), b.top1)
    np.testing.assert_allclose(10 * a.gap, b.gap, atol=1e-9)
    assert b.objective == DOWN
    assert b.quality is b.top1
    # Dearer networks are better, that is, have smaller errors.
    assert b.top1[-1] < b.top1[0]
    assert f"error {b.top1.min():.4g} to {b.top1.max():.4g} mm" in repr(b)
    assert "top-1" not in repr(down)
    down.save(tmp_path / "generator.safetensors")
    loaded = pf.Generator.load(tmp_path / "generator.safetensors")
    assert loaded.model.objective == loaded.archive.objective == DOWN
    np.testing.assert_array_equal(
        loaded.generate(budgets, neighbour_steps=1, seed=2).archs, b.archs
    )
    slower = pf.CostTable.build(
        cell,
        metric="energy",
        unit="mJ",
        device="another",
        constants=2 * cost.constants,
        entries=2 * cost.entries,
    )
    again = down.retarget([slower], evaluations=1000).generate(2 * budgets)
    assert (again.top1 <= b.top1 + 1e-9).all()


def test_reports_mirror(tmp_path):
    pytest.importorskip("matplotlib")

    def answer(budget, sign, scale, offset):
        def value(v):
            return sign * scale * v + offset

        return Answer(
            budget, "1:3:2", "policy", budget, 1.05 * budget, value(0.9), scale * 0.01, value(0.91),
            value(0.88), value(0.87), 123456, 7890, "networks/a.onnx",
        )  # fmt: skip

    def made(objective, sign, scale, offset):
        rows = [("a", 0.5, 0.8), ("b", 0.8, 0.9), ("c", 0.9, 0.85), ("d", 1.5, 0.95)]
        return FrontReport(
            "a space",
            "a phone",
            "a model",
            [Evaluated(name, cost, sign * scale * v + offset) for name, cost, v in rows],
            [answer(budget, sign, scale, offset) for budget in (1.0, 1.6)],
            objective=objective,
            metric="energy",
            unit="mJ",
        )

    up, down = made(UP, 1, 30, 0), made(DOWN, -1, 300, 400)
    assert [row.arch for row in down.measured_front()] == ["a", "b", "d"]
    said = down.findings()
    for line in said:
        assert "latency" not in line.lower()
        assert " ms" not in line
        assert "points" not in line
    assert "Energy: measured is +5.0 %" in said[0]
    assert "(budget 1 mJ)" in said[0]
    assert said[1].startswith("Error (mm), smaller is better: test images give +6 mm")
    validation = [
        next(line for line in of.findings() if "On the validation images" in line)
        for of in (up, down)
    ]
    assert validation[0] == validation[1]
    assert down.head[0] == "budget mJ"
    assert "predicted error mm" in down.head
    page = down.to_html(down.plot())
    for text in ("Error (mm), smaller is better is predicted by", "energy table", "predicted mJ"):
        assert text in page
    for text in ("top-1", "Top-1", "latency", " ms<"):
        assert text not in page
    down.write_csv(tmp_path / "front.csv")
    head = (tmp_path / "front.csv").read_text().splitlines()[0].split(",")
    assert head[0] == "budget_mJ"
    assert {"predicted_energy_mJ", "predicted_error_mm", "error_mm_test"} <= set(head)
    down.save(tmp_path / "front.json")
    loaded = FrontReport.load(tmp_path / "front.json")
    assert (loaded.objective, loaded.metric, loaded.unit) == (DOWN, "energy", "mJ")


def test_plots_say_what_they_show(monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    labels = []
    for name in ("set_xlabel", "set_ylabel"):
        monkeypatch.setattr(Axes, name, lambda _self, text, **_: labels.append(text))
    report = FrontReport("s", "d", "m", [], [], objective=DOWN, metric="energy", unit="mJ")
    report.plot()
    assert labels == [
        "energy on d (mJ); grey lines are the budgets asked",
        "error (mm), smaller is better",
    ]
    labels.clear()
    FrontReport("s", "d", "m", [], []).plot()
    assert labels == ["latency on d (ms); grey lines are the budgets asked", "top-1 (%)"]


def test_chance_is_of_top1_alone(tiny):
    """A quarter is chance for four classes, and nothing special of an error."""
    archs = np.unique(tiny.sample(60, seed=0), axis=0)
    values = 0.1 + 0.0001 * np.arange(len(archs))
    assert any("guessing" in w for w in pf.accuracy.table(tiny, archs, values).report["warnings"])
    other = Objective("mIoU", low=0.0, high=1.0)
    assert not pf.accuracy.table(tiny, archs, values, objective=other).report["warnings"]
