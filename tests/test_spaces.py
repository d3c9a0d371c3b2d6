from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError

ALL = [(name, {}) for name in pf.spaces.names()] + [
    ("ofa-mbv3", {"width": 1.2, "resolutions": (160, 192, 224)}),
    ("compofa-mbv3", {"kernel": "elastic"}),
]


@pytest.fixture(params=ALL, ids=lambda p: f"{p[0]}{p[1] or ''}")
def space(request):
    name, options = request.param
    return pf.spaces.get(name, **options)


def test_sizes_are_exact():
    per_stage = 9**2 + 9**3 + 9**4
    assert pf.spaces.get("ofa-mbv3").n_architectures == per_stage**5
    assert pf.spaces.get("ofa-mbv3").n_architectures > 2**64
    assert pf.spaces.get("ofa-mbv3", resolutions=(160, 224)).n_architectures == 2 * per_stage**5
    assert pf.spaces.get("compofa-mbv3").n_architectures == 3**5
    elastic = pf.spaces.get("compofa-mbv3", kernel="elastic")
    assert elastic.n_architectures == (3**2 + 3**3 + 3**4) ** 5
    assert pf.spaces.get("nasbench201").n_architectures == 5**6
    assert pf.spaces.get("mbv3-tiny").n_architectures == (9 + 9**2 + 9**3) ** 3


def test_choices_are_ordered_kernel_major():
    slot = pf.spaces.get("ofa-mbv3").slots[0]
    assert slot.choices[:4] == ((3, 3), (3, 4), (3, 6), (5, 3))
    assert slot.choices[-1] == (7, 6)


@pytest.mark.parametrize("distribution", ["architectures", "decisions"])
def test_samples_are_valid_and_reproducible(space, distribution):
    archs = space.sample(500, seed=7, distribution=distribution)
    assert archs.shape == (500, space.n_slots)
    assert archs.dtype == np.uint8
    space.validate(archs)
    again = space.sample(500, seed=7, distribution=distribution, threads=1)
    np.testing.assert_array_equal(archs, again)
    assert (space.sample(500, seed=8, distribution=distribution) != archs).any()


def test_conversions_round_trip(space):
    archs = space.sample(200, seed=3)
    np.testing.assert_array_equal(space.from_dicts(space.to_dicts(archs)), archs)
    np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)


def test_definition_round_trips_through_json(space, tmp_path):
    path = tmp_path / "space.json"
    space.save(path)
    loaded = pf.spaces.load(path)
    assert loaded == space
    assert loaded.fingerprint == space.fingerprint
    assert hash(loaded) == hash(space)
    np.testing.assert_array_equal(loaded.sample(50, seed=1), space.sample(50, seed=1))


def test_variation_stays_in_the_space(space):
    a, b = space.sample(300, seed=0), space.sample(300, seed=1)
    a.flags.writeable = b.flags.writeable = False
    for children in (space.mutate(a, rate=0.3, seed=2), space.crossover(a, b, seed=3)):
        space.validate(children)
        assert children.shape == a.shape
    np.testing.assert_array_equal(space.mutate(a, rate=0.0), a)
    np.testing.assert_array_equal(space.crossover(a, a), a)
    around = space.neighbors(a[0])
    space.validate(around)
    assert len(np.unique(around, axis=0)) == len(around)
    assert not (around == a[0]).all(axis=1).any()


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


def test_notation_of_nasbench201():
    space = pf.spaces.get("nasbench201")
    text = (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    archs = space.from_strings([text])
    assert archs.tolist() == [[5, 3, 2, 3, 2, 2]]
    assert space.to_strings(archs) == [text]


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


def test_bad_rows_are_named():
    space = pf.spaces.get("ofa-mbv3")
    archs = space.sample(10, seed=0)
    archs[4, 17] = 10
    with pytest.raises(
        InvalidInputError, match=r"row 4 .* slot 17 \('stage5.layer2'\) has code 10"
    ):
        space.validate(archs)
    archs = space.sample(10, seed=0)
    archs[2, 0] = 0
    with pytest.raises(InvalidInputError, match="row 2 .* slot 0"):
        space.validate(archs)


def test_arrays_of_another_kind_are_refused():
    space = pf.spaces.get("mbv3-tiny")
    archs = space.sample(4, seed=0)
    for bad in (archs.astype(np.int64), archs[:, :-1].copy(), archs[0], np.asfortranarray(archs)):
        with pytest.raises((InvalidTypeError, InvalidInputError)):
            space.validate(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0.0},
        {"resolutions": ()},
        {"resolutions": (224, 224)},
        {"resolutions": (1,)},
        {"classes": 1},
        {"depth": 3},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(InvalidInputError):
        pf.spaces.get("ofa-mbv3", **options)
    with pytest.raises(InvalidInputError, match="unknown search space 'resnet'"):
        pf.spaces.get("resnet")


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(InvalidInputError, match="seed"):
        pf.spaces.get("nasbench201").sample(1, seed=seed)


def test_enumeration_of_small_spaces(cell):
    archs = cell.enumerate()
    assert len(np.unique(archs, axis=0)) == 5**6
    compound = pf.spaces.get("compofa-mbv3")
    assert len(np.unique(compound.enumerate(), axis=0)) == 243
    with pytest.raises(InvalidInputError, match="sample"):
        pf.spaces.get("ofa-mbv3").enumerate()


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


USER_SPACE = {
    "format": "pnag-space",
    "version": 1,
    "space": {
        "name": "mine",
        "stages": [
            {
                "name": "body",
                "min_depth": 1,
                "slots": [
                    {"name": "a", "factors": [["width", [8, 16]], ["op", ["conv", "pool"]]]},
                    {"name": "b", "choices": ["x", "y", "z"]},
                ],
            },
            {"name": "tail", "rows": [[1, 2], [2, 0]], "slots": [{"choices": [1, 2]}] * 2},
        ],
    },
}


def test_a_user_writes_a_space(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(USER_SPACE))
    space = pf.spaces.load(path)
    assert space.n_architectures == (4 + 4 * 3) * 2
    archs = space.enumerate()
    np.testing.assert_array_equal(space.from_dicts(space.to_dicts(archs)), archs)
    np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)
    assert space.to_dicts(archs[:1])[0]["a"] == {"width": 8, "op": "conv"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other"), "not a pnag-space file"),
        (lambda d: d.update(version=99), "upgrade"),
        (lambda d: d["space"].pop("stages"), "stages"),
        (lambda d: d["space"].update(name=3), "name"),
        (lambda d: d["space"]["stages"][0].update(min_depth=3), "depth"),
        (lambda d: d["space"]["stages"][0].update(slots=[]), "slot"),
        (lambda d: d["space"]["stages"][1].update(rows=[[1, 9]]), "9"),
        (lambda d: d["space"]["stages"][1].update(rows=[[0, 1]]), "row"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(choices=["x", "x"]), "distinct"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(name="a"), "more than once"),
    ],
)
def test_bad_space_files_are_refused(tmp_path, change, message):
    document = json.loads(json.dumps(USER_SPACE))
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.spaces.load(path)
