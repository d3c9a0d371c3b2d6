"""Part 3: fronts judged by a model fitted on measurements that no search has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

import pnag_fast as pf
from accuracy import boosted_trees, kernel_ridge
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.costs import CostTable
from pnag_fast.search import Front
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.typing import FloatArray

from . import problems
from .records import Records, Result, Stopwatch, spread, table
from .run import Options


def measured(options: Options) -> tuple[SearchSpace, Archs, FloatArray]:
    """The published supernet at width 1.0, 224 px: measured architectures and their top-1."""
    space = pf.spaces.get("ofa-mbv3")
    rows = problems.read_rows(options.data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    archs = space.from_strings([row["arch"] for row in rows])
    return space, archs, np.array([float(row["top1_percent"]) / 100 for row in rows])


def published(options: Options, space: SearchSpace) -> dict[str, Archs]:
    """Networks that others have published, as rows of the space."""
    folder = options.data / "ofa_imagenet"
    pnag = problems.read_rows(folder / "pnag_published.csv")
    others = problems.read_rows(folder / "searched_networks.csv")
    special = [row["arch"] for row in others if row["source"] == "ofa_specialized"]
    return {
        "PNAG's 15": space.from_strings([row["arch"] for row in pnag]),
        "Once-for-All's 7": space.from_strings(special),
    }


def cost_tables(options: Options, space: SearchSpace) -> dict[str, CostTable]:
    """Multiply-adds at width 1.0; the Note 10's latency, which is known for width 1.2 only."""
    note10 = problems.ofa(options.data).table
    return {
        "multiply-adds": pf.costs.macs(space),
        "Note 10 (table of width 1.2)": CostTable.build(
            space,
            metric="latency",
            unit="ms",
            device=note10.device,
            constants=note10.constants,
            entries=note10.entries,
        ),
    }


def judges(
    space: SearchSpace, archs: Archs, top1: FloatArray, seed: int
) -> dict[str, AccuracyModel]:
    """Models of several kinds, of rows that the searches have not seen."""
    if ("judges", seed) not in _fitted:
        _fitted["judges", seed] = {
            "ensemble": trusting(pf.accuracy.fit(space, archs, top1, seed=100 + seed)),
            "kernel": kernel_ridge(space, archs, top1, degree=3, seed=seed),
            "trees": boosted_trees(space, archs, top1, seed),
        }
    return _fitted["judges", seed]


_fitted: dict[tuple[str, int], dict[str, AccuracyModel]] = {}


def trusting(model: AccuracyModel) -> AccuracyModel:
    """Let a model answer for codes that its half of the rows lacks, as all others here do.

    A code or two of 180 are rare enough; their terms are zero, the mean of what was measured.
    """
    return dataclasses.replace(model, seen=None)


def models(
    options: Options, space: SearchSpace, archs: Archs, top1: FloatArray, seed: int
) -> dict[str, AccuracyModel]:
    """What searches believe: the published predictor, and what can be made of the first half."""
    if ("models", seed) in _fitted:
        return _fitted["models", seed]
    predictor = pf.accuracy.load(options.data / "ofa_imagenet" / "acc_predictor.pth", space)
    calibrated = pf.accuracy.calibrate(predictor, archs, top1, seed=seed)
    fitted = trusting(pf.accuracy.fit(space, archs, top1, seed=seed))
    _fitted["models", seed] = {
        "published predictor": predictor,
        "predictor, calibrated": calibrated,
        "calibrated, lower bound": calibrated.cautious(1.0),
        "fitted": fitted,
        "fitted, lower bound": fitted.cautious(1.0),
    }
    return _fitted["models", seed]


def searches(options: Options, budgets: FloatArray) -> dict[str, Callable[..., Front]]:
    evaluations = options.pick(200_000, 100_000, 2000)

    def front(*problem: object, seed: int) -> Front:
        return pf.search.front(*problem, seed=seed, evaluations=evaluations)  # type: ignore[arg-type]

    def random(*problem: object, seed: int) -> Front:
        return pf.search.random(*problem, seed=seed, evaluations=evaluations)  # type: ignore[arg-type]

    def evolution(*problem: object, seed: int) -> Front:
        generations = options.pick(500, 50, 2)
        return pf.search.evolution(
            *problem,  # type: ignore[arg-type]
            seed=seed,
            budgets=budgets,
            generations=generations,
        )

    return {"front search": front, "random search": random, "evolution per budget": evolution}


def measure(options: Options, cost: str, model: str, search: str, seed: int) -> Result:
    """Answers at the costs of the published networks, judged; differences in points."""
    space, archs, top1 = measured(options)
    order = np.random.default_rng([seed, 11]).permutation(len(archs))
    seen, unseen = np.array_split(order, 2)
    judging = judges(space, archs[unseen], top1[unseen], seed)
    believed = models(options, space, archs[seen], top1[seen], seed)[model]
    cost_table = cost_tables(options, space)[cost]
    others = published(options, space)
    budgets = np.concatenate([cost_table(rows) for rows in others.values()])
    unique = np.unique(budgets)
    with Stopwatch() as clock:
        front = searches(options, unique)[search](space, believed, [cost_table], seed=seed)
    rows = front.best(budgets[:, None])
    answers = front.archs[rows]
    published_archs = np.concatenate(list(others.values()))
    judged = 100 * np.stack([judge.predict(answers) for judge in judging.values()])
    theirs = 100 * np.stack([judge.predict(published_archs) for judge in judging.values()])
    # A budget below everything the search has met counts for the published network.
    judged[:, rows < 0] = theirs[:, rows < 0]
    claimed = 100 * believed.cautious(0).predict(answers)
    result: Result = {
        "missing": int((rows < 0).sum()),
        "judged": float(judged.mean()),
        "disagreement": float(judged.std(axis=0).mean()),
        "claimed_too_much": float((claimed - judged.mean(axis=0))[rows >= 0].mean()),
        "evaluations": front.evaluations,
        "cpu_s": clock.cpu_s,
    }
    first = 0
    for name, networks in others.items():
        part = (judged - theirs)[:, first : first + len(networks)]
        first += len(networks)
        beaten = int((part.mean(axis=0) > 0).sum())
        result[name] = {"by": part.mean(axis=1).tolist(), "beaten": beaten, "of": len(networks)}
    return result


# Model searched with, by which search.
ROWS = (
    ("published predictor", "front search"),
    ("predictor, calibrated", "front search"),
    ("calibrated, lower bound", "front search"),
    ("fitted", "front search"),
    ("fitted, lower bound", "front search"),
    ("published predictor", "random search"),
    ("fitted, lower bound", "random search"),
    ("published predictor", "evolution per budget"),
    ("fitted, lower bound", "evolution per budget"),
)


def run(options: Options) -> str:
    space = pf.spaces.get("ofa-mbv3")
    records = Records(options.work_dir, "honest")
    text = []
    everything: list[Result] = []
    for cost in list(cost_tables(options, space))[: options.pick(2, 1, 1)]:
        rows = []
        for model, search in ROWS:
            runs = [
                records.get(
                    measure,
                    options,
                    cost,
                    model,
                    search,
                    seed,
                    cost=cost,
                    model=model,
                    search=search,
                    seed=seed,
                    **options.identity,
                )
                for seed in range(options.seeds)
            ]
            everything += runs
            rows.append([model, search, len(runs), *_figures(runs, published(options, space))])
        header = (
            "searched with",
            "by",
            "seeds",
            *(f"against {name}" for name in published(options, space)),
            "judged top-1",
            "claimed above judged",
            "evaluations",
            "CPU s",
        )
        text.append(f"At equal {cost}:\n\n" + table(header, rows))

    disagreement = np.mean([r["disagreement"] for r in everything])
    return (
        "Each seed splits the 1,705 measured networks (width 1.0, 224 px) in two: models are "
        "fitted on one half, three judges of different kinds (the package's ensemble, kernel "
        "ridge, boosted trees) on the other, which no search sees. Every search answers at the "
        "cost of each published network. `against`: mean points of judged top-1 above those "
        "networks by each judge, ± the spread over seeds of their mean, and how many were beaten. "
        "All are compared as architectures at width 1.0 and 224 px: PNAG's were published at width "
        "1.2, some of Once-for-All's too, at 152 to 240 px, and theirs with weights fine-tuned for "
        f"each, which is left out here. The judges differ by {disagreement:.2f} points (standard "
        "deviation) on what they judge.\n\n" + "\n".join(text)
    )


def _figures(runs: list[Result], others: dict[str, Archs]) -> list[str]:
    cells = []
    for name in others:
        found = [r[name] for r in runs]
        by_judge = " / ".join(f"{v:.2f}" for v in np.mean([f["by"] for f in found], axis=0))
        beaten = np.mean([f["beaten"] for f in found])
        mean = spread((float(np.mean(f["by"])) for f in found), 2)
        cells.append(f"{by_judge}; mean {mean}; {beaten:g} of {found[0]['of']}")
    return [
        *cells,
        spread((r["judged"] for r in runs), 2),
        spread((r["claimed_too_much"] for r in runs), 2),
        f"{runs[0]['evaluations']:,}",
        spread((r["cpu_s"] for r in runs), 1),
    ]
