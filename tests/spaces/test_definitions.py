from __future__ import annotations

import copy
import json
import pickle
import random

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
)
from pnag_fast.spaces import mobilenetv3


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


def test_a_user_writes_a_space(tmp_path, user_space):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(user_space))
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
        (lambda d: d["space"]["stages"][1].update(rows=[]), "'rows' should be a non-empty list"),
        (lambda d: d["space"]["stages"][1].update(rows="12"), "'rows' should be a non-empty list"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(choices=["x", "x"]), "distinct"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(name="a"), "more than once"),
        (
            lambda d: d["space"]["stages"][0]["slots"][0].update(factors=[["w", [1]], ["w", [2]]]),
            "same name",
        ),
    ],
)
def test_bad_space_files_are_refused(tmp_path, change, message, user_space):
    document = json.loads(json.dumps(user_space))
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.spaces.load(path)


def test_values_of_a_users_space_are_compared_with_their_type():
    definition = {
        "name": "mine",
        "stages": [{"slots": [{"name": "a", "factors": [["se", [False, True]], ["k", [0, 1]]]}]}],
    }
    space = pf.spaces.from_definition(definition)
    np.testing.assert_array_equal(space.from_dicts([{"a": {"se": True, "k": np.int64(0)}}]), [[3]])
    for bad in (
        {"se": 1, "k": 0},
        {"se": True, "k": False},
        {"se": True},
        {"se": True, "k": 0, "l": 0},
        {"se": True, "k": 0.5},
        [True, 0],
    ):
        with pytest.raises(InvalidInputError, match="row 0"):
            space.from_dicts([{"a": bad}])


@pytest.mark.parametrize(
    ("where", "key", "message"),
    [
        ((), "spaces", "'spaces'.*did you mean 'space'"),
        (("space",), "stage", "'stage'.*did you mean 'stages'"),
        (("space", "stages", 0), "min_dept", "stage 0.*'min_dept'.*did you mean 'min_depth'"),
        (("space", "stages", 0, "slots", 0), "factor", "slot 0.*'factor'.*did you mean 'factors'"),
        (("space",), "nasbench201", "only one of"),
        (("space",), "mobilenetv3", "only one of"),
    ],
)
def test_unknown_fields_of_a_space_are_refused(tmp_path, where, key, message, user_space):
    document = json.loads(json.dumps(user_space))
    inner = document
    for step in where:
        inner = inner[step]
    inner[key] = 1
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.spaces.load(path)


HUGE = 10**9


@pytest.mark.parametrize(
    "change",
    [
        {"min_depth": 5},
        {"min_depth": 1.0},
        {"resolutions": list(range(8, 4000))},
        {"resolutions": [224.0]},
        {"resolutions": "224"},
        {"resolutions": {}},
        {"resolutions": HUGE},
        {"compound": "fixt"},
        {"compound": True},
        {"compound": 1},
        {"name": ""},
        {"name": "a\x1b[31m"},
        {"name": "x" * 1000},
        {"name": " x"},
        {"name": None},
    ],
    ids=lambda change: "-".join(f"{k}={v}"[:40] for k, v in change.items()),
)
def test_fields_of_a_space_are_checked_before_anything_is_made(change, bounded_memory):
    definition = json.loads(json.dumps(pf.spaces.get("ofa-mbv3").definition))
    definition.update(change)
    with bounded_memory(), pytest.raises(FileFormatError) as caught:
        pf.spaces.from_definition(definition)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_sizes_of_spaces_are_bounded(bounded_memory):
    def slots(n, choices=(1, 2)):
        return [{"choices": list(choices)} for _ in range(n)]

    rows = [[1 + i % 2] for i in range(2)]
    for stages, message in [
        ([{"slots": slots(1025)}], "1025 slots"),
        ([{"slots": slots(1)} for _ in range(1025)], "1025 slots"),
        ([{"slots": slots(1, range(255))}], "255 choices"),
        (
            [{"slots": [{"factors": [["a", list(range(16))], ["b", list(range(16))]]}]}],
            "256 choices",
        ),
        ([{"slots": [{"factors": [[f"f{i}", [0]] for i in range(33)]}]}], "1 to 32"),
        ([{"slots": slots(1), "rows": rows * 600_000}], "1200000 listed rows"),
        ([{"slots": slots(8, range(254))}], r"2\^62"),
        ([{"slots": slots(1), "min_depth": 10**400}], "'min_depth'"),
        ([{"slots": slots(1, [10**30])}], "finite number"),
        ([{"slots": slots(1, [float("nan")])}], "finite number"),
        ([{"slots": slots(1, ["a\nb"])}], "printable"),
        ([{"slots": slots(1, [[1]])}], "printable"),
        ([{"slots": slots(1, [1, True])}], "distinct"),
        ([{"slots": [{"choices": [1], "factors": [["a", [1]]]}]}], "either"),
        ([{"slots": [{"name": "a"}]}], "either"),
        ([{"slots": slots(1), "name": 3}], "'name'"),
        ([{"slots": slots(1), "rows": [[True]]}], "row"),
        ([{"slots": slots(1), "rows": [[255]]}], "row"),
    ]:
        with bounded_memory(), pytest.raises(FileFormatError, match=message):
            pf.spaces.from_definition({"name": "x", "stages": stages})
    with pytest.raises(InvalidInputError, match="cost table would have"):
        mobilenetv3.mobilenetv3_space(
            "x",
            pf.spaces.MobileNetV3(max_depth=200),
            min_depth=1,
            resolutions=list(range(8, 262)),
        )
    stages = [{"slots": [{"name": f"s{i}", "choices": list(range(254))}]} for i in range(1024)]
    largest = pf.spaces.from_definition({"name": "x", "stages": stages})
    assert largest.n_architectures == 254**1024
    assert len(repr(largest)) < 100
    with pytest.raises(InvalidInputError, match=r"has 3.55e\+2462 architectures"):
        largest.enumerate()


def with_depth(definition, depth=1_000_000_000):
    changed = json.loads(json.dumps(definition))
    changed["mobilenetv3"]["max_depth"] = depth
    return changed


def test_a_small_file_takes_no_memory(tmp_path, tiny, tiny_table, bounded_memory):
    body = {"space": with_depth(tiny.definition)}
    files.write_json(tmp_path / "space.json", "pnag-space", 1, body)
    tiny_table.save(tmp_path / "table.json")
    document = json.loads((tmp_path / "table.json").read_text()) | body
    header = (document.pop("format"), document.pop("version"))
    for written in ("provenance", "sha256"):
        document.pop(written, None)
    files.write_json(tmp_path / "table.json", *header, document)
    for load, name in [(pf.spaces.load, "space.json"), (pf.CostTable.load, "table.json")]:
        with bounded_memory(), pytest.raises(FileFormatError, match="'max_depth'"):
            load(tmp_path / name)


def test_a_generator_that_asks_for_memory_is_refused(tmp_path, tiny_generator_path, bounded_memory):
    tensors, body = files.read_safetensors(tiny_generator_path, "pnag-generator", 99)
    header = (body.pop("format"), body.pop("version"))
    for place in (body, body["tables"][0], body["model"]):
        good, place["space"] = place["space"], with_depth(place["space"])
        files.write_safetensors(tmp_path / "huge", *header, tensors, body)
        with bounded_memory(), pytest.raises(FileFormatError, match="'max_depth'"):
            pf.Generator.load(tmp_path / "huge")
        place["space"] = good


def mutated(definition, rng):
    """Change one thing somewhere in a definition: a value, a key, or the length of a list."""
    changed = json.loads(json.dumps(definition))
    places = []

    def walk(inner):
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                walk(inner[key])

    for _ in range(rng.choice((1, 1, 2, 3))):
        places.clear()
        walk(changed)
        if not places:
            break
        inner, key = rng.choice(places)
        odd = (None, True, -1, 0, 1, 2, 3, 255, 10**9, 10**400, 1.5, -1e300, float("nan"), "", "x")
        odd += ([], {}, [1], [[]], "a" * 300, "\x1b[2J", [0] * 3000, list(range(3000)), {"a": {}})
        kind = rng.randrange(4)
        if kind == 0:
            inner[key] = rng.choice(odd)
        elif kind == 1:
            inner[key] = copy.deepcopy(rng.choice(places)[0])
        elif kind == 2 and isinstance(inner, dict):
            inner[rng.choice(("stages", "mobilenetv3", "nasbench201", "name", "x" * 9))] = inner[
                key
            ]
        elif isinstance(inner, list):
            inner[:] = inner[:6] * rng.choice((0, 2, 500))
        else:
            inner[f"{key}x"] = inner.pop(key, None)
    return changed


@pytest.mark.parametrize("name", ["nasbench201", "mbv3-tiny", "compound", "mine"])
def test_damaged_definitions_are_refused_or_harmless(name, refusal, user_space, bounded_memory):
    if name == "mine":
        definition = user_space["space"]
    elif name == "compound":
        definition = pf.spaces.get(
            "compofa-mbv3", kernel="elastic", resolutions=(160, 224)
        ).definition
    else:
        definition = pf.spaces.get(name).definition
    rng = random.Random(0)
    accepted = 0
    for _ in range(200):
        changed = mutated(definition, rng)
        with bounded_memory():
            message = refusal(pf.spaces.from_definition, changed, "file", error=FileFormatError)
            if message:
                assert message.startswith("file")
                assert message.isprintable()
                assert len(message) < 1000
                continue
            accepted += 1
            space = pf.spaces.from_definition(changed, "file")
            archs = space.sample(3, seed=0)
            np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)
            assert pickle.loads(pickle.dumps(space)) == space
    assert accepted < 190


def test_names_are_guessed():
    with pytest.raises(InvalidInputError, match="did you mean 'nasbench201'"):
        pf.spaces.get("nasbench-201")
    with pytest.raises(InvalidInputError, match="did you mean 'resolutions'"):
        pf.spaces.get("ofa-mbv3", resolution=(224,))
    with pytest.raises(InvalidInputError, match="did you mean 'ofa-mbv3'"):
        pf.spaces.find("ofa_mbv3")
