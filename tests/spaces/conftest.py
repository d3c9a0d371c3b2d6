from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf


@pytest.fixture
def user_space():
    """A space as a user writes it."""
    return {
        "format": "pnag-space",
        "version": 1,
        "space": {
            "name": "mine",
            "stages": [
                {
                    "name": "body",
                    "min_depth": 1,
                    "slots": [
                        {"name": "a", "factors": [["width", [8, 16]], ["op", ["conv", "pool"]]]},
                        {"name": "b", "choices": ["x", "y", "z"]},
                    ],
                },
                {"name": "tail", "rows": [[1, 2], [2, 0]], "slots": [{"choices": [1, 2]}] * 2},
            ],
        },
    }


@pytest.fixture
def random_table():
    def make(space, seed=0, reduce="sum"):
        rng = np.random.default_rng(seed)
        n_contexts = max(1, len(space.resolutions)) if space.resolution_slot is not None else 1
        entries = rng.uniform(0.5, 2.0, (n_contexts, space.n_slots, max(space.n_codes)))
        entries[:, :, 0] = 0.0
        if space.resolution_slot is not None:
            entries[:, space.resolution_slot] = 0.0
        constants = np.linspace(5.0, 9.0, n_contexts)
        return pf.CostTable.build(
            space,
            metric="latency",
            unit="ms",
            device="made up",
            constants=constants,
            entries=entries,
            reduce=reduce,
        )

    return make


@contextlib.contextmanager
def _bounded_memory(n_bytes=300_000_000):
    """Let whatever asks for more address space than this fail with a `MemoryError`."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the size of the process is not known here")
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def bounded_memory():
    return _bounded_memory
