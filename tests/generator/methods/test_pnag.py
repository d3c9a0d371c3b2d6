from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.generator import BudgetScale, PnagSettings, dominance
from pnag_fast.generator.methods.pnag import multi_objective_reward, sample_budgets
from pnag_fast.runs import Checkpoint
from pnag_fast.spaces.decisions import Decisions


def test_dominance_rule_by_the_book():
    rng = np.random.default_rng(0)
    top1, costs = rng.uniform(size=30), rng.uniform(1, 5, size=(30, 1))
    budgets = np.array([[1.5], [3.0], [6.0]])
    result = dominance(top1, costs, budgets, np.array([4.0]))
    for b, (budget,) in enumerate(budgets):
        for i in range(30):
            for j in range(30):
                # PNAG, eq. 3: accuracy decides if both fit the budget, cost otherwise.
                if costs[i, 0] <= budget and costs[j, 0] <= budget:
                    expected = top1[i] >= top1[j]
                else:
                    expected = costs[i, 0] <= costs[j, 0]
                assert result[b, i, j] == expected


def test_log_probabilities_of_absent_layers_do_not_count(tiny):
    torch = pytest.importorskip("torch")
    from pnag_fast.generator.methods.pnag import _PolicyNetwork

    scale = BudgetScale(np.array([1.0]), np.array([2.0]), 2)
    decisions = Decisions(tiny)
    network = _PolicyNetwork(torch, decisions, scale, 8, seed=0)
    with torch.no_grad():
        for weight in network.weights.values():
            weight.zero_()
        archs, log_probability, entropy = network.rollout(
            torch.zeros(200, 1, 2), torch.Generator().manual_seed(0)
        )
    # All outputs zero: every decision that is present adds -log of its options.
    options = decisions.encode(archs)
    log_options = np.log([d.n_options for d in decisions.decisions])
    expected = ((options >= 0) * log_options).sum(axis=1)
    np.testing.assert_allclose(-log_probability.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(entropy.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["n_budgets", "steps", "samples_per_budget"])
def test_bad_settings_are_refused(tiny, tiny_model, tiny_table, name):
    with pytest.raises(InvalidInputError, match=name):
        pf.train_generator(
            tiny, tiny_model, [tiny_table], method="pnag", settings=PnagSettings(**{name: 0})
        )


def test_a_constant_cost_is_refused(tiny, tiny_model):
    flat = pf.CostTable.build(
        tiny,
        metric="latency",
        unit="ms",
        device="d",
        constants=[1.0],
        entries=np.zeros((1, tiny.n_slots, max(tiny.n_codes))),
    )
    with pytest.raises(InvalidInputError, match="no trade-off"):
        pf.train_generator(tiny, tiny_model, [flat])
    with pytest.raises(InvalidInputError, match="method"):
        pf.train_generator(tiny, tiny_model, [flat], method="magic")


QUICK = PnagSettings(n_architectures=300, evaluator_steps=30, evaluator_batch=32, steps=12)


def test_presets(tiny, tiny_model, tiny_table):
    assert PnagSettings.presets["pnag"] == PnagSettings()
    nag = PnagSettings.presets["nag"]
    assert (nag.n_budgets, nag.interpolate, nag.ranking_loss) == (5, False, "logistic")
    with pytest.raises(InvalidInputError, match="preset should be .* 'pnga'"):
        pf.train_generator(tiny, tiny_model, [tiny_table], method="pnag", preset="pnga")
    with pytest.raises(InvalidInputError, match="not both"):
        pf.train_generator(
            tiny, tiny_model, [tiny_table], method="pnag", preset="nag", settings=QUICK
        )


def test_without_interpolation_only_the_learned_budgets_exist(tiny, tiny_model, tiny_table):
    pytest.importorskip("torch")
    scale = BudgetScale(np.array([1.0]), np.array([4.0]), 4, interpolate=False)
    weights = scale.interpolation(np.array([[1.0], [2.4], [2.6], [9.0]]))
    np.testing.assert_array_equal(weights[:, 0].argmax(axis=1), [0, 1, 2, 3])
    np.testing.assert_array_equal(np.unique(weights), [0, 1])
    drawn = sample_budgets(scale, 200, np.random.default_rng(0))
    np.testing.assert_array_equal(np.unique(drawn), [1, 2, 3, 4])
    settings = dataclasses.replace(QUICK, n_budgets=3, interpolate=False)
    trained = pf.train_generator(
        tiny, tiny_model, [tiny_table], method="pnag", settings=settings
    ).policy
    low, high = tiny_table.bounds
    budgets = low + (high - low) * np.array([[0.3], [0.7]])
    # Both are nearest to the middle one.
    first, second = trained.sample(budgets, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(first, second)


def test_a_file_remembers_that_budgets_are_not_interpolated(tiny, tiny_model, tiny_table, tmp_path):
    pytest.importorskip("torch")
    settings = dataclasses.replace(QUICK, n_budgets=3, interpolate=False)
    trained = pf.train_generator(tiny, tiny_model, [tiny_table], method="pnag", settings=settings)
    trained.save(tmp_path / "g.safetensors")
    assert pf.Generator.load(tmp_path / "g.safetensors").policy.scale.interpolate is False


def test_rewards_by_the_book(tiny, tiny_model, tiny_table):
    archs = tiny.sample(20, seed=0)
    stack = pf.costs.stack([tiny_table])
    budgets = np.full((20, 1), tiny_table(archs).mean())
    top1, ratio = tiny_model.predict(archs), tiny_table(archs) / budgets[:, 0]
    mnasnet = multi_objective_reward("mnasnet", tiny_model, stack)(archs, budgets)
    np.testing.assert_allclose(mnasnet, top1 * ratio**-0.07)
    tunas = multi_objective_reward("tunas", tiny_model, stack)(archs, budgets)
    np.testing.assert_allclose(tunas, top1 - 0.07 * abs(ratio - 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": "mnasnet"},
        {"reward": "tunas"},
        {"reward": "dominance-without-accuracy"},
        {"ranking_loss": "logistic"},
        {"n_budgets": 1},
    ],
)
def test_every_setting_changes_the_policy(tiny, tiny_model, tiny_table, changes):
    pytest.importorskip("torch")
    trained = [
        pf.train_generator(
            tiny,
            tiny_model,
            [tiny_table],
            method="pnag",
            settings=dataclasses.replace(QUICK, **change),
        )
        for change in ({}, changes)
    ]
    heads = [generator.policy.weights["head.0"] for generator in trained]
    assert not np.array_equal(*heads)
    has_evaluator = changes.get("reward") not in ("mnasnet", "tunas")
    assert ("evaluator_pair_accuracy" in trained[1].record) == has_evaluator


def test_without_the_accuracy_rule_the_cheapest_is_best(tiny, tiny_model, tiny_table):
    pytest.importorskip("torch")
    costs = []
    for reward in ("dominance", "dominance-without-accuracy"):
        settings = PnagSettings(n_architectures=2000, evaluator_steps=80, steps=40, reward=reward)
        trained = pf.train_generator(
            tiny, tiny_model, [tiny_table], method="pnag", settings=settings
        )
        dearest = np.array([[tiny_table.bounds[1]]])
        drawn = trained.policy.sample(dearest, 64, np.random.default_rng(0))[0]
        costs.append(tiny_table(drawn).mean())
    assert costs[1] < 0.7 * costs[0]


def test_training_killed_at_any_moment_ends_the_same(
    tiny, tiny_model, tiny_table, tmp_path, monkeypatch
):
    pytest.importorskip("torch")
    whole = pf.train_generator(tiny, tiny_model, [tiny_table], method="pnag", settings=QUICK)

    class KilledError(Exception):
        pass

    # A state is written at every step.
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    path = tmp_path / "training.safetensors"
    for phase, at in (("evaluator", 17), ("evaluator", 29), ("policy", 5)):

        def stop(what, step, total, phase=phase, at=at):
            if phase in what and step == at:
                raise KilledError

        with pytest.raises(KilledError):
            pf.train_generator(
                tiny,
                tiny_model,
                [tiny_table],
                method="pnag",
                settings=QUICK,
                checkpoint=path,
                progress=stop,
            )
    seen = []
    resumed = pf.train_generator(
        tiny,
        tiny_model,
        [tiny_table],
        method="pnag",
        settings=QUICK,
        checkpoint=path,
        progress=lambda what, step, total: seen.append((what, step)),
    )
    assert min(step for _, step in seen) == 6
    for name, weight in whole.policy.weights.items():
        np.testing.assert_array_equal(resumed.policy.weights[name], weight)
    np.testing.assert_array_equal(resumed.archive.archs, whole.archive.archs)
    assert resumed.record["evaluator_pair_accuracy"] == whole.record["evaluator_pair_accuracy"]
    with pytest.raises(InvalidInputError, match="another run|other settings"):
        pf.train_generator(
            tiny,
            tiny_model,
            [tiny_table],
            method="pnag",
            settings=dataclasses.replace(QUICK, steps=13),
            checkpoint=path,
        )


@pytest.mark.parametrize(("name", "value"), [("reward", "best"), ("ranking_loss", "square")])
def test_unknown_names_are_refused(tiny, tiny_model, tiny_table, name, value):
    with pytest.raises(InvalidInputError, match=f"{name} should be "):
        pf.train_generator(
            tiny,
            tiny_model,
            [tiny_table],
            method="pnag",
            settings=PnagSettings(**{name: value}),
        )
