"""What the threads of numerical libraries cost and gain, on a machine at rest and on a busy one.

    python bench/threads.py [--rounds 5] [--evaluations 100000] [--only TEXT]

Each job is done by three processes in turn, round after round: one is held to one thread by the
environment, one is the package as it comes, and in one the libraries have as many threads as they
take by themselves, which is what the package did before it held them to one. All do the same work
and must return the same. Then the rounds are repeated beside a process that keeps one core busy.
Medians of wall time and CPU time, importing and preparing not included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pnag_fast as pf
from pnag_fast import threads
from pnag_fast.accuracy import NetworkModel
from pnag_fast.generator import ExpertSettings

sys.path.insert(0, str(Path(__file__).parent / "kernels"))

import itertools

from compare_spaces import machine

ONE = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
CONTESTANTS = ("one thread", "as it comes", "libraries at will")
Job = Callable[[int], Any]


def made_up_model() -> NetworkModel:
    """A network of the size of the published predictor, with random weights."""
    space = pf.spaces.get("ofa-mbv3")
    rng = np.random.default_rng(0)
    widths = [sum(n - 1 for n in space.n_codes), 400, 400, 400, 1]
    layers = [
        (rng.standard_normal((1, a, b)) / a**0.5).astype(np.float32)
        for a, b in itertools.pairwise(widths)
    ]
    biases = [np.zeros((1, b), dtype=np.float32) for b in widths[1:]]
    biases[-1] += 0.7
    return NetworkModel(
        space=space,
        source="made up",
        linear=np.zeros((1, widths[0]), dtype=np.float32),
        first=layers[0],
        biases=tuple(biases),
        weights=(*layers[1:-1], 0.02 * layers[-1]),
    )


def search() -> Job:
    model = made_up_model()
    tables = [pf.costs.macs(model.space)]
    return lambda evaluations: (
        pf.search.front(model.space, model, tables, evaluations=evaluations).archs
    )


def predict() -> Job:
    model = made_up_model()
    archs = model.space.sample(1_000_000, seed=0)
    return lambda evaluations: model.predict(archs[:evaluations]).round(4)


def fit() -> Job:
    space = pf.spaces.get("ofa-mbv3")
    archs = space.sample(1000, seed=0, distribution="decisions")
    top1 = made_up_model().predict(archs)
    return lambda evaluations: (
        pf.accuracy.fit(space, archs, top1, epochs=max(1, evaluations // 1000))
        .predict(archs)
        .round(3)
    )


def train() -> Job:
    model = made_up_model()
    tables = [pf.costs.macs(model.space)]

    def work(evaluations: int) -> Any:
        settings = ExpertSettings(evaluations=evaluations // 4, steps=max(1, evaluations // 200))
        return pf.train_generator(model.space, model, tables, settings=settings).archive.archs

    return work


def generate() -> Job:
    model = made_up_model()
    tables = [pf.costs.macs(model.space)]
    settings = ExpertSettings(evaluations=5000, steps=50)
    generator = pf.train_generator(model.space, model, tables, settings=settings)
    low, high = tables[0].bounds
    return lambda evaluations: generator.generate(
        np.linspace(low, high, max(1, evaluations // 10))
    ).top1.round(4)


JOBS: dict[str, Callable[[], Job]] = {
    "pf.search.front, evaluations": search,
    "predictions of the published size": predict,
    "pf.accuracy.fit, 1,000 networks": fit,
    "pf.train_generator": train,
    "generate, a tenth as many budgets": generate,
}


def child(name: str, contestant: str, evaluations: int) -> None:
    """Do one job and print what it took, and what came out."""
    if contestant == "libraries at will":

        class AtWill:
            def enter(self) -> None:
                pass

            leave = enter

        threads._ONE_THREAD = AtWill()  # type: ignore[assignment]
    job = JOBS[name]()
    job(min(evaluations, 2000))
    wall, cpu = time.perf_counter(), time.process_time()
    result = job(evaluations)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "result": np.asarray(result).tolist()}))


def measure(name: str, contestant: str, evaluations: int) -> tuple[tuple[float, float], Any]:
    one = ONE if contestant == "one thread" else {}
    done = subprocess.run(
        [sys.executable, __file__, "--child", name, contestant, str(evaluations)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **one},
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    document = json.loads(done.stdout)
    return tuple(document["seconds"]), document["result"]


def spin(parent: int) -> None:
    """Use a core until the parent is gone, however it went."""
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


@contextlib.contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keep one core busy inside the block."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=spin, args=[os.getpid()], daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100_000, help="size of every job")
    parser.add_argument("--only", default="", help="jobs whose name contains this text")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child[0], given.child[1], int(given.child[2]))
        return
    if given.rounds < 1 or given.evaluations < 200:
        parser.error("--rounds should be at least 1, --evaluations at least 200")
    print(machine())
    print(f"{given.evaluations:,} evaluations, medians of {given.rounds} rounds\n")
    print("| job | other core | " + " | ".join(f"{c}, wall (CPU) s" for c in CONTESTANTS) + " |")
    print("|---|---|---|---|---|")
    for name in (name for name in JOBS if given.only in name):
        for busy in (False, True):
            found: dict[str, list[tuple[float, float]]] = {c: [] for c in CONTESTANTS}
            with busy_core(busy):
                for _ in range(given.rounds):
                    results = {}
                    for contestant in CONTESTANTS:
                        seconds, results[contestant] = measure(name, contestant, given.evaluations)
                        found[contestant].append(seconds)
                    if results["one thread"] != results["as it comes"]:
                        raise SystemExit(f"{name}: threads change the result")
            cells = [
                f"{statistics.median(w for w, _ in found[c]):.2f} "
                f"({statistics.median(cpu for _, cpu in found[c]):.2f})"
                for c in CONTESTANTS
            ]
            print(f"| {name} | {'busy' if busy else 'free'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
