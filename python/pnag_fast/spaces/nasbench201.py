"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from .space import ArchDict, Archs, SearchSpace, Slot, Stage

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# Node 1 reads node 0; node 2 reads 0 and 1; node 3 reads 0, 1 and 2.
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


class CellNotation:
    """``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, and one dictionary entry per edge."""

    def to_dicts(self, space: SearchSpace, archs: Archs) -> list[ArchDict]:
        """Map each edge to its operation."""
        names = [slot.name for slot in space.slots]
        return [
            {name: OPERATIONS[code - 1] for name, code in zip(names, row, strict=True)}
            for row in archs.tolist()
        ]

    def from_dicts(self, space: SearchSpace, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode what `to_dicts` wrote."""
        names = [slot.name for slot in space.slots]
        archs = np.zeros((len(rows), len(EDGES)), dtype=np.uint8)
        for i, row in enumerate(rows):
            if set(row) != set(names):
                raise InvalidInputError(f"row {i}: expected the edges {names}, found {list(row)}")
            archs[i] = [_operation(row[name], i) for name in names]
        return archs

    def to_strings(self, space: SearchSpace, archs: Archs) -> list[str]:  # noqa: ARG002
        """Write cells as the benchmark does."""
        strings = []
        for row in archs.tolist():
            nodes: dict[int, str] = {}
            for (node, source), code in zip(EDGES, row, strict=True):
                nodes[node] = nodes.get(node, "|") + f"{OPERATIONS[code - 1]}~{source}|"
            strings.append("+".join(nodes.values()))
        return strings

    def from_strings(self, space: SearchSpace, rows: Sequence[str]) -> Archs:  # noqa: ARG002
        """Parse the benchmark's strings."""
        archs = np.zeros((len(rows), len(EDGES)), dtype=np.uint8)
        for i, text in enumerate(rows):
            edges = []
            for node, part in enumerate(text.split("+") if isinstance(text, str) else [], start=1):
                for edge in part.strip("|").split("|"):
                    operation, _, source = edge.partition("~")
                    edges.append((node, source, operation))
            if [(node, source) for node, source, _ in edges] != [(n, str(s)) for n, s in EDGES]:
                raise InvalidInputError(
                    f"row {i}: expected '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', found {text!r}"
                )
            archs[i] = [_operation(operation, i) for _, _, operation in edges]
        return archs


def _operation(name: object, row: int) -> int:
    if name not in OPERATIONS:
        raise InvalidInputError(f"row {row}: unknown operation {name!r}; known are {OPERATIONS}")
    return 1 + OPERATIONS.index(str(name))


def nasbench201_space() -> SearchSpace:
    """Build the space: six edges, five operations each."""
    slots = tuple(Slot(f"{n}<-{s}", (("operation", OPERATIONS),)) for n, s in EDGES)
    return SearchSpace(
        "nasbench201",
        [Stage("cell", slots, len(EDGES))],
        definition={"name": "nasbench201", "nasbench201": {}},
        notation=CellNotation(),
    )
