from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, UnsupportedSpaceError

torch = pytest.importorskip("torch")

from pnag_fast.supernet.recipes import Allowed  # noqa: E402
from pnag_fast.supernet.sorting import sort_channels  # noqa: E402


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("mbv3-cifar")


def decisions(space, archs):
    rows = space.to_dicts(archs)
    return [
        {
            "depths": set(row["d"]),
            "kernels": {k for k in row["ks"] if k},
            "ratios": {e for e in row["e"] if e},
        }
        for row in rows
    ]


def test_the_sandwich_has_the_extremes_and_random_networks(space):
    (phase,) = pf.supernet.plan("sandwich", space, epochs=3, learning_rate=0.1, n_random=3)
    archs = phase.draw(space, 7)
    smallest, largest = pf.supernet.extremes(space)
    assert (archs[0] == largest).all()
    assert (archs[1] == smallest).all()
    assert len(archs) == 5
    assert (archs == phase.draw(space, 7)).all()
    assert not (archs == phase.draw(space, 8)).all()


def test_progressive_shrinking_opens_kernels_then_depths_then_widths(space):
    phases = pf.supernet.plan("progressive", space, epochs=10, learning_rate=1.0)
    opened = []
    for phase in phases:
        archs = np.concatenate([phase.draw(space, seed) for seed in range(60)])
        space.validate(archs)
        found = decisions(space, archs)
        opened.append(tuple(set().union(*(d[k] for d in found)) for k in found[0]))
    assert opened == [
        ({4}, {7}, {6}),
        ({4}, {3, 5, 7}, {6}),
        ({3, 4}, {3, 5, 7}, {6}),
        ({2, 3, 4}, {3, 5, 7}, {6}),
        ({2, 3, 4}, {3, 5, 7}, {4, 6}),
        ({2, 3, 4}, {3, 5, 7}, {3, 4, 6}),
    ]
    assert [len(phase.draw(space, 0)) for phase in phases] == [1, 1, 2, 2, 4, 4]
    assert [phase.teacher for phase in phases] == ["labels"] + ["largest"] * 5
    assert [phase.sort_channels for phase in phases] == [(), (), (), (), (6,), (4, 6)]
    assert (phases[0].draw(space, 0) == pf.supernet.extremes(space)[1:]).all()
    assert "expand ratios 4,6" in phases[4].describe()


@pytest.mark.parametrize("name", ["mbv3-cifar", "ofa-mbv3"])
def test_compound_draws_what_compofa_couples(name):
    space = pf.spaces.get(name)
    archs = pf.supernet.compound_architectures(space)
    assert archs.shape == (243, 20)
    assert len(np.unique(archs, axis=0)) == 243
    published = pf.spaces.get("compofa-mbv3")
    expected = published.to_strings(published.enumerate())
    assert set(space.to_strings(archs)) == set(expected)
    first, compound = pf.supernet.plan("compound", space, epochs=10, learning_rate=1.0)
    known = {arch.tobytes() for arch in archs}
    drawn = np.concatenate([compound.draw(space, seed) for seed in range(80)])
    assert {arch.tobytes() for arch in drawn} <= known
    assert first.draw(space, 0)[0].tobytes() in known
    free = pf.supernet.plan("compound-elastic", space, epochs=10, learning_rate=1.0)[1]
    drawn = free.draw(space, 0)
    assert drawn.shape == (4, 20)
    for row in space.to_dicts(drawn):
        for stage, depth in enumerate(row["d"]):
            here = slice(4 * stage, 4 * stage + depth)
            assert set(row["e"][here]) == {{2: 3, 3: 4, 4: 6}[depth]}


def test_a_space_of_other_depths_is_coupled_from_end_to_end():
    space = pf.spaces.get("mbv3-tiny")
    archs = pf.supernet.compound_architectures(space)
    assert len(archs) == 27
    for row in space.to_dicts(archs):
        for stage, depth in enumerate(row["d"]):
            assert set(row["e"][3 * stage : 3 * stage + depth]) == {{1: 1, 2: 2, 3: 4}[depth]}


def test_recipes_that_do_not_fit_a_space_are_refused(space):
    tied = pf.spaces.get("compofa-mbv3")
    for recipe in ("progressive", "compound"):
        with pytest.raises(UnsupportedSpaceError, match="already ties its decisions"):
            pf.supernet.plan(recipe, tied, epochs=1, learning_rate=1.0)
    assert (
        len(pf.supernet.plan("sandwich", tied, epochs=1, learning_rate=1.0)[0].draw(tied, 0)) == 4
    )
    with pytest.raises(InvalidInputError, match=r"kernels \(9,\) of a phase"):
        Allowed(kernels=(9,)).draw(space, 1, 0)


def test_a_resolution_is_drawn_where_it_is_a_choice():
    space = pf.spaces.get("mbv3-cifar", resolutions=(24, 32))
    drawn = Allowed(depths=(2,)).draw(space, 50, 1)
    assert {space.resolution_of(arch) for arch in drawn} == {24, 32}


@pytest.mark.parametrize("so_far", [(4,), (2, 4)])
def test_sorting_channels_leaves_trained_networks_as_they_were(so_far):
    space = pf.spaces.get("mbv3-tiny")
    net = pf.supernet.build(space, seed=3).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # norms that tell channels apart
        for tensor in net.state_dict().values():
            if tensor.ndim == 1:
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    archs = np.concatenate([Allowed(expand_ratios=(r,)).draw(space, 2, 5) for r in (*so_far, 1)])
    before = [net.extract(arch)(x) for arch in archs]
    sort_channels(net, so_far)
    same = [
        torch.allclose(net.extract(a)(x), y, atol=1e-5) for a, y in zip(archs, before, strict=True)
    ]
    assert same == [True, True] * len(so_far) + [False, False]
    for layer in net.slots:
        importance = layer.project.weight.abs().sum((0, 2, 3))
        first = layer.project.weight.shape[1] // (1 if so_far == (4,) else 2)
        assert (importance[: first - 1] >= importance[1:first]).all()
