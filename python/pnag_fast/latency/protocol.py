"""How something is timed, and what is made of the times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .. import arguments
from ..errors import MeasurementError
from .device import Conditions
from .journal import Sample
from .kernels import Convolution
from .networks import INPUT, Floats, Program, Step

# Name of the program that is timed beside everything.
REFERENCE = "reference"

# Raised whenever the same device could give other numbers because of a change here.
_PROTOCOL_VERSION = 1

_LEVEL_QUANTILE = 0.1

# Runs the item `number` times and returns the seconds that all took together.
Timer = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How often an item, and the reference program beside it, run in one sample."""

    runs: int
    reference_runs: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """Repetitions of every item.

    Many short passes go over all items in changing order. In each pass an item is warmed up and
    then run for `samples` samples of about `sample_ms`, each beside a short sample of a reference
    program; the pass is worth the median of their ratios, since a machine that other work, its
    clock or its hypervisor slows down for a while slows both down. The median over the passes is
    the result. (On a virtual machine whose clock switched between two speeds within seconds, the
    passes of a block lay 27 % apart without the reference and 4 % with it.)

    Attributes
    ----------
    passes : int
        Passes over all items, at least 3.
    extra_passes : int
        Further passes for items whose spread stays above `spread_limit`.
    samples : int
        Samples of an item in a pass.
    sample_ms, reference_ms : float
        Duration of a sample of the item, and of the reference program beside it. An item that
        takes longer runs once in a sample. The samples of a pass are 20 ms together.
    spread_limit : float
        Spread above which an item is unsteady.
    """

    passes: int = 10
    extra_passes: int = 5
    samples: int = 5
    sample_ms: float = 4.0
    reference_ms: float = 1.0
    spread_limit: float = 0.05

    def __post_init__(self) -> None:
        # The median of fewer is not robust.
        values = {"passes": arguments.integer(self.passes, "passes", 3, 1000)}
        for name, low in (("extra_passes", 0), ("samples", 1)):
            values[name] = arguments.integer(getattr(self, name), name, low, 1000)
        checked: dict[str, float] = {**values}
        for name in ("sample_ms", "reference_ms", "spread_limit"):
            checked[name] = arguments.number(getattr(self, name), name, 0, 1e6, above=True)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def conditions(self) -> Conditions:
        """What two measurements have to share; the number of passes may differ."""
        return {
            "protocol": _PROTOCOL_VERSION,
            "samples": self.samples,
            "sample_ms": self.sample_ms,
            "reference_ms": self.reference_ms,
        }

    def plan(self, item: Timer, reference: Timer) -> Plan:
        """Find how many runs fill a sample; takes about the time of two samples."""
        return Plan(_runs_in(self.sample_ms, item), _runs_in(self.reference_ms, reference))

    def time(self, item: Timer, reference: Timer, plan: Plan) -> Sample:
        """Time one item in one pass: a warm-up run, then `samples` samples.

        Raises
        ------
        MeasurementError
            If the device returns a time that no clock can show.
        """
        item(1)
        times, references = [], []
        for _ in range(self.samples):
            references.append(_checked(reference(plan.reference_runs), plan.reference_runs))
            times.append(_checked(item(plan.runs), plan.runs))
        ms = float(np.median(times))
        return Sample(ms, ms / float(np.median(np.divide(times, references))))


def _runs_in(duration_ms: float, timer: Timer) -> int:
    """Warm up, and find how many runs take about `duration_ms`."""
    timer(1)
    runs = math.ceil(duration_ms / _checked(timer(1), 1))
    # One run of a fast program is mostly clock: ask again before settling for thousands.
    if runs > 1:
        runs = math.ceil(duration_ms / _checked(timer(runs), runs))
    return max(1, runs)


def _checked(seconds: float, number: int) -> float:
    ms = 1e3 * seconds / number
    # An hour is longer than any network that this package is for.
    if not 0 < ms < 3.6e6:
        raise MeasurementError(f"the device reported {ms:g} ms for one run, which cannot be")
    return ms


@dataclass(frozen=True, slots=True)
class Summary:
    """Result for one item: median over the passes in milliseconds, and their spread.

    The spread is the interquartile range of the passes, as a fraction of the median.
    """

    ms: float
    spread: float
    passes: int


def reference_level(samples: Mapping[str, Mapping[int, Sample]]) -> float:
    """Time of the reference program on the machine while little disturbs it.

    All items are brought to this level. A low quantile and not the median, so that tables that
    were measured on a busy and on a quiet day agree.
    """
    times = [sample.reference_ms for item in samples.values() for sample in item.values()]
    return float(np.quantile(times, _LEVEL_QUANTILE))


def summarize(passes: Mapping[int, Sample], level_ms: float) -> Summary:
    """Combine the passes of one item.

    Each is scaled by how much slower or faster than `level_ms` the reference program ran beside
    it.
    """
    times = [sample.ms * level_ms / sample.reference_ms for sample in passes.values()]
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    return Summary(float(median), float((high - low) / median), len(times))


def reference_program() -> Program:
    """Return a program that exercises what the blocks exercise, in some 20 microseconds."""
    kernel = Convolution(14, 64, 96, activation="relu")
    image, weight, bias = kernel.input_shapes
    step = Step(kernel, (INPUT, "weight", "bias"), "value0")
    return Program(image, (step,), {"weight": weight, "bias": bias})


def reference_parameters() -> dict[str, Floats]:
    """Return its parameters."""
    shapes = reference_program().parameters
    return {name: np.full(shape, 0.01, dtype=np.float32) for name, shape in shapes.items()}
