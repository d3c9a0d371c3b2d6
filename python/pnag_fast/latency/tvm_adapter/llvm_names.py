"""What LLVM knows: architectures, processors and their features.

LLVM does not refuse a name that it does not know. It says so on standard error, compiles for the
oldest processor of the architecture, and on an unknown architecture it ends the process.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import tvm
import tvm.target.codegen as llvm
import tvm_ffi

from ...errors import InvalidInputError

# How else LLVM lets one write an architecture; what it knows as such comes from itself.
_ALIASES = (
    (r"amd64|x86_64h", "x86_64"),
    (r"i[3-9]86", "i386"),
    (r"arm64(e|_32)?", "aarch64"),
    (r"armv[4-9].*|xscale", "arm"),
    (r"thumbv[4-9].*", "thumb"),
    (r"ppc", "powerpc"),
    (r"ppc64", "powerpc64"),
    (r"ppc64le", "powerpc64le"),
    (r"systemz", "s390x"),
)

# Beginnings of the words that LLVM reads in the later parts of a triple.
_SYSTEMS = (
    "linux", "darwin", "macos", "ios", "tvos", "watchos", "xros", "visionos", "driverkit",
    "freebsd", "netbsd", "openbsd", "dragonfly", "kfreebsd", "hurd", "solaris", "aix", "zos",
    "windows", "win32", "uefi", "fuchsia", "haiku", "managarm", "serenity", "rtems", "hermit",
    "liteos", "wasi", "emscripten", "cuda", "amdhsa", "none", "unknown",
)  # fmt: skip
_ENVIRONMENTS = (
    "gnu", "musl", "eabi", "android", "ohos", "msvc", "itanium", "cygnus", "uclibc", "mlibc",
    "llvm", "simulator", "macabi", "elf", "macho", "coff", "wasm", "unknown",
)  # fmt: skip

_ABIS = (
    "lp64", "lp64f", "lp64d", "lp64q", "lp64e", "ilp32", "ilp32f", "ilp32d", "ilp32e", "o32", "n32",
    "n64", "aapcs", "aapcs-linux", "aapcs-soft", "apcs-gnu", "darwinpcs", "elfv1", "elfv2", "lp64s",
    "ilp32s",
)  # fmt: skip

# Instructions that code for float32 arithmetic may contain, of those that not every processor of
# the architecture has. Others that LLVM expects of a model, such as protection keys, are often
# hidden by a hypervisor, and no kernel uses them.
_IN_CODE = {
    "x86_64": (
        "sse3", "ssse3", "sse4.1", "sse4.2", "sse4a", "avx", "avx2", "fma", "fma4", "xop", "f16c",
        "bmi", "bmi2", "tbm", "lzcnt", "popcnt", "movbe", "avx512f", "avx512bw", "avx512cd",
        "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2", "avx512fp16", "avx10.1", "avx10.2",
        "egpr", "ndd", "nf", "ccmp", "push2pop2", "ppx", "zu", "cf",
    ),
    "aarch64": ("neon", "sve", "sve2"),
}  # fmt: skip

_NEAR = 3


def architecture(triple: str) -> str:
    """Reduce a triple, or the name that a machine has for itself, to LLVM's architecture."""
    first = triple.partition("-")[0].lower()
    for pattern, name in _ALIASES:
        if re.fullmatch(pattern, first):
            return name
    return first


def check_names(fields: Mapping[str, Any], text: str) -> None:
    """Check that LLVM knows everything that the fields of a target name.

    Raises
    ------
    InvalidInputError
        Names what it does not know, and what it knows that is near.
    """
    triple, cpu = fields.get("mtriple"), fields.get("mcpu")
    attributes, abi = fields.get("mattr", []), fields.get("mabi")
    for name, value in (("mtriple", triple), ("mcpu", cpu), ("mabi", abi)):
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidInputError(f"target {text!r}: {name} should be a name, found {value!r}")
    if not isinstance(attributes, list) or not all(isinstance(a, str) for a in attributes):
        raise InvalidInputError(
            f"target {text!r}: mattr should be a list of texts such as '+neon', found "
            f"{attributes!r}"
        )
    if triple is not None:
        _check_triple(triple, text)
    if cpu is not None:
        _check_cpu(cpu, triple, text)
    if attributes:
        _check_attributes(attributes, triple, text)
    if abi is not None and abi not in _ABIS:
        raise InvalidInputError(
            f"target {text!r}: LLVM knows no ABI '{abi}'{_near(abi, _ABIS)}; leave -mabi out for "
            "the usual one"
        )


def check_runs_here(target: Any, here: str, text: str) -> None:
    """Refuse code that this processor would stop at.

    Raises
    ------
    InvalidInputError
        Names the instructions that it lacks.
    """
    lacking = lacking_features(features(target), here)
    if lacking:
        off = ",".join(f"-{name}" for name in lacking)
        raise InvalidInputError(
            f"target {text!r} has instructions that this processor lacks or hides "
            f"({', '.join(lacking)}): the code would die of SIGILL; 'llvm' takes what is there, "
            f"-mattr={off} leaves them out, and the runner 'rpc://HOST:PORT/KEY' measures on "
            "another machine"
        )


def lacking_features(expected: Iterable[str], here: str) -> list[str]:
    """List what code with the `expected` features may contain and this processor lacks.

    LLVM goes by the processor's model; a hypervisor may hide instructions of it.
    """
    host = _host_features()
    if not host:  # this system does not tell
        return []
    names = frozenset(expected)
    return [
        name
        for name in _IN_CODE.get(here, ())
        if name in names and not host.get(name, _assumed(here))
    ]


def _assumed(here: str) -> bool:
    # On x86 LLVM lists what is there and what is not, elsewhere only what is there.
    return here == "x86_64"


def _host_features() -> dict[str, bool]:
    found = tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    return {str(name): bool(there) for name, there in found.items()}


def features(target: Any) -> frozenset[str]:
    """Return the features that code for the target may use."""
    return frozenset(str(name) for name in llvm.llvm_get_cpu_features(target))


def check_system(triple: str, text: str) -> None:
    """Refuse code for another operating system than this one."""
    wanted = {"linux": ("linux",), "darwin": ("darwin", "macos"), "win32": ("windows", "win32")}
    ours = wanted.get(sys.platform)
    system = _system(triple)
    if ours is None or system in ("", "none", "unknown"):
        return
    if not system.startswith(ours):
        raise InvalidInputError(
            f"target {text!r} is for {system}, and this machine runs {ours[0]}: the runner "
            "'local' cannot run it, 'rpc://HOST:PORT/KEY' can"
        )


def _system(triple: str) -> str:
    parts = triple.lower().split("-")[1:]
    return next((part for part in parts if part.startswith(_SYSTEMS[:-1])), "")


def _check_triple(triple: str, text: str) -> None:
    first, *parts = triple.split("-")
    known = [str(name) for name in llvm.llvm_get_targets()]
    if architecture(triple) not in known or not first:
        names = [*known, "amd64", "arm64", "armv7a", "i686", "ppc64le"]
        raise InvalidInputError(
            f"target {text!r}: LLVM knows no architecture '{first}'{_near(first, names)}; a triple "
            "reads architecture-vendor-system-environment, for example aarch64-linux-gnu"
        )
    # The vendor, which may be anything, comes before the system, and the environment after it.
    words = [part.lower() for part in parts]
    at = next((i for i, word in enumerate(words) if word.startswith(_SYSTEMS[:-1])), None)
    if at is None and words and any(word not in ("unknown", "pc", "apple") for word in words):
        wrong = words[-1] if len(words) < 3 else words[1]
        candidates: tuple[str, ...] = _SYSTEMS
    else:
        later = [] if at is None else words[at + 1 :]
        odd = [word for word in later if not word.startswith(_ENVIRONMENTS)]
        if not odd:
            return
        wrong, candidates = odd[0], (*_ENVIRONMENTS, "gnueabihf", "musleabihf")
    raise InvalidInputError(
        f"target {text!r}: LLVM knows no system or environment '{wrong}'"
        f"{_near(wrong, candidates)}; a triple reads architecture-vendor-system-environment, for "
        "example aarch64-linux-gnu"
    )


def _check_cpu(cpu: str, triple: str | None, text: str) -> None:
    # It knows more names than it lists: apple-m1 is another one for apple-a14.
    is_valid = tvm_ffi.get_global_func("target.llvm_is_valid_cpu")
    if is_valid(cpu, str(llvm.llvm_get_system_triple()) if triple is None else triple):
        return
    known = [str(name) for name in llvm.llvm_get_cpu_archlist(_target(triple))]
    if cpu in ("native", "host"):
        hint = "; 'llvm' without -mcpu is this processor with all of its instructions"
    else:
        hint = f"{_near(cpu, known)}; a processor of another architecture takes -mtriple= as well"
    raise InvalidInputError(
        f"target {text!r}: LLVM knows no processor '{cpu}' of the architecture "
        f"{_architecture_of(triple)}{hint}"
    )


def _check_attributes(attributes: list[str], triple: str | None, text: str) -> None:
    every: frozenset[str] | None = None
    for attribute in attributes:
        sign, name = attribute[:1], attribute[1:]
        if sign not in ("+", "-") or not name:
            raise InvalidInputError(
                f"target {text!r}: attribute {attribute!r} should begin with + or -, for example "
                f"'+{attribute or 'neon'}'"
            )
        every = every or _every_feature(triple)
        if name not in every and name not in features(_target(triple, mattr=[f"+{name}"])):
            raise InvalidInputError(
                f"target {text!r}: LLVM knows no attribute '{name}' of the architecture "
                f"{_architecture_of(triple)}{_near(name, every)}"
            )


def _every_feature(triple: str | None) -> frozenset[str]:
    """Return the features that any processor of the architecture has."""
    cpus = [str(name) for name in llvm.llvm_get_cpu_archlist(_target(triple))]
    return frozenset().union(*(features(_target(triple, mcpu=cpu)) for cpu in cpus))


def _target(triple: str | None, **fields: Any) -> Any:
    return tvm.target.Target(
        {"kind": "llvm", **({} if triple is None else {"mtriple": triple}), **fields}
    )


def _architecture_of(triple: str | None) -> str:
    return architecture(str(llvm.llvm_get_system_triple()) if triple is None else triple)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), sorted(known), n=_NEAR, cutoff=0.5)
    return f", but {', '.join(near)}" if near else ""
