"""Results of single runs, kept as JSON lines: an interrupted benchmark goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.runs import journal

Result = dict[str, Any]

FORMAT = "pnag-bench-results"
VERSION = 1

_RESULT = ("key", "result")


class Stopwatch:
    """CPU and wall seconds of a block; CPU is what counts on a shared machine."""

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu


class Phases:
    """CPU and wall seconds by what a progress callback says is going on."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __call__(self, what: str, done: int, total: int) -> None:
        del done, total
        cpu, wall = time.process_time(), time.perf_counter()
        self.cpu_s[what] = self.cpu_s.get(what, 0.0) + cpu - self._cpu
        self.wall_s[what] = self.wall_s.get(what, 0.0) + wall - self._wall
        self._cpu, self._wall = cpu, wall


class Records:
    """One file of results by key; a key names everything that a result depends on.

    Results of other versions of the code are left alone and not used. `code` names the version;
    default: `code_version`.
    """

    def __init__(self, folder: Path, part: str, code: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{part}.jsonl"
        self._code = code_version() if code is None else code
        self._known: dict[str, Result] = {}
        self._convert()
        with self._open() as file:
            for notice in file.notices:
                print(f"<!-- {notice} -->", flush=True)

    def known(self, **key: Any) -> bool:
        """Whether the result of `key` is there."""
        return json.dumps({"code": self._code, **key}, sort_keys=True) in self._known

    def get(self, run: Callable[..., Result], *arguments: Any, **key: Any) -> Result:
        """Return the result of `key`; ``run(*arguments)`` makes it if it is not there yet."""
        name = json.dumps({"code": self._code, **key}, sort_keys=True)
        if name not in self._known:
            with Stopwatch() as clock:
                result = run(*arguments)
            result = _finite({**result, "run_cpu_s": clock.cpu_s, "run_wall_s": clock.wall_s})
            # Open while it is written only: several parts of the proof may share a file.
            with self._open() as file:
                file.append({"key": name, "result": result})
            shown = ", ".join(f"{k}={v}" for k, v in key.items())
            print(f"<!-- {self.path.stem}: {shown} ({clock.cpu_s:.1f} CPU s) -->", flush=True)
        return self._known[name]

    def _open(self) -> journal.Journal:
        return journal.Journal(
            self.path, FORMAT, VERSION, shapes=[_RESULT], accept=self._accept, sync=True
        )

    def _accept(self, record: journal.Record) -> None:
        key, result = record["key"], record["result"]
        if not isinstance(key, str) or not isinstance(result, dict):
            raise ValueError("a result that is none")
        self._known[key] = result

    def _convert(self) -> None:
        """Give a file of the days without a first line and checksums both."""
        if not self.path.exists():
            return
        lines = files.read_bytes(self.path).splitlines()
        first = next((line for line in lines if line.strip()), b"")
        if not first.startswith(b'{"key": '):
            return
        records = []
        for line in lines:
            # Not the line that was being written when the run was killed.
            with contextlib.suppress(KeyError, ValueError):
                record = _finite(json.loads(line))
                self._accept(record)
                records.append(record)
        journal.write(self.path, FORMAT, VERSION, records)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not know by None, which the tables show as absent."""
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def code_version() -> str:
    """Digest of what results depend on: the package's Python code and this benchmark's."""
    digest = hashlib.sha256()
    package, bench = Path(pf.__file__).parent, Path(__file__).parent
    parts = ("accuracy", "costs", "generator", "search", "spaces")
    modules = [p for part in parts for p in (package / part).rglob("*.py")]
    for path in sorted([*modules, package / "pareto.py", *bench.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines.extend("| " + " | ".join(map(str, row)) + " |" for row in rows)
    return "\n".join(lines) + "\n"


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds, or the one value there is."""
    found = np.array([v for v in values if v is not None], dtype=float)
    if len(found) == 0:
        return "-"
    text = f"{found.mean():.{digits}f}"
    return text if len(found) == 1 else f"{text} ± {found.std(ddof=1):.{digits}f}"


def percent(values: Iterable[float]) -> str:
    """Mean share in percent; 100 only if every one is whole."""
    found = np.array(list(values), dtype=float)
    return "100 %" if (found == 1).all() else f"{min(100 * found.mean(), 99.9):.1f} %"
