from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def build_info() -> dict[str, Any]: ...

class Space:
    def __init__(
        self, stages: Sequence[tuple[list[int], int, NDArray[np.uint8] | None]]
    ) -> None: ...
    @property
    def n_slots(self) -> int: ...
    @property
    def n_choices(self) -> tuple[int, ...]: ...
    @property
    def stage_counts(self) -> list[int]: ...
    def sample(
        self,
        n: int,
        seed: int,
        decisions: bool,
        threads: int,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...
    def mutate(
        self,
        archs: NDArray[np.uint8],
        rate: float,
        seed: int,
        threads: int,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...
    def crossover(
        self,
        a: NDArray[np.uint8],
        b: NDArray[np.uint8],
        seed: int,
        threads: int,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...
    def neighbors(self, arch: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
    def neighborhood_offsets(
        self, archs: NDArray[np.uint8], radius: int, samples: int, own: bool, threads: int
    ) -> NDArray[np.int64]: ...
    def neighborhoods(
        self,
        archs: NDArray[np.uint8],
        radius: int,
        own: bool,
        seed: int,
        offsets: NDArray[np.int64],
        threads: int,
    ) -> NDArray[np.uint8]: ...
    def one_hot(self, archs: NDArray[np.uint8], threads: int) -> NDArray[np.float32]: ...
    def enumerate(self, first: int, count: int, threads: int) -> NDArray[np.uint8]: ...
    def rank(self, archs: NDArray[np.uint8], threads: int) -> NDArray[np.int64]: ...
    def unrank(self, indices: NDArray[np.int64], threads: int) -> NDArray[np.uint8]: ...
    def find_invalid(
        self, archs: NDArray[np.uint8], threads: int
    ) -> tuple[int, int, int] | None: ...

def reduce_segments(
    values: NDArray[np.float64], offsets: NDArray[np.int64], statistic: str, threads: int
) -> NDArray[np.float64]: ...

class CostTables:
    def __init__(
        self,
        entries: NDArray[np.float64],
        constants: NDArray[np.float64],
        use_max: list[bool],
        context_slot: int,
        n_codes: list[int],
    ) -> None: ...
    @property
    def n_slots(self) -> int: ...
    @property
    def n_tables(self) -> int: ...
    def lookup(
        self, archs: NDArray[np.uint8], threads: int, out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]: ...

class CostSpread:
    def __init__(
        self,
        entries: NDArray[np.float64],
        constants: NDArray[np.float64],
        misfit: float,
        context_slot: int,
        n_codes: list[int],
    ) -> None: ...
    def lookup(
        self, archs: NDArray[np.uint8], mean: NDArray[np.float64], threads: int
    ) -> NDArray[np.float64]: ...

class WindowSampler:
    def __init__(
        self,
        space: Space,
        entries: NDArray[np.float64],
        constants: NDArray[np.float64],
        context_slot: int,
        n_codes: list[int],
    ) -> None: ...
    @property
    def n_slots(self) -> int: ...
    def count(self, low: float, high: float, threads: int) -> tuple[int, int, float]: ...
    def sample(
        self,
        n: int,
        low: float,
        high: float,
        seed: int,
        threads: int,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...

class BestWithin:
    def __init__(
        self, costs: NDArray[np.float64], merit: NDArray[np.float64], threads: int = 1
    ) -> None: ...
    def find(self, bounds: NDArray[np.float64], threads: int) -> NDArray[np.int64]: ...

class Walker:
    def __init__(
        self,
        space: Space,
        entries: NDArray[np.float64],
        constants: NDArray[np.float64],
        use_max: list[bool],
        context_slot: int,
        n_codes: list[int],
    ) -> None: ...
    def walk(
        self,
        curvature: NDArray[np.float32],
        linear: NDArray[np.float32],
        starts: NDArray[np.uint8],
        limits: NDArray[np.float64],
        thresholds: NDArray[np.float32],
        noise: NDArray[np.float32],
        n_moves: int,
        seed: int,
        threads: int,
    ) -> NDArray[np.uint8]: ...

def depthwise_weight_gradient(
    images: NDArray[np.float32],
    gradient: NDArray[np.float32],
    kernel: int,
    stride: int,
    threads: int,
) -> NDArray[np.float32]: ...
def non_dominated_sort(points: NDArray[np.float64], threads: int) -> NDArray[np.int32]: ...
def is_non_dominated(points: NDArray[np.float64], threads: int) -> NDArray[np.bool_]: ...
def crowding_distance(points: NDArray[np.float64], threads: int = 1) -> NDArray[np.float64]: ...
def hypervolume(
    points: NDArray[np.float64], reference: NDArray[np.float64], threads: int = 1
) -> float: ...
def hypervolume_contributions(
    points: NDArray[np.float64], reference: NDArray[np.float64], threads: int = 1
) -> NDArray[np.float64]: ...
