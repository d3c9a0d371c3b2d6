"""Searches for dear oracles: what each method, and each peer, knows after a few hundred questions.

    python bench/searches.py --data ../shared/data --work-dir work           # hours; see --methods
    python bench/searches.py --data ../shared/data --methods active random --devices gold_6226

NAS-Bench-201, by device and data set: the oracle is the column of test accuracies after 12 epochs,
the cost is the table fitted to the device's measurements. Printed is one table: hypervolume that
the cells asked about lack of that of the exact front, in %, regret in points of top-1 (mean over
budgets), CPU seconds on one thread, and the p of Wilcoxon's signed ranks of `active` against each,
paired by problem. What a run asked is kept in the work folder: a killed benchmark goes on where it
was, and other numbers of questions are read off the same runs.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import bisect
import hashlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

import pnag_fast as pf
import searches_problems as problems
from peers import botorch_ehvi, optuna_samplers, pymoo_nsga2
from pnag_fast.search import Front
from pnag_fast.typing import FloatArray, IntArray
from proof.problems import NASBENCH_SETS
from proof.records import Records, Result, code_version, spread, table
from searches_problems import Asking, Cells

QUESTIONS = (100, 200, 300, 500)

# Asks, given a seed and a number of questions; our own methods return what they would answer with.
Searching = Callable[[Asking, int, int], Front | None]


@dataclass(frozen=True)
class Contender:
    """A method or a peer.

    Attributes
    ----------
    run : callable
        Asks; given the oracle, a seed and the number of questions.
    fixed : bool
        Whether what it asks depends on how often it may ask: then every number has a run.
    most : int
        Questions it is not run for more than; what would take longer than it is worth.
    imports : sequence of str
        Modules whose loading is not counted.
    """

    name: str
    run: Searching
    files: Sequence[str]
    fixed: bool = False
    most: int = max(QUESTIONS)
    imports: Sequence[str] = ()
    available: Callable[[], bool] = field(default=lambda: True)


def _ours(name: str, *, fixed: bool = False, **settings: Any) -> Contender:
    def run(asking: Asking, seed: int, evaluations: int) -> Front:
        return problems.ask(name, asking, seed=seed, evaluations=evaluations, **settings)

    return Contender(
        name, run, (f"search/methods/{name}.py",), fixed, available=lambda: name in _methods()
    )


def _methods() -> tuple[str, ...]:
    return tuple(pf.search.names())


def _optuna(sampler: optuna_samplers.Sampler, most: int) -> Contender:
    def run(asking: Asking, seed: int, evaluations: int) -> None:
        cells = asking.cells
        optuna_samplers.search(
            cells.space, asking, [cells.table], seed=seed, evaluations=evaluations, sampler=sampler
        )

    name = {"tpe": "Optuna TPE", "nsga2": "Optuna NSGA-II", "gp": "Optuna GP"}[sampler]
    return Contender(
        name,
        run,
        ("peers/optuna_samplers.py", "peers/questions.py"),
        most=most,
        imports=("optuna",),
        available=lambda: optuna_samplers.available(sampler),
    )


def _botorch(asking: Asking, seed: int, evaluations: int) -> None:
    cells = asking.cells
    botorch_ehvi.search(cells.space, asking, [cells.table], seed=seed, evaluations=evaluations)


def _pymoo(asking: Asking, seed: int, evaluations: int) -> None:
    cells = asking.cells
    pymoo_nsga2.search(
        cells.space,
        asking.oracle(),
        [cells.table],
        seed=seed,
        evaluations=evaluations,
        population=POPULATION,
        mutation_rate=MUTATION,
    )


# Evolutionary methods, ours and theirs: the populations of their defaults are spent before the
# second generation. One slot of six is redrawn.
POPULATION, MUTATION = 20, 1 / 6

CONTENDERS = (
    _ours("active"),
    _ours("pareto_classifier", fixed=True),
    _ours("dpp_net", fixed=True),
    _ours("monas", fixed=True),
    _ours("neighborhood", fixed=True),
    _ours("nsga2", population=POPULATION, mutation_rate=MUTATION),
    _ours("evolution", fixed=True, population=POPULATION, mutation_rate=MUTATION),
    _ours("reinforce", fixed=True),
    _ours("random"),
    Contender(
        "BoTorch",
        _botorch,
        ("peers/botorch_ehvi.py", "peers/questions.py"),
        most=300,
        imports=("botorch.fit", "botorch.models", "botorch.acquisition.multi_objective.logei"),
        available=botorch_ehvi.available,
    ),
    _optuna("gp", 100),
    _optuna("tpe", 500),
    _optuna("nsga2", 500),
    Contender(
        "pymoo NSGA-II",
        _pymoo,
        ("peers/pymoo_nsga2.py",),
        imports=("pymoo.algorithms.moo.nsga2",),
        available=pymoo_nsga2.available,
    ),
)


@dataclass(frozen=True)
class Run:
    """What one search asked, the CPU seconds that it had taken by then, and what it answers."""

    asked: IntArray
    cpu_s: FloatArray
    lost: float


def searched(
    contender: Contender, cells: Cells, seed: int, evaluations: int, noise: float
) -> Result:
    asking = Asking(cells, noise=noise, seed=seed)
    for name in contender.imports:
        importlib.import_module(name)
    start = time.process_time()
    front = contender.run(asking, seed, evaluations)
    asked = np.array(asking.asked[:evaluations], dtype=np.intp)
    if front is None:
        rows, believed = asked, asking.answers[asked]
    else:
        rows, believed = cells.rows(front.archs), front.top1
    return {
        "asked": asked.tolist(),
        "lost": cells.lost(rows, believed),
        "cpu_s": [round(at - start, 2) for at in asking.cpu_s[:evaluations]],
    }


def version(contender: Contender, package: str) -> str:
    """Digest of the code that a contender's results depend on."""
    roots = (Path(pf.__file__).parent, Path(__file__).parent)
    theirs = contender.files[0].startswith("peers/")
    digest = hashlib.sha256(b"" if theirs else package.encode())
    for name in contender.files:
        digest.update(next((r / name).read_bytes() for r in roots if (r / name).is_file()))
    return digest.hexdigest()[:12]


class Runs:
    """The runs of all contenders, kept in a folder.

    Parameters
    ----------
    package : str
        Names the version of the package; results of another one are not used. Peers depend on
        their own files only.
    noise : float
        Of the answers, in points.
    only_kept : bool
        Run nothing: what is not there is missing.
    """

    def __init__(
        self, folder: Path, package: str, *, noise: float = 0.0, only_kept: bool = False
    ) -> None:
        self._records = Records(folder, "searches", "by version")
        self._package, self._noise, self._only_kept = package, noise, only_kept

    def get(
        self, contender: Contender, cells: Cells, seed: int, questions: Sequence[int]
    ) -> list[Run] | None:
        """What was asked for each number of questions; None where it is missing."""
        runs = []
        # One run has all numbers of those to whom their limit is the same; not what is answered.
        shared = not contender.fixed and not self._noise
        for n in [max(questions)] if shared else questions:
            key: dict[str, Any] = {
                "method": contender.name,
                "device": cells.device,
                "data_set": cells.data_set,
                "seed": seed,
                "evaluations": n,
                "version": version(contender, self._package),
                **({"noise": self._noise} if self._noise else {}),
            }
            if self._only_kept and not self._records.known(**key):
                return None
            result = self._records.get(searched, contender, cells, seed, n, self._noise, **key)
            asked = np.array(result["asked"], dtype=np.intp)
            runs.append(Run(asked, np.array(result["cpu_s"]), result.get("lost", np.nan)))
        return runs * len(questions) if shared else runs

    def seeds(
        self, contender: Contender, which: Sequence[Cells], seeds: int, questions: Sequence[int]
    ) -> list[list[list[Run]]]:
        """Runs by seed, problem and number of questions; only seeds that all problems have."""
        found = []
        # Seeds first: a table of few seeds is there before one of many.
        for seed in range(seeds):
            runs = [self.get(contender, cells, seed, questions) for cells in which]
            complete = [run for run in runs if run is not None]
            if len(complete) < len(runs):
                break
            found.append(complete)
        return found


@dataclass(frozen=True)
class Figures:
    """Of one contender, by seed, problem and number of questions; NaN beyond what it is run for."""

    deficit: FloatArray
    regret: FloatArray
    cpu_s: FloatArray
    lost: FloatArray


def figures(
    runs: Runs,
    contender: Contender,
    which: Sequence[Cells],
    seeds: int,
    questions: Sequence[int],
) -> Figures:
    allowed = [n for n in questions if n <= contender.most]
    found = runs.seeds(contender, which, seeds, allowed) if allowed else []
    shape = (len(found), len(which), len(questions))
    made = Figures(*(np.full(shape, np.nan) for _ in range(4)))
    for seed, by_problem in enumerate(found):
        for i, (cells, by_number) in enumerate(zip(which, by_problem, strict=True)):
            for j, (n, run) in enumerate(zip(allowed, by_number, strict=True)):
                asked = run.asked[:n]
                at = seed, i, j
                made.deficit[at], made.regret[at] = cells.deficit(asked), cells.regret(asked)
                made.cpu_s[at], made.lost[at] = run.cpu_s[len(asked) - 1], run.lost
    return made


def p_of(ours: FloatArray, theirs: FloatArray) -> str:
    """Wilcoxon's signed ranks of the means over seeds, paired by problem; which one is less."""
    from scipy.stats import wilcoxon

    ours, theirs = ours.mean(axis=0), theirs.mean(axis=0)
    if len(ours) < FEWEST or not np.isfinite(theirs).all():
        return "-"
    sign = "<" if np.median(ours - theirs) < 0 else ">"
    return f"{sign} {wilcoxon(ours, theirs).pvalue:.2g}"


# Problems below which signed ranks cannot tell anything apart at 5 %.
FEWEST = 6


def report(found: dict[str, Figures], questions: Sequence[int]) -> str:
    def row(name: str) -> list[object]:
        figures_ = found[name]
        cells: list[object] = [name, len(figures_.deficit)]
        for values, digits in ((figures_.deficit, 2), (figures_.regret, 2), (figures_.cpu_s, 1)):
            means = values.mean(axis=(0, 1))
            cells.append(" / ".join(f"{v:.{digits}f}" if np.isfinite(v) else "-" for v in means))
        ps = [""]
        if "active" in found and name != "active":
            ours, theirs = found["active"].deficit, figures_.deficit
            ps = [p_of(ours[..., j], theirs[..., j]) for j in range(len(questions))]
        return [*cells, " / ".join(ps)]

    header = (
        "search",
        "seeds",
        f"deficit in % after {' / '.join(map(str, questions))} questions",
        "regret in points",
        "CPU s",
        "`active` less or more, p",
    )
    return table(header, [row(name) for name in found])


def under_noise(found: dict[str, Figures], questions: Sequence[int]) -> str:
    """Regret of what each answers with, told with noise and judged by the truth."""
    rows = [
        [
            name,
            len(figures_.lost),
            *(
                spread(figures_.lost[..., j].mean(axis=1).tolist(), 2)
                for j in range(len(questions))
            ),
        ]
        for name, figures_ in found.items()
    ]
    return table(("search", "seeds", *(f"after {n} questions" for n in questions)), rows)


def curve(
    runs: Runs, contender: Contender, which: Sequence[Cells], seeds: int, questions: Sequence[int]
) -> tuple[Sequence[int], FloatArray]:
    """Mean deficit by number of questions: every tenth, where one run has them all."""
    allowed = [n for n in questions if n <= contender.most]
    at = allowed if contender.fixed else list(range(10, max(allowed) + 1, 10))
    found = runs.seeds(contender, which, seeds, allowed)
    deficits = [
        [
            cells.deficit(by_number[bisect.bisect_left(allowed, n)].asked[:n])
            for by_problem in found
            for cells, by_number in zip(which, by_problem, strict=True)
        ]
        for n in at
    ]
    return at, np.mean(deficits, axis=1)


def plot(curves: dict[str, tuple[Sequence[int], FloatArray]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for i, (name, (at, means)) in enumerate(curves.items()):
        axes.plot(
            at,
            means,
            label=name,
            color=f"C{i % 10}",
            linestyle="-" if name in _methods() else "--",
            linewidth=2.5 if name == "active" else 1.2,
            marker="o" if len(at) < FEWEST else None,
            markersize=3,
        )
    axes.set_yscale("log")
    axes.set_xlabel("questions")
    axes.set_ylabel("hypervolume deficit, %")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parents[2] / "shared" / "data",
        help="folder of shared measurements",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work"), help="keeps what was asked")
    parser.add_argument(
        "--methods", nargs="+", choices=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--devices", nargs="+", help="default: all that an additive table fits")
    parser.add_argument("--sets", nargs="+", choices=NASBENCH_SETS, default=NASBENCH_SETS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--questions", nargs="+", type=int, default=QUESTIONS)
    parser.add_argument(
        "--noise",
        type=float,
        help="add so many points of noise to all answers, and print instead what is lost by who "
        "answers budgets by what it was told",
    )
    parser.add_argument("--plot", type=Path, help="draw the deficit against the questions")
    parser.add_argument(
        "--any-version",
        action="store_true",
        help="use what an earlier version of the package asked, of methods whose own file is the "
        "same: while working on the package, not for figures to quote",
    )
    parser.add_argument(
        "--only-kept",
        action="store_true",
        help="run nothing: print what the work folder has, of each the seeds that are complete",
    )
    parser.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    given = parser.parse_args(arguments)
    seeds, questions = given.seeds, sorted(set(given.questions))
    devices, sets = given.devices, given.sets
    if given.tiny:
        seeds, questions = 1, [20, 30]
        devices, sets = devices or ["gold_6226"], sets[:1]
    which = list(problems.problems(given.data, devices, sets))
    runs = Runs(
        given.work_dir,
        "any" if given.any_version else code_version(),
        noise=given.noise or 0.0,
        only_kept=given.only_kept,
    )
    contenders = [c for c in CONTENDERS if c.name in (given.methods or names)]
    for contender in contenders:
        if not contender.available():
            print(f"<!-- {contender.name} is left out: it is not installed -->", flush=True)
    contenders = [contender for contender in contenders if contender.available()]
    found = {c.name: figures(runs, c, which, seeds, questions) for c in contenders}
    names_of = ", ".join(dict.fromkeys(cells.device for cells in which))
    print(
        f"{len(which)} problems ({names_of}; {', '.join(sets)}); means over problems and seeds.\n"
    )
    found = {name: figures_ for name, figures_ in found.items() if len(figures_.deficit)}
    if given.noise:
        print(under_noise(found, questions))
        return
    print(report(found, questions))
    if given.plot:
        drawn = [contender for contender in contenders if contender.name in found]
        plot({c.name: curve(runs, c, which, seeds, questions) for c in drawn}, given.plot)


if __name__ == "__main__":
    main(sys.argv[1:])
