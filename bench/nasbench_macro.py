"""Makes our own table of the space of NAS-Bench-Macro: all its networks, judged on one supernet.

    python bench/nasbench_macro.py --out bench/data/nasbench_macro_digits.csv.gz
    python bench/nasbench_macro.py --images cifar10.npz --width 0.5 --resolution 32 --out mine.csv

This is not the benchmark's table. There, every network was trained for itself, three times, on
CIFAR-10, at width 1; here one supernet is trained, by default at a quarter of the width on the
digits of scikit-learn at 16 pixels, and each of the 3,969 networks takes its weights from it, with
batch-norm statistics of its own. Its accuracies say which of these networks is better, and nothing
of the benchmark's; `pnag_fast.accuracy.load_nasbench_macro` reads the file that was published.

One line for each network: its string, and its top-1 on 629 validation and 629 test images, of which
each image is 0.16 points. With the defaults it takes about 4 CPU minutes; with `--work`, a run that
was interrupted goes on where it was.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import csv
import gzip
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Literal

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import torch

import pnag_fast as pf
from pnag_fast.quickstart import DIGITS_FRACTIONS
from pnag_fast.spaces import Archs
from pnag_fast.typing import FloatArray

SPLITS: tuple[Literal["validation", "test"], ...] = ("validation", "test")

# Beside this file: what the defaults make.
TABLE = Path(__file__).with_name("data") / "nasbench_macro_digits.csv.gz"


def read(path: Path = TABLE, split: str = "validation") -> tuple[Archs, FloatArray]:
    """Read a table that was made here: all architectures, and their top-1 on one split."""
    space = pf.spaces.get("nasbench-macro")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    archs = space.from_strings([row["arch"] for row in rows])
    return archs, np.array([float(row[split]) for row in rows])


def made(given: argparse.Namespace, work: Path) -> str:
    space = pf.spaces.get("nasbench-macro", width=given.width, resolutions=[given.resolution])
    shares = DIGITS_FRACTIONS if given.images == "digits" else None
    data = pf.data.find(given.images, given.resolution, fractions=shares, seed=given.seed)
    space = space.with_classes(len(data.classes))
    started = time.process_time()
    net = pf.supernet.build(space, seed=given.seed)
    log = pf.supernet.train(
        net, data, epochs=given.epochs, seed=given.seed, checkpoint=work / "training", threads=1
    )
    print(f"{log}, {time.process_time() - started:.0f} CPU s, {data}", flush=True)
    archs = space.enumerate()
    if given.networks is not None:
        archs = space.sample(given.networks, seed=given.seed)
    columns = []
    for split in SPLITS:
        started = time.process_time()
        kept = work / f"judged-{split}.json"
        top1 = pf.supernet.evaluate(net, archs, data, split=split, checkpoint=kept, threads=1)
        columns.append(top1)
        print(
            f"{split}: top-1 {top1.min():.4f} to {top1.max():.4f}, mean {top1.mean():.4f}, "
            f"deviation {top1.std():.4f}, {time.process_time() - started:.0f} CPU s",
            flush=True,
        )
    print(f"Kendall's tau of both: {pf.accuracy.kendall(*columns):.3f}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arch", *SPLITS])
    for arch, *values in zip(space.to_strings(archs), *columns, strict=True):
        writer.writerow([arch, *(f"{value:.4f}" for value in values)])
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV, or CSV.GZ")
    parser.add_argument("--images", default="digits", help="or images as pf.data.load reads them")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", type=int, help="some at random, instead of all")
    parser.add_argument("--work", type=Path, help="folder for what an interrupted run goes on from")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if given.work is None else given.work
        work.mkdir(parents=True, exist_ok=True)
        text = made(given, work)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.out.suffix == ".gz":
        # Without a time, so that the same table is the same file.
        given.out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
