"""A target that names what is not there is refused; LLVM would compile for something else."""

from __future__ import annotations

import json
import platform
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError

tvm = pytest.importorskip("tvm")

from pnag_fast.latency.tvm_adapter import llvm_names, resolve_target  # noqa: E402
from pnag_fast.latency.tvm_adapter import targets as targets_module  # noqa: E402

X86 = platform.machine() in ("x86_64", "AMD64")
HERE = f"{platform.machine()}-unknown-linux-gnu"

x86_only = pytest.mark.skipif(not X86, reason="names of another architecture")


def resolved(target, **options):
    return resolve_target(target, threads=1, **options)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("llvm -mcpu=nosuchcpu", "LLVM knows no processor 'nosuchcpu'"),
        (f"llvm -mtriple={HERE} -mcpu=nosuchcpu", "LLVM knows no processor 'nosuchcpu'"),
        ("llvm -mcpu=native", "'llvm' without -mcpu is this processor"),
        ("llvm -mattr=+foo", "LLVM knows no attribute 'foo'"),
        ("llvm -mattr=-foo", "LLVM knows no attribute 'foo'"),
        ("llvm -mattr=neon", r"should begin with \+ or -, for example '\+neon'"),
        ("llvm -mattr=+", "should begin with"),
        ("llvm -mtriple=foo-bar", "LLVM knows no architecture 'foo'"),
        ("llvm -mtriple=x64-linux-gnu", "LLVM knows no architecture 'x64', but"),
        ("llvm -mtriple=-linux-gnu", "LLVM knows no architecture ''"),
        (f"llvm -mtriple={platform.machine()}-linux-gun", "environment 'gun', but .*gnu"),
        (f"llvm -mtriple={platform.machine()}-unknown-lunix-gnu", "'lunix', but linux"),
        ("llvm -mabi=lp65", "LLVM knows no ABI 'lp65', but lp64"),
        ("llvm -mfloat-abi=medium", "not known to TVM.*mfloat-abi"),
        ("llvm -mcpuu=generic", "Unknown config option 'mcpuu'"),
        ("llvm -mcpu=a -mcpu=b", "names 'mcpu' twice"),
        ('{"kind": "llvm", "mcpu": "nosuchcpu"}', "LLVM knows no processor 'nosuchcpu'"),
        ('{"kind": "llvm", "mcpuu": "generic"}', "Unknown config option 'mcpuu'"),
        ('{"kind": "llvm", "mcpu": 5}', "mcpu should be a name, found 5"),
        ('{"kind": "llvm", "mcpu": ""}', "mcpu should be a name, found ''"),
        ('{"kind": "llvm", "mtriple": ["a"]}', "mtriple should be a name"),
        ('{"kind": "llvm", "mattr": "+sse3"}', "mattr should be a list of texts"),
        ('{"kind": "llvm", "mattr": [5]}', "mattr should be a list of texts"),
        ('{"kind": "llvm", "num-cores": "many"}', "not known to TVM"),
        ('{"kind": "llvm", "num-cores": 1' + "0" * 400 + "}", "not known to TVM"),
        ('{"kind": "llvm", "mcpu": "a", "mcpu": "b"}', "names 'mcpu' twice"),
        ('{"kind": "llvm", "host": {"kind": "llvm", "mcpu": "nosuch"}}', "no processor 'nosuch'"),
        ('{"kind": "llvm", "host": "llvm -mattr=+foo"}', "no attribute 'foo'"),
        ('{"kind": "llvm", "host": 7}', "host should be a target"),
        ('{"kind": ["llvm"]}', "is not supported"),
        ("{" * 100_000, "not valid JSON"),
    ],
)
@pytest.mark.parametrize("remote", [False, True], ids=["here", "elsewhere"])
def test_what_llvm_does_not_know_is_refused(target, text, remote):
    with pytest.raises(InvalidInputError, match=text):
        resolved(target, remote=remote)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (
            "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a67",
            "'cortex-a67' of .* aarch64, but cortex-a",
        ),
        ("llvm -mtriple=aarch64-linux-gnu -mcpu=skylake", "no processor 'skylake'"),
        ("llvm -mtriple=aarch64-linux-gnu -mattr=+neno", "no attribute 'neno' of .*, but neon"),
        ("llvm -mtriple=aarch64-linux-gnu -mattr=+avx2", "no attribute 'avx2'"),
        ("cuda -arch=sm_80x", "should be like sm_80"),
        (
            '{"kind": "cuda", "arch": "sm_80", "host": {"kind": "llvm", "mcpu": "x"}}',
            "processor 'x'",
        ),
    ],
)
def test_what_a_device_elsewhere_cannot_be_is_refused(target, text):
    with pytest.raises(InvalidInputError, match=text):
        resolved(target, remote=True)


@x86_only
@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("llvm -mcpu=skylak", "'skylak' of the architecture x86_64, but skylake"),
        ("llvm -mcpu=cortex-a76", "takes -mtriple= as well"),
        ("llvm -mattr=+avx22", "no attribute 'avx22' .*, but avx2"),
        ("llvm -mattr=+neon", "no attribute 'neon'"),
    ],
)
def test_near_names_are_given(target, text):
    with pytest.raises(InvalidInputError, match=text):
        resolved(target)


@pytest.mark.parametrize(
    "target",
    [
        "llvm -mtriple=aarch64-linux-gnu -mattr=+neon",
        "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -mattr=+neon,+dotprod,-sve",
        "llvm -mtriple=arm64-apple-darwin23.1.0 -mcpu=apple-m1",
        "llvm -mtriple=arm64-apple-macosx14.0",
        "llvm -mtriple=armv7a-linux-gnueabihf -mattr=+neon -mfloat-abi=hard",
        "llvm -mtriple=armv7l-unknown-linux-gnueabihf",
        "llvm -mtriple=aarch64-poky-linux",
        "llvm -mtriple=aarch64-linux-android21",
        "llvm -mtriple=aarch64-none-elf",
        "llvm -mtriple=aarch64",
        "llvm -mtriple=x86_64-conda-linux-gnu -mcpu=x86-64-v3",
        "llvm -mtriple=x86_64-pc-windows-msvc",
        "llvm -mtriple=x86_64-alpine-linux-musl",
        "llvm -mtriple=i686-pc-linux-gnu",
        "llvm -mtriple=amd64-unknown-freebsd14.0",
        "llvm -mtriple=riscv64-unknown-linux-gnu -mattr=+v,+d -mabi=lp64d",
        "llvm -mtriple=ppc64le-linux-gnu",
        "cuda -arch=sm_80",
        "cuda -arch=sm_90a",
    ],
)
def test_what_llvm_knows_is_accepted(target):
    assert resolved(target, remote=True).target is not None


def test_this_processor_and_the_baseline_run_here():
    # Measurements of earlier versions are found by this text.
    cpu = str(tvm.target.codegen.llvm_get_system_cpu())
    fields = json.loads(resolved("llvm").text)
    assert (fields["kind"], fields["mcpu"]) == ("llvm", cpu)
    assert resolved(f"llvm -mcpu={cpu}").text == resolved("cpu").text == resolved("llvm").text
    if sys.platform == "linux":
        assert json.loads(resolved(f"llvm -mtriple={HERE}").text)["mtriple"] == HERE


@pytest.fixture
def without(monkeypatch):
    """Have this processor lack instructions."""
    found = llvm_names._host_features()

    def hide(*names):
        monkeypatch.setattr(
            llvm_names, "_host_features", lambda: {**found, **dict.fromkeys(names, False)}
        )

    return hide


@x86_only
def test_code_that_would_die_here_is_refused(without):
    without("avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
    for target in ("llvm -mcpu=skylake-avx512", "llvm -mattr=+avx512f"):
        with pytest.raises(InvalidInputError, match=r"lacks or hides \(.*avx512f.*die of SIGILL"):
            resolved(target)
    # It may well run elsewhere, and what is switched off does not matter.
    assert resolved("llvm -mcpu=skylake-avx512", remote=True)
    assert resolved("llvm -mcpu=haswell -mattr=-avx512f")


@x86_only
def test_the_remedy_that_is_named_is_one(without):
    without("avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
    with pytest.raises(InvalidInputError) as refused:
        resolved("llvm -mcpu=skylake-avx512")
    remedy = str(refused.value).partition("-mattr=")[2].split()[0]
    assert resolved(f"llvm -mcpu=skylake-avx512 -mattr={remedy}")


@x86_only
def test_what_this_processor_hides_is_not_used(without):
    hidden = next(
        f
        for f in ("avx512vl", "avx2", "sse4.2")
        if f
        in llvm_names.features(
            tvm.target.Target(
                {"kind": "llvm", "mcpu": str(tvm.target.codegen.llvm_get_system_cpu())}
            )
        )
    )
    without(hidden)
    fields = json.loads(resolved("llvm").text)
    assert f"-{hidden}" in fields["mattr"]
    assert hidden not in llvm_names.features(tvm.target.Target(fields))


def test_another_system_than_this_one_is_refused(monkeypatch):
    other = {"linux": "pc-windows-msvc"}.get(sys.platform, "unknown-linux-gnu")
    with pytest.raises(InvalidInputError, match="the runner 'local' cannot run it"):
        resolved(f"llvm -mtriple={platform.machine()}-{other}")


def test_every_way_to_measure_refuses(mini, tmp_path):
    target = "llvm -mcpu=nosuchcpu"
    arch = mini.sample(1)
    for attempt in (
        lambda: pf.latency.measure(mini, target=target, work_dir=tmp_path),
        lambda: pf.latency.measure_networks(mini, arch, target=target),
        lambda: pf.latency.measure_network(mini, arch[0], target=target),
        lambda: pf.latency.compile_network(mini, arch[0], target=target),
        lambda: pf.latency.measure(
            mini, target=target, work_dir=tmp_path, runner="rpc://127.0.0.1:1/board"
        ),
    ):
        with pytest.raises(InvalidInputError, match="LLVM knows no processor 'nosuchcpu'"):
            attempt()
    assert np.array_equal(arch, mini.sample(1))
    assert targets_module.SUPPORTED
