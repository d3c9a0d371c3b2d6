"""``pnag supernet import``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...output import answer


@click.command("import")
@click.argument("checkpoint", type=options.EXISTING)
@options.space
@options.out("Supernet to write (safetensors).")
@options.force
@options.as_json
def import_(checkpoint: Path, space: options.Space, out: Path, force: bool, as_json: bool) -> None:
    """Turn a checkpoint published with Once-for-All into a supernet; no code in it is run.

    \b
    Example:
      pnag supernet import ofa_mbv3_d234_e346_k357_w1.2 --space ofa-mbv3 --width 1.2 \\
          --out ofa.safetensors
    """  # noqa: D301
    from .... import outputs, supernet

    outputs.check(
        out, outputs.SUPERNET, inputs=[checkpoint, *options.files(space.name)], force=force
    )
    net = supernet.load_ofa(checkpoint, space.find())
    supernet.save(net, out)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    name = net.space.name
    answer(
        {"supernet": str(out), "space": name, "parameters": parameters},
        [f"{name}: {parameters / 1e6:.1f} million parameters; written to {out}"],
        as_json=as_json,
    )
