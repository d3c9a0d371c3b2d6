from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError


@pytest.mark.shared_data
def test_nasbench201_tables(shared_data, read_csv):
    path = shared_data / "nasbench201" / "accuracy_12_epochs.csv"
    model = pf.accuracy.load_nasbench201(path, "cifar100-val")
    rows = read_csv(path)
    archs = model.space.from_strings([row["arch"] for row in rows])
    assert len(np.unique(archs, axis=0)) == model.space.n_architectures
    expected = np.array([float(row["cifar100-val"]) for row in rows]) / 100
    np.testing.assert_array_equal(model.predict(archs), expected)
    assert "NAS-Bench-201, cifar100-val" in model.source
    with pytest.raises(FileFormatError, match="cifar10-test"):
        pf.accuracy.load_nasbench201(path, "mnist")


def test_tables_round_trip(tiny, tiny_samples, tmp_path):
    path = tmp_path / "table.csv"
    pf.accuracy.save_table(path, tiny, *tiny_samples)
    archs, top1 = pf.accuracy.load_table(path, tiny)
    np.testing.assert_array_equal(archs, tiny_samples[0])
    np.testing.assert_array_equal(top1, tiny_samples[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("arch,top1\n1:2:3,0.5\n", "row 0"),
        ("arch,top1\nx,high\n", "row 0"),
        ("arch,top1\nx\n", "row 0"),
    ],
)
def test_bad_tables_are_refused(tiny, tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        pf.accuracy.load_table(path, tiny)


ROWS = [
    ("1,1,1:3,0,0,5,0,0,7,0,0:1,0,0,2,0,0,4,0,0", 0.5),
    ("1,1,1:3,0,0,5,0,0,3,0,0:1,0,0,2,0,0,4,0,0", 0.625),
]


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffarch,top1\r\n"{0}",0.5\r\n"{1}",0.625\r\n',
        "arch;top1\n{0};0,5\n{1};0,625\n",
        "\ufeffArch;Top1\r\n{0};0.5\r\n{1};0.625\r\n;\r\n",
        " ARCH ; TOP1 ;note\n {0} ; 0,5 ;x\n {1} ; 0,625 ;\n\n",
        "sep=;\r\narch;top1\r\n{0};0,5\r\n{1};0,625\r\n",
        "arch\ttop1\n{0}\t0,5\n{1}\t6,25e-1\n",
        'top1,x,arch\n.5,1,"{0}"\n+0.625,2,"{1}"',
        'arch,top1,\n"{0}",0.5,\n"{1}",0.625,\n,,\n',
    ],
)
def test_tables_of_spreadsheets_are_read(tiny, tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text.format(ROWS[0][0], ROWS[1][0]).encode())
    archs, top1 = pf.accuracy.load_table(path, tiny)
    assert tiny.to_strings(archs) == [arch for arch, _ in ROWS]
    assert top1.tolist() == [0.5, 0.625]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('arch,top1\n"{0}",0.5\n'.encode("utf-16"), "UTF-16"),
        ('arch,top1\n"{0}",0.5\n'.encode("utf-16-le"), "UTF-16"),
        (b'arch,top1\n"{0}",0.5\0\n', "NUL"),
        ('arch,top1,é\n"{0}",0.5,1\n'.encode("latin-1"), "UTF-8"),
        (b'arch,top1\n"{0}",0,5\n', "row 0 has 3 cells"),
        (b"arch,top1\n{0},0.5\n", "row 0 has"),
        (b"arch;top1\n{0};1.234,5\n", "number"),
        (b'arch,top1\n"{0}",nan\n', "number"),
        (b'arch,top1\n"{0}",inf\n', "number"),
        (b'arch,top1\n"{0}",1' + b"0" * 400 + b"\n", "number"),
        (b'arch,top1\n"1' + b"0" * 400 + b':2:3",0.5\n', "row 0"),
        (b'arch,top1\n"1' + b"0" * 5000 + b',1,1:2:3",0.5\n', "row 0"),
        (b'arch,top1\n"' + b"x" * 200_000 + b'",0.5\n', "field"),
        (b'arch,top1,Top1,TOP1\n"{0}",0.5,1,1\n', None),
        (b'arch,Top1,TOP1\n"{0}",0.5,1\n', "2 times"),
        (b"arch,top1\n", "no rows"),
    ],
)
def test_files_that_are_no_tables_are_refused(tiny, tmp_path, raw, message):
    path = tmp_path / "table.csv"
    path.write_bytes(raw.replace(b"{0}", ROWS[0][0].encode()))
    if message is None:  # of several, the one that is written as wanted
        assert pf.accuracy.load_table(path, tiny)[1].tolist() == [0.5]
        return
    with pytest.raises(FileFormatError, match=message) as caught:
        pf.accuracy.load_table(path, tiny)
    assert len(str(caught.value)) < 600
