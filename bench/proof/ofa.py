"""Part 2: the published predictor on the Note 10 and on three GPUs, 200 unseen budgets."""

from __future__ import annotations

import numpy as np

import pnag_fast as pf

from . import problems
from .problems import Problem
from .records import Phases, Records, Result, Stopwatch, percent, spread, table
from .run import Options

# Budgets that part 6 asks for at once.
SERVED = (1, 10, 100, 1000)


def measure(
    problem: Problem, reference: pf.Front, seed: int, options: Options, method: str = "expert"
) -> Result:
    """Train, ask for unseen budgets, and time the answers."""
    phases = Phases()
    with Stopwatch() as training:
        generator = pf.train_generator(
            problem.space,
            problem.model,
            problem.tables,
            method=method,
            seed=seed,
            progress=phases,
            **options.training(method=method),
        )
    budgets = problem.budgets(200, seed)
    answers = generator.generate(budgets, seed=seed)
    best = problems.top1_within(reference, budgets)
    gap = 100 * (best - answers.top1)
    archive = 100 * (best - problems.top1_within(generator.archive, budgets))
    many = problem.budgets(options.pick(10_000, 10_000, 50), seed + 1)
    with Stopwatch() as batch:
        generator.generate(many, seed=seed)
    served = {}
    for count in SERVED:
        with Stopwatch() as some:
            generator.generate(problem.budgets(count, seed + 2), seed=seed)
        served[str(count)] = [some.cpu_s, some.wall_s]
    single = []
    for budget in many[:: -(-len(many) // 50)]:
        with Stopwatch() as one:
            generator.generate(budget, seed=seed)
        single.append(one.wall_s)
    return {
        "mean_gap": float(gap.mean()),
        "worst_gap": float(gap.max()),
        "archive_gap": float(np.nanmean(archive)),
        "met": float((answers.costs[:, 0] <= budgets).mean()),
        "cpu_s": training.cpu_s,
        "wall_s": training.wall_s,
        "phases": {name: [cpu, phases.wall_s[name]] for name, cpu in phases.cpu_s.items()},
        "served": served,
        "evaluations": generator.archive.evaluations,
        "budgets_per_s": len(many) / batch.cpu_s,
        "one_ms": 1000 * float(np.median(single)),
        "from_archive": float(np.mean([source == "archive" for source in answers.source])),
    }


def trained(
    records: Records, problem: Problem, reference: pf.Front, seed: int, options: Options
) -> Result:
    """What `measure` found, now or earlier."""
    return records.get(
        measure,
        problem,
        reference,
        seed,
        options,
        problem=problem.name,
        seed=seed,
        **options.identity,
    )


def published(
    records: Records, problem: Problem, reference: pf.Front, seed: int, options: Options
) -> Result:
    """The same by the paper's method."""
    key = {"problem": problem.name, "method": "pnag", "seed": seed, **options.identity}
    return records.get(measure, problem, reference, seed, options, "pnag", **key)


def run(options: Options) -> str:
    records = Records(options.work_dir, "ofa")
    rows = []
    note10 = problems.ofa(options.data)
    for label, problem, train in [
        (note10.name, note10, trained),
        *(
            (p.name, p, trained)
            for p in (problems.ofa_on_gpu(options.data, g) for g in options.gpus)
        ),
        (f'{note10.name}, `method="pnag"`', note10, published),
    ]:
        reference = options.reference(problem)
        seeds = range(options.seeds)
        runs = [train(records, problem, reference, seed, options) for seed in seeds]
        rows.append(
            [
                label,
                len(runs),
                spread(r["mean_gap"] for r in runs),
                f"{max(r['worst_gap'] for r in runs):.3f}",
                percent(r["met"] for r in runs),
                spread((r["archive_gap"] for r in runs), 4),
                spread((r["cpu_s"] for r in runs), 1),
                spread((r["budgets_per_s"] for r in runs), 0),
                spread((r["one_ms"] for r in runs), 2),
                percent(r["from_archive"] for r in runs),
            ]
        )
    header = (
        "space and device",
        "seeds",
        "mean gap",
        "worst gap",
        "budgets met",
        "gap of the archive alone",
        "training, CPU s",
        "budgets per CPU s, batch of 10,000",
        "one budget, ms",
        "answered by the archive",
    )
    return (
        "Gap: points of top-1 by the published predictor below the reference front "
        f"({options.reference_recipe}), at 200 budgets uniform over the range.\n\n"
        + table(header, rows)
    )
