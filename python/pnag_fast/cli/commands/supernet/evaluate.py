"""``pnag supernet evaluate``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ... import options
from ...keeping import working
from ...output import answer

if TYPE_CHECKING:
    from ....progress import ProgressCallback
    from ....spaces import Archs
    from ....typing import FloatArray

# Of the architectures, those that are chosen where it is not said how many.
_SHARE = 0.5


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
    "--active",
    is_flag=True,
    help="Choose part of them by what the judged ones say, where a front may lie; needs --table.",
)
@click.option(
    "--table",
    "table_paths",
    type=options.EXISTING,
    multiple=True,
    help="Cost table (JSON) of the supernet's space that --active chooses by. Repeatable.",
)
@click.option(
    "--share",
    type=options.FloatRange(0, 1, min_open=True, max_open=True),
    default=None,
    help="Of the architectures that --active chooses.  [default: 0.5]",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=None,
    help="Architectures that --active chooses at a time.  [default: 25]",
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
    active: bool,
    table_paths: tuple[Path, ...],
    share: float | None,
    batch: int | None,
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
    With --active half of them are drawn, and the others chosen by a model of what
    was judged so far and the cost tables: where a front may still move. That says
    more of the networks that one would use than as many drawn ones.

    \b
    Example:
      pnag supernet evaluate photos.safetensors --data photos/ --out photos.csv
      pnag supernet evaluate photos.safetensors --active --table phone.json \\
          --out photos.csv
    """  # noqa: D301
    import numpy as np

    from .... import accuracy, credibility, outputs, supernet
    from ....asking import BATCH, ask
    from ....costs import CostTable

    if active and not table_paths:
        raise click.UsageError(
            "--active chooses by what networks cost: give --table, a cost table of the supernet's "
            "space, as 'pnag measure' or 'pnag table macs' makes one"
        )
    for given, name in ((table_paths, "--table"), (share, "--share"), (batch, "--batch")):
        if given and not active:
            raise click.UsageError(f"{name} goes with --active")
    outputs.check(
        out,
        outputs.ACCURACY_TABLE,
        inputs=[path, *table_paths, *options.files(images)],
        force=force,
    )
    state = checkpoint.beside(out, older=".journal", head=1)
    net = supernet.load(path)
    dataset = supernet.images_of(net, images, seed=seed)
    tables = [CostTable.load(table).for_space(net.space) for table in table_paths]
    share = _SHARE if share is None else share
    n_chosen = min(round(architectures * share), architectures - 1) if active else 0
    n_drawn = architectures - n_chosen
    sample = supernet.sample_related if related else type(net.space).sample
    drawn = sample(net.space, n_drawn, seed=seed)
    # Models refuse codes that nothing measured has: a few architectures that have all of them take
    # the place of as many drawn ones.
    every_code = accuracy.covering(net.space)
    if len(every_code) <= n_drawn // 2:
        drawn = np.concatenate([every_code, drawn])
    _, first = np.unique(drawn, axis=0, return_index=True)
    archs = np.unique(drawn[np.sort(first)[:n_drawn]], axis=0)
    n_first = len(archs)
    started = time.perf_counter()
    with working(state, quiet=as_json) as progress:

        def judge(archs: Archs, progress: ProgressCallback) -> FloatArray:
            return supernet.evaluate(
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

        if active:
            archs, top1 = ask(
                judge,
                tables,
                archs,
                architectures,
                batch=BATCH if batch is None else batch,
                seed=seed,
                progress=progress,
            )
        else:
            top1 = judge(archs, progress)
        per_second = len(archs) / (time.perf_counter() - started)
        accuracy.save_table(out, net.space, archs, top1)
    judged = dataset.validation if split == "validation" else dataset.test
    guessing = credibility.of_judged(
        top1, len(dataset.classes), len(judged), what="evaluated architectures"
    )
    facts = {
        "architectures": len(archs),
        "chosen": len(archs) - n_first,
        "architectures_per_second": per_second,
        "lowest_top1": float(top1.min()),
        "highest_top1": float(top1.max()),
        "table": str(out),
        "warnings": credibility.distinct(guessing, dataset.warnings),
    }
    chosen = f", {len(archs) - n_first} of them chosen" if active else ""
    line = (
        f"{len(archs)} architectures{chosen} ({per_second:.3g} a second), top-1 from "
        f"{100 * top1.min():.1f} to {100 * top1.max():.1f} %; written to {out}"
    )
    answer(facts, [line], as_json=as_json)
