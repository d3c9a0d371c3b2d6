"""Part 5: CompOFA's space by enumeration, against the full space."""

from __future__ import annotations

import numpy as np

import pnag_fast as pf
from pnag_fast.search import Front

from . import problems
from .records import Records, Result, Stopwatch, spread, table
from .run import Options


def enumerated(options: Options, seed: int) -> Result:
    del seed  # there is no chance in it, but in its time
    problem = problems.ofa(options.data, "compofa-mbv3")
    with Stopwatch() as clock:
        front = pf.search.exhaustive(problem.space, problem.model, problem.tables)
    return _compared(options, front, clock)


def searched(options: Options, seed: int) -> Result:
    problem = problems.ofa(options.data)
    evaluations = options.pick(500_000, 200_000, 2000)
    with Stopwatch() as clock:
        front = pf.search.front(
            problem.space, problem.model, problem.tables, evaluations=evaluations, seed=seed
        )
    return _compared(options, front, clock)


def _compared(options: Options, front: Front, clock: Stopwatch) -> Result:
    full = problems.ofa(options.data)
    reference = options.reference(full)
    # Budgets that both spaces reach.
    low, high = problems.ofa(options.data, "compofa-mbv3").table.bounds
    budgets = np.linspace(low, high, 202)[1:-1]
    gap = 100 * (problems.top1_within(reference, budgets) - problems.top1_within(front, budgets))
    return {
        "evaluations": front.evaluations,
        "members": len(front),
        "mean_gap": float(np.nanmean(gap)),
        "worst_gap": float(np.nanmax(gap)),
        "ms": 1000 * clock.wall_s,
        "cpu_s": clock.cpu_s,
    }


def run(options: Options) -> str:
    records = Records(options.work_dir, "compofa")
    rows = []
    for label, name, measure in (
        ("compofa-mbv3, 243 networks, enumerated", "compofa", enumerated),
        ("ofa-mbv3, 2.18e19 networks, searched", "ofa", searched),
    ):
        runs = [
            records.get(measure, options, seed, space=name, seed=seed, **options.identity)
            for seed in range(options.seeds)
        ]
        rows.append(
            [
                label,
                f"{runs[0]['evaluations']:,}",
                spread((r["members"] for r in runs), 0),
                spread(r["mean_gap"] for r in runs),
                f"{max(r['worst_gap'] for r in runs):.2f}",
                spread((r["ms"] for r in runs), 1),
                spread((r["cpu_s"] for r in runs), 2),
            ]
        )
    header = (
        "space",
        "evaluations",
        "front",
        "mean gap",
        "worst gap",
        "wall ms",
        "CPU s",
    )
    return (
        "Published predictor, Note 10; gap: points below the reference front of the full space "
        f"({options.reference_recipe}) at 200 budgets that CompOFA's space reaches. "
        f"{options.seeds} seeds.\n\n" + table(header, rows)
    )
