from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
)


@pytest.mark.parametrize(
    ("name", "stem", "sizes", "channels"),
    [
        ("ofa-mbv3", (112, 16), [56, 28, 14, 14, 7], [24, 40, 80, 112, 160]),
        ("mbv3-cifar", (32, 8), [32, 16, 8, 8, 4], [16, 24, 40, 56, 80]),
        ("mbv3-tiny", (16, 8), [16, 8, 4], [8, 16, 24]),
    ],
)
def test_networks_shrink_and_widen_where_they_should(name, stem, sizes, channels):
    space = pf.spaces.get(name)
    network, resolution = space.network, space.resolutions[0]
    first = network.stem(resolution)
    assert (first.out_resolution, first.out_channels) == stem
    last_layers = [
        network.layer((stage + 1) * network.max_depth - 1, 1, resolution)
        for stage in range(network.n_stages)
    ]
    assert [layer.out_resolution for layer in last_layers] == sizes
    assert [layer.out_channels for layer in last_layers] == channels


def test_choices_are_ordered_kernel_major():
    slot = pf.spaces.get("ofa-mbv3").slots[0]
    assert slot.choices[:4] == ((3, 3), (3, 4), (3, 6), (5, 3))
    assert slot.choices[-1] == (7, 6)


def test_notation_of_once_for_all():
    space = pf.spaces.get("ofa-mbv3")
    text = (
        "2,3,2,4,3:5,7,0,0,3,3,3,0,5,5,0,0,7,3,3,3,5,5,5,0:4,3,0,0,4,6,3,0,4,3,0,0,3,6,6,6,4,3,4,0"
    )
    archs = space.from_strings([text])
    (row,) = space.to_dicts(archs)
    assert row["d"] == [2, 3, 2, 4, 3]
    assert row["ks"][:4] == [5, 7, 0, 0]
    assert row["e"][:4] == [4, 3, 0, 0]
    assert row["r"] == [224]
    assert space.to_strings(archs) == [text]
    # Once-for-All's own dictionaries hold values for absent layers too; they do not matter.
    full = {"d": row["d"], "ks": [k or 3 for k in row["ks"]], "e": [e or 6 for e in row["e"]]}
    np.testing.assert_array_equal(space.from_dicts([full]), archs)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1:2:3", "5 depths"),
        ("2,2,2,2,9:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "depth 9"),
        ("2,2,2,2,2:" + ",".join(["4"] * 20) + ":" + ",".join(["3"] * 20), "kernel 4"),
        ("2,2,2,2,1:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "not an architecture"),
        ("nonsense", "expected 'd:ks:e'"),
        ("a,b,c,d,e:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "integers"),
    ],
)
def test_bad_strings_are_named(row, message):
    with pytest.raises(InvalidInputError, match=message):
        pf.spaces.get("ofa-mbv3").from_strings([row])


def test_compofa_is_part_of_ofa():
    ofa, compound = pf.spaces.get("ofa-mbv3"), pf.spaces.get("compofa-mbv3")
    ofa.validate(compound.enumerate())
    assert compound.fingerprint == ofa.fingerprint
    rows = compound.to_dicts(compound.enumerate())
    assert {(tuple(r["d"]), tuple(r["e"])) for r in rows if r["d"][0] == 2}
    for row in rows[::17]:
        for stage, depth in enumerate(row["d"]):
            expand = {2: 3, 3: 4, 4: 6}[depth]
            assert row["e"][4 * stage : 4 * stage + depth] == [expand] * depth
            assert set(row["ks"][4 * stage : 4 * stage + depth]) == {(3, 5, 3, 3, 5)[stage]}


def test_blocks_of_a_network():
    space = pf.spaces.get("ofa-mbv3")
    layers = space.layers(
        space.from_strings(["2,2,2,2,2:" + ("3,3,0,0," * 5)[:-1] + ":" + ("6,6,0,0," * 5)[:-1]])[0]
    )
    assert len(layers) == 3 + 10
    assert [b.resolution for b in layers] == [224, 112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 7, 7]
    assert layers[2].stride == 2
    assert not layers[2].residual
    assert layers[3].residual


def test_dictionaries_are_never_rounded():
    space = pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
    archs = space.sample(1, seed=5)
    (row,) = space.to_dicts(archs)
    for key, bad in [
        ("d", [2.9, 3, 4, 2, 3]),
        ("d", "23423"),
        ("d", [True, 3, 4, 2, 3]),
        ("d", [2, 3]),
        ("d", {2, 3, 4}),
        ("d", np.array([2.0, 3, 4, 2, 3])),
        ("ks", [3.7] * 20),
        ("ks", ["3"] * 20),
        ("e", np.ma.masked_array([3] * 20, mask=[1] * 20)),
        ("r", [224.0]),
        ("r", "224"),
        ("r", True),
        ("r", [160, 224]),
        ("r", [200]),
        ("wid", 1),
        ("depth", [2] * 5),
    ]:
        with pytest.raises((InvalidInputError, InvalidTypeError), match="row 0|masked"):
            space.from_dicts([row | {key: bad}])
    for key in ("d", "ks", "e"):
        with pytest.raises(InvalidInputError, match=f"row 0: '{key}' is missing"):
            space.from_dicts([{k: v for k, v in row.items() if k != key}])
    with pytest.raises(InvalidInputError, match="'dd'.*did you mean 'd'"):
        space.from_dicts([row | {"dd": [2] * 5}])
    for good in (
        {key: np.array(value) for key, value in row.items()},
        {key: tuple(map(np.int8, value)) for key, value in row.items() if key != "r"}
        | {"r": np.int64(row["r"][0])},
        row | {"wid": None},
    ):
        np.testing.assert_array_equal(space.from_dicts([good]), archs)
        np.testing.assert_array_equal(space.from_dicts(np.array([good])), archs)


def test_strings_hold_plain_digits_only():
    space = pf.spaces.get("mbv3-tiny")
    mine = pf.spaces.from_definition(
        {"name": "m", "stages": [{"slots": [{"choices": [1, 2]}] * 2}]}
    )
    archs = space.sample(1, seed=5)
    (text,) = space.to_strings(archs)
    spaced = text.replace(",", ", ") + "\n"
    np.testing.assert_array_equal(space.from_strings([spaced]), archs)
    np.testing.assert_array_equal(space.from_strings(np.array([text])), archs)
    depths, rest = text.split(":", 1)
    for bad in ("٣,1,1", "+3,1,1", "0_3,1,1", "3.0,1,1", "9" * 5000 + ",1,1", "1,1", "1,1,1,1"):
        with pytest.raises(InvalidInputError, match="row 0: ") as caught:
            space.from_strings([f"{bad}:{rest}"])
        assert len(str(caught.value)) < 300
    assert depths.count(",") == 2
    for bad in ("1,٢", "1,9999999999", "1,99", "1", "1,1,1", ",", ""):
        with pytest.raises(InvalidInputError, match="row 0"):
            mine.from_strings([bad])


def test_unknown_fields_of_a_network_are_refused():
    definition = pf.spaces.get("ofa-mbv3").definition
    for change, message in [
        (lambda d: d.update(min_dept=1), "'min_dept'.*did you mean 'min_depth'"),
        (lambda d: d["mobilenetv3"].update(kernel=[3]), "'kernel'.*did you mean 'kernels'"),
        (lambda d: d.pop("min_depth"), "needs the field 'min_depth'"),
        (lambda d: d.update(stages=[]), "only one of"),
    ]:
        changed = json.loads(json.dumps(definition))
        change(changed)
        with pytest.raises(FileFormatError, match=message):
            pf.spaces.from_definition(changed)
    with pytest.raises(FileFormatError, match="named 'nasbench201'"):
        pf.spaces.from_definition({"name": "mine", "nasbench201": {}})
    with pytest.raises(FileFormatError, match="no settings"):
        pf.spaces.from_definition({"name": "nasbench201", "nasbench201": {"edges": 7}})


@pytest.mark.parametrize(
    "change",
    [
        {"max_depth": 10**9},
        {"max_depth": 500},
        {"max_depth": 2.0},
        {"max_depth": True},
        {"strides": [2.5] * 5},
        {"strides": "22212"},
        {"strides": [0] * 5},
        {"strides": [2] * 4},
        {"strides": [2] * 2000},
        {"kernels": [3, 5, 5]},
        {"kernels": [4]},
        {"kernels": [10**9 + 1]},
        {"kernels": list(range(1, 199, 2))},
        {"kernels": "357"},
        {"kernels": {}},
        {"expand_ratios": [0]},
        {"expand_ratios": [10**9]},
        {"expand_ratios": [3, 3.0]},
        {"expand_ratios": [True]},
        {"activations": ["relu"] * 4 + ["h_swich"]},
        {"activations": "relu"},
        {"squeeze_excite": [0, 1, 0, 1, 1]},
        {"channels": [10**9] * 6},
        {"channels": [16.5] * 6},
        {"channels": [-16] * 6},
        {"expand_channels": 10**9},
        {"feature_channels": "1280"},
        {"stem_stride": 0},
        {"classes": 10**9},
        {"classes": 1000.0},
        {"image_channels": 10**9},
        {"width": "1"},
        {"width": 10**9},
    ],
    ids=lambda change: "-".join(f"{k}={v}"[:40] for k, v in change.items()),
)
def test_fields_of_a_network_are_checked_before_anything_is_made(change, bounded_memory):
    definition = json.loads(json.dumps(pf.spaces.get("ofa-mbv3").definition))
    definition["mobilenetv3"].update(change)
    with (
        bounded_memory(),
        pytest.raises(FileFormatError, match=f"{next(iter(change))}|slots|choices"),
    ):
        pf.spaces.from_definition(definition)


def test_compofa_is_always_coupled():
    with pytest.raises(InvalidInputError, match="kernel should be 'fixed' or 'elastic'"):
        pf.spaces.get("compofa-mbv3", kernel=None)
