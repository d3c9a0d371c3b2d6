from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError, TrainingError
from pnag_fast.generator import ExpertSettings, PnagSettings
from pnag_fast.generator.methods.expert import Answers, draw_budgets, first_weights, imitate
from pnag_fast.runs import Run
from pnag_fast.search import Front
from pnag_fast.spaces.decisions import MASKED, Decisions

pytest.importorskip("torch")

QUICK = ExpertSettings(evaluations=3000, steps=120, batch=64)


def spread(table, n):
    low, high = table.bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


def test_budgets_of_one_cost_lie_even_or_close_above_a_member():
    costs = np.array([[1.0], [2.0], [6.0], [11.0]])
    archive = SimpleNamespace(costs=costs, best=lambda budgets: np.zeros(len(budgets), np.int64))
    budgets = draw_budgets(archive, 20_000, np.random.default_rng(0))
    assert budgets.shape == (20_000, 1)
    assert budgets.min() >= 1.0
    assert budgets.max() <= 11.0
    # An eighth starts at each member, with room of 10 u^3 v^3; even ones reach neither end.
    close = 0.5 * 0.3**3 + 0.125 * 0.3 * (1 - np.log(0.3))
    for cost in (1.0, 2.0, 6.0):
        found = np.mean((budgets >= cost) & (budgets <= cost + 10 * 0.3**3))
        assert found == pytest.approx(close, abs=0.01)
    assert np.mean(budgets == 11.0) == pytest.approx(0.125, abs=0.01)


def test_settings_that_cannot_train_are_refused(tiny, tiny_model, tiny_table):
    def refused(message, **options):
        with pytest.raises(InvalidInputError, match=message):
            pf.train_generator(tiny, tiny_model, [tiny_table], **options)

    for name in ("evaluations", "steps", "batch", "hidden", "frequencies"):
        refused(name, settings=ExpertSettings(**{name: 0}))
    refused("learning_rate", settings=ExpertSettings(learning_rate=np.nan))
    refused("'expert' has no use for PnagSettings", settings=PnagSettings())
    refused("'pnag' has no use for ExpertSettings", method="pnag", settings=QUICK)
    refused("presets are for method 'pnag'", preset="nag")


def test_inputs_that_hold_no_trade_off_are_refused(tiny, tiny_model, tiny_table, cell):
    everything = cell.enumerate()
    constant = pf.accuracy.table(cell, everything, np.full(len(everything), 0.5))
    with pytest.raises(InvalidInputError, match="same top-1"):
        pf.train_generator(cell, constant, [pf.costs.macs(cell)])
    with pytest.raises(InvalidInputError, match="not for 'mbv3-tiny'"):
        pf.train_generator(tiny, tiny_model, [pf.costs.macs(cell)])
    with pytest.raises(InvalidInputError, match="not for 'nasbench201'"):
        pf.train_generator(cell, tiny_model, [tiny_table])
    with pytest.raises(InvalidInputError, match="3 measured"):
        pf.accuracy.fit(tiny, tiny.sample(3), [0.1, 0.2, 0.3])


def test_slopes_are_those_of_the_cross_entropy(tiny, tiny_generator):
    torch = pytest.importorskip("torch")
    archive, decisions = tiny_generator.archive, Decisions(tiny, "slot")
    rng = np.random.default_rng(0)
    members = rng.integers(len(archive), size=30)
    logits = rng.normal(0, 2, size=(30, decisions.starts[-1])).astype(np.float32)
    tensor = torch.from_numpy(logits).double().requires_grad_()
    options = torch.from_numpy(decisions.encode(archive.archs[members]))
    assert (options == MASKED).any()
    loss = sum(
        torch.nn.functional.cross_entropy(
            tensor[:, start:stop], options[:, i], ignore_index=MASKED, reduction="sum"
        )
        for i, (start, stop) in enumerate(itertools.pairwise(decisions.starts.tolist()))
    )
    (loss / 30).backward()
    before = logits.copy()
    slopes = Answers(decisions, archive).slopes(logits, members)
    np.testing.assert_allclose(slopes, tensor.grad.numpy(), atol=1e-6)
    np.testing.assert_array_equal(logits, before)
    # Logits that e cannot be raised to are cut, and the slopes stay finite.
    assert np.isfinite(Answers(decisions, archive).slopes(1e6 * logits, members)).all()


def test_one_step_is_a_step_of_adam(tiny_generator):
    torch = pytest.importorskip("torch")
    archive = tiny_generator.archive
    settings = ExpertSettings(steps=1, batch=400, hidden=8, frequencies=3, learning_rate=0.01)
    policy = imitate(archive, settings, Run(5))
    first = first_weights(policy.decisions, 1, settings, 5)
    # One step of Adam moves every weight by the rate, against the sign of its slope.
    trained = {name: torch.from_numpy(a).requires_grad_() for name, a in first.items()}
    budgets = draw_budgets(archive, 400, np.random.default_rng([5, 2**32 + 1]))
    rows = np.random.default_rng([5, 0]).integers(400, size=400)
    values = torch.from_numpy(policy.features(policy.ranks(budgets))[rows])
    for i in range(3):
        values = values @ trained[f"layer.{i}"] + trained[f"bias.{i}"]
        values = torch.relu(values) if i < 2 else values
    members = archive.best(budgets)[rows]
    slopes = Answers(policy.decisions, archive).slopes(values.detach().numpy(), members)
    values.backward(torch.from_numpy(slopes))
    for name, weight in trained.items():
        moved = policy.weights[name] - first[name]
        if name == "frequency":
            assert not moved.any()
            continue
        slope = weight.grad.numpy()
        large = np.abs(slope) > 1e-5
        assert large.any()
        np.testing.assert_allclose(moved[large], -0.01 * np.sign(slope[large]), rtol=1e-2)


def test_a_rate_that_is_too_large_is_named(tiny, tiny_model, tiny_table):
    settings = ExpertSettings(evaluations=500, steps=60, batch=16, learning_rate=1e30)
    with pytest.raises(TrainingError, match="not finite after step .* learning_rate=1e[+]30"):
        pf.train_generator(tiny, tiny_model, [tiny_table], settings=settings)


def test_a_damaged_state_of_imitation_is_refused(tiny, tiny_model, tiny_table, tmp_path):
    path = tmp_path / "checkpoint"
    options = {"settings": QUICK, "checkpoint": path}
    pf.train_generator(tiny, tiny_model, [tiny_table], **options)
    tensors, body = files.read_safetensors(path, "pnag-checkpoint", 1)
    for written_by_files in ("format", "version", "provenance"):
        del body[written_by_files]
    for message, name, value in (
        ("square is negative", "imitation/second", -1 - tensors["imitation/second"]),
        ("'weights' should be float32", "imitation/weights", tensors["imitation/weights"][1:]),
    ):
        files.write_safetensors(path, "pnag-checkpoint", 1, {**tensors, name: value}, body)
        with pytest.raises(FileFormatError, match=message):
            pf.train_generator(tiny, tiny_model, [tiny_table], **options)


def test_the_policy_imitates_the_front(tiny_generator, tiny_table):
    budgets = spread(tiny_table, 200)[:, None]
    archive, policy = tiny_generator.archive, tiny_generator.policy
    _, alone = tiny_generator._ask_policy(budgets, 5, np.random.default_rng(0))
    best = archive.top1[archive.best(budgets)]
    assert np.isfinite(alone).mean() > 0.97
    assert (best - alone)[np.isfinite(alone)].mean() < 2e-3
    # What the network learned, not what its shape gives away: without its weights it fails.
    blank = {name: np.zeros_like(array) for name, array in policy.weights.items()}
    broken = pf.Generator(
        type(policy)(policy.decisions, policy.nodes, blank),
        tiny_generator.model,
        tiny_generator.tables,
        archive,
    )
    _, untrained = broken._ask_policy(budgets, 5, np.random.default_rng(0))
    assert np.where(np.isfinite(untrained), best - untrained, 1.0).mean() > 2e-2
    assert set(broken.generate(budgets).source) == {"archive"}


def test_answers_say_how_far_they_are_from_the_front(tiny_generator, tiny_table):
    budgets = spread(tiny_table, 200)
    out = tiny_generator.generate(budgets)
    archive = tiny_generator.archive
    known = archive.top1[archive.best(budgets[:, None])]
    np.testing.assert_allclose(out.gap, known - out.top1, atol=1e-6)
    assert (out.gap <= 1e-6).all()
    assert (out.gap[np.array(out.source) == "archive"] == 0).all()


def test_more_budget_is_never_worse(tiny_generator, tiny_table):
    out = tiny_generator.generate(spread(tiny_table, 500))
    known = tiny_generator.archive.top1[tiny_generator.archive.best(out.budgets)]
    assert (np.diff(known) >= 0).all()
    # The policy may beat the archive here and there, by no more than there is between members.
    assert np.diff(out.top1).min() > -1e-3


def test_many_budgets_are_answered_in_blocks(tiny_generator, tiny_table, monkeypatch):
    from pnag_fast.generator import generator

    budgets = spread(tiny_table, 57)
    whole = tiny_generator.generate(budgets)
    monkeypatch.setattr(generator, "_CANDIDATES", 25)
    np.testing.assert_array_equal(tiny_generator.generate(budgets).archs, whole.archs)


def test_same_seed_same_generator(tiny, tiny_model, tiny_table):
    a, b, c = (
        pf.train_generator(tiny, tiny_model, [tiny_table], settings=QUICK, seed=seed)
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(a.archive.archs, b.archive.archs)
    for name, weight in a.policy.weights.items():
        np.testing.assert_array_equal(weight, b.policy.weights[name])
    assert (a.policy.weights["layer.0"] != c.policy.weights["layer.0"]).any()


def test_training_killed_at_any_moment_ends_the_same(
    tiny, tiny_model, tiny_table, tmp_path, tiny_generator_path
):
    whole = pf.train_generator(tiny, tiny_model, [tiny_table], settings=QUICK)
    tiny_model.save(tmp_path / "model.safetensors")
    tiny_table.save(tmp_path / "table.json")
    # Every step is written, and the process shot between two.
    code = f"""
        import os, signal, sys, torch
        import pnag_fast as pf
        from pnag_fast.generator import ExpertSettings
        from pnag_fast.runs import Checkpoint
        torch.set_num_threads(1)
        Checkpoint.__init__.__kwdefaults__["write_every_s"] = 0.0
        def shoot(what, step, total):
            if "imitating" in what and step == int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGKILL)
        table = pf.CostTable.load({str(tmp_path / "table.json")!r})
        model = pf.accuracy.load({str(tmp_path / "model.safetensors")!r})
        out = pf.train_generator(table.space, model, [table], progress=shoot,
            settings={QUICK!r}, checkpoint={str(tmp_path / "checkpoint")!r})
        out.save({str(tmp_path / "resumed.safetensors")!r})
    """
    for step, status in ((1, -9), (60, -9), (0, 0)):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(step)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
    resumed = pf.Generator.load(tmp_path / "resumed.safetensors")
    np.testing.assert_array_equal(resumed.archive.archs, whole.archive.archs)
    for name, weight in whole.policy.weights.items():
        np.testing.assert_array_equal(resumed.policy.weights[name], weight)

    def again(**options):
        settings = {"settings": QUICK, "checkpoint": tmp_path / "checkpoint", **options}
        pf.train_generator(tiny, tiny_model, [tiny_table], **settings)

    with pytest.raises(InvalidInputError, match="other seed"):
        again(seed=1)
    with pytest.raises(InvalidInputError, match="other settings"):
        again(settings=ExpertSettings(evaluations=3000, steps=121, batch=64))
    with pytest.raises(FileFormatError, match="it is a 'pnag-generator' file"):
        again(checkpoint=tiny_generator_path)
    raw = (tmp_path / "checkpoint").read_bytes()
    (tmp_path / "checkpoint").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        again()


@pytest.fixture(scope="module")
def other_table(tiny):
    """A device on which what a layer costs has little to do with its multiply-adds."""
    rng = np.random.default_rng(8)
    entries = rng.uniform(0.5, 2.0, (1, tiny.n_slots, max(tiny.n_codes)))
    entries[:, :, 0] = 0
    return pf.CostTable.build(
        tiny, metric="latency", unit="ms", device="other", constants=[1.0], entries=entries
    )


@pytest.mark.parametrize("name", ["tiny_generator", "tiny_pnag_generator"])
def test_another_device_needs_no_training(name, tiny, tiny_model, other_table, tmp_path, request):
    generator = request.getfixturevalue(name)
    moved = generator.retarget([other_table], evaluations=3000)
    budgets = spread(other_table, 100)
    out = moved.generate(budgets)
    assert (out.costs[:, 0] <= budgets).all()
    np.testing.assert_array_equal(out.costs[:, 0], other_table(out.archs))

    def mean_gap(front):
        rows = front.best(budgets[:, None])
        return np.where(rows >= 0, out.top1 - front.top1[rows], 1.0).mean()

    archs = generator.archive.archs
    recosted = Front.of(
        archs,
        tiny_model.predict(archs),
        other_table(archs)[:, None],
        [other_table],
        accuracy_source="",
        evaluations=0,
        seconds=0,
    )
    assert mean_gap(recosted) > 1e-3
    sampled = pf.search.random(tiny, tiny_model, [other_table], evaluations=3000)
    assert mean_gap(sampled) > 1e-3
    searched = pf.search.front(tiny, tiny_model, [other_table], evaluations=30_000)
    assert mean_gap(searched) > -5e-3
    moved.save(tmp_path / "moved.safetensors")
    loaded = pf.Generator.load(tmp_path / "moved.safetensors")
    np.testing.assert_array_equal(loaded.generate(budgets).archs, out.archs)


def test_another_device_must_have_the_same_slots(tiny_generator, cell, tiny):
    with pytest.raises(InvalidInputError, match="slots"):
        tiny_generator.retarget([pf.costs.macs(cell)])
    tables = [pf.costs.macs(tiny), pf.costs.parameters(tiny)]
    with pytest.raises(InvalidInputError, match="answers 1 costs; found 2 tables"):
        tiny_generator.retarget(tables)
    smaller = pf.spaces.get("mbv3-tiny", resolutions=(16,))
    with pytest.raises(InvalidInputError, match="accuracy model is for"):
        tiny_generator.retarget([pf.costs.macs(smaller)])
