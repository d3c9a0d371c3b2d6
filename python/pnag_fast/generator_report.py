"""What a generator answers on each of its devices, as a picture and one self-contained page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from . import credibility, quantities
from .budgets import reach
from .errors import MissingDependencyError
from .report import capital, escaped, web_page
from .terminal import printable
from .typing import FloatArray

if TYPE_CHECKING:
    from .costs import CostTable
    from .generator import Generated, Generator

# Budgets asked for on each device: shares of the way from the cheapest network to the dearest.
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@dataclass(frozen=True, eq=False)
class GeneratorReport:
    """A generator asked for the same shares of every device's range.

    Attributes
    ----------
    generator : Generator
    confidence : float, optional
        With which budgets are kept, see `Generator.generate`.
    """

    generator: Generator
    confidence: float | None = None

    @cached_property
    def views(self) -> list[Generator]:
        """The generator of each device, by its table."""
        known = self.generator.devices or (None,)
        return [self.generator.on(device, confidence=self.confidence) for device in known]

    @cached_property
    def answers(self) -> list[Generated]:
        """What each device is answered: bounds on its own cost, then on all costs together."""
        return [view.generate(_budgets(view.tables), on_infeasible="mark") for view in self.views]

    @property
    def warnings(self) -> list[str]:
        """What makes the whole doubtful."""
        return credibility.of_generator(self.generator)

    @property
    def head(self) -> list[str]:
        """What the columns of `table` hold."""
        objective, tables = self.generator.model.objective, self.generator.tables
        unit = "%" if objective.is_fraction else objective.unit
        names = quantities.names(tables, apart=True)
        asked = ["budget"] if len(tables) == 1 else [f"{name} budget" for name in names]
        costs = quantities.labels(tables, apart=True)
        return [*asked, *costs, f"{objective.name} {unit}".rstrip(), "from", "architecture"]

    def table(self, device: int) -> list[list[str]]:
        """Return the cells of one device's answers, in the order of `head`."""
        answers, space = self.answers[device], self.generator.space
        objective, units = answers.objective, [table.unit for table in self.generator.tables]
        rows = []
        for i in range(len(answers)):
            asked = [
                "open" if np.isinf(value) else quantities.shown(value, unit)
                for value, unit in zip(answers.budgets[i].tolist(), units, strict=True)
            ]
            if not answers.feasible[i]:
                rows.append([*asked, *["-"] * (answers.costs.shape[1] + 1), "infeasible", "-"])
                continue
            costs = [
                quantities.with_std(*of)
                for of in zip(
                    answers.costs[i].tolist(), answers.costs_std[i].tolist(), units, strict=True
                )
            ]
            top1, std = answers.top1[i], answers.top1_std[i]
            quality = objective.with_std(top1, std) if std else objective.number(top1)
            arch = space.to_strings(answers.archs[i : i + 1])[0]
            rows.append([*asked, *costs, quality, answers.source[i], arch])
        return rows

    def plot(self) -> bytes:
        """Draw the front of each device as a PNG: quality against the device's own cost."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependencyError("matplotlib", "report", "drawing the fronts") from error
        objective, table = self.generator.model.objective, self.generator.tables[0]
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for view in self.views:
            front = view.archive
            order = np.argsort(front.costs[:, 0], kind="stable")
            best = np.maximum.accumulate(objective.merit(front.top1[order]))
            axes.step(
                front.costs[order, 0],
                objective.shown(objective.merit(best)),
                where="post",
                label=printable(view.tables[0].device),
            )
        axes.set_xscale("log")
        for axis_labels in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis_labels("{x:g}")
        unit = f" ({printable(table.unit)})" if table.unit else ""
        # As they are: a dollar sign in a name starts no formula.
        axes.set_xlabel(printable(table.metric) + unit, parse_math=False)
        axes.set_ylabel(printable(objective.label + objective.better), parse_math=False)
        axes.set_title(
            f"{printable(self.generator.space.name)}: one generator, every device", parse_math=False
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def to_html(self, picture: bytes) -> str:
        """Return one self-contained page: the picture, and a table for each device."""
        model, objective = self.generator.model, self.generator.model.objective
        image = base64.b64encode(picture).decode("ascii")
        devices = "".join(self._section(i) for i in range(len(self.views)))
        held = "Budgets hold for the tables as they are."
        if self.confidence is not None:
            held = (
                f"Every bound is kept with a probability of {100 * self.confidence:g} % by what "
                "its table knows of its own error, which stands behind ±."
            )
        body = f"""<p>{held} {escaped(capital(objective.title))} is predicted by:
{escaped(model.source)}. Nothing on this page was measured: it is what the tables and the model
say.</p>
<img alt="Fronts of all devices" src="data:image/png;base64,{image}">
{devices}"""
        names = [view.tables[0].device for view in self.views]
        on = names[0] if len(names) == 1 else f"{len(names)} devices"
        return web_page(f"{self.generator.space.name} on {on}", self.warnings, body)

    def _section(self, device: int) -> str:
        """One device: what it reaches, and its answers."""
        tables = self.views[device].tables
        reached = "; ".join(f"{table.metric} {reach(table)}" for table in tables)
        head = "".join(f"<th>{escaped(name)}</th>" for name in self.head)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>"
            for row in self.table(device)
        )
        return (
            f"<h2>{escaped(tables[0].device)}</h2><p>Reachable: {escaped(reached)}</p>"
            f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            "</div>"
        )


def _budgets(tables: Sequence[CostTable]) -> FloatArray:
    """Return shares of the first range with all else open, then of all ranges together."""
    low, high = np.array([table.bounds for table in tables]).T
    shares = np.array(_SHARES)[:, None]
    # Both ends as they are: rounding would put the cheapest network out of reach.
    grid = np.where(shares == 0, low, np.where(shares == 1, high, low + shares * (high - low)))
    alone = np.full_like(grid, np.inf)
    alone[:, 0] = grid[:, 0]
    return alone if len(tables) == 1 else np.concatenate([alone, grid[1:-1]])
