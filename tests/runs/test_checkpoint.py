from __future__ import annotations

import math
import random
import shutil

import numpy as np
import pytest

from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError, OtherRunError
from pnag_fast.runs import Checkpoint, Run, differences
from pnag_fast.runs import checkpoint as module
from pnag_fast.runs.checkpoint import (
    State,
    optimiser_arrays,
    random_arrays,
    restore_optimiser,
    restore_random,
)
from pnag_fast.strict_json import shorten


def work(path, *, stop_at=None, identity=None, **options):
    """Two phases of five steps; returns what the last carried."""
    kept = Checkpoint(path, identity or {"seed": 0}, write_every_s=0.0, **options)
    total, rng = np.zeros(3), np.random.default_rng(0)
    for phase in ("first", "second"):
        state, trace = kept.restore(phase), []
        if state is not None:
            total = state.take("total", np.float64, (3,)).copy()
            restore_random(rng, state)
            trace = list(state.header["trace"])
        for step in range(0 if state is None else state.step, 5):
            total = total + rng.normal(size=3)
            trace.append(f"{phase} {step}")
            kept.keep(
                phase,
                step + 1,
                lambda total=total: {"total": total, **random_arrays(rng)},
                header=lambda trace=trace: {"trace": trace},
                last=step == 4,
            )
            if stop_at == (phase, step):
                raise KeyboardInterrupt
    return total, trace


@pytest.mark.parametrize("phase", ["first", "second"])
@pytest.mark.parametrize("step", range(5))
def test_stopped_anywhere_it_ends_the_same(tmp_path, phase, step):
    whole, trace = work(None)
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "kept", stop_at=(phase, step))
    total, again = work(tmp_path / "kept")
    np.testing.assert_array_equal(total, whole)
    assert again == trace == [f"second {i}" for i in range(5)]


def test_it_is_written_when_the_last_time_was_long_ago(tmp_path, monkeypatch):
    path, now, made = tmp_path / "kept", [100.0], []

    def arrays():
        made.append(1)
        return {"x": np.zeros(1)}

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept = Checkpoint(path, {}, write_every_s=5.0)
    for second in range(12):
        now[0] = 100.0 + second
        kept.keep("phase", second, arrays)
    # After 5 and after 10 seconds, and nothing is copied in between.
    assert len(made) == 2
    assert Checkpoint(path, {}).restore("phase").step == 10
    kept.keep("phase", 12, arrays, last=True)
    assert Checkpoint(path, {}).restore("phase").step == 12
    never = Checkpoint(tmp_path / "other", {}, write_every_s=math.inf)
    now[0] += 1e9
    never.keep("phase", 1, arrays)
    assert not (tmp_path / "other").exists()


def test_one_of_several_processes_writes(tmp_path):
    path = tmp_path / "kept"
    work(path, writes=False)
    assert not path.exists()
    whole = work(path)
    before = path.read_bytes()
    # The others read what it wrote.
    np.testing.assert_array_equal(work(path, writes=False)[0], whole[0])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("found", "now", "text"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1, "b": 2}, {"a": 2, "b": 3}, "a (1, now 2), b (2, now 3)"),
        ({"some_data": "0f" * 16}, {"some_data": "1f" * 16}, "some data"),
        ({"options": {"ema": 0.9}}, {"options": {"ema": 0.5}}, "options (ema 0.9, now 0.5)"),
        ({"options": {}}, {"options": {"ema": 0.5}}, "options (ema absent, now 0.5)"),
        ({"options": {"ema": None}}, {}, "options (an object, now absent)"),
        (
            {"phases": [{"epochs": 1}, {"epochs": 2}]},
            {"phases": [{"epochs": 1}, {"epochs": 3}]},
            "phases (epochs 2, now 3)",
        ),
        ({"phases": [1, 2]}, {"phases": [1]}, "phases (2 entries, now 1 entries)"),
        ({"x\n" * 99: 1}, {}, shorten("x\n" * 99) + " (1, now absent)"),
        ({"a": {"b_c": 1}}, {"a": {"b_c": 2}}, "a (b_c 1, now 2)"),
        (
            {"o": dict.fromkeys("abcde", 1)},
            {"o": dict.fromkeys("abcde", 2)},
            "o (a 1, now 2; b 1, now 2; c 1, now 2 and 2 more)",
        ),
        ({"model": ["0f" * 32, {"kind": "x"}]}, {"model": ["1f" * 32, {"kind": "x"}]}, "model"),
    ],
)
def test_what_differs_is_named_with_both_values(found, now, text):
    assert differences(found, now) == text


def test_a_file_of_another_run_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "kept"
    work(path, identity={"seed": 0, "settings": {"steps": 3, "batch": 5}})
    before = path.read_bytes()
    with pytest.raises(
        OtherRunError, match=r"with other settings \(steps 3, now 4\); use"
    ) as error:
        work(path, identity={"seed": 0, "settings": {"steps": 4, "batch": 5}})
    # Either name that it had in earlier releases.
    assert isinstance(error.value, InvalidInputError)
    assert isinstance(error.value, FileFormatError)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": {"x": {"step": -1, "header": {}}}}, "phase 'x': the step should be an integer"),
        ({"phases": {"x": {"step": True, "header": {}}}}, "phase 'x': the step should be"),
        ({"phases": {"x": {"step": 1, "header": []}}}, "header' should be dict"),
        ({"phases": {"x": {"step": 1}}}, "lacks the field .*header"),
        ({"phases": {"x": {"step": 1, "header": {}, "more": 1}}}, "unknown field 'more'"),
        ({"phases": {"x": 1}}, "should be dict"),
        ({"phases": {}}, "belongs to no phase"),
        ({"steps": {}}, "unknown field 'steps'"),
        ({"identity": 3}, "'identity' should be dict"),
    ],
)
def test_fields_are_named(tmp_path, change, message):
    path = tmp_path / "kept"
    work(path)
    name, version = module.CHECKPOINT_FORMAT, module.CHECKPOINT_VERSION
    arrays, body = files.read_safetensors(path, name, version)
    files.write_safetensors(path, name, version, arrays, {**body, **change})
    with pytest.raises(FileFormatError, match=message):
        Checkpoint(path, {"seed": 0})


def test_a_run_opens_a_checkpoint_or_takes_part_in_one(tmp_path):
    kept = Checkpoint(None, {})
    assert Run(checkpoint=kept).open(lambda: {"a": 1}) is kept
    Run(checkpoint=tmp_path / "kept").open(lambda: {"a": 1}).keep("phase", 1, dict, last=True)
    with pytest.raises(OtherRunError, match=r"other a \(1, now 2\)"):
        Run(checkpoint=tmp_path / "kept").open(lambda: {"a": 2})


def test_states_of_optimisers(variants):
    torch = pytest.importorskip("torch")

    def fresh():
        weights = [torch.ones(3, 2, requires_grad=True), torch.ones(4, requires_grad=True)]
        return weights, torch.optim.Adam([*weights, torch.ones(5, requires_grad=True)])

    weights, optimiser = fresh()
    for _ in range(3):
        sum((weight**2).sum() for weight in weights).backward()
        optimiser.step()
    arrays = optimiser_arrays(optimiser)
    _, other = fresh()
    restore_optimiser(other, State(3, arrays))
    for name, array in optimiser_arrays(other).items():
        np.testing.assert_array_equal(array, arrays[name])

    rng, refused = random.Random(0), 0
    for _ in range(300):
        weights, other = fresh()
        try:
            restore_optimiser(other, State(3, variants.vary_arrays(arrays, rng)))
        except FileFormatError:
            refused += 1
            continue
        sum((weight**2).sum() for weight in weights).backward()
        other.step()
        assert all(torch.isfinite(weight).all() for weight in weights)
    assert refused >= 150


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"null",
        b'{"bit_generator": "MT19937"}',
        b'{"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}, "has_uint32": 0, '
        b'"uinteger": 0}',
        b'{"bit_generator": "PCG64", "state": {"state": 1%s, "inc": 1}, "has_uint32": 0, '
        b'"uinteger": 0}' % (b"0" * 60),
        b'{"bit_generator": "PCG64", "state": {"state": "1", "inc": null}, "has_uint32": 0, '
        b'"uinteger": 0}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_states_of_random_generators(raw):
    state = State(1, {"random": np.frombuffer(raw, dtype=np.uint8)}, "'x': phase 'y'")
    with pytest.raises(FileFormatError, match="'x': phase 'y': array 'random'"):
        restore_random(np.random.default_rng(0), state)


# --- files of earlier releases ---------------------------------------------------------------


def test_generators_of_earlier_releases_are_read_and_gone_on_with(works, tmp_path):
    path = tmp_path / "kept"
    shutil.copy(works.FILES / "generator-1.safetensors", path)
    arrays, body = files.read_safetensors(path, "pnag-generator-checkpoint", 1)
    with pytest.raises(OtherRunError, match=r"other seed \(0, now 7\);"):
        Checkpoint(path, {**body["identity"], "seed": 7})
    kept = Checkpoint(path, body["identity"])
    for phase, step in (("evaluator", 6), ("policy", 3)):
        state = kept.restore(phase)
        assert (state.step, state.header) == (step, {})
        mine = {k.partition("/")[2]: a for k, a in arrays.items() if k.startswith(phase)}
        assert state.arrays.keys() == mine.keys()
        assert all((state.arrays[name] == array).all() for name, array in mine.items())
    kept.keep("policy", 4, lambda: {"x": np.ones(1)}, last=True)
    found, written = files.read_safetensors(path, module.CHECKPOINT_FORMAT, 1)
    assert written["identity"] == body["identity"]
    assert written["phases"]["policy"] == {"step": 4, "header": {}}
    assert (found["evaluator/bias"] == arrays["evaluator/bias"]).all()


def test_a_newer_version_of_an_earlier_format_is_refused(works, tmp_path):
    path = tmp_path / "kept"
    arrays, body = files.read_safetensors(
        works.FILES / "training-2.safetensors", "pnag-training", 2
    )
    body = {key: body[key] for key in body if key not in files.HEADER_KEYS}
    files.write_safetensors(path, "pnag-training", 3, arrays, body)
    with pytest.raises(FileFormatError, match="reads up to version 2"):
        Checkpoint(path, {})


def test_supernets_of_earlier_releases_are_read_and_gone_on_with(works, tmp_path):
    torch = pytest.importorskip("torch")
    import pnag_fast as pf

    images, options = works.images(), {"recipe": "sandwich", **works.TRAINING}
    whole = pf.supernet.build(works.space(), seed=1)
    log = pf.supernet.train(whole, images, **options)
    path = tmp_path / "kept"
    shutil.copy(works.FILES / "training-2.safetensors", path)
    net = pf.supernet.build(works.space(), seed=5)
    with pytest.raises(OtherRunError, match=r"options \(precision 'float32', now 'bfloat16'\);"):
        pf.supernet.train(net, images, **options, precision="bfloat16", checkpoint=path)
    calls = []
    again = pf.supernet.train(
        net, images, **options, checkpoint=path, progress=lambda *call: calls.append(call[1])
    )
    assert again.resumed_after == 1
    assert calls == [5, 6]
    # The first steps were done on another machine, which may round otherwise.
    assert [r.loss for r in again.epochs] == pytest.approx([r.loss for r in log.epochs], rel=1e-4)
    # The next normalisation takes away what these add: they follow the sign of rounding errors.
    shifts = ("tracked", "project_bn.bias", "expand_bn.running_mean")
    for name, tensor in whole.state_dict().items():
        if not name.endswith(shifts):
            torch.testing.assert_close(net.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    pixels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(pixels), whole.eval()(pixels), rtol=0.01, atol=0.01)
    assert files.read_safetensors(path, module.CHECKPOINT_FORMAT, 1)[1]["phases"]
