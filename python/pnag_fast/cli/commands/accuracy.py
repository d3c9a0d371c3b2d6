"""``pnag accuracy``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UnsupportedSpaceError
from ...terminal import aligned
from .. import options
from ..keeping import kept_fits, working
from ..output import answer

if TYPE_CHECKING:
    from ...accuracy import AccuracyModel
    from ...objective import Objective
    from ...spaces import Archs, SearchSpace

# Of each nested cross-validation.
_FOLDS = 5


@click.command()
@click.argument("table", type=options.EXISTING)
@options.space
@options.out("Accuracy model to write (safetensors).")
@click.option(
    "--calibrate",
    "base",
    type=options.EXISTING,
    help="Correct this model (.safetensors, .pth) by the table instead of fitting a new one.",
)
@options.objective
@options.cautious
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Nested cross-validation, by random folds and by ranges of multiply-adds.",
)
@options.checkpoint("the models that were fitted")
@options.force
@options.seed
@options.as_json
def accuracy(
    table: Path,
    space: options.Space,
    out: Path,
    base: Path | None,
    objective: Objective,
    cautious: float,
    check: bool,
    checkpoint: options.Checkpoint,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit an accuracy model to measured architectures, and say how true it is.

    \b
    TABLE is CSV with columns 'arch', in the notation of the space, and 'top1', a
    fraction, or the column of another objective.

    \b
    Example:
      pnag accuracy quickstart/accuracy.csv --space mbv3-tiny --out model.safetensors
      pnag accuracy measured.csv --space ofa-mbv3 --calibrate acc_predictor.pth \\
          --out calibrated.safetensors
    """  # noqa: D301
    from ... import accuracy, costs, credibility, outputs
    from ...files import read_bytes
    from ...threads import torch_threads

    inputs = [table, base, *options.files(space.name)]
    outputs.check(out, outputs.ACCURACY_MODEL, inputs=inputs, force=force)
    state = checkpoint.beside(out)
    if state is not None:
        outputs.check_folder(state.path, inputs=inputs, what="--checkpoint")
    searched = space.find()
    archs, top1 = accuracy.load_table(table, searched, objective=objective)
    published = None if base is None else accuracy.load(base, searched)

    def fit(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
        if published is not None:
            return accuracy.calibrate(published, archs, top1, seed=seed, objective=objective)
        return accuracy.fit(space, archs, top1, seed=seed, objective=objective)

    identity = [seed, None if base is None else read_bytes(base)]
    fit = kept_fits(state, fit, objective, identity)

    splits: dict[str, Any] = {"random folds": None} if check else {}
    if check:
        # A space of the user's own has no layers to count.
        with contextlib.suppress(UnsupportedSpaceError):
            splits["ranges of MACs"] = costs.macs(searched)(archs)
    checks: dict[str, Any] = {}
    with working(state, quiet=as_json) as progress, torch_threads(1):
        fits, total = 0, 1 + _FOLDS * len(splits)

        def counted(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
            nonlocal fits
            model = fit(space, archs, top1)
            fits += 1
            progress("fitting and checking", fits, total)
            return model

        progress("fitting and checking", 0, total)
        model = counted(searched, archs, top1)
        # Before the checks, which take longer and change nothing of it.
        model.cautious(cautious).save(out)
        for name, by in splits.items():
            checks[name] = accuracy.cross_validate(
                searched, archs, top1, counted, folds=_FOLDS, seed=seed, by=by, objective=objective
            )
    facts = {
        "model": str(out),
        "source": model.source,
        "objective": objective.to_json(),
        **model.report,
        "checks": checks,
        "warnings": credibility.distinct(
            credibility.of_model(model.report),
            *(credibility.of_model(check) for check in list(checks.values())[:1]),
        ),
    }
    reports = checks or {"folds that also chose settings": dict(model.report)}
    unit = "points" if objective.is_fraction else objective.unit
    figures = aligned(
        ["Kendall", "Spearman", f"error, {unit}" if unit else "error", "held out"],
        [
            [
                f"{r['kendall']:.3f}",
                f"{r['spearman']:.3f}",
                objective.number(r["mean_error"], 3),
                name,
            ]
            for name, r in reports.items()
        ],
    )
    answer(facts, [f"{model.source}; written to {out}", *figures], as_json=as_json)
