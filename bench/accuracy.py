#!/usr/bin/env python3
"""Say how true the accuracy models are, and what the defence against exploited ones does.

python bench/accuracy.py validation --data ../shared/data/ofa_imagenet
python bench/accuracy.py defence --data ../shared/data/ofa_imagenet
python bench/accuracy.py speed --data ../shared/data/ofa_imagenet
python bench/accuracy.py cells --data ../shared/data/nasbench201
python bench/accuracy.py few --data ../shared/data/ofa_imagenet

`validation`: nested cross-validation on the measured table, by random folds and by ranges of
multiply-adds, of the ensemble, of the calibrated predictor and of a linear model.

`defence`: the table is split into halves. Models searched know the first half at most; judges know
the second only and are of other kinds. Every front is asked for the best network within each of
nine budgets, by its own model, and what it answers is judged.

`cells`: 1,000 cells of NAS-Bench-201 a seed, three data sets: CPU seconds of a fit, the figures of
nested cross-validation, and those of all cells that compute what no measured one does.

`few`: the ensemble and the Gaussian process, given 50 to 300 of the measured networks of `ofa-mbv3`
and of the judged ones of `mbv3-cifar`: what they say of all others.

`speed`: prediction against the bare chain of matrix products of the same shapes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel, calibrate, cross_validate, one_hot
from pnag_fast.accuracy.measured import Measured
from pnag_fast.accuracy.validation import Fitter
from pnag_fast.spaces import Archs
from pnag_fast.typing import BoolArray, Float32Array, FloatArray

JUDGES = ("kernel", "linear", "trees")
BUDGETS = np.linspace(160e6, 480e6, 9)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("validation", "defence", "speed", "cells", "few"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the OFA measurements")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100_000, help="per search")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; numpy {np.__version__}; seeds 0 to {arguments.seeds - 1}")
    if arguments.what == "cells":
        return cells(arguments.data, arguments.seeds)
    space = pf.spaces.get("ofa-mbv3")
    published = pf.accuracy.load(arguments.data / "acc_predictor.pth")
    if arguments.what == "speed":
        return speed(published)
    with open(arguments.data / "measured_w1.0_r224.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    archs = space.from_strings([row["arch"] for row in rows])
    # One row per architecture: folds and halves are of networks.
    measured = Measured.of(
        space, archs, np.array([float(row["top1_percent"]) for row in rows]) / 100
    )
    archs, top1 = measured.archs, measured.top1
    if arguments.what == "few":
        cifar = pf.spaces.get("mbv3-cifar")
        judged = pf.supernet.published_accuracies("mbv3-cifar")
        return few(
            {"ofa-mbv3": (space, archs, top1), "mbv3-cifar": (cifar, *judged)}, arguments.seeds
        )
    if arguments.what == "validation":
        return validation(space, published, archs, top1, arguments.seeds)
    return defence(space, published, archs, top1, arguments.seeds, arguments.evaluations)


# --- models of other kinds -------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelModel(AccuracyModel):
    """Kernel ridge regression with a polynomial kernel over the one-hot codes: degree 1 is linear.

    ``k(a, b) = (1 + equal slots / slots) ** degree``, of mean and scale of the target.
    """

    features: Float32Array
    weights: FloatArray
    level: float
    degree: int

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        top1 = np.empty(len(archs))
        for start in range(0, len(archs), 2048):
            rows = slice(start, start + 2048)
            same = one_hot(self.space, archs[rows]) @ self.features.T / archs.shape[1]
            top1[rows] = self.level + (1 + same) ** self.degree @ self.weights
        return top1, np.zeros(len(archs)) if with_variance else None


def kernel_ridge(
    space: pf.SearchSpace, archs: Archs, top1: FloatArray, *, degree: int, seed: int = 0
) -> KernelModel:
    """Fit; the penalty is chosen on five folds."""
    features = one_hot(space, archs)
    gram = (1 + features @ features.T / archs.shape[1]).astype(np.float64) ** degree
    fold = np.random.default_rng(seed).permutation(len(archs)) % 5
    level = float(top1.mean())

    def solve(rows: BoolArray, penalty: float) -> FloatArray:
        inside = gram[np.ix_(rows, rows)] + penalty * np.eye(int(rows.sum()))
        solution: FloatArray = np.linalg.solve(inside, top1[rows] - level)
        return solution

    def error(penalty: float) -> float:
        guess = np.empty(len(archs))
        for k in range(5):
            out = fold == k
            guess[out] = level + gram[np.ix_(out, ~out)] @ solve(~out, penalty)
        return float(np.sqrt(np.mean((guess - top1) ** 2)))

    errors = {penalty: error(penalty) for penalty in (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)}
    best = min(errors, key=lambda penalty: errors[penalty])
    return KernelModel(
        space=space,
        source=f"kernel ridge of degree {degree} on {len(archs)} rows",
        noise=errors[best],
        features=features,
        weights=solve(np.ones(len(archs), dtype=np.bool_), best),
        level=level,
        degree=degree,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class TreesModel(AccuracyModel):
    """Gradient boosting over counts that are no codes: kernels, expand ratios and depth."""

    trees: Callable[[FloatArray], FloatArray]

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        top1 = self.trees(_sizes(archs))
        return top1, np.zeros(len(archs)) if with_variance else None


def boosted_trees(space: pf.SearchSpace, archs: Archs, top1: FloatArray, seed: int) -> TreesModel:
    from sklearn.ensemble import GradientBoostingRegressor

    trees = GradientBoostingRegressor(
        n_estimators=600, max_depth=3, learning_rate=0.05, subsample=0.5, random_state=seed
    )
    inside = np.random.default_rng(seed).permutation(len(archs)) % 5 > 0
    noise = trees.fit(_sizes(archs[inside]), top1[inside]).predict(_sizes(archs[~inside]))
    noise = float(np.sqrt(np.mean((noise - top1[~inside]) ** 2)))
    trees.fit(_sizes(archs), top1)
    return TreesModel(
        space=space,
        source=f"gradient boosting on {len(archs)} rows",
        noise=noise,
        trees=trees.predict,
    )


def _sizes(archs: Archs) -> FloatArray:
    """Kernel size and expand ratio of every layer as numbers, and their sums per stage."""
    present = archs > 0
    kernel = np.where(present, np.array([3, 5, 7])[(archs - 1) // 3 % 3], 0)
    expand = np.where(present, np.array([3, 4, 6])[(archs - 1) % 3], 0)
    stages = [a.reshape(len(a), 5, 4).sum(axis=2) for a in (present, kernel, expand)]
    return np.column_stack([kernel, expand, *stages, *(s.sum(axis=1) for s in stages)])


# --- validation ------------------------------------------------------------------------------


def validation(
    space: pf.SearchSpace, published: AccuracyModel, archs: Archs, top1: FloatArray, seeds: int
) -> int:
    macs = pf.costs.macs(space)(archs)
    started = time.perf_counter()
    pf.accuracy.fit(space, archs, top1)
    print(f"fit on {len(archs)} rows: {time.perf_counter() - started:.1f} s")
    fitters: dict[str, Callable[[int], Fitter]] = {
        "fit (ensemble)": lambda seed: partial(pf.accuracy.fit, seed=seed),
        "published, calibrated": lambda seed: lambda _, a, y: calibrate(published, a, y, seed=seed),
        "published, as it is": lambda _: lambda *_: published,
        "linear on one-hot": lambda seed: partial(kernel_ridge, degree=1, seed=seed),
        "kernel ridge, degree 3": lambda seed: partial(kernel_ridge, degree=3, seed=seed),
    }
    print("\nmodel                    split   Kendall           Spearman  error (points)   spread")
    for (name, fitter), by in itertools.product(fitters.items(), (None, macs)):
        # Ranges are the same for every seed; only the fit differs.
        reports = [
            cross_validate(space, archs, top1, fitter(seed), seed=seed, by=by)
            for seed in range(seeds)
        ]
        kendall, spearman, error, spread = (
            np.array([r.get(key, np.nan) for r in reports])
            for key in ("kendall", "spearman", "mean_error", "spread")
        )
        print(
            f"{name:24s} {reports[0]['split']:7s} {kendall.mean():.4f} ± {kendall.std():.4f}   "
            f"{spearman.mean():.4f}    {100 * error.mean():.4f} ± {100 * error.std():.4f}  "
            f"{spread.mean():.2f}"
        )
        if by is not None:
            folds = [f"{100 * f['mean_error']:.2f}/{f['kendall']:.2f}" for f in reports[0]["folds"]]
            print(f"{'':24s} error/Kendall of each range, lowest first: {' '.join(folds)}")
    return 0


# --- cells -----------------------------------------------------------------------------------


def cells(data: Path, seeds: int, measured: int = 1000) -> int:
    print("\ndata set        CPU s  nested: Kendall  error  spread  others: Kendall  error  spread")
    for name in ("cifar10-test", "cifar100-test", "imagenet-test"):
        table = pf.accuracy.load_nasbench201(data / "accuracy_12_epochs.csv", name)
        every, fit = table.space.enumerate(), pf.accuracy.fit
        network = Measured.of(table.space, every, np.linspace(0, 1, len(every))).network
        top1 = table.predict(every)
        figures = []
        for seed in range(seeds):
            rows = np.random.default_rng([seed, 1]).choice(len(every), measured, replace=False)
            started = time.process_time()
            model = fit(table.space, every[rows], top1[rows], seed=seed)
            took = time.process_time() - started
            nested = cross_validate(
                table.space, every[rows], top1[rows], partial(fit, seed=seed), seed=seed
            )
            new = ~np.isin(network, network[rows])
            guess, std = model.predict(np.ascontiguousarray(every[new]), return_std=True)
            off = guess - top1[new]
            figures.append(
                [
                    took,
                    *(nested[key] for key in ("kendall", "mean_error", "spread")),
                    pf.accuracy.kendall(guess, top1[new]),
                    np.abs(off).mean(),
                    np.sqrt(np.mean((off / std) ** 2)),
                ]
            )
        cpu, kendall, error, spread, others, others_error, others_spread = np.mean(figures, axis=0)
        print(
            f"{name:14s} {cpu:6.2f} {kendall:16.4f} {100 * error:6.2f} {spread:7.2f} "
            f"{others:16.4f} {100 * others_error:6.2f} {others_spread:7.2f}"
        )
    return 0


# --- few networks ----------------------------------------------------------------------------


def few(tables: Mapping[str, tuple[pf.SearchSpace, Archs, FloatArray]], seeds: int) -> int:
    print("\nspace       judged  model        CPU s  Kendall  error, points  error over std")
    for name, (space, archs, top1) in tables.items():
        for judged in (50, 100, 200, 300):
            for model_name, fitter in (
                ("fit", pf.accuracy.fit),
                ("fit_process", pf.accuracy.fit_process),
            ):
                figures = []
                for seed in range(seeds):
                    order = np.random.default_rng([seed, 2]).permutation(len(archs))
                    rows, others = order[:judged], order[judged:]
                    started = time.process_time()
                    model = fitter(space, archs[rows], top1[rows], seed=seed)
                    took = time.process_time() - started
                    # Fifty networks do not have every code; it is asked about all the same.
                    known = replace(model, seen=np.ones_like(model.seen))
                    guess, std = known.predict(archs[others], return_std=True)
                    off = guess - top1[others]
                    std = np.hypot(std, model.report.get("judging_noise", 0.0))
                    figures.append(
                        [
                            took,
                            pf.accuracy.kendall(guess, top1[others]),
                            100 * np.sqrt(np.mean(off**2)),
                            np.sqrt(np.mean((off / std) ** 2)),
                        ]
                    )
                cpu, kendall, error, spread = np.mean(figures, axis=0)
                print(
                    f"{name:10s} {judged:7d}  {model_name:11s} {cpu:6.2f} {kendall:8.3f} "
                    f"{error:14.3f} {spread:15.2f}"
                )
    return 0


# --- defence ---------------------------------------------------------------------------------


def defence(
    space: pf.SearchSpace,
    published: AccuracyModel,
    archs: Archs,
    top1: FloatArray,
    seeds: int,
    evaluations: int,
) -> int:
    macs = pf.costs.macs(space)
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        half = np.random.default_rng(seed).permutation(len(archs)) % 2 == 0
        a, y = np.ascontiguousarray(archs[half]), top1[half]
        b, z = np.ascontiguousarray(archs[~half]), top1[~half]
        judges: dict[str, AccuracyModel] = {
            "kernel": kernel_ridge(space, b, z, degree=3, seed=seed),
            "linear": kernel_ridge(space, b, z, degree=1, seed=seed),
            "trees": boosted_trees(space, b, z, seed),
        }
        calibrated: AccuracyModel = calibrate(published, a, y, seed=seed)
        fitted: AccuracyModel = pf.accuracy.fit(space, a, y, seed=seed)
        searched = {"published, as it is": published}
        for name, model in (("calibrated", calibrated), ("fitted", fitted)):
            searched[name] = model
            searched |= {f"{name}, mean - {k} std": model.cautious(k) for k in (1, 2, 3)}
        searched["(the kernel judge itself)"] = judges["kernel"]
        for name, model in searched.items():
            result = judged_front(space, model, macs, judges, seed, evaluations)
            runs.setdefault(name, []).append(result)
            print(seed, name, result, file=sys.stderr)
    head = list(next(iter(runs.values()))[0])
    print(f"{'searched model':26s}" + "".join(f"{column:>16s}" for column in head))
    for name, results in runs.items():
        cells = (np.array([result[column] for result in results]) for column in head)
        print(f"{name:26s}" + "".join(f"{v.mean():9.2f} ± {v.std():4.2f}" for v in cells))
    print("mean and standard deviation over seeds; top-1 in percent, gains in points")
    print("\njudged difference, seed by seed")
    for name, results in runs.items():
        other = name.partition(", mean")[0] if ", mean" in name else "published, as it is"
        if name == other:
            continue
        differences = []
        for judge_name in JUDGES:
            pairs = zip(results, runs[other], strict=True)
            gain = np.array([mine[judge_name] - theirs[judge_name] for mine, theirs in pairs])
            differences.append(f"{judge_name} {gain.mean():+.3f} ± {gain.std():.3f}")
        print(f"{name} against {other}: {', '.join(differences)}")
    return 0


def judged_front(
    space: pf.SearchSpace,
    model: AccuracyModel,
    macs: pf.CostTable,
    judges: Mapping[str, AccuracyModel],
    seed: int,
    evaluations: int,
) -> dict[str, float]:
    """Search one model and return what it promises and what the judges find."""
    front = pf.search.front(space, model, [macs], seed=seed, evaluations=evaluations)
    chosen = np.ascontiguousarray(front.archs[front.best(BUDGETS[:, None])])
    # The network that the model finds best of all, against the largest one.
    extremes = np.stack([front.archs[front.top1.argmax()], macs.dearest()])

    def gain(of: AccuracyModel) -> float:
        best, largest = of.cautious(0).predict(extremes)
        return float(best - largest)

    result = {"predicted": float(model.cautious(0).predict(chosen).mean())}
    result |= {name: float(judge.predict(chosen).mean()) for name, judge in judges.items()}
    result["gain, model"] = gain(model)
    result["gain, kernel"] = gain(judges["kernel"])
    summary = pf.accuracy.confirm(front, judges["kernel"]).summary()
    result["refuted"] = summary["refuted"] / summary["members"]
    return {name: 100 * value for name, value in result.items()}


# --- speed -----------------------------------------------------------------------------------


def speed(model: AccuracyModel) -> int:
    """Time both in turn, block by block as the model does; the least of nine counts."""
    assert isinstance(model, pf.accuracy.NetworkModel)
    archs = model.space.sample(32_768, seed=0)
    features = one_hot(model.space, archs)
    layers = [model.first[0], *(weight[0] for weight in model.weights)]

    def products() -> None:
        for start in range(0, len(archs), 1024):
            values = features[start : start + 1024]
            for layer in layers:
                values = values @ layer

    works: dict[str, Callable[[], object]] = {
        "bare matrix products": products,
        "predict": lambda: model.predict(archs),
        "sensitivity": lambda: model.sensitivity(archs),
    }
    least = dict.fromkeys(works, np.inf)
    for _, (name, work) in itertools.product(range(9), works.items()):
        started = time.perf_counter()
        work()
        least[name] = min(least[name], time.perf_counter() - started)
    for name, seconds in least.items():
        ratio = seconds / least["bare matrix products"]
        print(f"{name:22s} {1e5 * seconds / len(archs):7.3f} s per 100,000   {ratio:.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
