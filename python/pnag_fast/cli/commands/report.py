"""``pnag report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...terminal import aligned
from .. import options
from ..keeping import working
from ..output import answer, answer_report

if TYPE_CHECKING:
    from ...accuracy import AccuracyModel
    from ...accuracy.validation import FrontLike


@click.command()
@click.argument("path", metavar="FOLDER|FRONT", type=options.EXISTING)
@click.option(
    "--judge",
    type=options.EXISTING,
    help="Accuracy model (.safetensors, .pth) or table (.csv) that was not searched: says which "
    "gains of a saved front it confirms.",
)
@click.option("--out", type=options.ANY_PATH, help="With --judge: every member's verdict (JSON).")
@options.force
@options.seed
@options.as_json
def report(
    path: Path, judge: Path | None, out: Path | None, force: bool, seed: int, as_json: bool
) -> None:
    """Write the picture and the page of a run anew, or judge a saved front.

    \b
    A search finds what its accuracy model overrates. A model of another kind, or
    fitted to other measurements, tells which gains are real.

    \b
    Example:
      pnag report quickstart
      pnag report quickstart/front.json --judge other.safetensors
    """  # noqa: D301
    if out is not None:
        from ... import outputs

        if judge is None:
            raise click.UsageError("--out goes with --judge; a run's report is written beside it")
        outputs.check(out, outputs.VERDICTS, inputs=[path, judge], force=force)
    if judge is not None:
        _judge(path, judge, out, seed, as_json)
        return
    if not path.is_dir():
        raise click.UsageError(f"{path} is a file: --judge says by which model to judge it")
    from ...quickstart import write_report
    from ...report import FrontReport

    loaded = FrontReport.load(path / "front.json")
    write_report(loaded, path)
    answer_report(loaded, path, as_json=as_json)


def _judge(path: Path, judge: Path, out: Path | None, seed: int, as_json: bool) -> None:
    from ... import accuracy, credibility, outputs
    from ...accuracy.validation import saved_front
    from ...report import REPORT_FORMAT, FrontReport

    if path.is_dir():
        path = path / "front.json"
    model: AccuracyModel | None = None if judge.suffix == ".csv" else accuracy.load(judge)
    front: FrontLike
    if outputs.kind_of(path) == REPORT_FORMAT:
        front = FrontReport.load(path).front(path, None if model is None else model.space)
    else:
        front = saved_front(path)
    if model is None:
        of = front.objective
        archs, top1 = accuracy.load_table(judge, front.space, objective=of)
        with working(quiet=as_json) as progress:
            model = accuracy.fit(
                front.space, archs, top1, seed=seed, objective=of, progress=progress
            )
    elif judge.suffix in (".pth", ".pt"):
        model = accuracy.load(judge, front.space)
    found = accuracy.confirm(front, model)
    if out is not None:
        found.save(out)
    facts = {**found.to_dict(), "warnings": credibility.of_model(model.report)}
    lines = [*aligned(found.head, found.table()), "", *found.findings()]
    answer(facts, lines, as_json=as_json)
