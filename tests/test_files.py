from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading

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


HEAD = '"format": "mine", "version": 1'

_FIELDS = {
    "a key twice": '"a": 1, "a": 1',
    "a format twice": '"format": "mine"',
    "a key twice, spaced": '"a" : 1, "a"\n: 1',
    "a key twice beside text": r'"a": 1, "a": 1, "b": "\": "',
    "a nested key twice": '"a": [{"b": 1, "b": 2}]',
    "NaN": '"a": NaN',
    "Infinity": '"a": -Infinity',
    "a large float": '"a": 1e999',
    "a large float of digits": '"a": ' + "9" * 320 + ".5",
    "digits and exponent": '"a": ' + "9" * 290 + "e99",
    "400 digits": '"a": ' + "1" * 400,
    "more digits than Python reads": '"a": -' + "1" * 10_000,
    "deep lists": '"a": ' + "[" * 200 + "1" + "]" * 200,
    "deep objects": '"a": ' + '{"a":' * 200 + "1" + "}" * 200,
    "endless lists": '"a": ' + "[" * 100_000,
    "half a surrogate pair": '"a": "\\ud800"',
    "half a surrogate pair as a key": '"\\uDC00": 1',
}
NOT_STRICT = {name: "{" + HEAD + ", " + text + "}" for name, text in _FIELDS.items()}


@pytest.mark.parametrize("name", NOT_STRICT)
def test_json_is_read_strictly(tmp_path, name):
    path = tmp_path / "x.json"
    path.write_text(NOT_STRICT[name])
    with pytest.raises(FileFormatError, match=r"x\.json.*(twice|no number|large|nested|surrogate)"):
        files.read_json(path, "mine", 1)


def test_numbers_at_the_ends_of_the_range_are_read(tmp_path):
    path = tmp_path / "x.json"
    numbers = [1.7976931348623157e308, 5e-324, -1e308, 2**1000, 1e-400, 0.1, 10**200, -(10**308)]
    path.write_text("{" + HEAD + f', "a": {json.dumps(numbers)}, "ä": "\\ud83d\\ude00"' + "}")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(path.read_text().encode(encoding))
        found = files.read_json(path, "mine", 1)
        assert found["a"] == numbers
        assert found["ä"] == "\U0001f600"
        path.write_text(json.dumps(found))


def test_numbers_that_json_does_not_know_are_not_written(tmp_path):
    with pytest.raises(FileFormatError):
        files.write_json(tmp_path / "x.json", "mine", 1, {"value": float("nan")})
    with pytest.raises(FileFormatError):
        files.write_json(tmp_path / "x.json", "mine", 1, {"value": np.float32(1)})
    assert not (tmp_path / "x.json").exists()


BODY = {
    "name": "täble",
    "sizes": {2: (1, 2), 10: 0.1},
    "rows": [[1.0, 2.5e-7, -3, True, None, "a"], []],
    "space": {"stages": [{"depth": [2, 3], "kernels": [3, 5, 7]}]},
}


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "document.json"
    files.write_json(path, "mine", 1, BODY)
    return path


def test_documents_carry_a_checksum(document):
    body = files.read_json(document, "mine", 1)
    assert "sha256" not in body
    assert body["sizes"] == {"2": [1, 2], "10": 0.1}
    written = json.loads(document.read_text())
    assert len(written["sha256"]) == 64
    # Other ends of lines, a byte-order mark and space at the end say the same.
    text = document.read_bytes()
    document.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n")
    assert files.read_json(document, "mine", 1) == body


def test_an_edited_document_says_how_to_keep_the_edit(document):
    written = json.loads(document.read_text())
    document.write_text(json.dumps({**written, "name": "mine"}))
    with pytest.raises(FileFormatError, match="edited.*remove its field 'sha256'"):
        files.read_json(document, "mine", 1)
    del written["sha256"]
    document.write_text(json.dumps({**written, "name": "mine"}))
    assert files.read_json(document, "mine", 1)["name"] == "mine"


def damage(data: bytes, rng: random.Random) -> bytes:
    """Damage as disks and hands do it."""
    damaged = bytearray(data)
    kind = rng.randrange(6)
    at = rng.randrange(len(data))
    if kind == 0:
        damaged[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        damaged[at] = rng.randrange(256)
    elif kind == 2:
        damaged[at] = rng.choice(b"0123456789")
    elif kind == 3:
        del damaged[at:]
    elif kind == 4:
        del damaged[at : at + rng.randrange(1, 40)]
    else:
        lines = data.splitlines(keepends=True)
        one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[one], lines[two] = lines[two], lines[one]
        damaged = bytearray(b"".join(lines))
    return bytes(damaged)


def test_no_damaged_document_passes_for_a_whole_one(document):
    data = document.read_bytes()
    whole = files.read_json(document, "mine", 1)
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        document.write_bytes(damage(data, rng))
        try:
            # What was damaged in white space alone says the same.
            assert files.read_json(document, "mine", 1) == whole
        except FileFormatError:
            refused += 1
    assert refused > 2500


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


def test_headers_of_safetensors_are_read_strictly(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    for name, text in NOT_STRICT.items():
        save_file({"a": np.zeros(2)}, path, metadata={"pnag": text})
        with pytest.raises(FileFormatError, match=r"x\.safetensors"):
            files.read_safetensors(path, "mine", 1)
        if name.startswith("deep"):
            continue
        empty = '{"a":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},"b":'
        header = (empty + text + "}").encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(FileFormatError, match=r"x\.safetensors"):
            files.read_safetensors(path, "mine", 1)


# --- reading -------------------------------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, what in (
            ("pipe", "a pipe"),
            ("link", "a device"),
            ("socket", "a socket"),
            (".", "a folder"),
            ("/dev/zero", "a device"),
            ("loop", "symbolic"),
            ("zero\0byte", "null"),
        ):
            for read in (files.read_bytes, lambda p: files.read_json(p, "mine", 1)):
                with pytest.raises(FileAccessError, match=what):
                    read(name)


def test_reading_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # no disk is that large, and no memory
    for read in (
        files.read_bytes,
        lambda p: files.read_json(p, "mine", 1),
        lambda p: files.read_safetensors(p, "mine", 1),
    ):
        with pytest.raises(FileFormatError, match=r"large\.json.*PNAG_FILE_LIMIT_MB to 1099512 "):
            read(path)
    path.write_bytes(b"x" * 3_000_000)
    with pytest.raises(FileFormatError, match=r"up to 1\.0 MB"):
        files.read_bytes(path, limit=1_000_000)
    assert len(files.read_bytes(path, limit=3_000_000)) == 3_000_000
    monkeypatch.setenv("PNAG_FILE_LIMIT_MB", "2")
    with pytest.raises(FileFormatError, match=r"up to 2\.0 MB.*PNAG_FILE_LIMIT_MB to 3 "):
        files.read_bytes(path, limit=1_000_000)
    monkeypatch.setenv("PNAG_FILE_LIMIT_MB", "3")
    assert len(files.read_bytes(path, limit=1_000_000)) == 3_000_000
    monkeypatch.setenv("PNAG_FILE_LIMIT_MB", "3 GB")
    with pytest.raises(errors.InvalidInputError, match="PNAG_FILE_LIMIT_MB.*megabytes"):
        files.read_bytes(path, limit=1_000_000)


def test_digests_of_files(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)
    assert files.file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(FileAccessError, match="device"):
        files.file_digest("/dev/zero")


def test_files_without_a_size_are_read():
    if os.path.exists("/proc/self/status"):
        assert b"Pid:" in files.read_bytes("/proc/self/status")


# --- writing -------------------------------------------------------------------------------------


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "secret"
    for mode in (0o600, 0o640, 0o755, 0o444):
        path.touch()
        path.chmod(mode)
        files.write_bytes(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.read_bytes() == b"new"
        path.unlink()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_the_owner_of_a_file_is_kept(tmp_path):
    path = tmp_path / "theirs"
    path.touch()
    os.chown(path, 1234, 4321)
    files.write_bytes(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_another_group_gets_no_more_than_everybody(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    path = tmp_path / "theirs"
    for mode, left in ((0o660, 0o600), (0o675, 0o655), (0o647, 0o647), (0o771, 0o711)):
        path.touch()
        os.chown(path, 1234, 4321)
        path.chmod(mode)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fchown", refuse)
            files.write_bytes(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == left
        path.unlink()


def test_the_mask_of_the_process_is_not_touched(tmp_path, monkeypatch):
    def refuse(_):
        raise AssertionError("another thread makes a file now")

    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        files.write_bytes(tmp_path / "a", b"x")
        monkeypatch.undo()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("folder/target")
    files.write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    target.unlink()
    files.write_bytes(link, b"again")
    assert target.read_bytes() == b"again"
    assert names(tmp_path / "folder") == ["target"]
    assert names(tmp_path) == ["folder", "link"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileAccessError, match="loop"):
        files.write_bytes(tmp_path / "loop", b"")


def test_devices_and_pipes_are_written_to(tmp_path):
    files.write_bytes("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        with pytest.raises(FileAccessError, match="No space left"):
            files.write_bytes("/dev/full", b"x")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = bytes(range(256)) * 2000
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    files.write_bytes(pipe, data)
    reader.join(timeout=60)
    assert found == [data]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(FileAccessError, match="is a folder"):
        files.write_bytes(tmp_path, b"")
    assert names(tmp_path) == ["pipe"]


STDOUT = """
import sys
from pnag_fast import files
print("before")
files.write_text(sys.argv[1], "written\\n")
print("after")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_in_order(tmp_path, name):
    command = [sys.executable, "-c", STDOUT, name]
    expected = b"before\nwritten\nafter\n"
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == expected
    with (tmp_path / "out").open("wb") as stream:
        subprocess.run(command, stdout=stream, check=True)
    assert (tmp_path / "out").read_bytes() == expected
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_nothing_stays_open(tmp_path):
    path = tmp_path / "file"
    kept = os.listdir("/proc/self/fd")
    for target in (path, path, "/dev/null"):
        files.write_bytes(target, b"x")
        files.read_bytes(path)
    with path.open("wb") as stream:
        files.write_bytes(f"/dev/fd/{stream.fileno()}", b"y")
    assert os.listdir("/proc/self/fd") == kept
    assert path.read_bytes() == b"y"


def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    path = tmp_path / "file"
    steps = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(*args):
        steps.append("rename")
        replace(*args)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_bytes(path, b"x")
    assert steps == ["file", "rename", "folder"]


KILLED = """
import os, signal, sys
from pnag_fast import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes(sys.argv[1], b"half")
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    # Not ours, or not of this target.
    for other in (".file.swp", ".file.pnag-tmpx", ".other.pnag-tmp"):
        (tmp_path / other).write_bytes(b"")
    before = names(tmp_path)
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(names(tmp_path)) == len(before) + 1
    assert path.read_bytes() == b"old"
    files.write_bytes(path, b"new")
    assert names(tmp_path) == before
    assert path.read_bytes() == b"new"


def test_what_a_living_writer_holds_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    fsync = os.fsync
    inner = []

    def synced(handle):
        if not inner:
            # In the middle of one write of a file, another one of the same.
            inner.append(names(tmp_path))
            files.write_bytes(path, b"second")
            inner.append(names(tmp_path))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    files.write_bytes(path, b"first")
    assert inner[0] == [".file.pnag-tmp"]
    assert inner[1] == [".file.pnag-tmp", "file"]
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_many_writers_of_one_file(tmp_path):
    path = tmp_path / "file"
    wrong = []

    def write(value):
        for _ in range(30):
            files.write_bytes(path, bytes([value]) * 5000)
            found = files.read_bytes(path)
            if len(found) != 5000 or len(set(found)) != 1:
                wrong.append(found)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not wrong
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(FileAccessError, match=r"cannot write '.*file': File too large"):
            files.write_bytes(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_short_writes_are_finished(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, bytes(data)[:7]))
    files.write_bytes(tmp_path / "file", b"0123456789" * 10)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 10


def test_long_names_are_written(tmp_path):
    path = tmp_path / ("ä" * 120)
    files.write_bytes(path, b"x")
    assert names(tmp_path) == [path.name]


# --- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [True, "1.5", None, [1], float("nan"), float("inf"), 10**400, 10**5000, 1 + 0j],
    ids=range(9),
)
def test_what_is_no_number_is_refused(value):
    for check in (files.number, files.integer):
        if isinstance(value, int) and value > 1 and check is files.integer:
            continue
        with pytest.raises(FileFormatError, match="^'x': field 'y' should be a.* found"):
            check(value, "'x': field 'y'")
    with pytest.raises(FileFormatError, match="y"):
        files.require({"y": value}, "y", (float,), "x")


def test_numbers_have_ranges():
    assert files.number(3, "n") == 3.0
    assert files.integer(3, "n", low=3, high=3) == 3
    with pytest.raises(FileFormatError, match="n should be an integer of at least 0, found -1"):
        files.integer(-1, "n", low=0)
    with pytest.raises(FileFormatError, match="n should be an integer from 0 to 9, found an int"):
        files.integer(10**5000, "n", low=0, high=9)
    with pytest.raises(FileFormatError, match="n should be a number from 0 to 1, found 1.5"):
        files.number(1.5, "n", low=0, high=1)
    with pytest.raises(FileFormatError, match="n should be a number of at most 1, found 2"):
        files.number(2, "n", high=1)


def test_a_boolean_is_no_number_and_a_number_no_boolean():
    document = {"yes": True, "one": 1}
    for kinds in (int, float, (int, float), (int, str)):
        with pytest.raises(FileFormatError, match="field 'yes' should be .*, found bool"):
            files.require(document, "yes", kinds, "f")
        if kinds is not float:
            assert files.require(document, "one", kinds, "f") == 1
    with pytest.raises(FileFormatError, match="field 'one' should be bool, found int"):
        files.require(document, "one", bool, "f")
    assert files.require(document, "yes", bool, "f") is True
    assert files.require(document, "yes", (int, bool), "f") is True


def test_fields_are_checked_in_depth():
    document = {"rows": [{"a": 1}, {"a": "x"}, 3]}
    with pytest.raises(FileFormatError, match=r"'f': field 'rows\[2\]' should be dict, found int"):
        files.require_each(document, "rows", dict, "f")
    with pytest.raises(
        FileFormatError, match=r"'f': field 'rows\[1\]\.a' should be int, found str"
    ):
        files.require(document["rows"][1], "a", int, "f", within="rows[1]")
    with pytest.raises(FileFormatError, match="'rows' should have 2 elements, found 3"):
        files.require_each(document, "rows", dict, "f", length=2)
    with pytest.raises(FileFormatError, match="unknown field 'min_dept'; did you mean 'min_depth'"):
        files.check_keys({"format": "x", "min_dept": 1}, {"min_depth"}, "f")
    with pytest.raises(FileFormatError, match="unknown field 'format' in 'rows'"):
        files.check_keys({"format": "x"}, {"min_depth"}, "f", within="rows")


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
