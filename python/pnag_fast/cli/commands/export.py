"""``pnag export``."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options
from ..output import answer


@click.command()
@click.option("--supernet", "supernet_path", type=options.EXISTING, required=True)
@click.option("--arch", required=True, help="Architecture in the notation of the space.")
@options.own_data
@options.other_data
@options.out("ONNX file to write.")
@options.force
@options.seed
@options.as_json
def export(
    supernet_path: Path,
    arch: str,
    images: str | None,
    other_data: bool,
    out: Path,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Cut a network out of a supernet and write it as ONNX.

    \b
    Its batch-norm statistics are measured on training images: those of --data, or those that the
    supernet carries. Class names and preprocessing go into the file.

    \b
    Example:
      pnag export --supernet quickstart/supernet.safetensors \\
          --arch "2,1,2:3,5,0,5,0,0,7,3,0:2,4,0,4,0,0,1,4,0" --out net.onnx
    """  # noqa: D301
    from ... import credibility, outputs, supernet
    from ...data import DIGITS
    from ...export import to_onnx

    outputs.check(out, outputs.ONNX, inputs=[supernet_path, *options.files(images)], force=force)
    net = supernet.load(supernet_path)
    row = net.space.from_strings([arch])[0]
    known = net.trained_on
    # Held-out images are at hand where they are given, or come with the package.
    at_hand = images is not None or (known is not None and known.name == DIGITS)
    dataset = supernet.images_of(net, images, seed=seed) if at_hand else None
    network = supernet.recalibrate(net.extract(row), dataset, other_data=other_data)
    to_onnx(network, out, metadata={"architecture": arch, "space": net.space.name})
    if dataset is None:
        top1, warnings = None, []
        line = (
            f"{out}: statistics from the images that the supernet carries; give --data to judge it"
        )
    else:
        judged = dataset.validation
        top1 = supernet.accuracy(network, judged.images, judged.labels)
        warnings = credibility.of_judged(
            [top1], len(dataset.classes), len(judged), what="exported networks"
        )
        line = f"{out}: top-1 {100 * top1:.1f} % on validation images"
    facts = {"onnx": str(out), "arch": arch, "top1_validation": top1, "warnings": warnings}
    answer(facts, [line], as_json=as_json)
