"""``pnag supernet evaluate``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from ... import options
from ...keeping import working
from ...output import answer


@click.command()
@click.argument("path", type=options.EXISTING)
@options.own_data
@options.other_data
@options.out("Accuracy table to write (CSV).")
@click.option("--architectures", type=click.IntRange(1), default=300, show_default=True)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Images to judge on.",
)
@click.option(
    "--related",
    is_flag=True,
    help="Sample architectures that share their first stages: several times as fast.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="In which the images are computed.",
)
@options.checkpoint("what was judged", older="--journal", older_flag="--no-journal")
@options.torch_threads
@options.force
@options.seed
@options.as_json
def evaluate(
    path: Path,
    images: str | None,
    other_data: bool,
    out: Path,
    architectures: int,
    split: Literal["validation", "test"],
    related: bool,
    precision: Literal["float32", "bfloat16"],
    checkpoint: options.Checkpoint,
    threads: int | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure the accuracy of sampled architectures on held-out images.

    Images are split as they were when the supernet was trained; --seed is that of the sample.
    Run it again with the same options to go on after an interruption.

    \b
    Example:
      pnag supernet evaluate photos.safetensors --data photos/ --out photos.csv
    """  # noqa: D301
    import numpy as np

    from .... import accuracy, credibility, outputs, supernet

    outputs.check(out, outputs.ACCURACY_TABLE, inputs=[path, *options.files(images)], force=force)
    state = checkpoint.beside(out, older=".journal", head=1)
    net = supernet.load(path)
    dataset = supernet.images_of(net, images, seed=seed)
    sample = supernet.sample_related if related else type(net.space).sample
    drawn = sample(net.space, architectures, seed=seed)
    # Models refuse codes that nothing measured has: a few architectures that have all of them take
    # the place of as many drawn ones.
    every_code = accuracy.covering(net.space)
    if len(every_code) <= architectures // 2:
        drawn = np.concatenate([every_code, drawn])
    _, first = np.unique(drawn, axis=0, return_index=True)
    archs = np.unique(drawn[np.sort(first)[:architectures]], axis=0)
    started = time.perf_counter()
    with working(state, quiet=as_json) as progress:
        top1 = supernet.evaluate(
            net,
            archs,
            dataset,
            split=split,
            precision=precision,
            checkpoint=None if state is None else state.path,
            other_data=other_data,
            threads=threads,
            progress=progress,
        )
        per_second = len(archs) / (time.perf_counter() - started)
        accuracy.save_table(out, net.space, archs, top1)
    judged = dataset.validation if split == "validation" else dataset.test
    guessing = credibility.of_judged(
        top1, len(dataset.classes), len(judged), what="evaluated architectures"
    )
    facts = {
        "architectures": len(archs),
        "architectures_per_second": per_second,
        "lowest_top1": float(top1.min()),
        "highest_top1": float(top1.max()),
        "table": str(out),
        "warnings": credibility.distinct(guessing, dataset.warnings),
    }
    line = (
        f"{len(archs)} architectures ({per_second:.3g} a second), top-1 from "
        f"{100 * top1.min():.1f} to {100 * top1.max():.1f} %; written to {out}"
    )
    answer(facts, [line], as_json=as_json)
