from __future__ import annotations

import copy
import json
import pickle
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.spaces.decisions import MASKED, Decisions

# A stage that may be empty, slots and factors of one option, listed rows, one of them alone.
MINE = {
    "name": "mine",
    "stages": [
        {
            "slots": [
                {"name": "a", "choices": [1]},
                {"name": "b", "factors": [["k", [3, 5]], ["w", [7]], ["e", [1, 2, 3]]]},
            ],
            "min_depth": 0,
        },
        {
            "slots": [{"name": "c", "choices": [1, 2]}, {"name": "d", "choices": [4]}],
            "rows": [[2, 0], [1, 1], [1, 0]],
        },
        {"slots": [{"name": "e", "choices": [1, 2]}], "rows": [[2]]},
        {"slots": [{"name": "f", "choices": [5]}]},
    ],
}

SPACES = {
    "tiny": ("mbv3-tiny", {}),
    "ofa": ("ofa-mbv3", {"resolutions": (160, 224)}),
    "cifar": ("mbv3-cifar", {}),
    "compofa": ("compofa-mbv3", {}),
    "elastic": ("compofa-mbv3", {"kernel": "elastic", "resolutions": (160, 224)}),
    "cell": ("nasbench201", {}),
    "mine": ("mine", {}),
}

# Checksums of what earlier releases made, by the three translations that each part had of its own:
# the decisions themselves, rows into factors and back and which of them count; rows into choices
# and the rows of logits; rows of drawn choices and which of them count.
PINNED = {
    "tiny": [
        3239565022, 3290900708, 4086897331, 2964817356, 3128526744, 1131199016, 2458314850,
        3322109175,
    ],
    "ofa": [
        3372889394, 2621535879, 4240223969, 4087996461, 3936975877, 4130505736, 1681808610,
        3776688144,
    ],
    "cifar": [
        3940654278, 4267986253, 2154082638, 2393673880, 3722377012, 232357783, 3038583921,
        1174347211,
    ],
    "compofa": [
        2478019126, 488538013, 671106930, 1275928000, 488538013, 3184222422, 1457677243,
        1275928000,
    ],
    "elastic": [
        1040377339, 2761877176, 1968812016, 554073467, 2761877176, 690323314, 2486181926,
        554073467,
    ],
    "cell": [
        4267160576, 1355319943, 1850308574, 554073467, 1355319943, 1263303862, 3310799894,
        554073467,
    ],
    "mine": [
        3592362272, 107071618, 1394048066, 3393453039, 4145485308, 2561401016, 4078888031,
        2070918676,
    ],
}  # fmt: skip


@pytest.fixture(params=SPACES)
def named(request):
    if request.param == "mine":
        return request.param, pf.spaces.from_definition(MINE)
    name, options = SPACES[request.param]
    return request.param, pf.spaces.get(name, **options)


@pytest.fixture
def space(named):
    return named[1]


def drawn(decisions, n, seed):
    """Options at random, of absent slots too."""
    n_options = [decision.n_options for decision in decisions.decisions]
    return np.random.default_rng(seed).integers(n_options, size=(n, len(n_options)))


def test_nothing_is_translated_otherwise_than_it_was(named):
    name, space = named

    def crc(array, dtype):
        return zlib.crc32(np.ascontiguousarray(array.astype(dtype)).tobytes())

    archs = space.sample(300, seed=0, distribution="decisions")
    factors, slots = Decisions(space), Decisions(space, "slot")
    text = json.dumps([[d.kind, d.n_options, d.stage, d.slot] for d in factors.decisions])
    options, choices = drawn(factors, 300, 0), drawn(slots, 300, 2)
    logits = np.random.default_rng(1).normal(size=(300, slots.starts[-1])).astype(np.float32)
    assert PINNED[name] == [
        zlib.crc32(text.encode()),
        crc(factors.encode(archs), np.int64),
        crc(factors.decode(options), np.uint8),
        crc(factors.present(options), np.uint8),
        crc(slots.encode(archs), np.int64),
        crc(slots.decode(slots.largest(logits)), np.uint8),
        crc(slots.decode(choices), np.uint8),
        crc(slots.present(choices), np.uint8),
    ]


def check(space, decisions):
    """Rows come back, absent slots are masked, and any options are an architecture."""
    archs = space.sample(200, seed=0, distribution="decisions")
    options = decisions.encode(archs)
    np.testing.assert_array_equal(decisions.decode(options), archs)
    np.testing.assert_array_equal(options != MASKED, decisions.present(options))
    for column, decision in enumerate(decisions.decisions):
        assert options[:, column].max(initial=0) < decision.n_options
        if decision.slot >= 0:
            absent = archs[:, decision.slot] == 0
            np.testing.assert_array_equal(options[:, column] == MASKED, absent)
    any_options = drawn(decisions, 200, 1)
    decoded = decisions.decode(any_options)
    space.validate(decoded)
    # What counts is kept, what does not is free.
    present = decisions.present(any_options)
    np.testing.assert_array_equal(decisions.encode(decoded), np.where(present, any_options, MASKED))
    others = np.where(present, any_options, drawn(decisions, 200, 2))
    np.testing.assert_array_equal(decisions.decode(others), decoded)


@pytest.mark.parametrize("by", ["factor", "slot"])
def test_round_trip(space, by):
    check(space, Decisions(space, by))


values = st.integers(1, 3)


@st.composite
def stages(draw):
    slots = [
        {"factors": [[f"f{i}", list(range(draw(values)))] for i in range(draw(values))]}
        for _ in range(draw(values))
    ]
    stage = {"slots": slots, "min_depth": draw(st.integers(0, len(slots)))}
    if draw(st.booleans()):
        everything = pf.spaces.from_definition({"name": "x", "stages": [stage]}).enumerate()
        chosen = draw(st.lists(st.sampled_from(range(len(everything))), min_size=1, unique=True))
        stage = {"slots": slots, "rows": everything[chosen].tolist()}
    return stage


@settings(max_examples=60, deadline=None)
@given(st.lists(stages(), min_size=1, max_size=3), st.sampled_from(["factor", "slot"]))
def test_round_trip_of_any_space(listed, by):
    for number, stage in enumerate(listed):
        for place, slot in enumerate(stage["slots"]):
            slot["name"] = f"{number}.{place}"
    space = pf.spaces.from_definition({"name": "any", "stages": listed})
    decisions = Decisions(space, by)
    check(space, decisions)
    if by == "slot":
        assert all(decision.n_options > 1 for decision in decisions.decisions)


def test_order_of_the_paper():
    # Depth first, then expand ratio before kernel size for each layer (PNAG, section 3.2).
    decisions = Decisions(pf.spaces.get("ofa-mbv3"))
    assert len(decisions) == 5 * (1 + 4 * 2)
    assert [d.kind.split(":")[0] for d in decisions.decisions[:5]] == [
        "depth",
        "expand",
        "kernel",
        "expand",
        "kernel",
    ]
    assert len(decisions.kinds) == 3


def test_the_largest_logit_decides(space):
    decisions = Decisions(space, "slot")
    rng = np.random.default_rng(0)
    # More rows than are looked at together; small integers tie, and the first of equals wins.
    logits = rng.integers(3, size=(2500, decisions.starts[-1])).astype(np.float32)
    found = decisions.largest(logits)
    for column, decision in enumerate(decisions.decisions):
        part = logits[:, decisions.starts[column] :][:, : decision.n_options]
        np.testing.assert_array_equal(found[:, column], part.argmax(axis=1))
    # Logits of damaged weights still decide something.
    logits[:] = np.nan
    space.validate(decisions.decode(decisions.largest(logits)))


def test_nothing_to_decide():
    stage = {"slots": [{"name": "a", "choices": [1]}]}
    space = pf.spaces.from_definition({"name": "one", "stages": [stage]})
    decisions = Decisions(space, "slot")
    assert len(decisions) == 0
    options = decisions.encode(np.ones((3, 1), np.uint8))
    assert options.shape == (3, 0)
    assert decisions.largest(np.zeros((3, 0))).shape == (3, 0)
    assert decisions.decode(options).tolist() == [[1]] * 3


def test_inputs_are_left_alone(space):
    for decisions in (Decisions(space), Decisions(space, "slot")):
        archs = space.sample(20, seed=0)
        archs.setflags(write=False)
        options = decisions.encode(archs)
        options.setflags(write=False)
        decisions.present(options)
        decisions.decode(options)


def test_copies(space):
    archs = space.sample(20, seed=0)
    for decisions in (Decisions(space), Decisions(space, "slot")):
        for other in (pickle.loads(pickle.dumps(decisions)), copy.deepcopy(decisions)):
            assert other.decisions == decisions.decisions
            np.testing.assert_array_equal(other.encode(archs), decisions.encode(archs))
        assert len(repr(decisions)) < 100


def test_an_unknown_way_is_refused(space):
    with pytest.raises(InvalidInputError, match="by should be 'factor' or 'slot'"):
        Decisions(space, "stage")
