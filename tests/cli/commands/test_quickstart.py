from __future__ import annotations

import json

import pytest


def test_a_run_is_told_and_its_report_written_anew(run, nasty, tmp_path, monkeypatch):
    from pnag_fast import quickstart
    from pnag_fast.report import FrontReport

    out = tmp_path / "run"
    report = FrontReport("mbv3-tiny", nasty, "m", (), (), 1.0, {}, ("nothing of this is true",))

    def fake(folder, *, images, settings, progress, notice):
        folder.mkdir(exist_ok=True)
        notice(f"step {settings.epochs}")
        report.save(folder / "front.json")
        return report

    monkeypatch.setattr(quickstart, "run", fake)
    code, text, err = run("quickstart", "--out", out, "--epochs", "7")
    assert code == 0
    assert text.startswith("WARNING: nothing of this is true")
    assert "step 7" in err
    code, text, err = run("quickstart", "--out", out, "--json")
    assert json.loads(text)["warnings"] == ["nothing of this is true"]
    assert err == ""
    pytest.importorskip("matplotlib")
    code, text, _ = run("report", out)
    assert code == 0
    assert "WARNING: nothing of this is true" in text
    page = (out / "report.html").read_text()
    assert page.index("nothing of this is true") < page.index("Asked and answered")
    assert "\x1b" not in page
