"""The extension module as a file: what it shows to others, and how it is hardened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from pnag_fast import _core

elf_only = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
PATH = _core.__file__


def output_of(tool, *arguments):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (binutils)")
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        [tool, *arguments, PATH], capture_output=True, text=True, check=True, env=environment
    ).stdout


@elf_only
def test_only_the_module_itself_is_exported():
    names = [line.split()[-1] for line in output_of("nm", "-D", "--defined-only").splitlines()]
    assert names == ["PyInit__core"]


@elf_only
def test_addresses_are_resolved_at_load_time_and_then_read_only():
    dynamic = output_of("readelf", "-d", "-W")
    assert "BIND_NOW" in dynamic
    segments = output_of("readelf", "-l", "-W").splitlines()
    assert any(line.split()[:1] == ["GNU_RELRO"] for line in segments)
    stack = next(line for line in segments if line.split()[:1] == ["GNU_STACK"])
    assert " RW " in stack
    assert "RWE" not in stack
    assert "TEXTREL" not in dynamic


@elf_only
def test_stacks_are_guarded():
    info = _core.build_info()
    if info["build_type"] == "Debug" or "-fsanitize" in info["flags"]:
        pytest.skip("a build for developers")
    flags = info["flags"].split()
    assert "-fstack-protector-strong" in flags
    assert "-D_FORTIFY_SOURCE" in flags
    assert "__stack_chk_fail" in output_of("nm", "-D", "--undefined-only")


def test_results_do_not_depend_on_fused_products():
    assert "-ffp-contract=off" in _core.build_info()["flags"].split()
