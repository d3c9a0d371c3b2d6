"""``pnag confirm``."""

from __future__ import annotations

import contextlib
import math
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ... import quantities
from ...errors import MeasurementError
from ...terminal import aligned, printable
from .. import bounds, options
from ..keeping import working
from ..output import answer
from ..tables import asked_device

if TYPE_CHECKING:
    from ...costs import CostTable
    from ...latency import Confirmed
    from ...spaces import Archs
    from ...typing import FloatArray

# Of what a program says as it fails, its end.
_SAID = 500


@click.command()
@click.argument("path", metavar="GENERATOR", type=options.EXISTING)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    required=True,
    metavar="BOUND[,BOUND...]",
    help="As for 'pnag generate'; what is measured is the device's cost. Repeatable.",
)
@click.option("--device", help="A device that the generator knows, or its cost table (JSON).")
@click.option(
    "--program",
    help="What measures: it is given the name of a CSV file as its last argument, and fills in the "
    "column beside 'arch', in the table's unit [default: TVM, with the tiles of the table, which "
    "'pnag measure' has to have made].",
)
@click.option("--target", default="llvm", show_default=True, help="Of TVM.")
@click.option("--runner", default="local", show_default=True, help="Of TVM, as 'pnag measure'.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="At most.")
@options.out("Corrected generator to write (safetensors).")
@options.checkpoint("all measurements", stays="a folder that stays: the next call knows them")
@options.force
@options.seed
@options.as_json
def confirm(
    path: Path,
    budgets: tuple[str, ...],
    device: str | None,
    program: str | None,
    target: str,
    runner: str,
    rounds: int,
    out: Path,
    checkpoint: options.Checkpoint,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Have answers measured until each is within its budget, and correct the table by it.

    \b
    Run it again with the same options to go on after an interruption.

    \b
    Example:
      pnag confirm generator.safetensors --budget 30% --budget 60% --out corrected.safetensors
      pnag confirm fleet.safetensors --device pi5 --budget 20ms --program "python on_pi5.py" \\
          --out corrected.safetensors
    """  # noqa: D301
    from ... import credibility, files, latency, outputs
    from ...generator import Generator

    inputs = [path, *([Path(device)] if device is not None and Path(device).exists() else [])]
    outputs.check(out, outputs.GENERATOR, inputs=inputs, force=force)
    state = checkpoint.beside(out)
    if state is not None:
        outputs.check_folder(state.path, inputs=inputs, what="--checkpoint")
        state = state._replace(temporary=False)
    generator = Generator.load(path)
    of = asked_device(generator, device)
    view = generator.on(of)
    table = view.tables[0]
    if program is None and "reference_ms" not in table.provenance:
        raise click.UsageError(
            f"the table of '{table.device}' was not made by 'pnag measure', so nobody knows that "
            "TVM would time the same device: name what does by --program"
        )
    wanted = bounds.vectors(budgets, view.tables)
    with contextlib.ExitStack() as context:
        progress = context.enter_context(working(state, quiet=as_json))
        folder = Path(
            context.enter_context(tempfile.TemporaryDirectory(prefix="pnag-"))
            if state is None
            else state.path
        )
        files.make_folder(folder)
        measure: Callable[[Archs], FloatArray] = (
            latency.timer(table, target=target, runner=runner, checkpoint=folder, progress=progress)
            if program is None
            else _Program(shlex.split(program), table, folder)
        )
        found = latency.confirm(
            generator,
            wanted,
            measure,
            device=of,
            rounds=rounds,
            seed=seed,
            checkpoint=folder / "confirmed.jsonl",
            progress=progress,
        )
    found.generator.save(out)
    rows = [_row(found, i) for i in range(len(found))]
    facts = {
        "generator": str(out),
        "device": table.device,
        "confirmed": int(found.confirmed.sum()),
        "networks": found.networks,
        "rounds": found.n_rounds,
        "spread": found.spread,
        "answers": rows,
        "warnings": credibility.of_table(table.provenance, table.device),
    }
    unit = table.unit
    objective = generator.model.objective
    cells = [
        [
            quantities.shown(found.budgets[i, 0], unit, 6),
            f"{row['measured']:.4g}",
            "yes" if row["confirmed"] else "no",
            quantities.with_std(found.costs[i, 0], found.costs_std[i, 0], unit),
            objective.number(row["top1"]),
            row["arch"],
        ]
        for i, row in enumerate(rows)
    ]
    head = ["budget", f"measured {unit}".rstrip(), "within", "by the table", objective.label]
    lines = [
        *aligned([*head, "architecture"], cells),
        *dict.fromkeys(filter(None, found.notes)),
        f"{facts['confirmed']} of {len(found)} budgets confirmed on {table.device}: "
        f"{found.networks} networks measured in {found.n_rounds} rounds",
        f"written to {out}",
    ]
    answer(facts, lines, as_json=as_json)


class _Program:
    """Measures by a program of the user's, which fills in a file."""

    def __init__(self, command: list[str], table: CostTable, folder: Path) -> None:
        self._command, self._table, self._path = command, table, folder / "measure.csv"

    def __call__(self, archs: Archs) -> FloatArray:
        import numpy as np

        from ... import costs

        table = self._table
        column = options.column_of(table.metric, table.unit)
        costs.save_measured(self._path, table.space, archs, column=column)
        try:
            done = subprocess.run(  # noqa: S603 - what the user gave to be run
                [*self._command, str(self._path)],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise MeasurementError(
                f"cannot run {self._command[0]!r}: {error.strerror or error}; give --program the "
                "name of a program and its arguments"
            ) from error
        if done.returncode:
            said = printable((done.stderr.strip() or done.stdout.strip())[-_SAID:])
            raise MeasurementError(
                f"'{shlex.join(self._command)}' ended with exit code {done.returncode}"
                + (f": {said}" if said else "")
            )
        _, measured, values = costs.load_measured(self._path, table.space, column=column)
        if not np.array_equal(measured, archs):
            raise MeasurementError(
                f"'{shlex.join(self._command)}' left other networks in the file than it was given; "
                f"it should fill in the column '{column}' and leave the rest as it is"
            )
        return values


def _row(found: Confirmed, row: int) -> dict[str, Any]:
    """Say what is known of one answer, JSON."""
    arch = found.archs[row]
    return {
        # JSON knows no infinity: null is a cost that was left open.
        "budget": [v if math.isfinite(v) else None for v in found.budgets[row].tolist()],
        "confirmed": bool(found.confirmed[row]),
        "measured": float(found.measured[row]),
        "repeats": int(found.repeats[row]),
        "round": int(found.rounds[row]),
        "arch": found.generator.space.to_strings(arch[None])[0],
        "codes": arch.tolist(),
        "costs": found.costs[row].tolist(),
        "costs_std": found.costs_std[row].tolist(),
        "top1": float(found.top1[row]),
        "top1_std": float(found.top1_std[row]),
        "source": found.source[row],
        "note": found.notes[row],
    }
