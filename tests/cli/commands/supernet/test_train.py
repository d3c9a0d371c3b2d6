from __future__ import annotations

import json

import pnag_fast as pf


def test_an_interrupted_training_of_a_supernet_goes_on(
    run, interrupting, small_supernet, tmp_path, monkeypatch
):
    out = tmp_path / "net.safetensors"
    command = [
        "supernet", "train", "--resolution", "8", "--epochs", "1", "--out", out, "--threads", "1",
        "--checkpoint-every", "2", "--json",
    ]  # fmt: skip
    interrupting(5)
    code, text, _ = run(*command)
    assert code == 130
    document = json.loads(text)
    assert document["error"] == "Interrupted"
    assert document["kept"] == [f"{out}.checkpoint"]
    heard = interrupting(0)
    assert run(*command)[0] == 0
    assert heard[0][1] == 5
    assert not (tmp_path / "net.safetensors.checkpoint").exists()
    net, same = (pf.supernet.load(path).state_dict() for path in (small_supernet, out))
    assert all((same[name] == value).all() for name, value in net.items())


def test_long_epochs_are_kept_as_time_passes(run, interrupting, tmp_path, monkeypatch):
    """Without --checkpoint-every: an epoch on real images takes hours."""
    from pnag_fast.supernet import training

    monkeypatch.setattr(training, "WRITE_EVERY_S", 0.0)
    out = tmp_path / "net.safetensors"
    interrupting(5)
    code, _, err = run("supernet", "train", "--resolution", "8", "--epochs", "1", "--out", out)
    assert code == 130
    assert "kept: the state of training in" in err
    assert (tmp_path / "net.safetensors.checkpoint").exists()


def test_dry_runs_of_every_recipe(run):
    for recipe in ("sandwich", "single-path", "progressive"):
        command = ["supernet", "train", "--recipe", recipe, "--dry-run", "--out", "x"]
        phases = json.loads(run(*command, "--json")[1])
        assert {"name", "epochs"} <= set(phases[0])
        code, out, _ = run(*command)
        assert code == 0
        assert [line.partition(":")[0] for line in out.splitlines()] == [p["name"] for p in phases]
