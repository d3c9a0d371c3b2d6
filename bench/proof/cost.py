"""Part 6: what 1, 10, 100 and 1,000 budgets cost, and the peers' own code beside ours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

import pnag_fast as pf
from peers import once_for_all, pymoo_nsga2

from . import ofa, problems
from .problems import Problem
from .records import Records, Result, Stopwatch, spread, table
from .run import Options

COUNTS = ofa.SERVED
# Once-for-All's tutorial takes budgets of 15 to 60 ms.
PEER_BUDGETS_MS = (40.0, 30.0, 55.0)


def evolved(problem: Problem, count: int, seed: int, options: Options) -> Result:
    budgets = problem.budgets(count, seed)
    with Stopwatch() as clock:
        pf.search.evolution(
            problem.space,
            problem.model,
            problem.tables,
            budgets=budgets,
            seed=seed,
            generations=options.pick(500, 100, 2),
        )
    return {"cpu_s": clock.cpu_s, "wall_s": clock.wall_s}


def run(options: Options) -> str:
    problem = problems.ofa(options.data)
    records = Records(options.work_dir, "cost")
    # The runs of part 2.
    known = Records(options.work_dir, "ofa")
    reference = options.reference(problem)
    ours = [ofa.trained(known, problem, reference, seed, options) for seed in range(options.seeds)]
    evolution = {
        count: [
            records.get(
                evolved,
                problem,
                count,
                seed,
                options,
                method="evolution",
                count=count,
                seed=seed,
                **options.identity,
            )
            for seed in range(options.seeds)
        ]
        for count in (1, 3)
    }

    def row(label: str, times: list[list[float]], note: str = "measured") -> list[str]:
        cpu, wall = zip(*times, strict=True)
        return [label, spread(cpu), spread(wall), note]

    def extrapolated(label: str, times: list[list[float]], count: float, note: str) -> list[str]:
        cpu, wall = np.mean(times, axis=0)
        return [label, f"{cpu * count:.0f}", f"{wall * count:.0f}", note]

    rows = [row(f"training: {p}", [r["phases"][p] for r in ours]) for p in ours[0]["phases"]]
    rows.append(row("training, everything", [[r["cpu_s"], r["wall_s"]] for r in ours]))
    rows += [
        row(f"the trained generator answers {c:,}", [r["served"][str(c)] for r in ours])
        for c in COUNTS
    ]
    name = "evolutionary search, budgets: "
    evolved_s = {c: [[r["cpu_s"], r["wall_s"]] for r in evolution[c]] for c in evolution}
    rows += [row(f"{name}{c}", evolved_s[c]) for c in evolved_s]
    rows += [
        extrapolated(f"{name}{c:,}", evolved_s[3], c / 3, "extrapolated from 3") for c in COUNTS[1:]
    ]
    published = peers(options) if once_for_all.available() else []
    if published:
        name = "Once-for-All's own code, budgets: "
        published_s = [[r["cpu_s"], r["wall_s"]] for r in published]
        rows.append(row(f"{name}1", published_s))
        rows += [
            extrapolated(f"{name}{c:,}", published_s, c, "extrapolated from 1") for c in COUNTS[1:]
        ]
    plot(options.out / "cost.png", ours, evolution, published)
    return f"{problem.name}. Plot: `{(options.out / 'cost.png').name}`.\n\n" + table(
        ("phase", "CPU s", "wall s", ""), rows
    )


def plot(
    path: Path, ours: list[Result], evolution: dict[int, list[Result]], published: list[Result]
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from pnag_fast import files

    counts = np.array(COUNTS)
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    training = np.mean([r["cpu_s"] for r in ours])
    total = [training + np.mean([r["served"][str(c)][0] for r in ours]) for c in COUNTS]
    axes.plot(counts, total, "o-", label="generator: training and all answers")
    measured = {count: np.mean([r["cpu_s"] for r in runs]) for count, runs in evolution.items()}
    line = axes.plot(list(measured), list(measured.values()), "s-", label="evolution per budget")
    colour = line[0].get_color()
    axes.plot(counts, measured[3] / 3 * counts, ":", color=colour, label="its extrapolation")
    if published:
        each = np.mean([r["cpu_s"] for r in published])
        line = axes.plot([1], [each], "^", label="Once-for-All's own code")
        axes.plot(counts, each * counts, ":", color=line[0].get_color(), label="its extrapolation")
    axes.set(xscale="log", yscale="log", xlabel="budgets served", ylabel="CPU seconds, one core")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, picture.getvalue())


def peers(options: Options) -> list[Result]:
    """One run of Once-for-All's own code for each budget."""
    problem = problems.ofa(options.data)
    records = Records(options.work_dir, "peers")
    found = []
    for budget in PEER_BUDGETS_MS[: options.pick(3, 1, 1)]:

        def search(budget: float = budget) -> Result:
            theirs = once_for_all.OnceForAllEvolution(
                options.data / "ofa_imagenet" / "acc_predictor.pth",
                options.data / "ofa_latency" / "note10" / "224_lookup_table.yaml",
            )
            with Stopwatch() as clock:
                best = theirs.search(budget, seed=0, generations=options.pick(500, 100, 2))
            arch = problem.space.from_dicts([best.arch])
            # Their table and predictor must be ours, or the comparison means nothing.
            np.testing.assert_allclose(problem.table(arch), best.latency_ms, rtol=1e-6)
            np.testing.assert_allclose(problem.model.predict(arch), best.top1, atol=1e-5)
            return {
                "budget": budget,
                "top1": best.top1,
                "evaluations": best.evaluations,
                "cpu_s": clock.cpu_s,
                "wall_s": clock.wall_s,
            }

        found.append(records.get(search, peer="ofa", budget=budget, **options.identity))
    return found


def compare(options: Options) -> str:
    """Our rendering of a published search next to its authors' code."""
    problem = problems.ofa(options.data)
    reference = options.reference(problem)
    records = Records(options.work_dir, "peers")
    generations = options.pick(500, 100, 2)
    rows: list[list[object]] = []
    for theirs in peers(options) if once_for_all.available() else []:
        budget = np.array([theirs["budget"]])

        def evolve(seed: int, budget: np.ndarray = budget) -> Result:
            with Stopwatch() as clock:
                front = pf.search.evolution(
                    problem.space,
                    problem.model,
                    problem.tables,
                    budgets=budget,
                    seed=seed,
                    generations=generations,
                )
            top1 = float(problems.top1_within(front, budget)[0])
            return {"top1": top1, "cpu_s": clock.cpu_s, "evaluations": front.evaluations}

        ours = [
            records.get(
                evolve,
                seed,
                peer="our evolution",
                budget=theirs["budget"],
                seed=seed,
                **options.identity,
            )
            for seed in range(options.seeds)
        ]
        best = float(problems.top1_within(reference, budget)[0])
        rows.append(
            [
                f"evolution, {budget[0]:g} ms",
                "`ofa`",
                f"{theirs['evaluations']:,}",
                spread([100 * (best - theirs["top1"])], 2),
                f"{theirs['cpu_s']:.1f}",
                f"{ours[0]['evaluations']:,}",
                spread((100 * (best - r["top1"]) for r in ours), 2),
                spread((r["cpu_s"] for r in ours), 2),
            ]
        )
    if pymoo_nsga2.available():
        rows.append(_nsga2(problem, reference, records, options))
    header = (
        "search",
        "peer",
        "its evaluations",
        "its gap",
        "its CPU s",
        "our evaluations",
        "our gap",
        "our CPU s",
    )
    if not rows:
        return "Neither `ofa` nor `pymoo` is installed; see `bench/peers`.\n"
    return (
        "The same predictor, table and settings; gap: points below the reference front. "
        "`ofa` is its own code including encoding and look-up, one seed a budget; of pymoo only "
        "the algorithm is theirs.\n\n" + table(header, rows)
    )


def _nsga2(
    problem: Problem, reference: pf.Front, records: Records, options: Options
) -> list[object]:
    evaluations = options.pick(20_000, 10_000, 1000)

    def search(name: str, seed: int) -> Result:
        with Stopwatch() as clock:
            run = pymoo_nsga2.search if name == "pymoo" else pf.search.nsga2
            front = run(
                problem.space, problem.model, problem.tables, seed=seed, evaluations=evaluations
            )
        budgets = problem.budgets(50, 0)
        gap = problems.top1_within(reference, budgets) - problems.top1_within(front, budgets)
        return {
            "gap": 100 * float(np.nanmean(gap)),
            "cpu_s": clock.cpu_s,
            "evaluations": front.evaluations,
        }

    found = {
        name: [
            records.get(
                search,
                name,
                seed,
                peer=f"{name} nsga2",
                seed=seed,
                **options.identity,
            )
            for seed in range(options.seeds)
        ]
        for name in ("pymoo", "our")
    }
    row: list[object] = ["NSGA-II, 50 budgets", "`pymoo`"]
    for runs in found.values():
        row += [
            f"{runs[0]['evaluations']:,}",
            spread((r["gap"] for r in runs), 2),
            spread((r["cpu_s"] for r in runs), 2),
        ]
    return row
