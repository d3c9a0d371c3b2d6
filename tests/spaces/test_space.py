from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    InvalidInputError,
    InvalidTypeError,
    MemoryShortageError,
    UnsupportedSpaceError,
)

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


def test_neighborhoods(space):
    archs = space.sample(20, seed=0)
    around = space.neighborhoods(archs)
    space.validate(around.archs)
    assert len(around) == 20
    for i, arch in enumerate(archs):
        own = around.archs[around.offsets[i] : around.offsets[i + 1]]
        np.testing.assert_array_equal(own[0], arch)
        np.testing.assert_array_equal(own[1:], space.neighbors(arch))
    few = space.neighborhoods(archs, 2, samples=4, own=False, seed=1, threads=1)
    assert (np.diff(few.offsets) == 4).all()
    again = space.neighborhoods(archs[::-1].copy(), 2, samples=4, own=False, seed=1, threads=2)
    np.testing.assert_array_equal(again.archs[:4], few.archs[-4:])
    assert (space.neighborhoods(archs, 2, samples=4, own=False, seed=2).archs != few.archs).any()
    assert len(space.neighborhoods(archs[:0])) == 0


def test_values_of_neighborhoods_are_aggregated():
    space = pf.spaces.get("nasbench201")
    around = space.neighborhoods(space.sample(2, seed=0), samples=2)
    values = [3.0, 1.0, 8.0, 5.0, np.nan, 6.0]
    for how, direction, expected in (
        ("mean", "max", [4.0, 5.5]),
        ("median", "min", [3.0, 5.5]),
        ("worst", "max", [1.0, 5.0]),
        ("worst", "min", [8.0, 6.0]),
    ):
        assert around.aggregate(values, how, direction=direction).tolist() == expected
    assert np.isnan(around.aggregate(np.full(6, np.nan))).all()
    with pytest.raises(InvalidInputError, match=r"shape \(5,\); it must be \(6,\)"):
        around.aggregate(values[:5])


def test_batches_into_arrays_of_the_caller():
    space = pf.spaces.get("ofa-mbv3")
    table = pf.costs.macs(space)
    a, b = space.sample(3000, seed=0), space.sample(3000, seed=1)
    calls = [
        lambda **into: space.sample(3000, seed=2, **into),
        lambda **into: space.sample(3000, seed=2, distribution="decisions", **into),
        lambda **into: space.sample(3000, seed=2, within=(table, 240e6, 241e6), **into),
        lambda **into: space.mutate(a, rate=0.3, seed=2, **into),
        lambda **into: space.crossover(a, b, seed=2, **into),
    ]
    read_only = np.empty_like(a)
    read_only.flags.writeable = False
    memory = np.full((3200, 20), 99, np.uint8)
    for call in calls:
        expected = call()
        out = memory[100:3100]
        assert call(out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (memory[:100] == 99).all()
        assert (memory[3100:] == 99).all()
        for wrong, error, message in [
            (memory[:2999], InvalidInputError, r"out has shape \(2999, 20\); .* \(3000, 20\)"),
            (memory.reshape(-1, 40)[:1500], InvalidInputError, r"out has shape \(1500, 40\)"),
            (memory[0], InvalidTypeError, "out has 1 dimensions"),
            (np.empty((3000, 20), np.int8), InvalidTypeError, "out has dtype int8"),
            (np.empty((20, 3000), np.uint8).T, InvalidTypeError, "out is not C-contiguous"),
            (np.empty((3000, 40), np.uint8)[:, :20], InvalidTypeError, "out is not C-contiguous"),
            (read_only, InvalidTypeError, "out is read-only"),
            ([[0]], InvalidTypeError, "out is a list"),
        ]:
            with pytest.raises(error, match=message):
                call(out=wrong)
    memory[:3000], memory[200:] = a, a
    for shared in (memory[:3000], memory[199:3199]):
        archs = memory[:3000]
        with pytest.raises(InvalidInputError, match="out shares memory with archs"):
            space.mutate(archs, out=shared)
        with pytest.raises(InvalidInputError, match="out shares memory with a$"):
            space.crossover(archs, b, out=shared)
        with pytest.raises(InvalidInputError, match="out shares memory with b$"):
            space.crossover(b, archs, out=shared)
    assert space.sample(0, out=memory[:0]).shape == (0, 20)


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


def public_calls():
    """Every public function of the spaces, with one argument left open."""
    cell = pf.spaces.get("nasbench201")
    tiny = pf.spaces.get("mbv3-tiny", resolutions=(32, 48))
    table = pf.costs.macs(cell)
    archs = cell.sample(2)
    around = cell.neighborhoods(archs)
    factors = [["width", [8, 16]], ["op", ["conv", "pool"]]]
    body = {
        "slots": [{"name": "a", "factors": factors}, {"name": "b", "choices": ["x", "y", "z"]}],
        "min_depth": 1,
    }
    tail = {"rows": [[1, 2], [2, 0]], "slots": [{"choices": [1, 2]}] * 2}
    mine = pf.spaces.from_definition({"name": "mine", "stages": [body, tail]})
    return {
        "get": pf.spaces.get,
        "get width": lambda v: pf.spaces.get("mbv3-tiny", width=v),
        "get classes": lambda v: pf.spaces.get("mbv3-tiny", classes=v),
        "get resolutions": lambda v: pf.spaces.get("mbv3-tiny", resolutions=v),
        "get one resolution": lambda v: pf.spaces.get("mbv3-tiny", resolutions=[v]),
        "get kernel": lambda v: pf.spaces.get("compofa-mbv3", kernel=v),
        "get unknown": lambda v: pf.spaces.get("nasbench201", width=v),
        "find": pf.spaces.find,
        "find width": lambda v: pf.spaces.find("mbv3-tiny", width=v),
        "from_definition": pf.spaces.from_definition,
        "from_definition stages": lambda v: pf.spaces.from_definition({"name": "x", "stages": v}),
        "network": lambda v: pf.spaces.MobileNetV3(strides=v),
        "network classes": lambda v: pf.spaces.MobileNetV3(classes=v),
        "sample n": cell.sample,
        "sample seed": lambda v: cell.sample(1, seed=v),
        "sample distribution": lambda v: cell.sample(1, distribution=v),
        "sample within": lambda v: cell.sample(1, within=v),
        "sample table": lambda v: cell.sample(1, within=(v, 0, 1)),
        "sample low": lambda v: cell.sample(1, within=(table, v, 1e9)),
        "sample high": lambda v: cell.sample(1, within=(table, 0, v)),
        "sample out": lambda v: cell.sample(2, out=v),
        "sample threads": lambda v: cell.sample(1, threads=v),
        "count": lambda v: cell.count(within=v),
        "count low": lambda v: cell.count(within=(table, v, 1e9)),
        "mutate": cell.mutate,
        "mutate rate": lambda v: cell.mutate(archs, rate=v),
        "mutate seed": lambda v: cell.mutate(archs, seed=v),
        "mutate out": lambda v: cell.mutate(archs, out=v),
        "crossover": lambda v: cell.crossover(v, archs),
        "crossover seed": lambda v: cell.crossover(archs, archs, seed=v),
        "crossover out": lambda v: cell.crossover(archs, archs, out=v),
        "neighbors": cell.neighbors,
        "neighborhoods": cell.neighborhoods,
        "neighborhoods radius": lambda v: cell.neighborhoods(archs, v),
        "neighborhoods samples": lambda v: cell.neighborhoods(archs, samples=v),
        "neighborhoods seed": lambda v: cell.neighborhoods(archs, seed=v),
        "aggregate": around.aggregate,
        "aggregate how": lambda v: around.aggregate(np.ones(len(around.archs)), v),
        "enumerate": lambda v: cell.enumerate(threads=v),
        "validate": cell.validate,
        "to_dicts": cell.to_dicts,
        "to_strings": cell.to_strings,
        "from_dicts": cell.from_dicts,
        "from_dicts row": lambda v: cell.from_dicts([v]),
        "from_dicts value": lambda v: cell.from_dicts([cell.to_dicts(archs)[0] | {"1<-0": v}]),
        "from_dicts depth": lambda v: tiny.from_dicts(
            [tiny.to_dicts(tiny.sample(1))[0] | {"d": v}]
        ),
        "from_dicts one depth": lambda v: tiny.from_dicts(
            [tiny.to_dicts(tiny.sample(1))[0] | {"d": [v] * 3}]
        ),
        "from_dicts size": lambda v: tiny.from_dicts([tiny.to_dicts(tiny.sample(1))[0] | {"r": v}]),
        "from_dicts mine": lambda v: mine.from_dicts([{"a": v, "c": {"choice": 1}}]),
        "from_dicts mine value": lambda v: mine.from_dicts([{"a": {"width": v, "op": "conv"}}]),
        "from_dicts mine row": lambda v: mine.from_dicts([v]),
        "from_strings": cell.from_strings,
        "from_strings row": lambda v: cell.from_strings([v]),
        "from_strings tiny": lambda v: tiny.from_strings([v]),
        "from_strings mine": lambda v: mine.from_strings([v]),
        "resolution_of": tiny.resolution_of,
        "with_classes": tiny.with_classes,
        "layers": tiny.layers,
    }


@pytest.mark.parametrize("name", public_calls())
def test_odd_arguments_raise_our_own_errors_only(name, odd_values, refusal):
    call = public_calls()[name]
    refusals = [message for value in odd_values() if (message := refusal(call, value))]
    assert all(message.isprintable() and len(message) < 1000 for message in refusals)
    assert len(refusals) > 20


def test_other_objects_than_spaces_are_equal_to_none(odd_values):
    space = pf.spaces.get("nasbench201")
    assert not any(space == value for value in odd_values() if type(value).__name__ != "Hostile")


def test_more_rows_than_memory_are_refused_at_once():
    space = pf.spaces.get("ofa-mbv3")
    for call in (
        lambda: space.sample(10**13),
        lambda: space.sample(10**30),
        lambda: space.neighborhoods(space.sample(1), 9),
        lambda: space.sample(10**13, within=(pf.costs.macs(space), 0, np.inf)),
    ):
        with pytest.raises(MemoryShortageError, match=r"20 slots would take .* of memory"):
            call()
    with pytest.raises(InvalidInputError, match="out has shape"):
        space.sample(10**13, out=np.empty((1, 20), np.uint8))


def test_masked_rows_are_no_architectures():
    space = pf.spaces.get("nasbench201")
    archs = space.sample(3, seed=0)
    masked = np.ma.masked_array(archs, mask=[[0] * 6, [1] * 6, [0] * 6])
    table = pf.costs.macs(space)
    for call in (
        space.validate,
        space.mutate,
        space.to_strings,
        lambda rows: space.crossover(archs, rows),
        lambda rows: space.neighbors(rows[1]),
        space.neighborhoods,
        lambda rows: space.sample(3, out=rows),
        table,
        pf.costs.stack([table]),
    ):
        with pytest.raises(InvalidTypeError, match="6 masked entries"):
            call(masked)
    np.testing.assert_array_equal(table(np.ma.masked_array(archs)), table(archs))


def test_memory_maps_are_architectures(tmp_path):
    space = pf.spaces.get("nasbench201")
    np.save(tmp_path / "archs.npy", space.sample(3, seed=0))
    space.validate(np.load(tmp_path / "archs.npy", mmap_mode="r"))


@contextlib.contextmanager
def bounded_memory(n_bytes=300_000_000):
    """Let whatever asks for more address space than this fail with a `MemoryError`."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the size of the process is not known here")
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_the_name_of_a_space_says_nothing(user_space):
    definition = json.loads(json.dumps(user_space))["space"]
    for name in pf.spaces.names():
        space = pf.spaces.from_definition(definition | {"name": name})
        assert space != pf.spaces.get(name)
        assert space.fingerprint != pf.spaces.get(name).fingerprint
        with pytest.raises(UnsupportedSpaceError):
            pf.costs.macs(space)
        with pytest.raises(UnsupportedSpaceError):
            pf.costs.parameters(space)
        assert pickle.loads(pickle.dumps(space)) == space


def test_spaces_are_equal_however_they_are_written():
    short = {"name": "x", "stages": [{"slots": [{"choices": [1, 2]}]}]}
    long = {
        "stages": [
            {
                "min_depth": 1,
                "name": "stage1",
                "slots": [{"factors": [["choice", [1, 2]]], "name": "stage1.slot1"}],
            }
        ],
        "name": "x",
    }
    one, other = (pf.spaces.from_definition(d) for d in (short, long))
    assert one == other
    assert hash(one) == hash(other)
    short["stages"][0]["slots"][0]["choices"] = [True, 2]  # equal for Python, another choice
    assert pf.spaces.from_definition(short) != one
    assert pickle.loads(pickle.dumps(one)) == other  # what was built does not follow its source
    whole, real = (
        pf.spaces.get("mbv3-tiny", width=w, classes=c) for w, c in ((1, np.int64(10)), (1.0, 10))
    )
    assert whole == real
    assert whole.fingerprint == real.fingerprint
    assert pf.spaces.get("ofa-mbv3") != pf.spaces.get("compofa-mbv3")
    deeper = pf.spaces.from_definition(pf.spaces.get("ofa-mbv3").definition | {"min_depth": 1})
    assert deeper != pf.spaces.get("ofa-mbv3")
    assert deeper.fingerprint == pf.spaces.get("ofa-mbv3").fingerprint


def test_fingerprints_stay_as_they_were():
    assert pf.spaces.get("ofa-mbv3").fingerprint == "8478c50fd5e660b0"
    assert pf.spaces.get("nasbench201").fingerprint == "4d426b6e76a3d287"
    assert pf.spaces.get("mbv3-tiny", resolutions=(24, 32)).fingerprint == "52c30db5914f0650"


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy]
    + [
        lambda s, p=p: pickle.loads(pickle.dumps(s, p))
        for p in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ],
    ids=lambda make: getattr(make, "__name__", ""),
)
def test_spaces_are_copied_whole(space, make, random_table):
    if space.n_architectures < 10**15:
        space.sample(1, within=(random_table(space), -np.inf, np.inf))
    again = make(space)
    assert again == space
    assert hash(again) == hash(space)
    assert again.fingerprint == space.fingerprint
    assert (again.resolutions, again.network) == (space.resolutions, space.network)
    assert repr(again) == repr(space)
    archs = space.sample(50, seed=3)
    np.testing.assert_array_equal(again.sample(50, seed=3), archs)
    assert again.to_strings(archs) == space.to_strings(archs)
    assert len(pickle.dumps(space)) < 3000  # neither kernels nor windows
    kept = pf.spaces.get("mbv3-tiny", width=0.5, resolutions=(24, 32), classes=7)
    assert make(kept).network == kept.network
    assert make(kept).resolutions == (24, 32)


def test_a_users_space_is_copied_whole(user_space):
    space = pf.spaces.from_definition(json.loads(json.dumps(user_space))["space"])
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    np.testing.assert_array_equal(again.enumerate(), space.enumerate())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_spaces_work_in_process_pools(method):
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 32))
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        archs = pool.submit(space.sample, 20, seed=1, threads=1).result(timeout=120)
    np.testing.assert_array_equal(archs, space.sample(20, seed=1))


def test_representations_fit_on_a_line(space):
    assert len(repr(space)) < 100
    assert "\n" not in repr(space)


def test_an_architecture_without_a_resolution_has_none():
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 32))
    arch = space.sample(1)[0]
    arch[-1] = 0
    with pytest.raises(InvalidInputError, match="code 0 of slot 'resolution'"):
        space.resolution_of(arch)


def test_memory_that_runs_out_is_our_own_error(cell, bounded_memory):
    """Too little to be asked for before, too much for a process that may not grow."""
    with bounded_memory(100_000_000), pytest.raises(MemoryShortageError, match="allocate"):
        cell.sample(40_000_000)
    archs = cell.sample(20_000_000)
    with bounded_memory(50_000_000), pytest.raises(MemoryShortageError, match="allocate"):
        cell.mutate(archs)
