from __future__ import annotations

import itertools

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError, UnsupportedSpaceError
from pnag_fast.spaces import MBConv, Pointwise


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("nasbench-macro")


@pytest.fixture(scope="module")
def strings():
    return ["".join(digits) for digits in itertools.product("012", repeat=8)]


def identities_last(text):
    """The network that the benchmark trained for a string."""
    stages = (text[:2], text[2:5], text[5:])
    return "".join(
        stage[0] + stage[1:].replace("0", "") + "0" * stage[1:].count("0") for stage in stages
    )


def test_strings_of_one_network_are_one_row(space, strings):
    assert len(strings) == 6561
    archs = space.from_strings(strings)
    space.validate(archs)
    assert space.to_strings(archs) == [identities_last(text) for text in strings]
    assert len(np.unique(archs, axis=0)) == space.n_architectures == 3969
    np.testing.assert_array_equal(space.from_dicts(space.to_dicts(archs)), archs)
    dicts = [
        {f"layer{i + 1}": ("identity", "mb3_k3", "mb6_k5")[int(d)] for i, d in enumerate(text)}
        for text in strings
    ]
    np.testing.assert_array_equal(space.from_dicts(dicts), archs)
    # What is left out is an identity.
    assert space.to_strings(space.from_dicts([{"layer4": "mb6_k5"}])) == ["00020000"]


def counted(text, width=32, head=1280, size=32):
    """Multiply-adds and parameters of a published network, operation by operation."""
    macs = parameters = 0

    def convolve(before, after, kernel, stride=1, groups=1):
        nonlocal macs, parameters, size
        size = -(-size // stride)
        weights = before // groups * after * kernel**2
        macs += weights * size**2
        parameters += weights + 2 * after

    convolve(3, width, 3)
    channels = width
    for i, digit in enumerate(text):
        first = i in (0, 2, 5)
        before, channels = channels, channels * 2 if first else channels
        stride = 2 if first else 1
        if digit == "0":
            if first:
                convolve(before, channels, 1, stride)
            continue
        expand, kernel = {"1": (3, 3), "2": (6, 5)}[digit]
        convolve(before, expand * before, 1)
        convolve(expand * before, expand * before, kernel, stride, groups=expand * before)
        convolve(expand * before, channels, 1)
    convolve(channels, head, 1)
    return macs + head * 10, parameters + head * 10 + 10


def test_multiply_adds_and_parameters_are_those_of_the_published_network(space, strings):
    some = [strings[i] for i in np.random.default_rng(0).permutation(len(strings))[:300]]
    some += ["00000000", "22222222"]
    expected = np.array([counted(text) for text in some])
    archs = space.from_strings(some)
    np.testing.assert_array_equal(pf.costs.macs(space)(archs), expected[:, 0])
    np.testing.assert_array_equal(pf.costs.parameters(space)(archs), expected[:, 1])
    assert counted("00000000") == (7_713_280, 387_882)
    assert counted("22222222") == (105_660_928, 2_932_586)


def test_an_identity_is_no_layer_but_where_the_shape_changes(space):
    blocks = space.layers(space.from_strings(["01000012"])[0])
    assert [type(block).__name__ for block in blocks] == [
        "Stem",
        "Pointwise",
        "MBConv",
        "Pointwise",
        "Pointwise",
        "MBConv",
        "MBConv",
        "Head",
    ]
    # Each takes what the one before it gives.
    for before, after in itertools.pairwise(blocks):
        assert (before.out_resolution, before.out_channels) == (after.resolution, after.in_channels)
    assert blocks[1] == Pointwise(32, 32, 64, 2)
    assert blocks[6] == MBConv(4, 256, 1536, 256, 5, 1, "relu", False)
    assert blocks[-1].feature_channels == 0
    assert blocks[-1].classes == 10


def test_peak_memory_counts_the_shortcut(space):
    table = pf.costs.peak_memory(space)
    # What halves the image takes 32 channels of 32x32 pixels and gives 64 of 16x16; the first block
    # of the largest network filters 192.
    archs = space.from_strings(["00000000", "22222222"])
    expected = [32 * 32**2 + 64 * 16**2, 192 * 32**2 + 192 * 16**2]
    np.testing.assert_array_equal(table(archs), expected)


def test_options_and_files(space, tmp_path):
    other = pf.spaces.get("nasbench-macro", width=0.25, resolutions=[16], classes=3)
    assert other.fingerprint != space.fingerprint
    assert other.with_resolutions([32]) == pf.spaces.get("nasbench-macro", width=0.25, classes=3)
    assert other.layers(other.enumerate()[0])[-1].classes == 3
    assert pf.spaces.from_definition(other.definition) == other
    for options, message in (
        ({"resolutions": (16, 32)}, "a list of one integer"),
        ({"resolutions": 32}, "a list of one integer"),
        ({"resolutions": [4]}, "resolution of space"),
        ({"width": 0}, "width"),
        ({"classes": 1}, "classes"),
        ({"kernel": "fixed"}, "no option 'kernel'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            pf.spaces.get("nasbench-macro", **options)
    for change, message in (
        ({"nasbench_macro": 3}, "should be an object"),
        ({"nasbench_macro": {"widths": 1.0}}, "unknown field 'widths'"),
        ({"resolutions": None}, "a list of one integer"),
        ({"depth": 3}, "unknown field 'depth'"),
    ):
        with pytest.raises(FileFormatError, match=message):
            pf.spaces.from_definition(space.definition | change)


@pytest.mark.parametrize("text", ["", "0120120", "012012012", "0120120x", "012 01201", "０0000000"])
def test_strings_that_are_none_are_named(space, text):
    with pytest.raises(InvalidInputError, match="row 1: expected 8 digits"):
        space.from_strings(["00000000", text])


@pytest.mark.parametrize("choice", ["mb3_k5", None, 1])
def test_choices_that_are_none_are_named(space, choice):
    with pytest.raises(InvalidInputError, match="row 0: unknown choice"):
        space.from_dicts([{"layer1": choice}])
    with pytest.raises(InvalidInputError, match="layer9"):
        space.from_dicts([{"layer9": "identity"}])


def test_recipes_that_need_kernels_and_widths_refuse_it(space):
    pytest.importorskip("torch")
    for recipe in ("progressive", "compound"):
        with pytest.raises(UnsupportedSpaceError, match="'sandwich' or 'single-path'"):
            pf.supernet.plan(recipe, space, epochs=1, learning_rate=0.1)
