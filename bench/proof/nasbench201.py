"""Part 1: NAS-Bench-201, where the exact optimum is known."""

from __future__ import annotations

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.costs import CostTable
from pnag_fast.errors import InvalidInputError
from pnag_fast.typing import FloatArray

from . import problems
from .problems import Cells
from .records import Records, Result, Stopwatch, percent, spread, table
from .run import Options

TRAINED_ON = 1000
BUDGETS = 50


def regret(
    costs: FloatArray, top1: FloatArray, budgets: FloatArray, answered: FloatArray
) -> FloatArray:
    """Points below the best cell within each budget."""
    order = np.argsort(costs, kind="stable")
    best = np.maximum.accumulate(top1[order])
    last = np.searchsorted(costs[order], budgets, side="right") - 1
    return np.asarray(100 * (best[last] - answered))


def measure(
    cells: Cells,
    model: AccuracyModel,
    cost: CostTable,
    data_set: str,
    rows: np.ndarray,
    seed: int,
    options: Options,
) -> Result:
    costs, top1 = cost(cells.archs), cells.top1[data_set]
    low, high = np.percentile(costs, [5, 95])
    budgets = np.sort(np.random.default_rng([seed, 7]).uniform(low, high, BUDGETS))
    with Stopwatch() as training:
        generator = pf.train_generator(
            cells.space, model, [cost], seed=seed, **options.training(small=True)
        )
    answers = generator.generate(budgets, seed=seed)
    index = {arch.tobytes(): i for i, arch in enumerate(cells.archs)}
    found = np.array([index[arch.tobytes()] for arch in answers.archs])
    ours = regret(costs, top1, budgets, top1[found])
    # What random search knows: the best of the cells whose accuracy it has paid for.
    known = np.where(costs[rows] <= budgets[:, None], top1[rows], -np.inf).max(axis=1)
    random = regret(costs, top1, budgets, known)
    # What exact knowledge of every validation accuracy is worth on the test images.
    order = np.argsort(costs, kind="stable")
    last = np.searchsorted(costs[order], budgets, side="right")
    validation = cells.validation[data_set][order]
    chosen = np.array([order[validation[:k].argmax()] for k in last])
    noise = regret(costs, top1, budgets, top1[chosen])
    measured_ms = cells.latency_ms[cost.device][found]
    return {
        "mean": float(ours.mean()),
        "worst": float(ours.max()),
        "met": float((costs[found] <= budgets).mean()),
        # The additive table is itself an estimate; of it the search knows nothing.
        "met_measured": float((measured_ms <= budgets * 1.05).mean()),
        "validation_mean": float(noise.mean()),
        "random_mean": float(random.mean()) if np.isfinite(random).all() else None,
        "cpu_s": training.cpu_s,
    }


def with_fitted(
    cells: Cells, cost: CostTable, data_set: str, rows: np.ndarray, seed: int, options: Options
) -> Result:
    model = _fitted(cells, data_set, seed, rows)
    return measure(cells, model, cost, data_set, rows, seed, options)


def latency_table(cells: Cells, device: str) -> CostTable | None:
    """Fit a device's table to all cells; None, and a line in the report, where that is refused."""
    ms = cells.latency_ms[device]
    inside = ms > 0
    try:
        return pf.costs.fit(
            cells.space, cells.archs[inside], ms[inside], metric="latency", unit="ms", device=device
        )
    except InvalidInputError as error:
        # The latency of degenerate cells on one phone is near zero, and their sum below it.
        print(f"<!-- {device} is left out: {error} -->", flush=True)
        return None


def run(options: Options) -> str:
    cells = problems.nasbench201(options.data)
    devices = list(cells.latency_ms)[: options.pick(None, 3, 1)]
    data_sets = problems.NASBENCH_SETS[: options.pick(None, None, 1)]
    records = Records(options.work_dir, "nasbench201")
    results: dict[tuple[str, str, str], list[Result]] = {}
    fits: list[dict[str, float]] = []
    fitted_devices: list[str] = []
    for device in devices:
        cost = latency_table(cells, device)
        if cost is None:
            continue
        fitted_devices.append(device)
        fits.append(cost.provenance["held_out"])
        for data_set in data_sets:
            exact = pf.accuracy.table(cells.space, cells.archs, cells.top1[data_set])
            for seed in range(options.seeds):
                rows = np.random.default_rng([seed, 1]).choice(
                    len(cells.archs), TRAINED_ON, replace=False
                )

                key = {"device": device, "data_set": data_set, "seed": seed, **options.identity}
                results.setdefault((data_set, device, "fitted"), []).append(
                    records.get(
                        with_fitted,
                        cells,
                        cost,
                        data_set,
                        rows,
                        seed,
                        options,
                        model="fitted",
                        **key,
                    )
                )
                results.setdefault((data_set, device, "exact"), []).append(
                    records.get(
                        measure,
                        cells,
                        exact,
                        cost,
                        data_set,
                        rows,
                        seed,
                        options,
                        model="exact",
                        **key,
                    )
                )
    return _report(results, fitted_devices, data_sets, fits)


_models: dict[tuple[str, int], AccuracyModel] = {}


def _fitted(cells: Cells, data_set: str, seed: int, rows: np.ndarray) -> AccuracyModel:
    """The model does not depend on the device: fit it once."""
    if (data_set, seed) not in _models:
        _models[data_set, seed] = pf.accuracy.fit(
            cells.space, cells.archs[rows], cells.top1[data_set][rows], seed=seed
        )
    return _models[data_set, seed]


def _report(
    results: dict[tuple[str, str, str], list[Result]],
    devices: list[str],
    data_sets: tuple[str, ...],
    fits: list[dict[str, float]],
) -> str:
    def by_seed(data_set: str, kind: str, value: str) -> list[float]:
        """Mean over devices, one figure per seed."""
        runs = [results[data_set, device, kind] for device in devices]
        figures = [[r[i][value] for r in runs] for i in range(len(runs[0]))]
        return [float(np.mean(f)) for f in figures if None not in f]

    rows = []
    for data_set in data_sets:
        for kind, label in (("fitted", f"fitted on {TRAINED_ON:,} cells"), ("exact", "exact")):
            runs = [r for device in devices for r in results[data_set, device, kind]]
            device_means = {
                device: np.mean([r["mean"] for r in results[data_set, device, kind]])
                for device in devices
            }
            worst = max(device_means, key=lambda device: device_means[device])
            rows.append(
                [
                    data_set,
                    label,
                    len(runs) // len(devices),
                    spread(by_seed(data_set, kind, "mean")),
                    f"{device_means[worst]:.3f} ({worst})",
                    f"{max(r['worst'] for r in runs):.2f}",
                    spread(by_seed(data_set, kind, "random_mean")),
                    spread(by_seed(data_set, kind, "validation_mean")),
                    percent(r["met"] for r in runs),
                    percent(r["met_measured"] for r in runs),
                    spread((r["cpu_s"] for r in runs), 1),
                ]
            )
    header = (
        "data set",
        "accuracy model",
        "seeds",
        "mean regret",
        "worst device",
        "worst budget",
        f"best of the {TRAINED_ON:,} cells",
        "best validation accuracy of all cells",
        "budgets met",
        "met by the device itself, 5 % slack",
        "training, CPU s",
    )
    r2 = [fit["r2"] for fit in fits]
    return (
        f"Regret: points below the exact optimum of the table, {len(devices)} devices, {BUDGETS} "
        "unseen budgets between the 5th and 95th percentile of latency; ± is the spread over "
        "seeds. Latency is the additive table fitted to the device's measurements (held-out R² "
        f"{min(r2):.2f} to {max(r2):.2f}); the optimum is by the same table. Accuracies of twelve "
        "epochs are noisy: who knows the validation accuracy of every cell and answers with the "
        "best one has the regret of the column that says so.\n\n" + table(header, rows)
    )
