"""Part 7: devices and a resolution that the generator was not trained for."""

from __future__ import annotations

from functools import partial

import numpy as np

import pnag_fast as pf
from pnag_fast.search import Front
from pnag_fast.spaces import Archs

from . import problems
from .problems import Problem
from .records import Records, Result, Stopwatch, spread, table
from .run import Options

# As `Generator.retarget` asks its policy.
BUDGETS, CANDIDATES = 128, 8


def spent(options: Options) -> tuple[int, ...]:
    """Evaluations of the searches."""
    return tuple(options.pick((10_000, 30_000, 100_000), (10_000, 30_000), (500, 1000)))


def targets(options: Options) -> list[Problem]:
    note10 = problems.ofa(options.data)
    macs = Problem(
        "ofa-mbv3, multiply-adds", note10.space, note10.model, pf.costs.macs(note10.space)
    )
    found = [
        # Itself: whether what the policy has learned would help the search that taught it.
        note10,
        *(problems.ofa_on_gpu(options.data, gpu) for gpu in options.gpus),
        macs,
        problems.ofa(options.data, resolution=192),
    ]
    return found[: options.pick(6, 3, 2)]


def starts(generator: pf.Generator, target: Problem, seed: int) -> dict[str, Archs]:
    """What a search on the target may begin with."""
    known = generator.archive
    grid = known.costs[np.linspace(0, len(known) - 1, BUDGETS).round().astype(int)]
    drawn = generator.policy.candidates(grid, CANDIDATES, np.random.default_rng(seed))
    proposed = np.unique(drawn.reshape(-1, target.space.n_slots), axis=0)
    return {
        "the front of the trained device": known.archs,
        "what its policy proposes": proposed,
        "both": np.unique(np.concatenate([known.archs, proposed]), axis=0),
    }


def as_it_is(problem: Problem, archs: Archs) -> Front:
    return Front.of(
        archs,
        problem.model.predict(archs),
        pf.costs.stack(problem.tables)(archs),
        problem.tables,
        accuracy_source=problem.model.source,
        evaluations=len(archs),
        seconds=0.0,
    )


def measure(options: Options, seed: int) -> Result:
    """Train on the Note 10, then search on every target from several starts."""
    trained = problems.ofa(options.data)
    generator = pf.train_generator(
        trained.space, trained.model, trained.tables, seed=seed, **options.training()
    )
    result: Result = {}
    for target in targets(options):
        budgets = target.budgets(200, seed)
        best = problems.top1_within(options.reference(target), budgets)
        search = partial(pf.search.front, target.space, target.model, target.tables, seed=seed)

        def gap(front: Front, best: np.ndarray = best, budgets: np.ndarray = budgets) -> float:
            # Where nothing fits, at the cheapest end, there is nothing to compare.
            return float(100 * np.nanmean(best - problems.top1_within(front, budgets)))

        rows: Result = {}
        for name, archs in starts(generator, target, seed).items():
            rows[name] = {"0": [gap(as_it_is(target, archs)), 0.0]}
            for evaluations in spent(options):
                with Stopwatch() as clock:
                    front = search(evaluations=evaluations, start=archs)
                rows[name][str(evaluations)] = [gap(front), clock.cpu_s]
        rows["nothing"] = {}
        for evaluations in spent(options):
            with Stopwatch() as clock:
                front = search(evaluations=evaluations)
            rows["nothing"][str(evaluations)] = [gap(front), clock.cpu_s]
        result[target.name] = rows
    return result


def run(options: Options) -> str:
    records = Records(options.work_dir, "retarget")
    seeds = range(options.seeds)
    runs = [records.get(measure, options, seed, seed=seed, **options.identity) for seed in seeds]
    rows = []
    for target in targets(options):
        for name in runs[0][target.name]:
            found = [r[target.name][name] for r in runs]
            rows.append([target.name, name])
            for evaluations in ("0", *map(str, spent(options))):
                values = [f[evaluations][0] for f in found if evaluations in f]
                rows[-1].append(spread(values))
            rows[-1].append(spread(f[str(spent(options)[-1])][1] for f in found))
    header = (
        "target",
        "begins with",
        "gap as it is",
        *(f"after {e:,} evaluations" for e in spent(options)),
        "CPU s of the last",
    )
    return (
        "A generator trained on the Note 10 at 224 px; mean gap in points below each target's own "
        f"reference front ({options.reference_recipe}) at 200 budgets. `retarget` begins with "
        f"both. {len(seeds)} seeds.\n\n" + table(header, rows)
    )
