"""What `tests/mutants.py` is told by hand, which nothing else would miss before its nightly run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up there.
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


def test_files_and_their_tests_are_there(mutants):
    for path, tests in mutants.TESTS.items():
        assert (ROOT / path).exists()
        for test in tests:
            of_cxx = ROOT / "csrc" / "tests" / f"test_{test}.cpp"
            assert (ROOT / test if test.startswith("tests/") else of_cxx).exists(), path


def test_lines_that_change_nothing_are_there(mutants):
    for path, line, _ in mutants.equivalents():
        assert line in map(str.strip, (ROOT / path).read_text().splitlines()), path
