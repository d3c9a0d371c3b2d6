from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.search.exchanges import Exchanges
from pnag_fast.search.quadratic import Quadratic


def fitted(space, seed=0):
    """A quadratic of a space that has seen slopes of a function with many interactions."""
    rng = np.random.default_rng(seed)
    quadratic = Quadratic(space, Quadratic.empty(space))
    n = len(quadratic.curvature)
    form = rng.normal(size=(n, n)).astype(np.float32)
    archs = space.sample(400, seed=seed)
    from pnag_fast.accuracy import one_hot

    quadratic.learn(archs, one_hot(space, archs) @ (form + form.T) + rng.normal(size=n))
    return quadratic


def all_exchanges(space, arch, fixed):
    """Every change of one or two present slots that are not fixed, by listing them."""
    free = [i for i in range(space.n_slots) if arch[i] > 0 and i not in fixed]
    codes = {i: range(1, space.n_codes[i]) for i in free}
    made = set()
    for i, j in itertools.combinations(free, 2):
        for a, b in itertools.product(codes[i], codes[j]):
            other = arch.copy()
            other[i], other[j] = a, b
            made.add(other.tobytes())
    made.discard(arch.tobytes())
    return np.array([np.frombuffer(row, dtype=np.uint8) for row in sorted(made)])


@pytest.mark.parametrize(
    ("name", "options"),
    [("mbv3-tiny", {}), ("nasbench201", {}), ("mbv3-tiny", {"resolutions": (16, 32)})],
)
@pytest.mark.parametrize("n_tables", [1, 2])
def test_the_best_exchanges_are_the_best_of_all(name, options, n_tables):
    space = pf.spaces.get(name, **options)
    tables = [pf.costs.macs(space), pf.costs.parameters(space)][:n_tables]
    quadratic = fitted(space)
    archs = space.sample(6, seed=1)
    spread = np.ptp(pf.costs.stack(tables).bounds, axis=1)
    weights = np.random.default_rng(2).uniform(0, 20, (6, n_tables)) / spread
    found, owner = Exchanges(space, tables).best(quadratic, archs, weights, 15)
    space.validate(found)
    fixed = () if space.resolution_slot is None else (space.resolution_slot,)
    stack = pf.costs.stack(tables)
    for row, (arch, weight) in enumerate(zip(archs, weights, strict=True)):
        every = all_exchanges(space, arch, fixed)

        def promise(of, weight=weight):
            return quadratic(of) - stack(of) @ weight

        mine = found[owner == row]
        assert len(mine) == 15
        expected = np.sort(promise(every))[::-1][:15]
        # A change of one slot is a pair with any other slot, so it may come more than once.
        mine = np.unique(mine, axis=0)
        best = np.sort(promise(mine))[::-1]
        np.testing.assert_allclose(best, expected[: len(best)], rtol=1e-4, atol=1e-3)
        assert (mine != arch).any(axis=1).all()
        assert {m.tobytes() for m in mine} <= {e.tobytes() for e in every}


def test_listed_rows_have_no_exchanges():
    space = pf.spaces.get("compofa-mbv3")
    archs = space.sample(3, seed=0)
    exchanges = Exchanges(space, [pf.costs.macs(space)])
    found, owner = exchanges.best(fitted(space), archs, np.zeros((3, 1)), 10)
    assert found.shape == (0, space.n_slots)
    assert len(owner) == 0


def test_climbing_ends_in_optima_of_two_exchanges(tiny, tiny_table):
    """What two slots hold back from the best is found: the front of a rugged function is exact."""
    archs = tiny.sample(300, seed=3)
    noise = np.random.default_rng(3).normal(0, 0.01, len(archs))
    model = pf.accuracy.fit(tiny, archs, np.clip(smooth_top1(tiny, archs) + noise, 0, 1))
    long = pf.search.front(tiny, model, [tiny_table], evaluations=60_000, seed=9)
    budgets = np.linspace(*tiny_table.bounds, 50)[:, None]
    best = long.top1[long.best(budgets)]
    found = pf.search.front(tiny, model, [tiny_table], evaluations=15_000, seed=0)
    assert (best - found.top1[found.best(budgets)]).mean() < 1e-4
