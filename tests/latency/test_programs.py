from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.errors import InvalidInputError, InvalidTypeError
from pnag_fast.latency.networks import (
    INPUT,
    RandomParameters,
    block_program,
    network_program,
    pack_weights,
    random_weights,
)
from pnag_fast.spaces import Head, MBConv, Pointwise, Stem

STEM = Stem(8, 3, 8, 2)
PLAIN = MBConv(4, 8, 8, 8, 3, 1, "relu", False, expand=False)
SQUEEZED = MBConv(4, 8, 24, 16, 5, 2, "h_swish", True)
HEAD = Head(2, 16, 32, 40, 10)
NETWORK = [STEM, PLAIN, SQUEEZED, HEAD]
POINTWISE = Pointwise(4, 8, 16, 2)
SHORT_HEAD = Head(2, 16, 32, 0, 10)


@pytest.mark.parametrize(
    "blocks",
    [[STEM], [PLAIN], [SQUEEZED], [HEAD], NETWORK, [STEM, PLAIN, POINTWISE, SHORT_HEAD]],
)
def test_every_input_of_every_kernel_has_its_shape(blocks):
    program = network_program(blocks)
    shapes = {INPUT: program.input_shape, **program.parameters}
    for step in program.steps:
        assert [shapes[name] for name in step.inputs] == list(step.kernel.input_shapes)
        shapes[step.output] = step.kernel.output_shape
    packed = pack_weights(blocks, random_weights(blocks, 0))
    assert {name: value.shape for name, value in packed.items()} == dict(program.parameters)


def test_a_block_without_expansion_keeps_its_residual():
    (depthwise, project) = block_program(PLAIN).steps
    assert depthwise.inputs[0] == INPUT
    assert project.kernel.residual
    assert project.inputs[-1] == INPUT


def test_classes_are_padded_to_whole_vectors():
    program = block_program(HEAD)
    assert program.classes == 10
    assert program.output_shape == (1, 1, 16)
    packed = pack_weights([HEAD], random_weights([HEAD], 0))
    assert not packed["0.classifier.weight"][..., 10:].any()


def test_random_parameters_are_shared_between_networks_and_not_within_one():
    parameters = RandomParameters(0)
    one, other = parameters.of([PLAIN, PLAIN]), parameters.of([PLAIN, PLAIN, PLAIN])
    assert one["0.project.weight"] is other["0.project.weight"]
    assert not np.array_equal(one["0.project.weight"], one["1.project.weight"])


def changed(**weights):
    (given,) = random_weights([PLAIN], 0)
    given.update(weights)
    return [{name: value for name, value in given.items() if value is not None}]


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        (changed(**{"project.bias": None}), InvalidInputError, "'project.bias' is missing"),
        (changed(extra=np.zeros(1, np.float32)), InvalidInputError, "'extra' is unknown"),
        (changed(**{"project.bias": np.zeros(9, np.float32)}), InvalidInputError, r"\(8,\)"),
        (changed(**{"project.bias": np.zeros(8)}), InvalidTypeError, "float64"),
        (changed(**{"project.bias": [0.0] * 8}), InvalidTypeError, "list"),
        (changed(**{"project.bias": np.full(8, np.nan, np.float32)}), InvalidInputError, "finite"),
        ([], InvalidInputError, "0 blocks"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, error, text):
    with pytest.raises(error, match=text):
        pack_weights([PLAIN], weights)
