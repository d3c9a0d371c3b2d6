"""What a run found, as CSV, JSON, a picture, and one self-contained page."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from . import files, pareto
from .errors import FileFormatError, InvalidInputError, MissingDependencyError
from .objective import TOP1, Objective
from .terminal import printable

if TYPE_CHECKING:
    from .spaces import Archs, SearchSpace

__all__ = ["Answer", "Evaluated", "FrontReport"]

REPORT_FORMAT = "pnag-front-report"
# 2 has several costs, and how answers were measured; 3 a random search beside what was chosen.
REPORT_VERSION = 3

# No figure of a run comes near.
_HUGE = 1e30

# A device whose speed changes by less is called steady.
_STEADY = 0.02

# Okabe and Ito's palette: distinct for colour-blind readers too.
_GREY, _BLUE, _ORANGE, _GREEN = "#b8b8b8", "#0072b2", "#d55e00", "#009e73"
_SKY = "#56b4e9"


@dataclass(frozen=True)
class Evaluated:
    """An architecture of the accuracy table: its measured quality, its cost by the cost table.

    ``chosen`` says whether it was judged because of what was known of others; drawn otherwise.
    Here and in `Answer` ``latency`` and ``top1`` stand for the cost and the objective of the
    report, in their own units: milliseconds and top-1, unless it says others.
    """

    arch: str
    latency_ms: float
    top1: float
    chosen: bool = False


@dataclass(frozen=True)
class Answer:
    """What the generator answered to one budget, predicted and measured.

    ``top1_validation`` is measured on the images on which the accuracy table was measured,
    ``top1_test`` on images that nothing has used before. ``evaluated_top1_test`` is the same for
    the best of the evaluated architectures within the budget, chosen on the validation images.
    ``random_top1_validation`` and ``random_top1_test`` are those of the best of as many that were
    drawn at random, chosen in the same way, where such were judged: random search. In the first
    reports all that were evaluated were drawn.

    ``predicted_latency_std_ms`` is what the table knows of its own error: 0 where it is exact.
    ``confirmed`` says whether repeated measurements put it within its budget, where anybody tried
    to have all of them so (`pnag_fast.latency.confirm`): ``measured_latency_ms`` is the median of
    ``measurements`` then, and the network was found in ``round`` of asking and measuring.
    """

    budget_ms: float
    arch: str
    source: str
    predicted_latency_ms: float
    measured_latency_ms: float
    predicted_top1: float
    predicted_top1_std: float
    top1_validation: float
    top1_test: float
    evaluated_top1_test: float
    macs: int
    parameters: int
    onnx: str
    predicted_latency_std_ms: float = 0.0
    confirmed: bool | None = None
    measurements: int = 1
    round: int = 1
    random_top1_validation: float | None = None
    random_top1_test: float | None = None

    @property
    def room(self) -> float:
        """What the measurement leaves of the budget, as a share; negative where it is missed."""
        return 1 - self.measured_latency_ms / self.budget_ms

    @property
    def within_budget(self) -> bool:
        """Whether it is within its budget by what was measured."""
        if self.confirmed is not None:
            return self.confirmed
        return self.measured_latency_ms <= self.budget_ms

    @property
    def latency_error(self) -> float:
        """Measured over predicted latency, minus one."""
        return self.measured_latency_ms / self.predicted_latency_ms - 1


@dataclass(frozen=True)
class OtherCost:
    """A cost that budgets bounded beside the first, of every answer of a report.

    Attributes
    ----------
    metric, unit, device : str
    budgets : sequence of float or None
        One for each answer; None where it was left open.
    predicted : sequence of float
        By the cost's table, one for each answer.
    """

    metric: str
    unit: str
    device: str
    budgets: Sequence[float | None]
    predicted: Sequence[float]


@dataclass(frozen=True, eq=False)
class ReportedFront:
    """The answers of a report as a front: cheapest first, as they were predicted."""

    space: SearchSpace
    archs: Archs
    top1: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    cost_labels: tuple[str, ...]
    accuracy_source: str
    objective: Objective = TOP1


@dataclass(frozen=True)
class FrontReport:
    """Everything that the picture and the page are made of.

    Attributes
    ----------
    objective : Objective
        What ``top1`` of the rows is.
    metric, unit : str
        What ``latency`` of the rows is.
    slowdown : float
        How many times slower the device was while the answers were measured than while the latency
        table was, by networks that were timed both times. Measured latencies are divided by it.
    sections : dict
        Named facts for the page (section -> name -> value), in the order they are shown.
    warnings : sequence of str
        What makes the whole doubtful, with the remedy; shown before anything else.
    definition : mapping, optional
        Of the space; absent in the first reports.
    others : sequence of OtherCost
        Costs that budgets bounded beside that of the device.
    drawn : int
        Architectures that random search judged, where it is compared with; 0 otherwise.
    """

    space: str
    device: str
    accuracy_source: str
    evaluated: Sequence[Evaluated]
    answers: Sequence[Answer]
    slowdown: float = 1.0
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    definition: Mapping[str, Any] | None = None
    objective: Objective = TOP1
    metric: str = "latency"
    unit: str = "ms"
    others: Sequence[OtherCost] = ()
    drawn: int = 0

    # --- files -------------------------------------------------------------------------------

    def save(self, path: files.StrPath) -> None:
        """Write the report as versioned JSON."""
        body = {**asdict(self), "objective": self.objective.to_json()}
        files.write_json(path, REPORT_FORMAT, REPORT_VERSION, body)

    @classmethod
    def load(cls, path: files.StrPath) -> FrontReport:
        """Read a report; `FileFormatError` says what is wrong with the file."""
        document = files.read_json(path, REPORT_FORMAT, REPORT_VERSION)
        # The first reports were of top-1 and milliseconds, and did not say so.
        document = {
            "objective": TOP1.to_json(),
            "metric": "latency",
            "unit": "ms",
            "definition": None,
            "others": [],
            "drawn": 0,
            **document,
        }
        try:
            return cls(
                files.require(document, "space", str, path),
                files.require(document, "device", str, path),
                files.require(document, "accuracy_source", str, path),
                _rows(Evaluated, document, "evaluated", path),
                _rows(Answer, document, "answers", path),
                _slowdown(document, path),
                _sections(document, path),
                _warnings(document, path),
                files.require(document, "definition", (dict, type(None)), path),
                Objective.from_json(files.require(document, "objective", dict, path), path),
                files.require(document, "metric", str, path),
                files.require(document, "unit", str, path),
                _others(document, path),
                files.integer(document["drawn"], f"'{path}': field 'drawn'", low=0),
            )
        except TypeError as error:
            raise FileFormatError(f"'{path}' is not a valid front report: {error}") from error

    def front(self, path: files.StrPath, space: SearchSpace | None = None) -> ReportedFront:
        """Return the answers as a front, for `pnag_fast.accuracy.confirm`.

        Parameters
        ----------
        path : path
            Where the report was read, for errors.
        space : SearchSpace, optional
            Of a report that does not define its own; default: the built-in one of its name.
        """
        from . import spaces
        from .accuracy.validation import cost_label

        if self.definition is not None:
            space = spaces.from_definition(dict(self.definition), f"'{path}'")
        elif space is None or space.name != self.space:
            if self.space not in spaces.names():
                raise InvalidInputError(
                    f"'{path}' does not define its space '{self.space}', as reports of this "
                    "release do; judge it by an accuracy model of that space, which does, or run "
                    "the quickstart again in its folder"
                )
            space = spaces.get(self.space)
        order = np.argsort([a.predicted_latency_ms for a in self.answers], kind="stable").tolist()
        answers = [self.answers[i] for i in order]
        costs = [
            [a.predicted_latency_ms, *(cost.predicted[i] for cost in self.others)]
            for i, a in zip(order, answers, strict=True)
        ]
        labels = [(self.metric, self.unit), *((of.metric, of.unit) for of in self.others)]
        try:
            archs = space.from_strings([answer.arch for answer in answers])
        except InvalidInputError as error:
            raise FileFormatError(
                f"'{path}' is not a report of space '{space.name}': {error}"
            ) from error
        return ReportedFront(
            space,
            archs,
            np.array([answer.predicted_top1 for answer in answers]),
            np.array(costs),
            tuple(cost_label(*named) for named in labels),
            self.accuracy_source,
            self.objective,
        )

    def write_csv(self, path: files.StrPath) -> None:
        """Write one line per budget."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [f.name for f in fields(Answer)]
        writer.writerow([self._column(name) for name in names])
        for answer in self.answers:
            writer.writerow([getattr(answer, name) for name in names])
        files.write_text(path, text.getvalue())

    def _column(self, name: str) -> str:
        """Return the name of a column for a field of `Answer`: its own cost and objective."""
        named = name.replace("top1", self.objective.column)
        for field_name in ("latency_ms", "budget_ms"):
            kind = self.metric if field_name == "latency_ms" else "budget"
            named = named.replace(field_name, f"{kind}_{self.unit}" if self.unit else kind)
        return named

    # --- what it says ------------------------------------------------------------------------

    def measured_front(self) -> list[Evaluated]:
        """Architectures of the accuracy table that no other of them dominates, cheapest first."""
        if not self.evaluated:
            return []
        merit = self.objective.merit(np.array([row.top1 for row in self.evaluated]))
        points = np.column_stack([[row.latency_ms for row in self.evaluated], -merit])
        keep = pareto.is_non_dominated(points)
        rows = [row for row, on_front in zip(self.evaluated, keep, strict=True) if on_front]
        return sorted(rows, key=lambda row: row.latency_ms)

    def findings(self) -> list[str]:
        """Say in words how far the predictions were off."""
        if not self.answers:
            return []
        latency = np.array([answer.latency_error for answer in self.answers])
        over = [a for a in self.answers if not a.within_budget]
        accuracy = np.array([a.top1_test - a.predicted_top1 for a in self.answers])
        shown = self.objective
        worst = self.answers[int(np.argmax(np.abs(latency)))]
        farthest = self.answers[int(np.argmax(np.abs(accuracy)))]
        lines = [
            f"{capital(self.metric)}: measured is {_signed(latency.mean())} of predicted on "
            f"average, {_signed(worst.latency_error)} at worst "
            f"(budget {self._cost(worst.budget_ms)}).",
            f"{capital(shown.title)}: test images give {shown.difference(accuracy.mean(), 1)} "
            "against the prediction on average, "
            f"{shown.difference(farthest.top1_test - farthest.predicted_top1, 1)} at worst "
            f"(budget {self._cost(farthest.budget_ms)}).",
        ]
        if abs(self.slowdown - 1) > _STEADY:
            lines.append(
                f"While the answers were measured the device ran {_signed(self.slowdown - 1)} "
                f"slower than while the {self.metric} table was, by networks that were timed both "
                "times; what was measured is given at the table's speed."
            )
        tried = any(a.confirmed is not None for a in self.answers)
        if over:
            worst_over = max(a.measured_latency_ms / a.budget_ms - 1 for a in over)
            lines.append(
                f"{len(over)} of {len(self.answers)} answers could not be confirmed within their "
                f"budget; they measure {_signed(worst_over)} of it at worst."
                if tried
                else f"{len(over)} of {len(self.answers)} answers meet their budget by the table "
                f"but measured above it, by {100 * worst_over:.1f} % at most: ask for a slightly "
                "smaller budget where the bound is hard."
            )
        elif tried:
            room = float(np.mean([answer.room for answer in self.answers]))
            least = min(a.measurements for a in self.answers)
            lines.append(
                f"Every answer was confirmed within its budget by measuring its {self.metric}, "
                f"{'once' if least == 1 else f'{least} times'} or more, in at most "
                f"{max(a.round for a in self.answers)} rounds of asking and measuring; "
                f"{100 * room:.1f} % of the budgets is left on average."
            )
        else:
            lines.append(f"Every measured {self.metric} is within its budget.")
        validation = shown.merit(np.array([a.top1_validation for a in self.answers]))
        known = [self._best_known(a.budget_ms) for a in self.answers]
        behind = int(np.sum(known > validation))
        lines.append(
            f"On the validation images, {len(self.answers) - behind} of {len(self.answers)} "
            f"answers are at least as good as the best of the {len(self.evaluated)} evaluated "
            "architectures within the budget (which was chosen on these images, and so looks "
            "better on them than it is)."
        )
        lines.append(self._against_random() or self._against_evaluated())
        return lines

    def _against_random(self) -> str:
        """Compare with a random search of as many questions; nothing where there was none."""
        rows = [
            (a.top1_validation - a.random_top1_validation, a.top1_test - a.random_top1_test)
            for a in self.answers
            if a.random_top1_validation is not None and a.random_top1_test is not None
        ]
        if not rows:
            return ""
        gain = np.array(rows)
        shown = self.objective
        validation, test = (shown.difference(column.mean(), 1) for column in gain.T)
        ahead = (shown.merit(gain) >= 0).sum(axis=0)
        confirmed = any(a.confirmed is not None for a in self.answers)
        return (
            f"Random search: of {self.drawn} architectures drawn at random, the best on the "
            f"validation images within the budget by the same {self.metric} table"
            f"{' (nobody confirmed it by measuring)' if confirmed else ''}. Against it the answers "
            f"are {test} on average on the test images, at least as good in {ahead[1]} of "
            f"{len(gain)} cases, and {validation} on the validation images, at least as good in "
            f"{ahead[0]}."
        )

    def _against_evaluated(self) -> str:
        gain = np.array([a.top1_test - a.evaluated_top1_test for a in self.answers])
        shown = self.objective
        ahead = int((shown.merit(gain) >= 0).sum())
        return (
            f"On the test images, against the same best of the {len(self.evaluated)} evaluated "
            f"architectures (random search), the answers are "
            f"{shown.difference(gain.mean(), 1)} on average, and at least as good in {ahead} of "
            f"{len(gain)} cases."
        )

    def _best_known(self, budget_ms: float) -> float:
        """Merit of the best evaluated architecture within a budget."""
        fitting = [row.top1 for row in self.evaluated if row.latency_ms <= budget_ms]
        return float(self.objective.merit(np.array(fitting)).max(initial=-np.inf))

    def _cost(self, value: float) -> str:
        return f"{value:.3g} {self.unit}".rstrip()

    # --- picture -----------------------------------------------------------------------------

    def plot(self) -> bytes:
        """Draw the front as a PNG: evaluated architectures, their front, answers, budgets."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependencyError("matplotlib", "report", "drawing the front") from error
        shown = self.objective

        def quality(rows: Iterable[float]) -> npt.NDArray[np.float64]:
            return shown.shown(np.array(list(rows), dtype=np.float64))

        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for answer in self.answers:
            axes.axvline(answer.budget_ms, color="#e8e8e8", linewidth=1, zorder=0)
        for chosen, color in ((False, _GREY), (True, _SKY)):
            rows = [row for row in self.evaluated if row.chosen == chosen]
            if rows or not chosen:
                how = ", chosen" if chosen else ", drawn" if len(rows) < len(self.evaluated) else ""
                axes.scatter(
                    [row.latency_ms for row in rows],
                    quality(row.top1 for row in rows),
                    s=12,
                    color=color,
                    label=f"{len(rows)} evaluated architectures{how}",
                )
        known = self.measured_front()
        axes.step(
            [row.latency_ms for row in known],
            quality(row.top1 for row in known),
            where="post",
            color=_BLUE,
            label="their front",
        )
        axes.scatter(
            [a.measured_latency_ms for a in self.answers],
            quality(a.top1_validation for a in self.answers),
            s=60,
            marker="D",
            color=_ORANGE,
            zorder=3,
            label="generated, measured (same images)",
        )
        axes.scatter(
            [a.measured_latency_ms for a in self.answers],
            quality(a.top1_test for a in self.answers),
            s=45,
            marker="x",
            color=_GREEN,
            zorder=4,
            label="generated, measured (unseen test images)",
        )
        # As they are: a dollar sign in a name starts no formula.
        axes.set_xlabel(
            f"{printable(self.metric)} on {printable(self.device)}"
            + (f" ({printable(self.unit)})" if self.unit else "")
            + "; grey lines are the budgets asked",
            parse_math=False,
        )
        axes.set_ylabel(printable(shown.label + shown.better), parse_math=False)
        axes.set_title(f"{printable(self.space)}: one generator, every budget", parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right" if shown.direction == "max" else "upper right", frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    # --- page --------------------------------------------------------------------------------

    def to_html(self, picture: bytes) -> str:
        """Return one self-contained page: the picture, the table, and how it was made."""
        image = base64.b64encode(picture).decode("ascii")
        sections = "".join(
            f"<h2>{escaped(name)}</h2><table class=facts>"
            + "".join(
                f"<tr><th>{escaped(str(key))}</th><td>{escaped(_text(value))}</td></tr>"
                for key, value in facts.items()
            )
            + "</table>"
            for name, facts in self.sections.items()
        )
        findings = "".join(f"<li>{escaped(line)}</li>" for line in self.findings())
        head = "".join(f"<th>{escaped(name)}</th>" for name in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>"
            for row in self.table()
        )
        metric, quality = escaped(self.metric), escaped(self.objective.name)
        title = escaped(capital(self.objective.title))
        content = f"""<p>One generator was trained on {len(self.evaluated)} measured architectures
and a {metric} table of this device. It was then asked for {len(self.answers)} budgets that it
had not been trained on; each network it answered with was extracted from the supernet, its
{quality} measured on held-out images, and its {metric} measured whole.</p>
<img alt="{title} against {metric}" src="data:image/png;base64,{image}">
<h2>Asked and answered</h2>
<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>Where predictions were off</h2>
<ul>{findings}</ul>
<p>{title} is predicted by: {escaped(self.accuracy_source)}.</p>
{sections}"""
        return web_page(f"{self.space} on {self.device}", self.warnings, content)

    @property
    def head(self) -> list[str]:
        """What the columns of `table` hold."""
        cost, name = self.unit or self.metric, self.objective.name
        unit = "%" if self.objective.is_fraction else self.objective.unit
        costs = [
            f"budget {cost}",
            f"predicted {cost}",
            f"measured {cost}",
            "off by",
            "room",
            "within",
        ]
        for other in self.others:
            named = f"{other.metric} {other.unit}" if other.unit != other.metric else other.unit
            costs += [f"{other.metric} budget", named.rstrip()]
        values = [f"predicted {name} {unit}", f"validation {unit}", f"test {unit}"]
        return [*costs, *map(str.rstrip, values), "MACs (M)", "architecture"]

    def table(self) -> list[list[str]]:
        """Return the cells of the table of answers, in the order of `head`."""
        shown = self.objective
        return [
            [
                f"{a.budget_ms:.3f}",
                _spread(a.predicted_latency_ms, a.predicted_latency_std_ms),
                f"{a.measured_latency_ms:.3f}",
                f"{100 * a.latency_error:+.1f} %",
                f"{100 * a.room:+.1f} %",
                "yes" if a.within_budget else "no",
                *(cell for other in self.others for cell in _other_cells(other, i)),
                shown.with_std(a.predicted_top1, a.predicted_top1_std),
                shown.number(a.top1_validation),
                shown.number(a.top1_test),
                f"{a.macs / 1e6:.2f}",
                a.arch,
            ]
            for i, a in enumerate(self.answers)
        ]


def _spread(value: float, std: float) -> str:
    return f"{value:.3f} ± {std:.3f}" if std else f"{value:.3f}"


def _other_cells(other: OtherCost, row: int) -> list[str]:
    budget = other.budgets[row]
    return ["open" if budget is None else f"{budget:.4g}", f"{other.predicted[row]:.4g}"]


_Row = TypeVar("_Row", Evaluated, Answer)


def _rows(
    kind: type[_Row], document: Mapping[str, Any], key: str, path: files.StrPath
) -> tuple[_Row, ...]:
    """Read rows whose fields are what the class says: text or numbers."""
    rows = []
    for index, row in enumerate(files.require(document, key, list, path)):
        made = kind(**row)
        for entry in fields(kind):
            value: Any = getattr(made, entry.name)
            if not _fits(value, str(entry.type)):
                raise FileFormatError(
                    f"'{path}': '{entry.name}' of {key}[{index}] should be {entry.type}, found "
                    f"{value!r:.40}"
                )
        rows.append(made)
    return tuple(rows)


def _fits(value: Any, kind: str) -> bool:
    if kind == "str":
        return isinstance(value, str)
    if value is None and kind.endswith(" | None"):
        return True
    kind = kind.removesuffix(" | None")
    if kind == "bool":
        return isinstance(value, bool)
    number = isinstance(value, int if kind == "int" else (int, float))
    return number and not isinstance(value, bool) and -_HUGE < value < _HUGE


def _others(document: Mapping[str, Any], path: files.StrPath) -> tuple[OtherCost, ...]:
    """Read the costs beside the first, one number for each answer."""
    n = len(files.require(document, "answers", list, path))
    others = []
    for index, found in enumerate(files.require_each(document, "others", dict, path)):
        cost = OtherCost(**found)
        where = f"'{path}': others[{index}]"
        for name in ("metric", "unit", "device"):
            if not isinstance(getattr(cost, name), str):
                raise FileFormatError(f"{where}: '{name}' should be a text")
        predicted = isinstance(cost.predicted, list) and len(cost.predicted) == n
        budgets = isinstance(cost.budgets, list) and len(cost.budgets) == n
        if not (
            predicted
            and budgets
            and all(_fits(value, "float") for value in cost.predicted)
            and all(value is None or _fits(value, "float") for value in cost.budgets)
        ):
            raise FileFormatError(
                f"{where}: 'budgets' and 'predicted' should be lists of {n} numbers"
            )
        others.append(cost)
    return tuple(others)


def _slowdown(document: Mapping[str, Any], path: files.StrPath) -> float:
    value = files.require(document, "slowdown", (int, float), path)
    if not 0 < value < _HUGE:
        raise FileFormatError(f"'{path}': 'slowdown' should be a positive number, found {value!r}")
    return float(value)


def _warnings(document: Mapping[str, Any], path: files.StrPath) -> tuple[str, ...]:
    listed: Sequence[Any] = files.require({"warnings": [], **document}, "warnings", list, path)
    return tuple(map(str, listed))


def _sections(document: Mapping[str, Any], path: files.StrPath) -> dict[str, Any]:
    sections: dict[str, Any] = files.require(document, "sections", dict, path)
    for name in sections:
        files.require(sections, name, dict, path)
    return sections


def web_page(title: str, warnings: Iterable[str], content: str) -> str:
    """Return one self-contained page.

    Parameters
    ----------
    title : str
    warnings : iterable of str
        What makes all of it doubtful: stands before anything else.
    content : str
        HTML.
    """
    doubts = "".join(f"<li>{escaped(line)}</li>" for line in warnings)
    if doubts:
        heading = "<b>Before you believe any of this:</b>"
        doubts = f"<div class=warnings>{heading}<ul>{doubts}</ul></div>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pnag_fast: {escaped(title)}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }}
img {{ max-width: 100%; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
          font-variant-numeric: tabular-nums; }}
.facts th, .facts td, td:last-child {{ text-align: left; font-weight: normal; }}
.facts th {{ color: #555; white-space: nowrap; vertical-align: top; }}
.facts td, td:last-child {{ overflow-wrap: anywhere; }}
.warnings {{ border: 2px solid #d55e00; padding: .5rem 1rem; }}
</style></head><body>
<h1>{escaped(title)}</h1>
{doubts}
{content}
</body></html>
"""


def escaped(text: object) -> str:
    """Escape what would be markup, and what a browser would obey or a reader not see."""
    return html.escape(printable(text))


def capital(text: str) -> str:
    """Return a text with its first letter large."""
    return text[:1].upper() + text[1:]


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f} %"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
