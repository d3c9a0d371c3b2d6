from __future__ import annotations

import os
import stat

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import errors, files
from pnag_fast.errors import FileAccessError, FileFormatError, InvalidTypeError


def test_write_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "data.bin"
    files.write_bytes(path, b"old")

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FileAccessError, match=r"data\.bin.*No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]


def test_written_files_have_ordinary_permissions(tmp_path):
    files.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "b").stat().st_mode
    )


def test_unreadable_places_are_named(tmp_path):
    with pytest.raises(FileAccessError, match="missing"):
        files.read_bytes(tmp_path / "missing")
    with pytest.raises(FileAccessError, match="nowhere"):
        files.write_text(tmp_path / "nowhere" / "x", "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileAccessError, match="file"):
        files.make_folder(tmp_path / "file")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "3",
        '{"format": "other", "version": 1}',
        '{"format": "mine", "version": 2}',
        '{"format": "mine"}',
        '{"format": "mine", "version": true}',
        "[" * 100_000,
    ],
)
def test_foreign_json_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"x\.json"):
        files.read_json(path, "mine", 1)


def test_numbers_that_json_does_not_know_are_not_written(tmp_path):
    with pytest.raises(FileFormatError):
        files.write_json(tmp_path / "x.json", "mine", 1, {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]
    files.write_safetensors(path, "mine", 1, {"a": array}, {"note": "ü"})
    arrays, body = files.read_safetensors(path, "mine", 1)
    np.testing.assert_array_equal(arrays["a"], array)
    assert body["note"] == "ü"
    assert body["provenance"]["program"].startswith("pnag_fast ")


def test_damaged_safetensors_are_refused(tmp_path):
    path = tmp_path / "weights"
    weights = {"w": np.ones(50, dtype=np.float32), "none": np.empty((0, 3))}
    # JSON keeps keys as text and tuples as lists.
    files.write_safetensors(path, "pnag-test", 1, weights, {"sizes": {2: (1, 2), 10: 0.1, "ä": 1}})
    files.read_safetensors(path, "pnag-test", 1)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match="damaged"):
        files.read_safetensors(path, "pnag-test", 1)


def test_foreign_safetensors_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(FileFormatError, match="another program"):
        files.read_safetensors(path, "mine", 1)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(FileFormatError, match="safetensors"):
        files.read_safetensors(path, "mine", 1)


def test_every_error_is_ours_and_a_builtin():
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.PnagError):
            builtins = (
                ValueError,
                TypeError,
                OSError,
                RuntimeError,
                ImportError,
                MemoryError,
            )
            assert kind is errors.PnagError or issubclass(kind, builtins)


@pytest.mark.parametrize("path", [3, True, None, 1.5, b"x", ["x"], {}, object()])
def test_what_names_no_file_is_refused(path):
    for use in (
        files.read_bytes,
        files.make_folder,
        lambda p: files.write_bytes(p, b""),
        pf.spaces.load,
        pf.CostTable.load,
        pf.spaces.get("nasbench201").save,
    ):
        with pytest.raises(InvalidTypeError, match="a file is named by a string"):
            use(path)
    with pytest.raises(FileAccessError, match="cannot create folder"):
        files.make_folder("a\0b")
