"""``pnag measure``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..keeping import working
from ..output import answer, numbers

if TYPE_CHECKING:
    from ...costs import CostTable


@click.command()
@options.space
@options.out("Cost table to write (JSON).")
@click.option("--target", default="llvm", show_default=True, help="TVM target.")
@click.option(
    "--runner",
    default="local",
    show_default=True,
    help="Where to measure: 'local', or rpc://HOST:PORT/KEY for the devices of a TVM tracker.",
)
@click.option(
    "--trials",
    type=click.IntRange(0),
    default=1400,
    show_default=True,
    help="Schedules to measure in all; 0 measures the code that fixed rules give. What is already "
    "tuned is kept, and more trials add to it.",
)
@click.option(
    "--networks",
    type=click.IntRange(4),
    default=20,
    show_default=True,
    help="Whole networks to measure.",
)
@click.option(
    "--blocks",
    type=click.IntRange(0, 1),
    default=1,
    show_default=True,
    help="0 measures whole networks alone, for devices on which blocks cannot be run.",
)
@click.option(
    "--prior",
    "priors",
    type=options.EXISTING,
    multiple=True,
    help="With --blocks 0: the table of another device, which this one may resemble; repeat it "
    "[default: that of the multiply-adds].",
)
@options.checkpoint(
    "all measurements",
    stays="a folder that stays: later measurements start from it",
    older="--work-dir",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@options.force
@options.seed
@options.as_json
def measure(
    space: options.Space,
    out: Path,
    target: str,
    runner: str,
    trials: int,
    networks: int,
    blocks: int,
    priors: tuple[Path, ...],
    checkpoint: options.Checkpoint,
    threads: int,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a latency table of a search space with TVM.

    \b
    Example:
      pnag measure --space mbv3-tiny --out cpu.json
      pnag measure --blocks 0 --networks 30 --prior cpu.json --out other.json
    """  # noqa: D301
    import tempfile

    from ... import credibility, latency, outputs
    from ...costs import CostTable

    if blocks and priors:
        raise click.UsageError("--prior is for tables of whole networks: give --blocks 0 with it")
    inputs = [*options.files(space.name), *priors]
    outputs.check(out, outputs.COST_TABLE, inputs=inputs, force=force)
    state = checkpoint.beside(out, older=".work")
    if state is not None:
        outputs.check_folder(state.path, inputs=inputs, what="--checkpoint")
        # The next measurement, of more trials or another space, starts from it.
        state = state._replace(temporary=False)
    elif checkpoint.wanted:
        raise click.UsageError(
            f"--out {out} is no file: --checkpoint says where to keep the measurements, "
            "--no-checkpoint keeps none"
        )
    found = space.find()
    known = [CostTable.load(path) for path in priors]
    with contextlib.ExitStack() as context:
        progress = context.enter_context(working(state, quiet=as_json))
        folder = (
            context.enter_context(tempfile.TemporaryDirectory(prefix="pnag-"))
            if state is None
            else state.path
        )
        table = latency.measure(
            found,
            target=target,
            runner=runner,
            tuning_trials=trials,
            n_networks=networks,
            blocks=bool(blocks),
            prior=known or None,
            checkpoint=folder,
            threads=threads,
            seed=seed,
            progress=progress,
        )
        table.save(out)
    low, high = table.bounds
    facts = {
        "space": found.name,
        "device": table.device,
        "fastest_ms": low,
        "slowest_ms": high,
        "correction": table.provenance.get("correction"),
        "held_out": table.provenance.get("held_out"),
        "tuning_trials": table.provenance["tuning_trials"],
        "tuning_speedup": table.provenance["tuning"]["speedup"],
        "unsteady_blocks": [
            key for key, block in table.provenance.get("blocks", {}).items() if not block["steady"]
        ],
        "table": str(out),
        "warnings": credibility.of_table(table.provenance, table.device),
    }
    answer(facts, _lines(facts, table), as_json=as_json)


def _lines(facts: dict[str, Any], table: CostTable) -> Iterator[str]:
    from ...latency.correction import GOOD_R2

    yield (
        f"{facts['space']} on {facts['device']}: {facts['fastest_ms']:.3f} to "
        f"{facts['slowest_ms']:.3f} ms, written to {facts['table']}"
    )
    if facts["tuning_trials"]:
        yield (
            f"tuned with {facts['tuning_trials']} trials: kernels are "
            f"{facts['tuning_speedup']:.2f}x as fast as by rule (geometric mean)"
        )
    else:
        yield "not tuned: the code is what fixed rules give"
    quality = facts["correction"] or facts["held_out"]
    yield f"whole networks against the table: {numbers(quality)}"
    if not facts["warnings"] and quality["r2"] < GOOD_R2:
        yield (
            f"that is worse than R2 {GOOD_R2}: do not trust this table for close decisions; "
            "measure again with the device left alone"
        )
    if unsteady := facts["unsteady_blocks"]:
        yield (
            f"{len(unsteady)} of {len(table.provenance['blocks'])} blocks are unsteady (spread "
            f"above 5 %), among them {unsteady[0]}; the table marks them"
        )
