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
    """

    def __init__(self, folder: Path, package: str) -> None:
        self._records = Records(folder, "searches", "by version")
        self._package = package

    def get(
        self, contender: Contender, cells: Cells, seed: int, evaluations: int, noise: float = 0.0
    ) -> Run:
        """What was asked for one number of questions, or more where that is the same."""
        result = self._records.get(
            searched,
            contender,
            cells,
            seed,
            evaluations,
            noise,
            method=contender.name,
            device=cells.device,
            data_set=cells.data_set,
            seed=seed,
            evaluations=evaluations,
            version=version(contender, self._package),
            **({"noise": noise} if noise else {}),
        )
        asked = np.array(result["asked"], dtype=np.intp)
        return Run(asked, np.array(result["cpu_s"]), result.get("lost", np.nan))


@dataclass(frozen=True)
class Figures:
    """Of one contender, by problem, seed and number of questions."""

    deficit: FloatArray
    regret: FloatArray
    cpu_s: FloatArray


def figures(
    runs: Runs,
    contender: Contender,
    which: Sequence[Cells],
    seeds: int,
    questions: Sequence[int],
) -> Figures:
    shape = (len(which), seeds, len(questions))
    found = Figures(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan))
    allowed = [n for n in questions if n <= contender.most]
    # Seeds first: a table of few seeds is there before one of many.
    for seed in range(seeds):
        for i, cells in enumerate(which):
            for j, n in enumerate(allowed):
                run = runs.get(contender, cells, seed, n if contender.fixed else max(allowed))
                asked = run.asked[:n]
                found.deficit[i, seed, j] = cells.deficit(asked)
                found.regret[i, seed, j] = cells.regret(asked)
                found.cpu_s[i, seed, j] = run.cpu_s[len(asked) - 1]
    return found


def p_of(ours: FloatArray, theirs: FloatArray) -> str:
    """Wilcoxon's signed ranks of the means over seeds, paired by problem; which one is less."""
    from scipy.stats import wilcoxon

    ours, theirs = ours.mean(axis=1), theirs.mean(axis=1)
    if len(ours) < FEWEST or not np.isfinite(theirs).all():
        return "-"
    sign = "<" if np.median(ours - theirs) < 0 else ">"
    return f"{sign} {wilcoxon(ours, theirs).pvalue:.2g}"


# Problems below which signed ranks cannot tell anything apart at 5 %.
FEWEST = 6


def report(found: dict[str, Figures], questions: Sequence[int]) -> str:
    def row(name: str) -> list[object]:
        mean = {
            what: getattr(found[name], what).mean(axis=(0, 1))
            for what in ("deficit", "regret", "cpu_s")
        }
        cells: list[object] = [name]
        for what, digits in (("deficit", 2), ("regret", 2), ("cpu_s", 1)):
            values = [f"{v:.{digits}f}" if np.isfinite(v) else "-" for v in mean[what]]
            cells.append(" / ".join(values))
        if "active" in found and name != "active":
            ours, theirs = found["active"].deficit, found[name].deficit
            cells.append(
                " / ".join(p_of(ours[..., j], theirs[..., j]) for j in range(len(questions)))
            )
        else:
            cells.append("")
        return cells

    at = " / ".join(map(str, questions))
    header = (
        "search",
        f"deficit in % after {at} questions",
        "regret in points",
        "CPU s",
        "p of active against it",
    )
    return table(header, [row(name) for name in found])


def under_noise(
    runs: Runs,
    contenders: Sequence[Contender],
    which: Sequence[Cells],
    seeds: int,
    questions: Sequence[int],
    noise: float,
) -> str:
    """Regret of what each answers with, told with noise and judged by the truth."""
    rows = []
    for contender in contenders:
        row: list[object] = [contender.name]
        for n in questions:
            lost = [
                [runs.get(contender, cells, seed, n, noise).lost for cells in which]
                for seed in range(seeds)
            ]
            row.append(spread(np.mean(lost, axis=1).tolist(), 2))
        rows.append(row)
    return table(("search", *(f"after {n} questions" for n in questions)), rows)


def curve(
    runs: Runs, contender: Contender, which: Sequence[Cells], seeds: int, questions: Sequence[int]
) -> tuple[Sequence[int], FloatArray]:
    """Mean deficit by number of questions: every tenth, where one run has them all."""
    allowed = [n for n in questions if n <= contender.most]
    if contender.fixed:
        at: Sequence[int] = allowed
    else:
        at = range(10, max(allowed) + 1, 10)
    means = [
        np.mean(
            [
                cells.deficit(
                    runs.get(contender, cells, seed, n if contender.fixed else max(allowed)).asked[
                        :n
                    ]
                )
                for cells in which
                for seed in range(seeds)
            ]
        )
        for n in at
    ]
    return at, np.array(means)


def plot(curves: dict[str, tuple[Sequence[int], FloatArray]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
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
    axes.legend(fontsize=8, ncols=2)
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
    parser.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    given = parser.parse_args(arguments)
    seeds, questions = given.seeds, sorted(set(given.questions))
    devices, sets = given.devices, given.sets
    if given.tiny:
        seeds, questions = 1, [20, 30]
        devices, sets = devices or ["gold_6226"], sets[:1]
    which = list(problems.problems(given.data, devices, sets))
    runs = Runs(given.work_dir, "any" if given.any_version else code_version())
    contenders = [c for c in CONTENDERS if c.name in (given.methods or names)]
    for contender in contenders:
        if not contender.available():
            print(f"<!-- {contender.name} is left out: it is not installed -->", flush=True)
    contenders = [contender for contender in contenders if contender.available()]
    names_of = ", ".join(dict.fromkeys(cells.device for cells in which))
    print(
        f"{len(which)} problems ({names_of}; {', '.join(sets)}), {seeds} "
        f"seed{'s' * (seeds > 1)} each; means over all.\n"
    )
    if given.noise:
        print(under_noise(runs, contenders, which, seeds, questions, given.noise))
        return
    found = {c.name: figures(runs, c, which, seeds, questions) for c in contenders}
    print(report(found, questions))
    if given.plot:
        plot({c.name: curve(runs, c, which, seeds, questions) for c in contenders}, given.plot)


if __name__ == "__main__":
    main(sys.argv[1:])
