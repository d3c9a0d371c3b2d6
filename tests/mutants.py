"""Plant deliberate faults in copies of the sources, one at a time, and see which the tests notice.

    python tests/mutants.py [--seed 0] [--mutants 100] [--only TEXT] [--jobs N] [--resume]

A mutant is one small change: a comparison turned, a number off by one, an operator swapped, a
condition negated, a statement dropped, a function that returns at once. Half of them lie in the
C++ kernels and half in Python's core, drawn evenly from all places there are. Each runs the tests
of its own file only (TESTS below): what a file promises is to be checked where it is looked for.
C++ mutants that survive run them again with sanitizers, as `make sanitize` does.
Mutants that do not compile are drawn anew. Survivors are listed with file, line and change; those
that change nothing that can be seen are listed, with the reason, in tests/mutants_equivalent.txt,
and not counted.

Works on copies under --work (build/mutants), never on the checkout, and keeps a journal there:
--resume takes verdicts from it for as long as file and tests are what they were. Exit code 1 if the
share noticed is below --least.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = ROOT / "tests" / "mutants_equivalent.txt"

# Of a file, or of all files below a folder: its tests. The longest matching path counts. C++ tests
# are executables of csrc/tests, others pytest files.
TESTS: dict[str, tuple[str, ...]] = {
    "csrc/src/cost.cpp": ("cost",),
    "csrc/src/depthwise.cpp": ("depthwise",),
    "csrc/src/execution.cpp": ("parallel",),
    "csrc/src/float_flags.cpp": ("parallel", "pareto"),
    "csrc/src/parallel.cpp": ("parallel",),
    "csrc/src/pareto": ("pareto", "random_fronts"),
    "csrc/src/simd/cells.cpp": ("pareto", "random_fronts"),
    "csrc/src/simd/cost.cpp": ("cost",),
    "csrc/src/simd/depthwise.cpp": ("depthwise",),
    "csrc/src/simd/lanes.hpp": ("cost", "pareto", "random_fronts"),
    "csrc/src/simd/levels.cpp": ("build_info",),
    "csrc/src/simd/points.cpp": ("pareto", "random_fronts"),
    "csrc/src/simd/space.cpp": ("space", "window"),
    "csrc/src/simd/volume.cpp": ("pareto", "random_fronts"),
    "csrc/src/space": ("space", "window"),
    "csrc/src/window": ("window",),
    "python/pnag_fast/agreement.py": ("tests/test_agreement.py",),
    "python/pnag_fast/budgets.py": ("tests/generator/test_generator.py",),
    "python/pnag_fast/costs": ("tests/costs",),
    "python/pnag_fast/disk.py": ("tests/test_files.py",),
    "python/pnag_fast/files.py": ("tests/test_files.py",),
    "python/pnag_fast/generator": ("tests/generator",),
    "python/pnag_fast/generator/generator.py": (
        "tests/generator/test_generator.py",
        "tests/generator",
    ),
    "python/pnag_fast/generator/methods/pnag.py": (
        "tests/generator/methods/test_pnag.py",
        "tests/generator",
    ),
    "python/pnag_fast/latency/journal.py": ("tests/latency/test_journal.py",),
    "python/pnag_fast/pareto.py": ("tests/test_pareto.py",),
    "python/pnag_fast/runs": ("tests/runs",),
    "python/pnag_fast/runs/journal.py": ("tests/runs/test_journal.py",),
    "python/pnag_fast/search": ("tests/search",),
    "python/pnag_fast/search/methods/exhaustive.py": ("tests/search/methods/test_exhaustive.py",),
    "python/pnag_fast/search/methods/front.py": (
        "tests/search/methods/test_front.py",
        "tests/search",
    ),
    "python/pnag_fast/spaces/decisions.py": ("tests/spaces/test_decisions.py",),
    "python/pnag_fast/spaces": ("tests/spaces", "tests/test_core.py"),
    "python/pnag_fast/strict_json.py": ("tests/test_files.py",),
}

# Links of the machine that a mutant of disk.py, run as root, may put a file in the place of.
LINKS = {
    link: os.readlink(link)
    for link in ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd")
    if os.path.islink(link)
}

# A test that takes this many times as long as without a mutant hangs.
PATIENCE = 5.0
LEAST_PATIENCE_S = 60.0

ENVIRONMENT = {"PNAG_RANDOM_FRONTS": "1000", "PNAG_STOP_AT_FIRST": "1"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file: text[start:end] becomes `new`."""

    path: str
    start: int
    end: int
    new: str
    operator: str
    text: str  # of the whole file

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.start) + 1

    @property
    def source(self) -> str:
        """The line that changes."""
        begin = self.text.rfind("\n", 0, self.start) + 1
        return self.text[begin : self.text.find("\n", self.start)].strip()

    @property
    def change(self) -> str:
        old = " ".join(self.text[self.start : self.end].split())
        return f"{old or '(nothing)'} -> {' '.join(self.new.split()) or '(nothing)'}"

    @property
    def key(self) -> str:
        what = f"{self.path}\n{self.start}\n{self.end}\n{self.new}\n{self.text}"
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    def mutated(self) -> str:
        return self.text[: self.start] + self.new + self.text[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.operator}: {self.change}    in: {self.source}"


# --- C++ ----------------------------------------------------------------------------------------

SWAPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "%": "/",
    "+=": "-=",
    "-=": "+=",
    "*=": "+=",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "|=": "&=",
    "&=": "|=",
}
COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}

# Comments, texts, preprocessor lines and checks of the compiler hold no code that runs.
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*'
    r"|\bthrow \w+\(.*?\);|\bstatic_assert\(.*?\);|\btemplate <[^>]*>|\basm\([^;]*\);",
    re.DOTALL | re.MULTILINE,
)
# The formatter puts blanks around operators with two sides, and none inside templates.
BINARY = re.compile(r"(?<= )(<=|>=|==|!=|&&|\|\||\+=|-=|\*=|\|=|&=|<<|>>|[-+*/%<>&|])(?=[ \n])")
INTEGER = re.compile(r"(?<![\w.'])(0[xX][0-9a-fA-F]+|\d+)(?=[uUlL]*\b)(?![\w.]*\.)(?!'|\.\d)")
CONDITION = re.compile(r"\b(?:if|while) \(")
STATEMENT = re.compile(r"(?<=[;{}]\n)([ \t]+)([^\s;{}#][^;{}]*;)(?=[ \t]*\n)")
NOT_DROPPED = re.compile(  # what would not compile without, or drop more than itself
    r"(?:return|using|typedef|static|const|constexpr|auto|break|continue|case|default|friend|if|for"
    r"|while|explicit|virtual|public|private|struct|class|template)\b"
    r"|[\w:<>,]+(?: const)?[ *&]+\w+(?: =|;|\(|\{|\[)"
)
VOID = re.compile(r"^[ \t]*(?:static |inline )*void \w[\w:]*\([^;{}]*\)(?: const)?(?: \{)\n", re.M)


# More room than is needed, asked for earlier, or code that was fetched before, changes no result.
ONLY_ROOM = re.compile(
    r"std::array<|^[\w:]+(?: \w+)* \w+\[[^=]*\](?:;| = \{\};)|\.reserve\(|_prefetch\("
)


def close_of(text: str, opening: int) -> int:
    """Index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise ValueError("unbalanced")


def cxx_mutants(path: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of a C++ file that its formatter has seen."""
    # Blanks of the same length, so that places stay what they are.
    code = NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)

    def mutant(start: int, end: int, new: str, operator: str) -> Mutant:
        return Mutant(path, start, end, new, operator, text)

    for match in BINARY.finditer(code):
        old = match.group(1)
        line = code[code.rfind("\n", 0, match.start()) + 1 : match.start()]
        if not line.strip() and old in "*&":
            continue
        kind = "comparison" if old in COMPARISONS else "operator"
        yield mutant(*match.span(1), SWAPS[old], kind)
    for match in INTEGER.finditer(code):
        number = match.group(1)
        yield mutant(*match.span(1), str(int(number, 0) + 1), "constant")
    for match in re.finditer(r"\b(true|false)\b", code):
        new = "false" if match.group() == "true" else "true"
        yield mutant(*match.span(), new, "constant")
    for match in CONDITION.finditer(code):
        start = match.end()
        end = close_of(code, start - 1)
        if ";" in code[start:end] or code[match.start() - 5 : match.start()] == "else ":
            continue
        if code[match.end() - 3 : match.end()] == "r (":
            continue
        yield mutant(start, end, f"!({text[start:end]})", "negated")
    for match in STATEMENT.finditer(code):
        if NOT_DROPPED.match(match.group(2)):
            continue
        yield mutant(*match.span(2), ";", "dropped")
    for match in VOID.finditer(code):
        yield mutant(match.end(), match.end(), "return;\n", "returns at once")


# --- Python -------------------------------------------------------------------------------------

PYTHON_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
PYTHON_OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.MatMult: ("@", "*"),
}


class PythonMutants(ast.NodeVisitor):
    """Collects every mutant of a Python file."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.found: list[Mutant] = []
        # Columns of the parser count bytes.
        self.lines = [line.encode() for line in text.splitlines(keepends=True)]
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.decode()))
        self.in_function = 0

    def place(self, line: int, column: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1][:column].decode())

    def begin(self, node: ast.expr | ast.stmt) -> int:
        return self.place(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.place(node.end_lineno, node.end_col_offset)

    def add(self, start: int, end: int, new: str, operator: str) -> None:
        self.found.append(Mutant(self.path, start, end, new, operator, self.text))

    def swap(self, left: ast.expr, right: ast.expr, old: str, new: str, operator: str) -> None:
        start, end = self.end(left), self.begin(right)
        match = re.search(r"\s+".join(map(re.escape, old.split())), self.text[start:end])
        if match is not None:
            self.add(start + match.start(), start + match.end(), new, operator)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True):
            self.swap(left, right, *PYTHON_COMPARISONS[type(operator)], "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, (str, bytes)))
            for side in (node.left, node.right)
        )
        if type(node.op) in PYTHON_OPERATORS and not texts:
            self.swap(node.left, node.right, *PYTHON_OPERATORS[type(node.op)], "operator")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values[:-1], node.values[1:], strict=True):
            self.swap(left, right, old, new, "operator")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        start, end = self.begin(node), self.end(node)
        if isinstance(node.value, bool):
            self.add(start, end, str(not node.value), "constant")
        elif isinstance(node.value, int):
            self.add(start, end, f"({self.text[start:end]} + 1)", "constant")
        elif isinstance(node.value, float):
            self.add(start, end, f"({self.text[start:end]} * 1.5 + 1.0)", "constant")

    def negate(self, test: ast.expr) -> None:
        start, end = self.begin(test), self.end(test)
        if not self.text[start:end].startswith("TYPE_CHECKING"):
            self.add(start, end, f"(not ({self.text[start:end]}))", "negated")

    def visit_If(self, node: ast.If) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def drop(self, node: ast.stmt) -> None:
        if self.in_function:
            self.add(self.begin(node), self.end(node), "pass", "dropped")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.drop(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        # A name that is missing would be noticed by any test at all.
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self.drop(node)
        else:
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.drop(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        # What an error says is not looked at number by number.
        if self.in_function:
            self.add(self.begin(node), self.end(node), "pass", "dropped")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self.add(self.begin(node.value), self.end(node.value), "None", "returns nothing")
        self.generic_visit(node)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.in_function += 1
        for statement in node.body:
            self.visit(statement)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self.in_function -= 1

    visit_FunctionDef = function
    visit_AsyncFunctionDef = function

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts for people are no code."""


def python_mutants(path: str, text: str) -> Iterator[Mutant]:
    visitor = PythonMutants(path, text)
    visitor.visit(ast.parse(text))
    for mutant in visitor.found:
        try:
            ast.parse(mutant.mutated())
        except SyntaxError:
            continue
        yield mutant


# --- running ------------------------------------------------------------------------------------


def tests_of(path: str) -> tuple[str, ...]:
    """Return the tests of a file; () for files that are not mutated."""
    fitting = [key for key in TESTS if path == key or path.startswith(key + "/")]
    return TESTS[max(fitting, key=len)] if fitting else ()


def sources() -> list[str]:
    """Return the files of the checkout, those that are new included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [path for path in listed if (ROOT / path).is_file()]


def all_mutants(paths: list[str]) -> dict[str, list[Mutant]]:
    """Return mutants by kind, "cxx" and "python"."""
    found: dict[str, list[Mutant]] = {"cxx": [], "python": []}
    for path in sorted(paths):
        if not tests_of(path):
            continue
        text = (ROOT / path).read_text()
        if path.endswith((".cpp", ".hpp")):
            found["cxx"] += cxx_mutants(path, text)
        elif path.endswith(".py"):
            found["python"] += python_mutants(path, text)
    return found


def equivalents() -> set[tuple[str, str, str]]:
    """Return (path, line, change) of mutants that were judged to change nothing."""
    known = set()
    for line in EQUIVALENT.read_text().splitlines() if EQUIVALENT.exists() else []:
        if line and not line.startswith("#"):
            path, source, change, _reason = (part.strip() for part in line.split(" ## "))
            known.add((path, source, change))
    return known


def restore_links() -> None:
    for link, target in LINKS.items():
        if not os.path.islink(link) or os.readlink(link) != target:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(target, link)


class Tree:
    """A copy of the checkout in which one mutant at a time lives."""

    def __init__(self, folder: Path, paths: list[str]) -> None:
        self.folder = folder
        # Without and with sanitizers; the second, several times as slow, for those that survive.
        self.builds = (folder / "build" / "mutants", folder / "build" / "sanitized")
        self.times: dict[tuple[str, Path | None], float] = {}
        for path in paths:
            source, copy = ROOT / path, folder / path
            if copy.exists() and copy.read_bytes() == source.read_bytes():
                continue  # its time of change is what the build goes by
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        kept = set(paths)
        for stale in [p for top in ("tests", "python") for p in (folder / top).rglob("*.py")]:
            if str(stale.relative_to(folder)) not in kept:
                stale.unlink()
        extension = importlib.util.find_spec("pnag_fast._core")
        if extension is None or extension.origin is None:
            raise SystemExit("pnag_fast is not installed: `make mutants` does that")
        shutil.copy(extension.origin, folder / "python" / "pnag_fast")

    def run(self, command: list[str], timeout: float) -> int:
        """Return the exit code; a command that hangs ends, with all it started, and returns 1."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(self.folder / "python")},
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return 1
        finally:
            if process.poll() is None or sys.exc_info()[0] is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            restore_links()

    def build_tests(self, build: Path, names: tuple[str, ...]) -> bool:
        targets = [f"test_{name}" for name in names]
        jobs = str(max(1, (os.cpu_count() or 2) // 2))
        command = ["cmake", "--build", str(build), "-j", jobs, "--target", *targets]
        return self.run(command, 3600) == 0

    def configure(self, build: Path) -> None:
        # Tests take longer at -O1, and compilers much less.
        sanitizers = "address,undefined" if build == self.builds[1] else ""
        command = [
            "cmake", "-S", str(self.folder), "-B", str(build), "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1",
            "-DPNAG_BUILD_PYTHON=OFF", "-DPNAG_BUILD_TESTS=ON", f"-DPNAG_SANITIZE={sanitizers}",
        ]  # fmt: skip
        if self.run(command, 600) != 0:
            raise SystemExit("cmake could not configure the copy")

    def command_of(self, test: str, build: Path | None) -> list[str]:
        if build is not None:
            return [str(build / f"test_{test}")]
        options = ["-q", "-x", "-p", "no:cacheprovider", "--benchmark-disable"]
        return [sys.executable, "-m", "pytest", *options, test]

    def check_tests(self, test: str, build: Path | None) -> None:
        """Learn how long tests take; without a mutant they must pass."""
        if (test, build) in self.times:
            return
        if build is not None:
            if not build.exists():
                self.configure(build)
            if not self.build_tests(build, (test,)):
                raise SystemExit(f"the copy does not build: {self.folder}")
        start = time.monotonic()
        if self.run(self.command_of(test, build), 3600) != 0:
            raise SystemExit(f"{test} fails without a mutant, in {self.folder}")
        self.times[test, build] = time.monotonic() - start

    def judge(self, mutant: Mutant) -> str:
        """Return "noticed", "survived" or "does not compile"."""
        builds = self.builds if mutant.path.startswith("csrc/") else (None,)
        tests = tests_of(mutant.path)
        file = self.folder / mutant.path
        for build in builds:
            for test in tests:
                self.check_tests(test, build)
            file.write_text(mutant.mutated())
            try:
                if build is not None and not self.build_tests(build, tests):
                    return "does not compile"
                for test in tests:
                    may_take = max(LEAST_PATIENCE_S, PATIENCE * self.times[test, build])
                    if self.run(self.command_of(test, build), may_take) != 0:
                        return "noticed"
            finally:
                file.write_text(mutant.text)
        return "survived"


class Journal:
    """Verdicts of earlier runs, a line each."""

    def __init__(self, file: Path, resume: bool) -> None:
        self.file = file
        self.verdicts: dict[tuple[str, str], str] = {}
        self.lock = threading.Lock()
        # Learned when the copies are made: tests that are edited meanwhile are not those that ran.
        self.digests: dict[tuple[str, ...], str] = {}
        if resume and file.exists():
            for line in file.read_text().splitlines():
                record = json.loads(line)
                self.verdicts[record["key"], record["tests"]] = record["verdict"]
        elif file.exists():
            file.unlink()

    def digest(self, mutant: Mutant) -> str:
        """Return a digest of the tests of a mutant: a survivor may be noticed by newer ones."""
        tests = tests_of(mutant.path)
        if tests not in self.digests:
            self.digests[tests] = self._digest_of(tests)
        return self.digests[tests]

    @staticmethod
    def _digest_of(tests: tuple[str, ...]) -> str:
        total = hashlib.sha256()
        for test in tests:
            place = ROOT / test
            names = [ROOT / "csrc" / "tests" / f"test_{test}.cpp"]
            if place.exists():
                names = sorted(place.rglob("*.py")) if place.is_dir() else [place]
            for name in names:
                total.update(name.read_bytes())
        return total.hexdigest()[:16]

    def find(self, mutant: Mutant) -> str | None:
        return self.verdicts.get((mutant.key, self.digest(mutant)))

    def add(self, mutant: Mutant, verdict: str) -> None:
        record = {
            "key": mutant.key, "tests": self.digest(mutant), "verdict": verdict,
            "mutant": str(mutant),
        }  # fmt: skip
        with self.lock, self.file.open("a") as file:
            file.write(json.dumps(record) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=100, help="how many to count (100)")
    parser.add_argument("--only", default="", help="files whose path holds this text")
    parser.add_argument("--line", type=int, help="mutants of this line only, all of them")
    parser.add_argument("--jobs", type=int, default=1, help="copies to work in side by side (1)")
    parser.add_argument("--resume", action="store_true", help="go on with the last run")
    parser.add_argument("--least", type=float, default=0.85, help="share to be noticed (0.85)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutants")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    paths = sources()
    known = equivalents()
    draw = random.Random(arguments.seed)
    candidates: dict[str, list[Mutant]] = {}
    for kind, mutants in all_mutants(paths).items():
        draw.shuffle(mutants)
        candidates[kind] = [
            mutant
            for mutant in mutants
            if arguments.only in mutant.path
            and arguments.line in (None, mutant.line)
            and (mutant.path, mutant.source, mutant.change) not in known
            and not (mutant.operator == "constant" and ONLY_ROOM.search(mutant.source))
        ]
    kinds = [kind for kind in candidates if candidates[kind]]
    if not kinds:
        raise SystemExit("no mutant fits: TESTS in this file lists what can be mutated")
    goals = {kind: arguments.mutants // len(kinds) for kind in kinds}
    if arguments.list:
        for kind in kinds:
            print(*candidates[kind][: goals[kind]], sep="\n")
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    journal = Journal(arguments.work / "journal.jsonl", arguments.resume)
    trees: queue.Queue[Tree] = queue.Queue()
    for i in range(arguments.jobs):
        trees.put(Tree(arguments.work / f"copy-{i}", paths))
    for mutants in candidates.values():
        for mutant in mutants:
            journal.digest(mutant)

    def judge(mutant: Mutant) -> str:
        verdict = journal.find(mutant)
        if verdict is None:
            tree = trees.get()
            try:
                verdict = tree.judge(mutant)
            finally:
                trees.put(tree)
            journal.add(mutant, verdict)
        print(f"{verdict:16} {mutant}", flush=True)
        return verdict

    survivors: list[Mutant] = []
    n_judged = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for kind in kinds:
            left = candidates[kind]
            n_counted = 0
            # Those that do not compile are replaced by the next, in the order of the draw.
            while n_counted < goals[kind] and left:
                batch, left = left[: goals[kind] - n_counted], left[goals[kind] - n_counted :]
                for mutant, verdict in zip(batch, pool.map(judge, batch), strict=True):
                    n_counted += verdict != "does not compile"
                    if verdict == "survived":
                        survivors.append(mutant)
            n_judged += n_counted
    if n_judged == 0:
        raise SystemExit("no mutant compiles")
    print()
    for mutant in survivors:
        print(f"survived         {mutant}")
    share = 1 - len(survivors) / n_judged
    print(
        f"{n_judged - len(survivors)} of {n_judged} mutants noticed ({share:.0%}), "
        f"seed {arguments.seed}"
    )
    return 0 if share >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
