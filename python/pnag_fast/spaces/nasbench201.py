"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..errors import InvalidInputError
from .space import ArchDict, Archs, SearchSpace, Slot, Stage

_NAME = "nasbench201"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# Node 1 reads node 0; node 2 reads 0 and 1; node 3 reads 0, 1 and 2.
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


# From node 0 to node 3, as positions in EDGES.
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))


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
            arguments.known_keys(row, names, f"row {i}: a cell")
            missing = [name for name in names if name not in row]
            if missing:
                raise InvalidInputError(
                    f"row {i}: a cell needs the edge {missing[0]!r}; its edges are {names}"
                )
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
            for node, part in enumerate(text.strip().split("+"), start=1):
                for edge in part.strip("|").split("|"):
                    operation, _, source = edge.partition("~")
                    edges.append((node, source, operation))
            if [(node, source) for node, source, _ in edges] != [(n, str(s)) for n, s in EDGES]:
                raise InvalidInputError(
                    f"row {i}: expected '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', found "
                    f"{arguments.shown(text)}"
                )
            archs[i] = [_operation(operation, i) for _, _, operation in edges]
        return archs


def _operation(name: object, row: int) -> int:
    if not isinstance(name, str) or name not in OPERATIONS:
        raise InvalidInputError(
            f"row {row}: unknown operation {arguments.shown(name)}; known are {OPERATIONS}"
            + arguments.nearest(name, OPERATIONS)
        )
    return 1 + OPERATIONS.index(name)


def effective_cells(archs: Archs) -> Archs:
    """Write cells that compute the same alike.

    An edge on no path of operations from the input to the output is dead: it becomes ``none``.
    Without an edge between them, nodes 1 and 2 are interchangeable: the larger codes go first.
    """
    live = np.zeros(archs.shape, dtype=np.bool_)
    for path in PATHS:
        alive = np.asarray((archs[:, path] > 1).all(axis=1))
        live[:, path] |= alive[:, None]
    cells = np.where(live, archs, np.uint8(1))
    through_1, through_2 = (5 * cells[:, a].astype(int) + cells[:, b] for a, b in PATHS[1:3])
    swap = (cells[:, 2] == 1) & (through_1 < through_2)
    cells[swap] = cells[swap][:, [1, 0, 2, 3, 5, 4]]
    return np.ascontiguousarray(cells)


def cell_features(archs: Archs) -> npt.NDArray[np.float32]:
    """Describe cells by what they compute, for a model of their accuracy.

    Operations of the effective edges and their counts; for each path from input to output whether
    it is live and what is on it; how many live paths have each sequence of operations, and each
    number of them without skips; and the most, the least and the total of every operation on live
    paths. Paths as features: BANANAS (White et al., AAAI 2021).

    Returns
    -------
    ndarray of float32, shape (n, 223)
        Equal rows for cells with the same effective graph. A million a second: they are computed
        once for all 15,625 cells, which takes as long as a quarter of a million look-ups.
    """
    codes = np.asarray(archs, dtype=np.intp) - 1
    index = np.ravel_multi_index(tuple(codes.T), (len(OPERATIONS),) * len(EDGES))
    return np.asarray(_every_feature()[index], dtype=np.float32)


@functools.cache
def _every_feature() -> npt.NDArray[np.uint8]:
    """Features of every cell, the codes of the last edge fastest; all are small counts."""
    grid = np.indices((len(OPERATIONS),) * len(EDGES), dtype=np.uint8)
    return _computed_features(1 + grid.reshape(len(EDGES), -1).T)


def _computed_features(archs: Archs) -> npt.NDArray[np.uint8]:
    """Compute what `cell_features` describes."""
    cells = effective_cells(archs)
    operations = np.arange(1, len(OPERATIONS) + 1)
    chosen = cells[:, :, None] == operations
    columns = [chosen.reshape(len(cells), len(EDGES) * len(operations)), chosen.sum(axis=1)]
    live = np.stack([(cells[:, path] > 1).all(axis=1) for path in PATHS], axis=1)
    on_path = np.stack([chosen[:, path].sum(axis=1) for path in PATHS], axis=1) * live[:, :, None]
    columns += [live, on_path[:, :, 1:].reshape(len(cells), len(PATHS) * 4)]
    columns.append(live & (on_path[:, :, 1] == [len(path) for path in PATHS]))
    # Live paths of every sequence of operations, and of every number of each but skips: by those
    # a cell with a skip resembles the shallower cell without.
    digits = cells.astype(np.intp) - 2
    sequence = np.zeros(live.shape, dtype=np.intp)
    for i, path in enumerate(PATHS):
        place = 4 ** np.arange(len(path))
        sequence[:, i] = digits[:, path] @ place
        sequence[:, i] += sum(4**n for n in range(1, len(path)))
    numbers = on_path[:, :, 2:] @ np.array([16, 4, 1])
    for kind, size in ((sequence, 84), (numbers, 64)):
        columns.append((live[:, :, None] & (kind[:, :, None] == np.arange(size))).sum(axis=1))
    # Columns of on_path by operation: 1 skip, 2 and 3 convolutions, 4 pooling.
    for kinds in ([2], [3], [2, 3], [4], [1]):
        count = on_path[:, :, kinds].sum(axis=2)
        least = np.where(live, count, len(EDGES)).min(axis=1)
        columns.append(np.stack([count.max(axis=1), least, count.sum(axis=1)], axis=1))
    columns.append(live.sum(axis=1, keepdims=True))
    return np.concatenate(columns, axis=1).astype(np.uint8)


def from_definition(definition: Mapping[str, Any], source: str) -> SearchSpace:
    """Rebuild the space from what `nasbench201_space` recorded; there is only the one."""
    arguments.known_keys(definition, ("name", "nasbench201"), source)
    if definition.get("name") != _NAME or definition["nasbench201"] != {}:
        raise InvalidInputError(
            f"{source}: the space of 'nasbench201' is named {_NAME!r} and has no settings, found "
            f"{arguments.shown(dict(definition))}"
        )
    return nasbench201_space()


def is_cell_space(space: SearchSpace) -> bool:
    """Whether the slots of a space are the edges of NAS-Bench-201, whatever its name."""
    return "nasbench201" in space.definition


def nasbench201_space() -> SearchSpace:
    """Build the space: six edges, five operations each."""
    slots = tuple(Slot(f"{n}<-{s}", (("operation", OPERATIONS),)) for n, s in EDGES)
    return SearchSpace(
        _NAME,
        [Stage("cell", slots, len(EDGES))],
        definition={"name": _NAME, "nasbench201": {}},
        notation=CellNotation(),
        features=cell_features,
    )
