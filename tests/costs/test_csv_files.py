from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError

ROWS = ("1,1,1:3,0,0,5,0,0,7,0,0:1,0,0,2,0,0,4,0,0", "1,1,1:3,0,0,5,0,0,3,0,0:1,0,0,2,0,0,4,0,0")


def test_measured_networks_round_trip(tiny, tmp_path):
    archs = tiny.sample(5, seed=0)
    values = np.array([1.5, 0.1, 3e-7, 2.0, 1 / 3])
    pf.costs.save_measured(tmp_path / "m.csv", tiny, archs, values, column="latency_ms")
    space, read, found = pf.costs.load_measured(tmp_path / "m.csv", tiny, column="latency_ms")
    assert space is tiny
    np.testing.assert_array_equal(read, archs)
    np.testing.assert_array_equal(found, values)


def test_resolutions_may_stand_in_a_column(tmp_path):
    one = pf.spaces.get("mbv3-tiny", resolutions=(32,))
    (tmp_path / "m.csv").write_text(
        f'arch,resolution,gpu\n"{ROWS[0]}",48,2.5\n"{ROWS[1]}",16,1.5\n"{ROWS[1]}:32",32,2\n'
    )
    space, archs, values = pf.costs.load_measured(tmp_path / "m.csv", one, column="gpu")
    assert space.resolutions == (16, 32, 48)
    assert [space.resolution_of(arch) for arch in archs] == [48, 16, 32]
    assert values.tolist() == [2.5, 1.5, 2.0]
    assert pf.costs.load_measured(tmp_path / "m.csv", space, column="gpu")[0] is space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch,latency\nx,1\n", "latency_ms"),
        (f'arch,latency_ms\n"{ROWS[0]}",fast\n', "latency_ms of row 0 should be a number"),
        ("arch,latency_ms\n1:2:3,1\n", "row 0"),
        (f'arch,resolution,latency_ms\n"{ROWS[0]}",28.5,1\n', "number of pixels, found 28.5"),
        (f'arch,resolution,latency_ms\n"{ROWS[0]}",small,1\n', "resolution of row 0"),
        (f'arch,resolution,latency_ms\n"{ROWS[0]}",4,1\n', "8 to 4096"),
    ],
)
def test_bad_files_are_refused(tiny, tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        pf.costs.load_measured(tmp_path / "m.csv", tiny, column="latency_ms")
