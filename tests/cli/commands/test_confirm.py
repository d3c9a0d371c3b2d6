from __future__ import annotations

import dataclasses
import functools
import json
import shlex
import sys

import numpy as np
import pytest

import pnag_fast as pf

# A device on which everything takes a twentieth longer than the table says.
PROGRAM = """
import sys
import pnag_fast as pf
table = pf.CostTable.load("cost.json")
head, *rows = open(sys.argv[1]).read().splitlines()
archs = table.space.from_strings([row.rpartition(",")[0].strip('"') for row in rows])
pf.costs.save_measured(sys.argv[1], table.space, archs, 1.05 * table(archs), column="latency_ms")
"""


@pytest.fixture
def device(files, monkeypatch):
    monkeypatch.chdir(files)
    (files / "measure.py").write_text(PROGRAM)
    shorter = functools.partial(pf.latency.confirm, evaluations=300)
    monkeypatch.setattr(pf.latency, "confirm", shorter)
    return f"{shlex.quote(sys.executable)} measure.py"


def test_answers_are_measured_by_a_program(run, device, tiny_table):
    dataclasses.replace(tiny_table, device="pi5").save("pi5.json")
    command = ("confirm", "generator.safetensors", "--budget", "40%", "--budget", "70%")
    command += ("--device", "pi5.json")
    code, out, err = run(*command, "--program", device, "--out", "corrected", "--rounds", "2")
    assert code == 0, err
    assert "2 of 2 budgets confirmed on pi5" in out
    assert out.endswith("written to corrected\n")
    # What was measured is known to the next call, which need not measure it again.
    code, out, err = run(*command, "--program", device, "--out", "corrected", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["confirmed"] == 2
    low, high = tiny_table.bounds
    for answer, share in zip(facts["answers"], (0.4, 0.7), strict=True):
        budget = low + share * (high - low)
        assert answer["budget"] == [pytest.approx(budget)]
        truth = 1.05 * tiny_table(np.array([answer["codes"]], dtype=np.uint8))[0]
        assert answer["measured"] == pytest.approx(truth)
        assert truth <= budget
    # The corrected generator knows that the device is slower.
    (corrected,) = (t for t in pf.Generator.load("corrected").devices if t.device == "pi5")
    archs = corrected.space.sample(50, seed=0)
    assert np.median(corrected(archs) / tiny_table(archs)) == pytest.approx(1.05, abs=0.02)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("false", "'false' ended with exit code 1"),
        ("sh -c 'echo no phone >&2; exit 3'", "exit code 3: no phone"),
        ("nosuchprogram", "cannot run 'nosuchprogram'"),
        ("true", "latency_ms of row 0 should be a number"),
        ('sh -c \'printf "arch,latency_ms\\n" > "$0"\'', "no rows below the header"),
    ],
)
def test_programs_that_fail_are_told(run, device, program, message):
    command = ("confirm", "generator.safetensors", "--budget", "inf", "--no-checkpoint")
    code, out, err = run(*command, "--program", program, "--out", "x")
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_tvm_does_not_stand_in_for_a_device_of_others(run, device):
    code, _, err = run("confirm", "generator.safetensors", "--budget", "40%", "--out", "x")
    assert code == 2
    assert "was not made by 'pnag measure'" in err
    assert "--program" in err


def test_a_program_measures_what_it_was_given(run, device, files):
    (files / "measure.py").write_text(PROGRAM.replace("for row in rows", "for row in rows[::-1]"))
    command = ("confirm", "generator.safetensors", "--budget", "40%", "--budget", "70%")
    code, _, err = run(*command, "--program", device, "--out", "x")
    assert code == 1
    assert "left other networks in the file" in err
