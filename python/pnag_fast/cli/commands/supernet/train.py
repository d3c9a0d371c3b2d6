"""``pnag supernet train``."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import click

from ....errors import InvalidInputError
from ....terminal import say, say_json
from ... import options
from ...keeping import working
from ...output import answer


@click.command()
@options.space
@options.data
@options.out("Supernet to write (safetensors).")
@click.option(
    "--recipe",
    type=click.Choice(["sandwich", "single-path", "progressive", "compound", "compound-elastic"]),
    default="sandwich",
    show_default=True,
    help="Which networks learn at each step, and from what; --dry-run spells it out.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=24, show_default=True, help="Of each long phase."
)
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True)
@click.option("--learning-rate", type=float, default=8e-3, show_default=True, help="Peak.")
@click.option("--random", "n_random", type=click.IntRange(0), help="Random networks a step.")
@click.option("--max-shift", type=click.IntRange(0), default=1, show_default=True, help="Pixels.")
@click.option("--flip", is_flag=True, help="Mirror half of the images; not for digits or letters.")
@click.option(
    "--min-area",
    type=options.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Below 1, show random parts of images, of at least this share.",
)
@click.option(
    "--ema",
    type=options.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Decay of a running average of the weights, for instance 0.999; 0 for none.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the layers' arithmetic; float16 is for GPUs.",
)
@click.option("--device", help="For instance cuda:1 [default: a GPU where there is one].")
@options.checkpoint("the state of training")
@click.option("--checkpoint-every", type=click.IntRange(1), help="Steps; after each epoch anyway.")
@click.option("--dry-run", is_flag=True, help="Print the phases and stop.")
@options.torch_threads
@options.force
@options.seed
@options.as_json
def train(
    space: options.Space,
    images: str,
    out: Path,
    recipe: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    n_random: int | None,
    max_shift: int,
    flip: bool,
    min_area: float,
    ema: float,
    precision: str,
    device: str | None,
    checkpoint: options.Checkpoint,
    checkpoint_every: int | None,
    dry_run: bool,
    threads: int | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a supernet on images; run it again to go on after an interruption.

    \b
    Example:
      pnag supernet train --data photos/ --space mbv3-cifar --out photos.safetensors

    \b
    On several GPUs or machines (every process takes a part of every batch):
      torchrun --nproc-per-node 2 --no-python pnag supernet train --data photos/ ...
    """  # noqa: D301
    from .... import credibility, data, outputs, supernet

    # How many classes there are, the images say.
    plain = space._replace(classes=None).find()
    plain.require_network("a supernet")
    phases = supernet.plan(
        recipe, plain, epochs=epochs, learning_rate=learning_rate, n_random=n_random
    )
    if dry_run:
        if as_json:
            say_json([dataclasses.asdict(phase) for phase in phases])
        else:
            for phase in phases:
                say(phase.describe())
        return
    outputs.check(out, outputs.SUPERNET, inputs=options.files(images, space.name), force=force)
    dataset = data.find(images, max(plain.resolutions), seed=seed)
    n_classes = len(dataset.classes)
    if space.classes not in (None, n_classes):
        raise InvalidInputError(
            f"--classes is {space.classes}, but '{images}' has {n_classes} classes"
        )
    net = supernet.build(plain.with_classes(n_classes), seed=seed)
    state = checkpoint.beside(out)
    with contextlib.ExitStack() as context:
        found = context.enter_context(supernet.distributed.joined())
        first = supernet.distributed.world()[0] == 0
        if device or found:
            net.to(supernet.device(str(device or found)))
        # One process writes the file, and removes it when it is done.
        progress = context.enter_context(
            working(state if first else None, quiet=as_json or not first)
        )
        log = supernet.train(
            net,
            dataset,
            recipe=phases,
            batch_size=batch_size,
            max_shift=max_shift,
            flip=flip,
            min_area=min_area,
            ema=ema,
            precision=precision,
            seed=seed,
            threads=threads,
            checkpoint=None if state is None else state.path,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
        if not first:
            return
        supernet.save(net, out)
    smallest, largest = supernet.evaluate(net, supernet.extremes(net.space), dataset)
    # Both the training and what is judged here may find that the networks guess: once is enough.
    guessing = log.warnings or credibility.of_judged(
        [smallest, largest],
        n_classes,
        len(dataset.validation),
        what="trained networks (the smallest and the largest)",
    )
    facts = {
        "supernet": str(out),
        "recipe": recipe,
        "epochs": len(log.epochs),
        "loss": log.epochs[-1].loss,
        "distillation_loss": log.epochs[-1].distillation_loss,
        "top1_smallest": float(smallest),
        "top1_largest": float(largest),
        "warnings": credibility.distinct(guessing, dataset.warnings),
    }
    line = (
        f"{net.space.name}: smallest network {100 * smallest:.1f} %, largest {100 * largest:.1f} % "
        f"on validation images; written to {out}"
    )
    answer(facts, [line], as_json=as_json)
