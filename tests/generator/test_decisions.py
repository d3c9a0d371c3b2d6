from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.generator.decisions import MASKED, DecisionSequence


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mbv3-tiny", {}),
        ("ofa-mbv3", {"resolutions": (160, 224)}),
        ("compofa-mbv3", {}),
        ("nasbench201", {}),
    ],
)
def test_round_trip(name, options):
    space = pf.spaces.get(name, **options)
    sequence = DecisionSequence(space)
    archs = space.sample(300, seed=0)
    decisions = sequence.encode(archs)
    np.testing.assert_array_equal(sequence.decode(decisions), archs)
    for column, decision in enumerate(sequence.decisions):
        present = sequence.present(column, decisions)
        np.testing.assert_array_equal(decisions[:, column] != MASKED, present)
        assert decisions[present, column].max() < decision.n_options


def test_any_decisions_are_an_architecture():
    space = pf.spaces.get("ofa-mbv3")
    sequence = DecisionSequence(space)
    rng = np.random.default_rng(0)
    options = np.array([d.n_options for d in sequence.decisions])
    decisions = rng.integers(options, size=(500, len(options)))
    space.validate(sequence.decode(decisions))


def test_order_of_the_paper():
    # Depth first, then expand ratio before kernel size for each layer (PNAG, section 3.2).
    sequence = DecisionSequence(pf.spaces.get("ofa-mbv3"))
    assert len(sequence) == 5 * (1 + 4 * 2)
    assert [d.kind.split(":")[0] for d in sequence.decisions[:5]] == [
        "depth",
        "expand",
        "kernel",
        "expand",
        "kernel",
    ]
    assert len(sequence.kinds) == 3
