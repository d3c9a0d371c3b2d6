from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError


def test_a_table_is_an_exact_model(cell, tmp_path):
    archs = cell.enumerate()
    top1 = np.random.default_rng(0).uniform(size=len(archs))
    model = pf.accuracy.table(cell, archs, top1)
    some = cell.sample(1000, seed=1)
    mean, std = model.predict(some, return_std=True)
    known = {row.tobytes(): value for row, value in zip(archs, top1, strict=True)}
    np.testing.assert_array_equal(mean, [known[row.tobytes()] for row in some])
    assert not std.any()
    assert model.sensitivity(some) is None
    np.testing.assert_array_equal(model.cautious(3).predict(some), mean)
    model.save(tmp_path / "table.safetensors")
    loaded = pf.accuracy.load(tmp_path / "table.safetensors")
    assert isinstance(loaded, pf.accuracy.TableModel)
    np.testing.assert_array_equal(loaded.predict(some), mean)

    partial = pf.accuracy.table(cell, archs[:10], top1[:10])
    np.testing.assert_array_equal(partial.predict(archs[:10]), top1[:10])
    with pytest.raises(InvalidInputError, match=r"row 2, architecture \|.* is not in the accuracy"):
        partial.predict(archs[8:12])


def test_a_table_takes_as_much_as_fits_into_memory(compofa, tmp_path):
    archs = compofa.enumerate()
    top1 = np.random.default_rng(0).uniform(0.7, 0.8, len(archs))
    table = pf.accuracy.table(compofa, archs[::-1].copy(), top1[::-1])
    np.testing.assert_array_equal(table.predict(archs), top1)
    table.save(tmp_path / "table.safetensors")
    assert (tmp_path / "table.safetensors").stat().st_size < 20_000
    loaded = pf.accuracy.load(tmp_path / "table.safetensors")
    front = pf.search.front(compofa, loaded, [pf.costs.macs(compofa)])
    assert front.top1.max() == top1.max()

    ofa = pf.spaces.get("ofa-mbv3")
    for model in (table, loaded):
        with pytest.raises(InvalidInputError, match="lacks architectures of space 'ofa-mbv3', for"):
            model.for_space(ofa)
    # Rows that agree with known ones in either half, but not as a whole.
    many = ofa.sample(5000, seed=3)
    values = np.random.default_rng(1).uniform(size=len(many))
    table = pf.accuracy.table(ofa, many, values)
    np.testing.assert_array_equal(table.predict(many[::7].copy()), values[::7])
    mixed = many.copy()
    mixed[:, 12:] = np.roll(many[:, 12:], 1, axis=0)
    known = {row.tobytes() for row in many}
    for row in mixed[:200]:
        if row.tobytes() not in known:
            with pytest.raises(InvalidInputError, match="not in the accuracy table"):
                table.predict(row[None].copy())


def test_a_partial_table_is_not_searched(cell, tmp_path):
    archs = cell.sample(100, seed=0)
    table = pf.accuracy.table(cell, archs, np.linspace(0.5, 0.6, len(archs)))
    with pytest.raises(InvalidInputError, match=r"lacks architectures .*, for example \|"):
        pf.search.front(cell, table, [pf.costs.macs(cell)], evaluations=10)
