from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.budgets import reach
from pnag_fast.errors import (
    BudgetInfeasibleError,
    FileFormatError,
    InvalidInputError,
    MemoryShortageError,
)
from pnag_fast.generator import ExpertSettings


def spread(table, n):
    low, high = table.bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


def test_every_answer_meets_its_budget(tiny, tiny_generator, tiny_table):
    budgets = spread(tiny_table, 100)
    out = tiny_generator.generate(budgets)
    tiny.validate(out.archs)
    assert out.archs.shape == (100, tiny.n_slots)
    np.testing.assert_array_equal(out.costs[:, 0], tiny_table(out.archs))
    assert (out.costs[:, 0] <= budgets).all()
    np.testing.assert_array_equal(out.top1, tiny_generator.model.predict(out.archs))
    assert set(out.source) <= {"policy", "policy+neighbours", "archive"}


def test_answers_are_near_the_reference_front(tiny, tiny_generator, tiny_model, tiny_table):
    budgets = spread(tiny_table, 40)
    reference = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=50_000)
    best = reference.top1[reference.best(budgets[:, None])]
    random = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=2000)
    sampled = random.top1[random.best(budgets[:, None]).clip(0)]
    gap = best - tiny_generator.generate(budgets).top1
    assert gap.mean() < 0.25 * (best - sampled).mean()


@pytest.mark.parametrize("name", ["tiny_generator", "tiny_pnag_generator"])
def test_the_policy_itself_follows_the_budget(tiny, name, tiny_table, request):
    low, high = tiny_table.bounds
    budgets = np.array([[low + 0.1 * (high - low)], [low + 0.9 * (high - low)]])
    policy = request.getfixturevalue(name).policy
    drawn = policy.candidates(budgets, 64, np.random.default_rng(0))
    costs = tiny_table(drawn.reshape(-1, tiny.n_slots)).reshape(2, 64)
    assert costs[0].mean() < costs[1].mean()


def test_same_seed_same_answers(tiny_generator, tiny_table):
    budgets = spread(tiny_table, 10)
    a, b = (tiny_generator.generate(budgets, seed=5) for _ in range(2))
    np.testing.assert_array_equal(a.archs, b.archs)
    assert a.source == b.source


def test_both_ends_of_the_range(tiny_generator, tiny_table):
    low, high = tiny_table.bounds
    out = tiny_generator.generate([low, high])
    assert out.costs[0, 0] == low
    assert out.costs[1, 0] <= high
    assert out.top1[1] > out.top1[0]


def test_shapes_of_budgets(tiny_generator, tiny_table):
    middle = float(np.mean(tiny_table.bounds))
    for budgets, n in ((middle, 1), ([middle], 1), ([[middle]], 1), ([middle] * 3, 3), ([], 0)):
        assert len(tiny_generator.generate(budgets)) == n
    with pytest.raises(InvalidInputError, match="shape"):
        tiny_generator.generate([[middle, middle]])
    with pytest.raises(InvalidInputError, match="numbers"):
        tiny_generator.generate(["soon"])


@pytest.mark.parametrize(
    ("budget", "error", "message"),
    [
        (np.nan, InvalidInputError, "not a positive number"),
        (-1.0, InvalidInputError, "not a positive number"),
        (-np.inf, InvalidInputError, "not a positive number"),
        (0.0, InvalidInputError, "not a positive number"),
        ("low", BudgetInfeasibleError, "below the cheapest .* reachable"),
        ("seconds", BudgetInfeasibleError, "is it in ms"),
    ],
)
def test_bad_budgets_are_named(tiny_generator, tiny_table, budget, error, message):
    low, high = tiny_table.bounds
    named = {"low": 0.9 * low, "seconds": low / 1000}
    value = named.get(budget, budget) if isinstance(budget, str) else budget
    with pytest.raises(error, match=message):
        tiny_generator.generate([high, value])
    with pytest.raises(InvalidInputError, match="'raise' or 'mark'"):
        tiny_generator.generate([high], on_infeasible="ignore")


def test_large_and_open_budgets_are_answered_by_the_best(tiny_generator, tiny_table):
    high = tiny_table.bounds[1]
    out = tiny_generator.generate([high, 1.1 * high, 1000 * high, np.inf])
    np.testing.assert_array_equal(out.budgets[:, 0], [high, 1.1 * high, 1000 * high, np.inf])
    np.testing.assert_array_equal(out.archs, np.repeat(out.archs[:1], 4, axis=0))
    assert out.top1[0] == pytest.approx(tiny_generator.archive.top1.max(), abs=1e-6)
    assert out.feasible.all()
    assert np.isfinite(out.gap).all()
    assert out.notes[0] == out.notes[3] == ""
    assert "above the dearest architecture (" in out.notes[1]
    assert "is it in ms?" in out.notes[2]


def test_an_infeasible_budget_leaves_the_others_alone(tiny, tiny_generator, tiny_table):
    low, high = tiny_table.bounds
    middle = (low + high) / 2
    out = tiny_generator.generate([middle, 0.5 * low, high], on_infeasible="mark")
    alone = tiny_generator.generate([middle, high])
    assert out.feasible.tolist() == [True, False, True]
    assert out.source[1] == "infeasible"
    assert "below the cheapest" in out.notes[1]
    assert not out.archs[1].any()
    assert np.isnan([out.top1[1], out.top1_std[1], out.costs[1, 0], out.gap[1]]).all()
    for name in ("archs", "top1", "top1_std", "costs", "gap"):
        # Products of other numbers of rows round differently.
        np.testing.assert_allclose(getattr(out, name)[[0, 2]], getattr(alone, name), atol=1e-6)
    nothing = tiny_generator.generate([0.5 * low], on_infeasible="mark")
    assert not nothing.feasible.any()
    assert repr(nothing) == "<Generated: 0 of 1 budgets answered>"


def test_the_printed_range_is_accepted(tiny, tiny_generator, tiny_table):
    low, high = tiny_table.bounds
    with pytest.raises(BudgetInfeasibleError) as refused:
        tiny_generator.generate(0.9 * low)
    first, _, last, unit = str(refused.value).rpartition("reachable: ")[2].split()
    assert unit == "ms"
    out = tiny_generator.generate([float(first), float(last)])
    assert not any(out.notes)
    # Rounded inwards, by no more than the fourth digit.
    assert low <= float(first) <= low * 1.001
    assert high * 0.999 <= float(last) <= high


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (14.25678, 61.84999, "14.26 to 61.84 ms"),
        (0.10001, 0.2, "0.1001 to 0.2 ms"),
        # So close that four digits would leave nothing between both ends.
        (1.0000123, 1.0000456, "1.00002 to 1.00004 ms"),
        (3.0, 3.0, "3 to 3 ms"),
        (12_345_678.0, 98_765_432.0, "1.235e+07 to 9.876e+07 ms"),
    ],
)
def test_ranges_are_rounded_inwards(low, high, text):
    table = types.SimpleNamespace(bounds=(low, high), unit="ms")
    assert reach(table) == text


def test_bad_options_are_refused(tiny_generator, tiny_table):
    with pytest.raises(InvalidInputError, match="n_candidates"):
        tiny_generator.generate(tiny_table.bounds[1], n_candidates=0)
    with pytest.raises(InvalidInputError, match="neighbour_steps"):
        tiny_generator.generate(tiny_table.bounds[1], neighbour_steps=-1)


def test_several_costs(tiny, tiny_model, tiny_table, quick_settings):
    tables = [tiny_table, pf.costs.parameters(tiny)]
    generator = pf.train_generator(tiny, tiny_model, tables, settings=quick_settings)
    bounds = generator.stack.bounds
    budgets = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * np.array([[0.5, 0.5], [0.9, 0.3]])
    out = generator.generate(budgets)
    assert (out.costs <= budgets).all()
    both_lowest = bounds[:, 0] * (1 + 1e-9)
    if (tiny_table(tables[1].cheapest()[None]) > both_lowest[0]).all():
        with pytest.raises(BudgetInfeasibleError, match="together"):
            generator.generate(both_lowest[None])
        marked = generator.generate([both_lowest, bounds[:, 1]], on_infeasible="mark")
        assert marked.feasible.tolist() == [False, True]
        assert "together" in marked.notes[0]
    # Either cost may be left open.
    out = generator.generate([[budgets[0, 0], np.inf], [np.inf, budgets[0, 1]], [np.inf, np.inf]])
    assert out.costs[0, 0] <= budgets[0, 0]
    assert out.costs[1, 1] <= budgets[0, 1]
    assert (out.top1 >= generator.generate([budgets[0]]).top1 - 1e-6).all()
    assert out.top1[2] == pytest.approx(generator.archive.top1.max(), abs=1e-6)


def test_each_vector_of_bounds_has_a_search_of_its_own(tiny, tiny_model, tiny_table):
    settings = ExpertSettings(evaluations=600, steps=5)
    tables = [tiny_table, pf.costs.parameters(tiny), pf.costs.peak_memory(tiny)]
    generator = pf.train_generator(tiny, tiny_model, tables, settings=settings)
    low, high = generator.stack.bounds.T
    # A bound on one cost, on two, on all; and what only few architectures meet.
    share = np.array([[0.4, 9, 9], [0.4, 0.5, 9], [0.5, 0.5, 0.6], [0.02, 0.05, 0.2]])
    budgets = np.where(share > 1, np.inf, low + share * (high - low))
    known = generator.generate(budgets, evaluations=0)
    found = generator.generate(budgets)
    assert "search" not in known.source
    assert found.source[0] != "search"
    assert "search" in found.source[1:]
    assert (found.costs <= budgets).all()
    assert (found.top1 >= known.top1 - 1e-6).all()
    assert (found.top1 > known.top1 + 1e-6).any()
    searched = np.array(found.source) == "search"
    assert (found.gap[searched] < 1e-6).all()
    again = generator.generate(budgets, evaluations=1000)
    np.testing.assert_array_equal(again.archs[1:], generator.generate(budgets[1:]).archs)
    with pytest.raises(InvalidInputError, match="evaluations"):
        generator.generate(budgets, evaluations=-1)


def test_what_nothing_known_meets_is_met_where_it_can_be(tiny, tiny_model, tiny_table):
    settings = ExpertSettings(evaluations=40, steps=5)
    tables = [tiny_table, pf.costs.parameters(tiny)]
    generator = pf.train_generator(tiny, tiny_model, tables, settings=settings)
    cheapest = tables[1].cheapest()[None]
    # Just enough for one architecture, which the archive may have forgotten.
    least = pf.costs.least(generator.stack, np.array([np.inf, tables[1](cheapest)[0]]), 0)
    budget = generator.stack(least.arch[None])
    lost = dataclasses.replace(
        generator,
        archive=dataclasses.replace(
            generator.archive,
            archs=generator.archive.archs[-1:],
            top1=generator.archive.top1[-1:],
            costs=generator.archive.costs[-1:],
        ),
    )
    out = lost.generate(budget, evaluations=0)
    assert out.source == ("search",)
    np.testing.assert_array_equal(out.archs[0], least.arch)


def test_what_is_printed_fits_on_a_screen(tiny_generator, tiny_pnag_generator, tiny_table):
    for generator in (tiny_generator, tiny_pnag_generator):
        text = repr(generator)
        assert len(text) < 400
        assert len(text.splitlines()) <= 5
        assert "mbv3-tiny" in text
        assert reach(tiny_table) in text
        for part in (generator.policy, generator.archive, generator.generate(np.inf)):
            assert len(repr(part)) < 400


@pytest.mark.parametrize("name", ["tiny_generator", "tiny_pnag_generator"])
def test_generators_can_be_copied_and_sent(name, tiny_table, request):
    generator = request.getfixturevalue(name)
    budgets = spread(tiny_table, 20)
    expected = generator.generate(budgets)
    for other in (pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)):
        answers = other.generate(budgets)
        np.testing.assert_array_equal(answers.archs, expected.archs)
        np.testing.assert_array_equal(answers.top1, expected.top1)
        assert other.space == generator.space
    again = pickle.loads(pickle.dumps(expected))
    np.testing.assert_array_equal(again.costs, expected.costs)
    front = pickle.loads(pickle.dumps(generator.archive))
    np.testing.assert_array_equal(
        front.best(budgets[:, None]), generator.archive.best(budgets[:, None])
    )


def test_save_and_load(tiny_generator, tiny_generator_path, tiny_table):
    loaded = pf.Generator.load(tiny_generator_path)
    budgets = spread(tiny_table, 20)
    a, b = tiny_generator.generate(budgets), loaded.generate(budgets)
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_array_equal(a.top1, b.top1)
    assert loaded.record == dict(tiny_generator.record)


def test_a_saved_generator_needs_neither_torch_nor_tvm(tiny_generator_path, tiny_table):
    budget = float(np.mean(tiny_table.bounds))
    code = f"""
        import sys
        for name in ("torch", "tvm", "sklearn", "matplotlib", "onnx", "PIL"):
            sys.modules[name] = None  # importing it now raises ImportError
        import pnag_fast as pf
        out = pf.Generator.load({str(tiny_generator_path)!r}).generate({budget})
        assert out.costs[0, 0] <= {budget}
        print(out.space if hasattr(out, "space") else out.source[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("keep", [0.0, 0.0005, 0.3, 0.9999])
def test_truncated_files_are_refused(tiny_generator_path, tmp_path, keep):
    raw = tiny_generator_path.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(FileFormatError, match="truncated"):
        pf.Generator.load(path)


def test_flipped_bits_are_noticed(tiny_generator_path, tmp_path):
    raw = tiny_generator_path.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.safetensors"
    for position in rng.integers(0, len(raw), size=60):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(FileFormatError):
            pf.Generator.load(path)


def test_files_of_pnag_generators(tiny_pnag_generator, tmp_path, tiny_table):
    path = tmp_path / "generator.safetensors"
    tiny_pnag_generator.save(path)
    budgets = spread(tiny_table, 20)
    expected = tiny_pnag_generator.generate(budgets)
    np.testing.assert_array_equal(pf.Generator.load(path).generate(budgets).archs, expected.archs)

    tensors, body = files.read_safetensors(path, "pnag-generator", 3)
    for written_by_files in ("format", "version", "provenance"):
        del body[written_by_files]
    # Version 1 knew one kind of policy and did not name it.
    first = {key: value for key, value in body.items() if key != "policy"}
    files.write_safetensors(path, "pnag-generator", 1, tensors, first)
    np.testing.assert_array_equal(pf.Generator.load(path).generate(budgets).archs, expected.archs)
    for message, changed, values in (
        ("n_budgets", tensors, {"n_budgets": 0}),
        ("policy.budget", tensors, {"n_budgets": 3}),
        ("policy.lstm.hidden", {k: v for k, v in tensors.items() if "lstm.hidden" not in k}, {}),
    ):
        files.write_safetensors(path, "pnag-generator", 3, changed, {**body, **values})
        with pytest.raises(FileFormatError, match=message):
            pf.Generator.load(path)


def test_inconsistent_files_are_refused(tiny_generator, tiny_generator_path, tmp_path):
    tensors, body = files.read_safetensors(tiny_generator_path, "pnag-generator", 3)
    path = tmp_path / "changed.safetensors"
    for written_by_files in ("format", "version", "provenance"):
        del body[written_by_files]

    def refused(message, tensors=tensors, version=3, **changes):
        files.write_safetensors(path, "pnag-generator", version, tensors, {**body, **changes})
        with pytest.raises(FileFormatError, match=message):
            pf.Generator.load(path)

    refused("upgrade", version=4)
    refused("no cost table", tables=[])
    refused("unknown kind 'oracle'", policy="oracle")
    refused("n_budgets", policy="lstm")
    refused("stages|space", space={"name": "x"})
    refused("inconsistent", space=pf.spaces.get("mbv3-tiny", width=2.0).definition)
    refused("policy.layer.1", {k: v for k, v in tensors.items() if k != "policy.layer.1"})
    refused("ascend", {**tensors, "policy.nodes": tensors["policy.nodes"][:, ::-1]})
    refused("policy.bias.2", {**tensors, "policy.bias.2": tensors["policy.bias.2"][1:]})
    infinite = np.full_like(tensors["policy.frequency"], np.inf)
    refused("not finite", {**tensors, "policy.frequency": infinite})
    broken = tensors["archive.archs"].copy()
    broken[0, 0] = 99
    refused("inconsistent", {**tensors, "archive.archs": broken})
    archs, top1 = tensors["archive.archs"], tensors["archive.top1"]
    refused("damaged", {**tensors, "archive.top1": top1[:-1]})
    for damaged in (
        archs[:, :-1],
        np.concatenate([archs, archs[:, :1]], axis=1),
        archs.astype(np.int64),
        archs[:, :, None],
    ):
        refused("archive of known architectures is damaged", {**tensors, "archive.archs": damaged})
    for damaged in (top1.astype(np.float32), np.where(np.arange(len(top1)) == 1, np.nan, top1)):
        refused("archive of known architectures is damaged", {**tensors, "archive.top1": damaged})
    for missing in ("archive.archs", "archive.top1"):
        kept = {name: tensor for name, tensor in tensors.items() if name != missing}
        refused("archive of known architectures is damaged", kept)
    tiny_generator.model.save(path)
    with pytest.raises(FileFormatError, match="it is a 'pnag-accuracy-model' file"):
        pf.Generator.load(path)


def test_odd_arguments_of_training_raise_our_own_errors_only(tiny, tiny_model, tiny_table, refusal):
    good = {"space": tiny, "model": tiny_model, "tables": [tiny_table]}
    for argument, values in {
        "space": (None, "mbv3-tiny", 3),
        "model": (None, "model", tiny_table),
        "tables": (None, tiny_table, [None], "x", 3),
        "method": (None, 3, [], np.ones(2), "experts"),
        "seed": (-1, 1.5, 2**64, None, "0", True),
        "preset": (3, [], "pnga"),
        "settings": (3, "quick", {}),
    }.items():
        for value in values:
            assert refusal(lambda given: pf.train_generator(**given), good | {argument: value})
    for settings, method in (
        (pf.generator.ExpertSettings(steps=1.5), "expert"),
        (pf.generator.ExpertSettings(learning_rate="x"), "expert"),
        (pf.generator.PnagSettings(entropy=float("nan")), "pnag"),
        (pf.generator.PnagSettings(reward=[]), "pnag"),
        (pf.generator.PnagSettings(interpolate=1), "pnag"),
    ):
        given = good | {"settings": settings, "method": method}
        assert refusal(lambda given: pf.train_generator(**given), given)


def test_odd_arguments_of_answers_raise_our_own_errors_only(
    tiny_generator, tiny_table, odd_values, refusal
):
    budget = tiny_table.bounds[1]
    for call in (
        tiny_generator.generate,
        lambda value: tiny_generator.generate(budget, n_candidates=value),
        lambda value: tiny_generator.generate(budget, neighbour_steps=value),
        lambda value: tiny_generator.generate(budget, on_infeasible=value),
        lambda value: tiny_generator.generate(budget, seed=value),
        tiny_generator.archive.best,
    ):
        refusals = 0
        for value in odd_values():
            if call is not tiny_generator.generate and isinstance(value, int) and value > 10**9:
                continue  # allowed for some, and takes for ever
            refusals += bool(refusal(call, value))
        assert refusals > 20
    with pytest.raises(MemoryShortageError, match="ask for fewer candidates"):
        tiny_generator.generate(budget, n_candidates=10**13)
