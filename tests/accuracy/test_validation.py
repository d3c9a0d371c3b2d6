from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.accuracy.validation import saved_front
from pnag_fast.errors import FileFormatError, InvalidInputError


def test_cross_validation_holds_out_everything(tiny, tiny_samples):
    archs, top1 = tiny_samples
    seen = []

    def fitter(space, some, values):
        seen.append({row.tobytes() for row in some})
        return pf.accuracy.fit(space, some, values, epochs=20)

    report = pf.accuracy.cross_validate(tiny, archs, top1, fitter)
    assert report["kendall"] > 0.9
    assert report["split"] == "random"
    assert report["rows"] == len(archs)
    assert 0.3 < report["spread"] < 2
    # Every fold leaves a fifth of the rows out.
    assert [len(rows) for rows in seen] <= [len(archs) * 4 // 5] * 5

    macs = pf.costs.macs(tiny)(archs)
    seen.clear()
    report = pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=macs)
    assert report["split"] == "ranges"
    order = np.argsort(macs, kind="stable")
    for k, rows in enumerate(seen):
        out = order[k * len(archs) // 5 : (k + 1) * len(archs) // 5]
        inside = np.setdiff1d(order, out)
        assert rows == {row.tobytes() for row in archs[inside]}
    with pytest.raises(InvalidInputError, match="by"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=macs[:-1])
    with pytest.raises(InvalidInputError, match="folds"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=1)


def test_a_front_is_judged(tiny, tiny_model, tiny_table, tmp_path, skewed):
    front = pf.search.front(tiny, skewed, [tiny_table], evaluations=4000)
    itself = pf.accuracy.confirm(front, skewed)
    assert itself.summary()["confirmed"] == len(front)
    np.testing.assert_allclose(itself.judged_gain[1:], itself.predicted_gain[1:])

    judged = pf.accuracy.confirm(front, tiny_model.cautious(3))
    np.testing.assert_array_equal(judged.judged, tiny_model.predict(front.archs))
    for i, gain in enumerate(judged.judged_gain):
        before = judged.judged[:i]
        if i == 0:
            assert np.isnan(gain)
            assert judged.verdicts[i] == "confirmed"
            continue
        assert gain == pytest.approx(judged.judged[i] - before.max())
        expected = "confirmed" if gain > 0 else "refuted" if gain < -tiny_model.noise else "unclear"
        assert judged.verdicts[i] == expected
    summary = judged.summary()
    assert summary["confirmed"] + summary["unclear"] + summary["refuted"] == len(front)
    assert summary["refuted"] > 0
    assert len(judged.table(5)) == min(5, len(front))

    judged.save(tmp_path / "judged.json")
    document = files.read_json(tmp_path / "judged.json", "pnag-confirmation", 1)
    assert len(document["members"]) == len(front)
    front.save(tmp_path / "front.json")
    again = pf.accuracy.confirm(saved_front(tmp_path / "front.json"), tiny_model)
    assert again.verdicts == judged.verdicts
    (tmp_path / "bad.json").write_text('{"format": "pnag-front", "version": 1}')
    with pytest.raises(FileFormatError, match="space"):
        saved_front(tmp_path / "bad.json")


def test_equal_values_are_one_range(tiny, tiny_samples, tiny_model):
    archs, top1 = tiny_samples
    depth = (archs > 0).sum(axis=1)
    seen = []

    def fitter(space, some, values):
        seen.append(set((some > 0).sum(axis=1).tolist()))
        return tiny_model

    pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=3, by=depth)
    left_out = [set(depth.tolist()) - inside for inside in seen]
    assert all(left_out)
    assert sum(map(len, left_out)) == len(set(depth.tolist()))
    with pytest.raises(InvalidInputError, match="too few different values"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=3, by=np.zeros(len(archs)))


def test_confirmations_are_pickled_and_shown(tiny, tiny_model, tiny_table, tmp_path):
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=500)
    confirmation = pf.accuracy.confirm(front, tiny_model)
    assert len(repr(confirmation)) < 500
    front.save(tmp_path / "front.json")
    confirmation = pf.accuracy.confirm(saved_front(tmp_path / "front.json"), tiny_model)
    again = pickle.loads(pickle.dumps(confirmation))
    assert again.verdicts == confirmation.verdicts


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top1", 10**400),
        ("top1", "0.5"),
        ("top1", None),
        ("costs", []),
        ("costs", [1, 2]),
        ("costs", ["x"]),
        ("costs", 3),
        ("costs", [float("nan")]),
        ("arch", 3),
        ("arch", "x"),
        ("arch", None),
    ],
)
def test_damaged_fronts_are_refused(tiny, tiny_model, tiny_table, tmp_path, key, value):
    path = tmp_path / "front.json"
    pf.search.front(tiny, tiny_model, [tiny_table], evaluations=200).save(path)
    document = json.loads(path.read_text())
    document.pop("sha256", None)
    document["members"][1][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=r"front\.json"):
        saved_front(path)
