"""Whatever goes on after a kill ends with the result of what was never stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["train", "judge", "measure", "results"])
def test_stopped_anywhere_it_ends_the_same(kind, tmp_path):
    pytest.importorskip("torch")
    script = Path(__file__).with_name("works.py")
    done = subprocess.run(
        [sys.executable, script, kind, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
