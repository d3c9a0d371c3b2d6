"""An architecture as the sequence of decisions that a policy takes.

Per stage: its depth, then one decision per factor (expand ratio, kernel size, ...) of each slot; a
stage that lists its rows is one decision. Decisions of absent slots are masked. Decisions of the
same kind share their embedding and their output layer, as in the controller of PNAG.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..spaces import Archs, SearchSpace

Decisions = npt.NDArray[np.int64]

MASKED = -1


@dataclass(frozen=True)
class Decision:
    """One decision: which kind it is, among how many options, and where it belongs.

    ``slot`` is -1 for a decision on a whole stage (its depth or its row).
    """

    kind: str
    n_options: int
    stage: int
    slot: int


class DecisionSequence:
    """Translates rows of codes into decisions and back."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        decisions: list[Decision] = []
        first = 0
        for index, stage in enumerate(space.stages):
            depths = len(stage.slots) - stage.min_depth + 1
            if stage.rows is not None:
                if len(stage.rows) > 1:
                    kind = f"row:{stage.name}"
                    decisions.append(Decision(kind, len(stage.rows), index, -1))
            else:
                if depths > 1:
                    kind = f"depth:{stage.min_depth}-{len(stage.slots)}"
                    decisions.append(Decision(kind, depths, index, -1))
                for position, slot in enumerate(stage.slots):
                    # The last factor first: PNAG decides the expand ratio before the kernel.
                    for name, values in reversed(slot.factors):
                        kind = f"{name}:{','.join(map(str, values))}"
                        decisions.append(Decision(kind, len(values), index, first + position))
            first += len(stage.slots)
        self.decisions = tuple(decisions)
        self.kinds = {d.kind: d.n_options for d in decisions}
        self._firsts = np.cumsum([0] + [len(stage.slots) for stage in space.stages])

    def __len__(self) -> int:
        return len(self.decisions)

    def encode(self, archs: Archs) -> Decisions:
        """Decisions of each row, shape (n, len(self)); `MASKED` where the slot is absent."""
        result = np.full((len(archs), len(self)), MASKED, dtype=np.int64)
        for column, decision in enumerate(self.decisions):
            stage = self.space.stages[decision.stage]
            slots = slice(self._firsts[decision.stage], self._firsts[decision.stage + 1])
            if decision.slot < 0 and stage.rows is not None:
                rows = np.array(stage.rows, dtype=np.uint8)
                result[:, column] = (archs[:, None, slots] == rows[None]).all(axis=2).argmax(axis=1)
            elif decision.slot < 0:
                result[:, column] = np.count_nonzero(archs[:, slots], axis=1) - stage.min_depth
            else:
                choice = archs[:, decision.slot].astype(np.int64) - 1
                value = choice // self._stride(decision) % decision.n_options
                result[:, column] = np.where(choice >= 0, value, MASKED)
        return result

    def decode(self, decisions: Decisions) -> Archs:
        """Rows of codes; what is decided for absent slots is ignored."""
        archs = np.zeros((len(decisions), self.space.n_slots), dtype=np.uint8)
        for index, stage in enumerate(self.space.stages):
            slots = slice(self._firsts[index], self._firsts[index + 1])
            if stage.rows is not None:
                archs[:, slots] = np.array(stage.rows[0], dtype=np.uint8)
            else:
                archs[:, slots] = 1
        for column, decision in enumerate(self.decisions):
            if decision.slot >= 0:
                value = np.maximum(decisions[:, column], 0) * self._stride(decision)
                archs[:, decision.slot] += value.astype(np.uint8)
        for column, decision in enumerate(self.decisions):
            if decision.slot >= 0:
                continue
            stage = self.space.stages[decision.stage]
            slots = slice(self._firsts[decision.stage], self._firsts[decision.stage + 1])
            if stage.rows is not None:
                archs[:, slots] = np.array(stage.rows, dtype=np.uint8)[decisions[:, column]]
            else:
                depth = decisions[:, column] + stage.min_depth
                archs[:, slots] *= np.arange(len(stage.slots)) < depth[:, None]
        return archs

    def present(self, column: int, decisions: Decisions) -> npt.NDArray[np.bool_]:
        """Whether decision `column` counts, given the decisions before it; shape (n,)."""
        decision = self.decisions[column]
        stage = self.space.stages[decision.stage]
        if decision.slot < 0:
            return np.ones(len(decisions), dtype=bool)
        depth = self._depth_column(decision.stage)
        if depth is None:
            return np.ones(len(decisions), dtype=bool)
        position = decision.slot - int(self._firsts[decision.stage])
        return np.asarray(position < decisions[:, depth] + stage.min_depth)

    def _depth_column(self, stage: int) -> int | None:
        for column, decision in enumerate(self.decisions):
            if decision.stage == stage and decision.slot < 0:
                return column
        return None

    def _stride(self, decision: Decision) -> int:
        """Weight of a factor in the index of a choice; the first factor is the slowest."""
        stride = 1
        for name, values in reversed(self.space.slots[decision.slot].factors):
            if f"{name}:{','.join(map(str, values))}" == decision.kind:
                return stride
            stride *= len(values)
        raise AssertionError(f"no factor of kind {decision.kind}")  # pragma: no cover
