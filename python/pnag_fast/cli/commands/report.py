"""``pnag report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...terminal import aligned
from .. import options
from ..keeping import working
from ..output import answer, answer_report
from ..tables import reachable_lines

if TYPE_CHECKING:
    from ...accuracy import AccuracyModel
    from ...accuracy.validation import FrontLike


@click.command()
@click.argument("path", metavar="FOLDER|FRONT|GENERATOR", type=options.EXISTING)
@click.option(
    "--judge",
    type=options.EXISTING,
    help="Accuracy model (.safetensors, .pth) or table (.csv) that was not searched: says which "
    "gains of a saved front, or of a generator's archive, it confirms.",
)
@click.option(
    "--out",
    type=options.ANY_PATH,
    help="Of a generator: the page to write [default: GENERATOR.html]. With --judge: every "
    "member's verdict (JSON).",
)
@options.confidence
@options.force
@options.seed
@options.as_json
def report(
    path: Path,
    judge: Path | None,
    out: Path | None,
    confidence: float | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Write the page of a run or of a generator, or judge a saved front.

    \b
    The page of a generator shows the front of each of its devices, and what it
    answers to budgets over the range of each.

    \b
    A search finds what its accuracy model overrates. A model of another kind, or
    fitted to other measurements, tells which gains are real.

    \b
    Example:
      pnag report quickstart
      pnag report fleet.safetensors --confidence 0.95
      pnag report quickstart/front.json --judge other.safetensors
    """  # noqa: D301
    from ... import outputs

    if judge is None and path.is_file() and outputs.kind_of(path) == outputs.GENERATOR.name:
        _of_generator(path, out, confidence, force, as_json)
        return
    if confidence is not None:
        raise click.UsageError("--confidence goes with a generator")
    if out is not None:
        if judge is None:
            raise click.UsageError("--out goes with --judge; a run's report is written beside it")
        outputs.check(out, outputs.VERDICTS, inputs=[path, judge], force=force)
    if judge is not None:
        _judge(path, judge, out, seed, as_json)
        return
    if not path.is_dir():
        raise click.UsageError(
            f"{path} is a file, and no generator: --judge says by which model to judge a front"
        )
    from ...quickstart import write_report
    from ...report import FrontReport

    loaded = FrontReport.load(path / "front.json")
    write_report(loaded, path)
    answer_report(loaded, path, as_json=as_json)


def _of_generator(
    path: Path, out: Path | None, confidence: float | None, force: bool, as_json: bool
) -> None:
    from ... import files, outputs
    from ...generator import Generator
    from ...generator_report import GeneratorReport

    page = path.with_suffix(".html") if out is None else out
    outputs.check(page, outputs.PAGE, inputs=[path], force=force)
    generator = Generator.load(path)
    found = GeneratorReport(generator, confidence)
    files.write_text(page, found.to_html(found.plot()))
    facts = {
        "report": str(page),
        "devices": [view.tables[0].device for view in found.views],
        "answers": [
            dict(zip(found.head, row, strict=True), device=view.tables[0].device)
            for i, view in enumerate(found.views)
            for row in found.table(i)
        ],
        "warnings": found.warnings,
    }
    lines = [*reachable_lines(generator), f"The whole story: {page}"]
    answer(facts, lines, as_json=as_json)


def _judge(path: Path, judge: Path, out: Path | None, seed: int, as_json: bool) -> None:
    from ... import accuracy, credibility, outputs
    from ...accuracy.validation import saved_front
    from ...generator import Generator
    from ...report import REPORT_FORMAT, FrontReport

    if path.is_dir():
        path = path / "front.json"
    model: AccuracyModel | None = None if judge.suffix == ".csv" else accuracy.load(judge)
    front: FrontLike
    kind = outputs.kind_of(path)
    if kind == outputs.GENERATOR.name:
        front = Generator.load(path).archive
    elif kind == REPORT_FORMAT:
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
