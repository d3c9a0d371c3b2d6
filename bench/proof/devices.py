"""Part 8: one generator for every device, each device left out in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial

import numpy as np

import pnag_fast as pf
from pnag_fast.costs import CostTable
from pnag_fast.generator.devices import synthetic
from pnag_fast.typing import FloatArray

from . import problems
from .nasbench201 import BUDGETS as CELL_BUDGETS
from .nasbench201 import latency_table, regret
from .problems import Problem
from .records import Records, Result, Stopwatch, spread, table
from .run import Options

# The GPU settings of the shared file, batch 1 (where latency follows depth) among them.
GPUS = (
    "v100_1",
    "2080ti_1",
    "titan_xp_32",
    "v100_64",
    "titan_xp_1",
    "2080ti_32",
    "titan_xp_64",
    "2080ti_64",
)
# Questions that a core answers in one and in five CPU seconds; what they took is printed.
QUESTIONS = {"1 s": 20_000, "5 s": 110_000}
# Of a generator with every device that there is: devices, and budgets of all of them at once.
FLEET, MIXED = 16, 20_000


@cache
def _targets(options: Options) -> list[Problem]:
    known = [problems.ofa(options.data)]
    known += [problems.ofa_on_gpu(options.data, gpu) for gpu in GPUS]
    # The reader of Once-for-All's files calls every device by its file.
    names = ("Note 10", *GPUS)
    return [
        dataclasses.replace(
            problem, name=f"devices, {name}", table=dataclasses.replace(problem.table, device=name)
        )
        for name, problem in zip(names, known, strict=True)
    ]


def _known(options: Options, left_out: str) -> list[CostTable]:
    tables = [problem.table for problem in _targets(options)]
    return [t for t in tables if t.device != left_out][: options.pick(None, 4, 2)]


def _trained(options: Options, devices: list[CostTable], seed: int) -> pf.Generator:
    first = _targets(options)[0]
    return pf.train_generator(
        first.space, first.model, [], devices=devices, seed=seed, **options.training()
    )


def measure(options: Options, target: Problem, seed: int) -> Result:
    """Train on all other devices; ask for this one at once, and after short searches."""
    device = target.table
    with Stopwatch() as training:
        generator = _trained(options, _known(options, device.device), seed)
    budgets = target.budgets(200, seed)
    best = problems.top1_within(options.reference(target), budgets)

    def gaps(answers: Callable[[], FloatArray]) -> list[float]:
        with Stopwatch() as clock:
            top1 = answers()
        gap = 100 * (best - top1)
        # Where the reference has nothing, at the cheapest end, there is nothing to compare; where
        # it alone has something, the answer is worth nothing.
        gap = np.where(np.isnan(gap), np.where(np.isnan(best), np.nan, 100 * best), gap)
        return [float(np.nanmean(gap)), float(np.nanmax(gap)), clock.cpu_s]

    def asked(of: pf.Generator) -> FloatArray:
        return of.generate(budgets, device=device, on_infeasible="mark").top1

    def adapted(n: int) -> FloatArray:
        return asked(generator.adapt(device, evaluations=n, seed=seed))

    def fresh(n: int) -> FloatArray:
        front = pf.search.front(
            target.space, target.model, [device], evaluations=n, seed=2000 + seed
        )
        return problems.top1_within(front, budgets)

    result: Result = {
        "training_cpu_s": training.cpu_s,
        "bank": len(generator.known),
        "at once": gaps(lambda: asked(generator)),
    }
    for time, questions in QUESTIONS.items():
        n = options.pick(questions, questions, 500)
        result[f"adapted, {time}"] = gaps(partial(adapted, n))
        result[f"fresh, {time}"] = gaps(partial(fresh, n))
    return result


def measure_fleet(options: Options, seed: int) -> Result:
    """Size and speed of a generator for many devices: the known ones, and made-up ones."""
    known = [problem.table for problem in _targets(options)]
    made = synthetic(known, FLEET - len(known) + 3, seed=100)[3:]
    generator = _trained(options, [*known, *made][: options.pick(FLEET, FLEET, 3)], seed)
    path = options.work_dir / "fleet.safetensors"
    generator.save(path)
    rng = np.random.default_rng(seed)
    which = rng.integers(len(generator.devices), size=options.pick(MIXED, MIXED, 100))
    bounds = np.array([of.bounds for of in generator.devices])[which]
    budgets, names = rng.uniform(*bounds.T), [generator.devices[i].device for i in which]
    loaded = pf.Generator.load(path)
    with Stopwatch() as first:
        loaded.generate(budgets, device=names)
    with Stopwatch() as again:
        loaded.generate(budgets, device=names)
    return {
        "devices": len(generator.devices),
        "bytes": path.stat().st_size,
        "first_per_s": len(budgets) / first.cpu_s,
        "per_s": len(budgets) / again.cpu_s,
    }


def measure_cells(options: Options, left_out: str, data_set: str) -> Result:
    """NAS-Bench-201: what the fronts of the other devices are worth on this one."""
    cells = problems.nasbench201(options.data)
    tables = _cell_tables(options)
    cost, top1 = tables[left_out], cells.top1[data_set]
    model = pf.accuracy.table(cells.space, cells.archs, top1)
    others = [of for name, of in tables.items() if name != left_out]
    fronts = [pf.search.front(cells.space, model, [of]).archs for of in others]
    generator = pf.train_generator(
        cells.space, model, [], devices=others, **options.training(small=True)
    )
    costs = cost(cells.archs)
    index = {arch.tobytes(): i for i, arch in enumerate(cells.archs)}
    low, high = np.percentile(costs, [5, 95])
    budgets = np.sort(np.random.default_rng(7).uniform(low, high, CELL_BUDGETS))
    known = {
        "one other front": fronts[0],
        "all other fronts": np.concatenate(fronts),
        "generator": generator.on(cost).archive.archs,
    }
    found: Result = {}
    for name, archs in known.items():
        rows = np.array([index[arch.tobytes()] for arch in archs])
        # Whatever is known, what is cheapest by the table is; else low budgets have no answer.
        rows = np.append(rows, costs.argmin())
        within = np.where(costs[rows] <= budgets[:, None], top1[rows], -np.inf).max(axis=1)
        found[name] = [
            _deficit(costs, top1, rows),
            _deficit(cells.latency_ms[left_out], top1, rows),
            float(regret(costs, top1, budgets, within).mean()),
        ]
    answers = generator.generate(budgets, device=cost)
    of_answers = top1[[index[arch.tobytes()] for arch in answers.archs]]
    found["generator"][2] = float(regret(costs, top1, budgets, of_answers).mean())
    return found


def _deficit(costs: FloatArray, top1: FloatArray, rows: np.ndarray) -> float:
    """Hypervolume that all cells have and these do not, both objectives scaled to 0 to 1."""
    scaled = np.column_stack([-top1, costs])
    scaled = (scaled - scaled.min(axis=0)) / np.ptp(scaled, axis=0)
    whole, part = (pf.pareto.hypervolume(p, [1.0, 1.0]) for p in (scaled, scaled[rows]))
    return float(whole - part)


@cache
def _cell_tables(options: Options) -> dict[str, CostTable]:
    cells = problems.nasbench201(options.data)
    found = {device: latency_table(cells, device) for device in cells.latency_ms}
    return {device: cost for device, cost in found.items() if cost is not None}


def run(options: Options) -> str:
    records = Records(options.work_dir, "devices")
    same = options.identity
    rows = []
    columns = [
        "at once",
        *(f"{how}, {time}" for time in QUESTIONS for how in ("adapted", "fresh")),
    ]
    for target in _targets(options)[: options.pick(None, 3, 2)]:
        runs = [
            records.get(measure, options, target, seed, device=target.name, seed=seed, **same)
            for seed in range(options.seeds)
        ]
        rows.append([target.table.device])
        for name in columns:
            worst = max(run[name][1] for run in runs)
            rows[-1].append(f"{spread(run[name][0] for run in runs)}, {worst:.2f}")
        rows[-1] += [
            spread((run["adapted, 1 s"][2] for run in runs), 1),
            spread((run["adapted, 5 s"][2] for run in runs), 1),
            spread((run["training_cpu_s"] for run in runs), 0),
        ]
    fleet = records.get(measure_fleet, options, 0, part="fleet", **same)
    data_sets = problems.NASBENCH_SETS[: options.pick(None, 1, 1)]
    devices = list(_cell_tables(options))[: options.pick(None, 4, 1)]
    cells = {
        (data_set, device): records.get(
            measure_cells, options, device, data_set, data_set=data_set, device=device, **same
        )
        for data_set in data_sets
        for device in devices
    }
    cell_rows = []
    for data_set in data_sets:
        for name in ("one other front", "all other fronts", "generator"):
            found = np.array([cells[data_set, device][name] for device in devices])
            shown = [f"{m:.4f}, {w:.4f}" for m, w in zip(found.mean(0), found.max(0), strict=True)]
            cell_rows.append([data_set, name, *shown])
    return (
        "Trained on the other devices, then asked for the one that was left out: gap in points "
        f"below its own reference front ({options.reference_recipe}), mean over 200 budgets and "
        f"{options.seeds} seeds, and the worst budget of any seed. A second is "
        f"{QUESTIONS['1 s']:,} questions, five are {QUESTIONS['5 s']:,}; a fresh search begins "
        "with nothing.\n\n"
        + table(
            ["left out", *columns, "CPU s of one", "of five", "training, CPU s"],
            rows,
        )
        + f"\n{fleet['devices']} devices in one file of {fleet['bytes'] / 1e6:.2f} MB; "
        f"{fleet['first_per_s']:,.0f} answers a CPU second over mixed devices at first, "
        f"{fleet['per_s']:,.0f} afterwards.\n\n"
        f"NAS-Bench-201, {len(devices)} devices left out in turn, latency by the table fitted to "
        "each: deficit to the hypervolume of all cells (both objectives scaled to 0 to 1) by the "
        "table and by the device's own measurements, and regret in points; mean over devices and "
        "worst device.\n\n"
        + table(
            ["data set", "known", "deficit by the table", "by measurements", "regret"], cell_rows
        )
    )
