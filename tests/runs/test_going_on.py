"""Whatever goes on after a kill ends with the result of what was never stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import OtherRunError


@pytest.mark.parametrize("kind", ["train", "judge", "measure", "cross_validate", "results"])
def test_stopped_anywhere_it_ends_the_same(kind, tmp_path):
    pytest.importorskip("torch")
    script = Path(__file__).with_name("works.py")
    done = subprocess.run(
        [sys.executable, script, kind, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cross_validation_of_something_else_is_refused(works, tmp_path):
    path, archs = tmp_path / "kept", works.space().enumerate()
    works.cross_validate(path, lambda *_: None)
    before, top1 = path.read_bytes(), np.linspace(0.5, 0.9, len(archs))
    for changed, options, message in (
        (top1, {"folds": 5}, r"other folds \(6, now 5\); use"),
        (top1, {"folds": 6, "by": top1}, "other by; use"),
        (top1[::-1], {"folds": 6}, "other measurements; use"),
    ):
        with pytest.raises(OtherRunError, match=message):
            pf.accuracy.cross_validate(
                works.space(), archs, changed, None, checkpoint=path, **options
            )
    assert path.read_bytes() == before
