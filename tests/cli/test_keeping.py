from __future__ import annotations

import os


def test_what_was_wrong_is_not_called_kept(run, tiny_generator_path, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    code, _, err = run(
        "train", "--accuracy", "accuracy.csv", "--cost", "cost.json", "--out", tmp_path / "new",
        "--checkpoint", "front.json",
    )  # fmt: skip
    assert code == 1
    assert "front.json' is not a" in err
    assert "state of training in" not in err
    os.symlink("loop", tmp_path / "loop")
    code, _, err = run("accuracy", "accuracy.csv", "--no-check", "--out", tmp_path / "loop")
    assert code == 1
    assert "leads in a circle" in err
    assert not (tmp_path / "loop.fitted").exists()
    assert not (tmp_path / "loop.checkpoint").exists()
