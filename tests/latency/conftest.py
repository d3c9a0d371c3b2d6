from __future__ import annotations

import pytest

from pnag_fast.errors import MeasurementError
from pnag_fast.latency.tiles import Machine
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space


@pytest.fixture(scope="session")
def mini():
    """One elastic stage: 4 distinct elastic blocks, in two slots each, and 3 fixed ones."""
    network = MobileNetV3(
        channels=(8, 8),
        strides=(1,),
        activations=("h_swish",),
        squeeze_excite=(True,),
        expand_channels=16,
        feature_channels=16,
        stem_stride=1,
        max_depth=2,
        kernels=(3, 5),
        expand_ratios=(2, 3),
        classes=3,
    )
    return mobilenetv3_space("mini", network, min_depth=1, resolutions=(8,))


class FakeDevice:
    """A device whose time is arithmetic: a microsecond for each 1000 products, and overheads."""

    name = "fake"
    count = 1
    machine = Machine(lanes=16, accumulators=24, threads=1)

    def __init__(self, *, conditions=None, broken=(), times=None, die_after=None):
        self.conditions = {"target": "fake", "threads": 1, **(conditions or {})}
        self.broken = set(broken)  # keys of programs that do not compile
        self.times = times or {}  # seconds that a program reports, whatever it does
        self.die_after = die_after  # runs until the process is interrupted
        self.best = None  # tile that halves the time of every kernel that has it
        self.compiled = []
        self.runs = 0
        self.programs = {}
        self.failures = {}

    def compile(self, programs, parameters, progress):
        self.compiled.append(set(programs))
        self.programs = {**self.programs, **programs}
        self.failures |= {n: "does not compile" for n in programs if n in self.broken}
        for name, program in programs.items():
            given = parameters.get(name, {})
            assert {key: value.shape for key, value in given.items()} == dict(program.parameters)
        return self

    def seconds(self, name, number):
        self.runs += 1
        if self.die_after is not None and self.runs > self.die_after:
            raise KeyboardInterrupt
        time = self.times.get(name, self._seconds(self.programs[name]))
        if isinstance(time, str):
            raise MeasurementError(time)
        return time * number

    def _seconds(self, program):
        products = sum(
            step.kernel.output_shape[0] ** 2
            * step.kernel.output_shape[2]
            * (step.kernel.in_channels if hasattr(step.kernel, "in_channels") else 25)
            for step in program.steps
        )
        if any(str(step.tile) == self.best for step in program.steps):
            products /= 2
        # Each kernel inside a program costs a little, entering the program costs more.
        return 1e-9 * products + 1e-7 * len(program.steps) + 1e-6

    def unload(self):
        pass

    def close(self):
        pass

    def run(self, name, image):
        raise NotImplementedError


@pytest.fixture
def fake_device():
    return FakeDevice
