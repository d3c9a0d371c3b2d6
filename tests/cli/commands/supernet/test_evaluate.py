from __future__ import annotations

import json

import pnag_fast as pf


def test_an_interrupted_evaluation_goes_on(
    run, interrupting, small_supernet, tmp_path, monkeypatch
):
    from pnag_fast.supernet import evaluation

    monkeypatch.setattr(evaluation, "_KEPT_TOGETHER", 4)
    command = ["supernet", "evaluate", small_supernet, "--architectures", 12, "--out"]
    assert run(*command, tmp_path / "whole.csv", "--no-checkpoint")[0] == 0

    out = tmp_path / "out.csv"
    interrupting(1)
    code, text, err = run(*command, out)
    assert (code, text) == (130, "")
    assert "nothing of it was kept" in err  # which is the truth
    heard = interrupting(8, "judging")
    code, _, err = run(*command, out)
    assert code == 130
    assert err.strip().startswith("interrupted; kept: what was judged in '")
    assert f"{out}.checkpoint" in err
    assert "same command" in err
    assert not out.exists()
    reached = heard[-1][1]
    heard = interrupting(0)
    code, _, err = run(*command, out)
    assert code == 0, err
    assert reached - 4 <= heard[0][1] + 1
    assert heard[0][1] > 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "whole.csv"]
    # What the user named stays.
    assert run(*command, out, "--checkpoint", tmp_path / "mine")[0] == 0
    assert (tmp_path / "mine").exists()


def test_the_journal_of_an_earlier_version_is_gone_on_from(
    interrupting, run, small_supernet, tmp_path, monkeypatch
):
    from pnag_fast.supernet import evaluation

    monkeypatch.setattr(evaluation, "_KEPT_TOGETHER", 4)
    out = tmp_path / "out.csv"
    command = ["supernet", "evaluate", small_supernet, "--architectures", 12, "--out", out]
    interrupting(8, "judging")
    assert run(*command)[0] == 130
    (tmp_path / "out.csv.checkpoint").rename(tmp_path / "out.csv.journal")
    heard = interrupting(0)
    assert run(*command)[0] == 0
    assert heard[0][1] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_networks_that_guess_are_called_out(run, tiny, tmp_path):
    net = pf.supernet.build(pf.spaces.get("mbv3-tiny", resolutions=(8,)))
    pf.supernet.save(net, tmp_path / "untrained.safetensors")
    command = [
        "supernet", "evaluate", tmp_path / "untrained.safetensors", "--architectures", 10,
        "--data", "digits", "--out", tmp_path / "t.csv",
    ]  # fmt: skip
    code, out, err = run(*command)
    assert code == 0, err
    assert out.startswith("WARNING: ")
    assert "evaluated architectures guess" in out.splitlines()[0]
    code, out, _ = run(*command, "--json")
    assert len(json.loads(out)["warnings"]) == 1


def test_a_supernet_is_judged_on_what_it_was_trained_on(run, small_supernet, tiny, tmp_path):
    """Not on digits whatever it was trained on, nor on digits of another split."""
    import dataclasses

    net = pf.supernet.load(small_supernet)
    photos = dataclasses.replace(net.trained_on, name="photos", calibration=None)
    net.trained_on = photos
    pf.supernet.save(net, tmp_path / "photos.safetensors")
    net.trained_on = None
    pf.supernet.save(net, tmp_path / "unknown.safetensors")
    arch = net.space.to_strings(net.space.sample(1))[0]
    for name, message in (("photos", "trained on 'photos'"), ("unknown", "nothing says")):
        path = tmp_path / f"{name}.safetensors"
        for command in (
            ["supernet", "evaluate", path, "--out", tmp_path / "new"],
            ["export", "--supernet", path, "--arch", arch, "--out", tmp_path / "new"],
        ):
            code, _, err = run(*command)
            assert code == 1
            assert message in err or (
                command[0] == "export" and "carries no training images" in err
            )
            assert not (tmp_path / "new").exists()
    # The seed of the command draws architectures; the supernet knows how its images were split.
    code, _, err = run(
        "supernet", "evaluate", small_supernet, "--architectures", 3, "--seed", 7,
        "--out", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0, err


def test_as_many_are_judged_as_were_asked_for(run, small_supernet, tmp_path):
    out = tmp_path / "out.csv"
    code, text, err = run(
        "supernet", "evaluate", small_supernet, "--architectures", 40, "--out", out, "--json"
    )
    assert code == 0, err
    assert json.loads(text)["architectures"] == 40
    space = pf.supernet.load(small_supernet).space
    archs, _ = pf.accuracy.load_table(out, space)
    assert len(pf.accuracy.covering(space, archs)) == 0


def test_half_is_chosen_by_a_cost_table(run, interrupting, small_supernet, tmp_path):
    space = pf.supernet.load(small_supernet).space
    macs, other = tmp_path / "macs.json", tmp_path / "other.json"
    pf.costs.macs(space).save(macs)
    pf.costs.macs(pf.spaces.get("mbv3-cifar")).save(other)
    out = tmp_path / "out.csv"
    command = ["supernet", "evaluate", small_supernet, "--architectures", 24, "--out", out]
    for options, said in (
        (["--active"], "give --table"),
        (["--table", macs], "--table goes with --active"),
        (["--batch", 5], "--batch goes with --active"),
        (["--active", "--table", macs, "--share", 1], "--share"),
        (["--active", "--table", macs, "--share", "nan"], "'nan' is no number in the range 0<x<1"),
        (["--active", "--table", other], "is for space 'mbv3-cifar'"),
    ):
        code, _, err = run(*command, *options)
        assert code != 0
        assert said in err
        assert not out.exists()
    active = [*command, "--active", "--table", macs, "--share", 0.25, "--batch", 3]
    interrupting(20, "judging")
    assert run(*active)[0] == 130
    heard = interrupting(0)
    code, text, err = run(*active, "--json")
    assert code == 0, err
    assert json.loads(text)["architectures"] == 24
    assert json.loads(text)["chosen"] == 6
    # What was judged before the interruption was not judged again.
    assert heard[0][1] >= 18
    archs, _ = pf.accuracy.load_table(out, space)
    # The drawn ones are those of a call that draws as many.
    assert run(*command[:3], "--architectures", 18, "--out", tmp_path / "drawn.csv")[0] == 0
    drawn, _ = pf.accuracy.load_table(tmp_path / "drawn.csv", space)
    assert set(space.to_strings(drawn)) < set(space.to_strings(archs))
