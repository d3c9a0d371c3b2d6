"""Says on which machine the kernels were timed, and how each peer is skipped where it is absent."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnag_fast import _core


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the scripts alone: they are run as programs, and import each other by bare names."""
    is_script = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if is_script and collection_path.name != "conftest.py" else None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pytest_report_header() -> list[str]:
    """Name the machine and the build above every table of times."""
    info = _core.build_info()
    return [
        f"machine: {_processor()}, {_usable_cores()} usable cores, {platform.platform()}",
        f"build: {info['compiler']}, {info['build_type']}, {info['flags']}, "
        f"instruction set {info['simd_used']}",
    ]


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep the same facts in saved results (called as config, machine_info)."""
    machine_info["pnag_build"] = _core.build_info()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
