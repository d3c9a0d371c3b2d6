"""CompOFA's claims at a scale that one CPU core can test. Prints a table in markdown.

    python bench/supernet.py                    # digits, mbv3-tiny, 3 seeds
    python bench/supernet.py --epochs 8 --seeds 5

Both recipes get the same epochs for each long stage, in one process and on the same load; seconds
are CPU seconds. Accuracies are of test images, each network with batch-norm statistics of its own.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import os
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import numpy.typing as npt
import torch

import pnag_fast as pf

SPACE = "mbv3-tiny"
RECIPES = ("progressive", "compound", "compound-elastic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6, help="of each long stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--free", type=int, default=200, help="architectures of the full space")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = pf.spaces.get(SPACE, resolutions=(given.resolution,))
    common = pf.supernet.compound_architectures(space)
    free = space.sample(given.free, seed=1, distribution="decisions")
    macs = pf.costs.macs(space)
    results: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in RECIPES}
    for seed in range(given.seeds):
        data = pf.data.load_digits(given.resolution, seed=seed)
        for recipe in RECIPES:
            net = pf.supernet.build(space, seed=seed)
            started = time.process_time()
            pf.supernet.train(net, data, recipe=recipe, epochs=given.epochs, seed=seed)
            seconds = time.process_time() - started
            top1 = pf.supernet.evaluate(net, common, data, split="test")
            row = {"seconds": seconds, "common": top1.mean(), "best": top1.max()}
            points = [(common, top1)]
            if recipe == "progressive":
                points.append((free, pf.supernet.evaluate(net, free, data, split="test")))
            for name, part in zip(("front", "full front"), (points[:1], points), strict=True):
                archs = np.concatenate([a for a, _ in part])
                errors = 1 - np.concatenate([t for _, t in part])
                row[name] = _hypervolume(macs(archs), errors, macs.bounds)
            results[recipe].append(row)
    print(f"{SPACE}, digits at {given.resolution} px, {given.epochs} epochs a long stage, ", end="")
    print(f"{given.seeds} seeds; mean (lowest to highest)\n")
    names = ("progressive, full space", "compound, fixed kernels", "compound, elastic kernels")
    print("| | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for label, key, digits in (
        ("training, CPU s", "seconds", 1),
        (f"top-1 of the {len(common)} common architectures, mean", "common", 4),
        ("best of them", "best", 4),
        ("hypervolume of their front (multiply-adds, error)", "front", 4),
        (f"and of {len(free)} others of the space", "full front", 4),
    ):
        cells = []
        for recipe in RECIPES:
            values = [row[key] for row in results[recipe]]
            spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
            cells.append(f"{np.mean(values):.{digits}f} ({spread})")
        print(f"| {label} | " + " | ".join(cells) + " |")
    print()
    search_times(space, common)


def search_times(space: pf.SearchSpace, common: npt.NDArray[np.uint8]) -> None:
    """Time the front of the coupled networks, all of them, and an evolutionary search of all."""
    archs = space.sample(500, seed=0)
    macs = pf.costs.macs(space)
    model = pf.accuracy.fit(space, archs, macs(archs) / macs.bounds[1] * 0.5 + 0.4, seed=0)
    started = time.perf_counter()
    points = np.column_stack([macs(common), -model.predict(common)])
    front = common[pf.pareto.is_non_dominated(points)]
    enumerated = time.perf_counter() - started
    started = time.perf_counter()
    found = pf.search.nsga2(space, model, [macs], seed=0)
    evolved = time.perf_counter() - started
    print("| search | wall s | points on the front |\n|---|---:|---:|")
    print(f"| all {len(common)} coupled networks | {enumerated:.5f} | {len(front)} |")
    print(f"| NSGA-II over the full space | {evolved:.3f} | {len(found.archs)} |")
    print(f"\nRatio of times: {evolved / enumerated:.0f}")


def _hypervolume(
    costs: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], bounds: tuple[float, float]
) -> float:
    low, high = bounds
    points = np.column_stack([(costs - low) / (high - low), errors])
    return pf.pareto.hypervolume(points, np.array([1.1, 1.0]))


if __name__ == "__main__":
    main()
