from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pnag_fast.errors import FileFormatError, InvalidInputError, UnsupportedSpaceError
from pnag_fast.latency import NetworkTimes, Timer, random_weights, timer


class Machine:
    """Runs networks as a table says, all of them slower by a factor."""

    def __init__(self, table, factor=1.0, reference_ms=1.0):
        self.table, self.factor, self.reference_ms = table, factor, reference_ms
        self.calls, self.stop = [], False

    def __call__(self, archs, *, weights, checkpoint):
        self.calls.append((archs, weights, checkpoint))
        if checkpoint is not None:
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / f"journal-{len(self.calls)}").touch()
        if self.stop:
            raise KeyboardInterrupt
        return NetworkTimes(self.table(archs) * self.factor, self.reference_ms * self.factor)


@pytest.fixture
def table(tiny, tiny_table):
    archs = tiny.sample(20, seed=0)
    networks = [
        {"arch": name, "ms": ms}
        for name, ms in zip(tiny.to_strings(archs), tiny_table(archs).tolist(), strict=True)
    ]
    return replace(tiny_table, provenance={"networks": networks, "reference_ms": 1.0})


def made(table, machine, **options):
    options = {"weights": None, "n_anchors": 5, "sessions": 1, "folder": None, **options}
    return Timer(table, machine, **options)


def test_what_slows_everything_down_is_taken_out(tiny, table):
    # By the networks of the table: the reference program says something else.
    machine = Machine(table, 1.25, reference_ms=0.9)
    clock = made(table, machine)
    archs = tiny.sample(6, seed=1)
    np.testing.assert_allclose(clock(archs), table(archs)[:, None])
    assert clock.slowdown == pytest.approx(1.25)
    ((timed, weights, checkpoint),) = machine.calls
    assert len(timed) == 6 + 5
    assert weights is None
    assert checkpoint is None
    # From the fastest to the slowest.
    costs = table(timed[6:])
    assert (np.diff(costs) > 0).all()
    known = [network["ms"] for network in table.provenance["networks"]]
    assert (costs[0], costs[-1]) == (min(known), max(known))


def test_without_networks_the_reference_program_serves(tiny, table):
    archs = tiny.sample(3, seed=1)
    for clock in (
        made(table, Machine(table, 1.25), n_anchors=0),
        made(replace(table, provenance={"reference_ms": 1.0}), Machine(table, 1.25)),
    ):
        np.testing.assert_allclose(clock(archs)[:, 0], table(archs))
    # A table that knows neither is taken at its word.
    bare = made(replace(table, provenance={}), Machine(table, 1.25))
    np.testing.assert_allclose(bare(archs)[:, 0], 1.25 * table(archs))


def test_sessions_are_independent_and_kept(tiny, table, tmp_path):
    machine = Machine(table)
    clock = made(table, machine, sessions=2, folder=tmp_path)
    archs = tiny.sample(3, seed=1)
    assert clock(archs).shape == (3, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session-0", "session-1"]
    machine.stop = True
    with pytest.raises(KeyboardInterrupt):
        clock(archs)
    machine.stop = False
    clock(archs)
    # The session that was stopped goes on in its folder.
    assert len(list((tmp_path / "session-2").iterdir())) == 2
    # What somebody moved away is not written into another.
    (tmp_path / "session-0").rename(tmp_path / "kept")
    clock(archs)
    assert {path.name for path in tmp_path.iterdir()} == {
        "kept",
        *(f"session-{n}" for n in range(5)),
    }
    assert len(list((tmp_path / "session-3").iterdir())) == 1
    assert {call[2].name for call in machine.calls} == {"measuring"}


def test_networks_get_their_own_weights(tiny, table):
    machine = Machine(table)
    archs = tiny.sample(2, seed=1)
    own = {arch.tobytes(): random_weights(tiny.layers(arch), 7) for arch in archs}
    made(table, machine, weights=lambda arch: own[arch.tobytes()])(archs)
    weights = machine.calls[0][1]
    assert len(weights) == 2 + 5
    assert all(weights[i] is own[arch.tobytes()] for i, arch in enumerate(archs))


def test_a_table_that_was_tampered_with_is_refused(table):
    arch = table.provenance["networks"][0]["arch"]
    wrong = ({"arch": "1:2", "ms": 1.0}, {"ms": 1.0}, 3, {"arch": arch, "ms": 0.0})
    for networks in ([network] for network in wrong):
        with pytest.raises(FileFormatError, match="does not list its networks"):
            made(replace(table, provenance={"networks": networks}), Machine(table))


def test_options_are_checked(table, cell):
    import pnag_fast as pf

    for options in ({"n_anchors": -1}, {"sessions": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            timer(table, **options)
    with pytest.raises(UnsupportedSpaceError):
        timer(pf.costs.macs(cell))
