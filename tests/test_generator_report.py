from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior
from pnag_fast.costs.features import n_features
from pnag_fast.generator_report import GeneratorReport


@pytest.fixture(scope="module")
def fleet(tiny, tiny_model, tiny_table):
    root = np.zeros((n_features(tiny), 1))
    unsure = dataclasses.replace(tiny_table, device="<pi5>", posterior=Posterior(root, 0.05))
    settings = pf.generator.ExpertSettings(evaluations=1000, steps=10, hidden=16)
    return pf.train_generator(
        tiny, tiny_model, [pf.costs.parameters(tiny)], devices=[tiny_table, unsure],
        settings=settings,
    )  # fmt: skip


def test_every_device_has_its_answers(fleet):
    report = GeneratorReport(fleet, 0.95)
    assert report.head[:4] == ["latency budget", "parameters budget", "latency ms", "parameters"]
    for device, answers in enumerate(report.answers):
        table = report.table(device)
        assert all(len(row) == len(report.head) for row in table)
        alone = np.isinf(answers.budgets[:, 1])
        assert 0 < alone.sum() < len(alone)
        # Bounds on the device's own cost alone are all reached, from the cheapest network on.
        assert answers.feasible[alone].all()
        missed = np.flatnonzero(~answers.feasible)
        assert [row[-2] for row in (table[i] for i in missed)] == ["infeasible"] * len(missed)
    assert " ± " in report.table(1)[3][2]
    assert " ± " not in report.table(0)[3][2]


def test_the_page_is_self_contained_and_escaped(fleet):
    pytest.importorskip("matplotlib")
    report = GeneratorReport(fleet)
    picture = report.plot()
    assert picture.startswith(b"\x89PNG")
    page = report.to_html(picture)
    assert "mbv3-tiny on 2 devices" in page
    assert "<h2>&lt;pi5&gt;</h2>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "Budgets hold for the tables as they are." in page
    assert "a probability of 90 %" in GeneratorReport(fleet, 0.9).to_html(picture)


def test_one_device_and_one_cost(tiny_generator):
    report = GeneratorReport(tiny_generator)
    assert report.head[:2] == ["budget", "latency ms"]
    assert len(report.views) == 1
    assert report.answers[0].feasible.all()


def test_the_command(fleet, tiny_generator_path, tmp_path):
    pytest.importorskip("matplotlib")
    from click.testing import CliRunner

    from pnag_fast.cli import pnag

    path = tmp_path / "fleet.safetensors"
    fleet.save(path)
    done = CliRunner().invoke(pnag, ["report", str(path)])
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"The whole story: {tmp_path / 'fleet.html'}\n")
    assert (tmp_path / "fleet.html").read_text().startswith("<!doctype html>")
    # It may be written again.
    done = CliRunner().invoke(pnag, ["report", str(path), "--confidence", "0.9", "--json"])
    facts = json.loads(done.stdout)
    assert facts["devices"] == ["test device", "<pi5>"]
    assert {answer["device"] for answer in facts["answers"]} == set(facts["devices"])
