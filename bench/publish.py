"""Put a trained supernet into the package, with a record of how it was made and what it reaches.

    python bench/publish.py mbv3-cifar.safetensors --data ../shared/data/cifar10 \
        --command "pnag supernet train ..." --architectures 2000

Writes python/pnag_fast/published/NAME.safetensors, NAME.json and NAME.csv: the top-1 of sampled
architectures on the test images, each with batch-norm statistics of its own. What is judged is kept
in a journal beside the supernet, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import platform
from pathlib import Path

import numpy as np
import torch

import pnag_fast as pf
from pnag_fast import files

PUBLISHED = Path(__file__).parents[1] / "python" / "pnag_fast" / "published"
LARGEST_FILE = 20 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("supernet", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--command", required=True, help="what made the weights")
    parser.add_argument("--architectures", type=int, default=2000)
    parser.add_argument("--images", type=int, default=1000, help="test images to judge on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=PUBLISHED, help="default: into the package")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = pf.supernet.load(given.supernet)
    name = net.space.name
    data = pf.data.load(given.data, max(net.space.resolutions))
    chosen = slice(given.images)  # the shards are in random order
    test = pf.data.Split(data.test.images[chosen], data.test.labels[chosen])
    extremes = pf.supernet.evaluate(net, pf.supernet.extremes(net.space), data, split="test")
    data = dataclasses.replace(data, test=test)
    if given.supernet.stat().st_size > LARGEST_FILE:
        raise SystemExit(f"{given.supernet} is larger than {LARGEST_FILE} bytes")
    archs = np.unique(
        np.concatenate(
            [
                pf.supernet.extremes(net.space),
                # They share layers, which are then computed once.
                pf.supernet.sample_related(net.space, given.architectures, seed=0),
            ]
        ),
        axis=0,
    )
    top1 = pf.supernet.evaluate(
        net, archs, data, split="test", checkpoint=given.supernet.with_suffix(".judged")
    )
    # Without the training images that it carries.
    pf.supernet.save(net, given.out / f"{name}.safetensors", calibration=False)
    pf.accuracy.save_table(given.out / f"{name}.csv", net.space, archs, top1)
    files.write_json(
        given.out / f"{name}.json",
        "pnag-published",
        1,
        {
            "space": name,
            "command": given.command,
            "supernet_sha256": hashlib.sha256(
                (given.out / f"{name}.safetensors").read_bytes()
            ).hexdigest(),
            "machine": f"{platform.machine()}, torch {torch.__version__}",
            "table_test_images": len(data.test),
            "architectures": len(archs),
            "top1_smallest": float(extremes[0]),
            "top1_largest": float(extremes[1]),
            "top1_mean": float(top1.mean()),
            "top1_range": [float(top1.min()), float(top1.max())],
        },
    )
    print(f"{name}: {len(archs)} architectures, {top1.min():.4f} to {top1.max():.4f}")


if __name__ == "__main__":
    main()
