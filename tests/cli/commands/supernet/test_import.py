from __future__ import annotations

import json

import pnag_fast as pf
from pnag_fast import outputs


def test_a_supernet_is_imported_and_a_network_exported(
    run, tiny, small_supernet, tmp_path, monkeypatch
):
    from pnag_fast import supernet

    monkeypatch.setattr(supernet, "load_ofa", lambda path, space: supernet.build(space))
    (tmp_path / "published").write_text("x")
    out = tmp_path / "imported.safetensors"
    code, text, err = run("supernet", "import", tmp_path / "published", "--out", out)
    assert code == 0, err
    assert "million parameters" in text
    code, text, _ = run("supernet", "import", tmp_path / "published", "--out", out, "--json")
    assert json.loads(text)["space"] == "mbv3-tiny"

    space = pf.supernet.load(small_supernet).space
    arch = space.to_strings(space.sample(1))[0]
    onnx = tmp_path / "net.onnx"
    command = ["export", "--supernet", small_supernet, "--arch", arch, "--out", onnx]
    code, text, err = run(*command)
    assert code == 0, err
    assert "on validation images" in text
    assert outputs.kind_of(onnx) == "ONNX"
    # An ONNX file of ours may be replaced.
    code, text, _ = run(*command, "--data", "digits", "--seed", "3", "--json")
    assert code == 0
    assert 0 <= json.loads(text)["top1_validation"] <= 1
