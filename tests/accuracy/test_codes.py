from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError


def test_codes_that_were_never_measured_are_refused_by_name(compofa, of_compofa, tmp_path):
    ofa = pf.spaces.get("ofa-mbv3")
    named = r"code 4 \(kernel 5, expand 3\) of slot 0 \('stage1.layer1'\)"
    calibrated = pf.accuracy.calibrate(of_compofa, compofa.enumerate(), np.linspace(0.7, 0.8, 243))
    for model in (of_compofa, calibrated):
        model.save(tmp_path / "model.safetensors")
        loaded = pf.accuracy.load(tmp_path / "model.safetensors")
        for m in (model, loaded, model.cautious(2)):
            with pytest.raises(InvalidInputError, match=named):
                m.for_space(ofa)
            with pytest.raises(InvalidInputError, match=named):
                pf.search.front(ofa, m, [pf.costs.macs(ofa)], evaluations=100)
            assert m.for_space(compofa) is m
            np.testing.assert_array_equal(
                m.over(ofa).predict(compofa.enumerate()), m.predict(compofa.enumerate())
            )
    # Searched elsewhere, judged where it knows everything.
    front = pf.search.front(compofa, of_compofa, [pf.costs.macs(compofa)])
    assert len(pf.accuracy.confirm(front, calibrated).verdicts) == len(front)
    with pytest.raises(InvalidInputError, match=named):
        pf.accuracy.load(tmp_path / "model.safetensors", ofa)


def test_a_model_of_rows_without_a_code_refuses_it(tiny, tiny_samples, tiny_table):
    archs, top1 = tiny_samples
    known = ~(archs == 5).any(axis=1)
    model = pf.accuracy.fit(tiny, archs[known], top1[known], epochs=5)
    assert "code 5 (kernel 5, expand 2) of slot 0 ('stage1.layer1')" in model.report["warnings"][-1]
    others = np.ascontiguousarray(archs[~known])
    with pytest.raises(InvalidInputError, match=r"row 0 has code 5 \(kernel 5, expand 2\) of slot"):
        model.predict(others)
    with pytest.raises(InvalidInputError, match="code 5"):
        model.sensitivity(others)
    with pytest.raises(InvalidInputError, match="code 5"):
        pf.search.front(tiny, model, [tiny_table], evaluations=100)
    np.testing.assert_array_equal(model.knows(archs), known)
    more = pf.accuracy.covering(tiny, archs[known])
    assert 0 < len(more) < 9
    assert (more == 5).any(axis=0).all()
    both = np.concatenate([archs[known], more])
    values = np.concatenate([top1[known], np.full(len(more), top1.mean())])
    model = pf.accuracy.fit(tiny, both, values, epochs=5)
    assert model.for_space(tiny) is model
    assert not model.report["warnings"]


def test_an_absent_layer_is_a_code(tiny, tiny_samples):
    archs, top1 = tiny_samples
    deep = archs[:, 1] > 0
    model = pf.accuracy.fit(tiny, archs[deep], top1[deep], epochs=5)
    with pytest.raises(InvalidInputError, match=r"code 0 \(absent\) of slot 1"):
        model.for_space(tiny)


@pytest.mark.parametrize("name", ["ofa-mbv3", "compofa-mbv3", "nasbench201", "mbv3-tiny"])
def test_covering_networks_have_every_code(name):
    space = pf.spaces.get(name)
    every = pf.accuracy.covering(space)
    reached = [set() for _ in range(space.n_slots)]
    for row in space.sample(20_000, seed=1, distribution="decisions"):
        for slot, code in enumerate(row.tolist()):
            reached[slot].add(code)
    assert [set(column.tolist()) for column in every.T] == reached
    assert len(every) <= 3 * max(space.n_codes)
    assert pf.accuracy.covering(space, every).shape == (0, space.n_slots)
