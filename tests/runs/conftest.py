from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def works():
    """The module of small works; see there."""
    path = Path(__file__).with_name("works.py")
    spec = importlib.util.spec_from_file_location("works", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stopped(Exception):
    """As good as a kill: nothing of ours catches it."""


@pytest.fixture(scope="session")
def stopped():
    return Stopped
