from __future__ import annotations

import itertools

import numpy as np

import pnag_fast as pf
from pnag_fast.spaces import hull


def listed_space(name, stages):
    """A space of the user's: stages of (choices of each slot, least depth, allowed rows)."""
    listed = []
    for number, (choices, min_depth, rows) in enumerate(stages):
        slots = [
            {"name": f"{number}.{k}", "choices": list(range(n))} for k, n in enumerate(choices)
        ]
        stage = {"slots": slots, "min_depth": min_depth}
        listed.append(stage if rows is None else {**stage, "rows": [list(row) for row in rows]})
    return pf.spaces.from_definition({"name": name, "stages": listed})


def test_what_determines_what_agrees_with_ranks():
    """Brute force: a space is determined where its rows add no rank to those of the other."""
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(150):
        choices = [rng.integers(1, 4, rng.integers(1, 4)).tolist() for _ in range(2)]

        def draw(choices=choices):
            stages = []
            for sizes in choices:
                full = [
                    row
                    for row in np.ndindex(*(n + 1 for n in sizes))
                    if all(a or not b for a, b in itertools.pairwise(row))
                ]
                rows = None
                if rng.random() < 0.6:
                    rows = rng.permutation(full)[: rng.integers(1, len(full) + 1)].tolist()
                stages.append((sizes, int(rng.integers(0, len(sizes) + 1)), rows))
            return listed_space("s", stages)

        known, wanted = draw(), draw()
        assert known.fingerprint == wanted.fingerprint

        def indicators(space):
            archs = space.enumerate()
            codes = np.arange(1, max(space.n_codes))
            hot = (archs[:, :, None] == codes).reshape(len(archs), -1)
            return np.hstack([np.ones((len(archs), 1)), hot])

        ours = indicators(known)
        rank = np.linalg.matrix_rank(ours)
        both = np.linalg.matrix_rank(np.vstack([ours, indicators(wanted)]))
        found = hull.first_undetermined(known, wanted)
        assert (found is None) == (rank == both)
        assert np.linalg.matrix_rank(indicators(known)) == np.linalg.matrix_rank(
            np.vstack([indicators(known)[:0], span_of(known)])
        )
        outcomes.append(found is None)
    assert 10 < sum(outcomes) < 140


def span_of(space):
    archs = hull.spanning(space).archs
    space.validate(archs)
    codes = np.arange(1, max(space.n_codes))
    hot = (archs[:, :, None] == codes).reshape(len(archs), -1)
    return np.hstack([np.ones((len(archs), 1)), hot])


def test_stages_that_are_cut_elsewhere_are_compared():
    one = listed_space("one", [([2, 2], 2, None)])
    two = listed_space("two", [([2], 1, None), ([2], 1, None)])
    # The same slots under the same names, in one stage or in two.
    two = pf.spaces.from_definition(
        {
            "name": "two",
            "stages": [
                {"slots": [{"name": f"0.{k}", "choices": [0, 1]}], "min_depth": 1} for k in (0, 1)
            ],
        }
    )
    assert one.fingerprint == two.fingerprint
    assert hull.first_undetermined(one, two) is None
    assert hull.first_undetermined(two, one) is None
    coupled = listed_space("coupled", [([2, 2], 2, [(1, 1), (2, 2)])])
    assert hull.first_undetermined(two, coupled) is None
    found = hull.first_undetermined(coupled, two)
    assert (found.slot, found.code) == (0, 2)
    assert "only together with code 2 (choice 1) of slot 1" in found.reason
