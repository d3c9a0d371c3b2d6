"""Files with a right sum over wrong contents: only errors of ours come out, or what works."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.costs.features import n_features
from pnag_fast.errors import FileFormatError, PnagError
from pnag_fast.runs import checkpoint


def write_summed(path, document):
    """Write a document, whatever it says, with the sum that belongs to it."""
    text = json.dumps({k: v for k, v in document.items() if k != "sha256"}, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(f'{text[:-2]},\n "sha256": "{digest}"\n}}\n')


def try_all(n, refused_at_least, attempt, seed=0):
    """Call `attempt` with one random generator `n` times."""
    rng = random.Random(seed)
    assert sum(is_refused(attempt, rng) for _ in range(n)) >= refused_at_least


def is_refused(attempt, rng):
    try:
        attempt(rng)
    except PnagError:
        return True
    return False


def try_json(variants, path, use, n=150):
    document = json.loads(path.read_text())

    def attempt(rng):
        write_summed(path, variants.vary(document, rng))
        use(path)

    try_all(n, n // 3, attempt)


def try_safetensors(variants, path, name, version, use, n):
    arrays, document = files.read_safetensors(path, name, version)

    def attempt(rng):
        changed, body = arrays, document
        if rng.random() < 0.6:
            body = variants.vary(document, rng)
        else:
            changed = variants.vary_arrays(arrays, rng)
        files.write_safetensors(path, name, version, changed, body)
        use(path)

    try_all(n, n // 3, attempt)


def test_cost_tables(variants, tiny, tiny_table, tmp_path):
    tiny_table.save(tmp_path / "table.json")
    archs = tiny.sample(3, seed=0)
    try_json(variants, tmp_path / "table.json", lambda path: pf.CostTable.load(path)(archs))


def test_spaces(variants, tiny, tmp_path):
    tiny.save(tmp_path / "space.json")
    try_json(variants, tmp_path / "space.json", lambda path: pf.spaces.load(path).sample(3, seed=0))


@pytest.fixture(scope="module")
def front(tiny, tiny_model, tiny_table):
    return pf.search.front(tiny, tiny_model, [tiny_table], evaluations=2000)


def test_fronts(variants, front, tiny_model, tiny_table, tmp_path):
    from pnag_fast.accuracy.validation import saved_front

    path = tmp_path / "front.json"

    def use(path):
        pf.Front.load(path, [tiny_table]).best(np.array([[1.0]]))

    front.save(path)
    try_json(variants, path, use)
    front.save(path)
    try_json(variants, path, lambda path: pf.accuracy.confirm(saved_front(path), tiny_model), n=80)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(evaluation=1),
            "unknown field 'evaluation'; did you mean 'evaluations'",
        ),
        (lambda d: d.update(evaluations=True), "'evaluations' should be an integer"),
        (lambda d: d.update(seconds=-1.0), "'seconds' should be a number of at least 0"),
        (
            lambda d: d["members"][0].update(top1="0.9"),
            r"'members\[0\].top1' should be int or float",
        ),
        (lambda d: d["members"][1].update(top=1), r"unknown field 'top' in 'members\[1\]'"),
        (
            lambda d: d["members"][1]["costs"].append(1.0),
            r"'members\[1\].costs' should have 1 elem",
        ),
        (lambda d: d["members"].append([]), r"'members\[\d+\]' should be dict, found list"),
        (lambda d: d["members"][0].update(arch="x"), "not a front of space 'mbv3-tiny'"),
        (lambda d: d["space"].update(extra=1), "extra"),
    ],
)
def test_fields_of_fronts_are_named(front, tiny_table, tmp_path, change, message):
    path = tmp_path / "front.json"
    front.save(path)
    document = json.loads(path.read_text())
    change(document)
    write_summed(path, document)
    with pytest.raises(FileFormatError, match=message):
        pf.Front.load(path, [tiny_table])


def test_a_front_of_another_space_is_refused(front, tmp_path):
    front.save(tmp_path / "front.json")
    other = pf.costs.macs(pf.spaces.get("mbv3-tiny", resolutions=(64,)))
    with pytest.raises(FileFormatError, match="the tables are for"):
        pf.Front.load(tmp_path / "front.json", [other])


@pytest.mark.parametrize("name", ["tiny_generator", "tiny_pnag_generator"])
def test_generators(variants, name, tmp_path, request):
    from pnag_fast.generator import file

    path = tmp_path / "generator.safetensors"
    request.getfixturevalue(name).save(path)

    def use(path):
        loaded = pf.Generator.load(path)
        low, high = loaded.tables[0].bounds
        loaded.generate([(low + high) / 2])

    version = file.GENERATOR_VERSION
    try_safetensors(variants, path, file.GENERATOR_FORMAT, version, use, n=60)


def test_generators_of_devices(variants, tiny, tiny_generator, tiny_table, tmp_path):
    from pnag_fast.generator import file

    root = np.full((n_features(tiny), 2), 1e-3)
    uncertain = dataclasses.replace(
        tiny_table, device="other", posterior=pf.costs.Posterior(root, 0.01)
    )
    path = tmp_path / "generator.safetensors"
    tiny_generator.adapt(uncertain, evaluations=50).save(path)

    def use(path):
        loaded = pf.Generator.load(path)
        high = [table.bounds[1] for table in loaded.devices or loaded.tables[:1]]
        names = [table.device for table in loaded.devices or loaded.tables[:1]]
        loaded.generate(high, device=names, confidence=0.9)

    try_safetensors(variants, path, file.GENERATOR_FORMAT, file.GENERATOR_VERSION, use, n=60)


def test_unknown_fields_of_generators_are_named(tiny_generator, tmp_path):
    from pnag_fast.generator.file import GENERATOR_FORMAT, GENERATOR_VERSION

    path = tmp_path / "generator.safetensors"
    tiny_generator.save(path)
    arrays, body = files.read_safetensors(path, GENERATOR_FORMAT, GENERATOR_VERSION)
    for changed, extra, message in (
        ({**body, "archives": {}}, {}, "unknown field 'archives'; did you mean 'archive'"),
        ({**body, "archive": {**body["archive"], "second": 1}}, {}, "'second' in 'archive'"),
        ({**body, "archive": {"evaluations": -1, "seconds": 1}}, {}, "archive.evaluations"),
        (body, {"archive.extra": np.zeros(1)}, "extra tensor 'archive.extra'"),
    ):
        files.write_safetensors(
            path, GENERATOR_FORMAT, GENERATOR_VERSION, {**arrays, **extra}, changed
        )
        with pytest.raises(FileFormatError, match=message):
            pf.Generator.load(path)


class Stopped(Exception):
    """As good as a kill."""


@pytest.mark.parametrize("stop", [("front search", 2000), ("imitating the front", 20)])
def test_checkpoints_of_generators(
    variants, tiny, tiny_model, tiny_table, tmp_path, monkeypatch, stop
):
    from pnag_fast.generator import ExpertSettings

    path = tmp_path / "checkpoint"
    settings = ExpertSettings(evaluations=3000, steps=30, batch=32)

    def train(progress=None):
        options = {} if progress is None else {"progress": progress}
        pf.train_generator(
            tiny, tiny_model, [tiny_table], settings=settings, checkpoint=path, **options
        )

    def until(what, done, _):
        if what == stop[0] and done >= stop[1]:
            raise Stopped

    keep = checkpoint.Checkpoint.keep
    monkeypatch.setattr(
        checkpoint.Checkpoint,
        "keep",
        lambda self, *args, last=False: keep(self, *args, last=True),  # at every step
    )
    with pytest.raises(Stopped):
        train(until)
    monkeypatch.undo()
    name, version = checkpoint.CHECKPOINT_FORMAT, checkpoint.CHECKPOINT_VERSION
    try_safetensors(variants, path, name, version, lambda _: train(), n=40)


def test_supernets(variants, tmp_path):
    pytest.importorskip("torch")
    from pnag_fast.supernet import checkpoint as supernets

    space = pf.spaces.get("mbv3-tiny", classes=4)
    path = tmp_path / "net.safetensors"
    pf.supernet.save(pf.supernet.build(space), path)
    arch = space.sample(1, seed=0)[0]
    name, version = supernets.SUPERNET_FORMAT, supernets.SUPERNET_VERSION
    try_safetensors(
        variants, path, name, version, lambda path: pf.supernet.load(path).extract(arch), n=60
    )


def test_headers_of_supernets_are_named(tmp_path):
    pytest.importorskip("torch")
    from pnag_fast.supernet.checkpoint import SUPERNET_FORMAT, SUPERNET_VERSION

    path = tmp_path / "net.safetensors"
    pf.supernet.save(pf.supernet.build(pf.spaces.get("mbv3-tiny", classes=4)), path)
    arrays, body = files.read_safetensors(path, SUPERNET_FORMAT, SUPERNET_VERSION)
    variance = next(name for name in arrays if name.endswith("running_var"))
    scale = body["input_scale"]
    for header, changed, message in (
        ({**body, "input_scales": scale}, {}, "unknown field 'input_scales'; did you mean 'input_"),
        ({**body, "input_scale": {**scale, "std": [0.5, 0.5, 0]}}, {}, r"input_scale.std\[2\]"),
        ({**body, "input_scale": {**scale, "mean": [1, True, 1]}}, {}, r"input_scale.mean\[1\]"),
        ({**body, "input_scale": {**scale, "x": 1}}, {}, "unknown field 'x' in 'input_scale'"),
        ({**body, "input_scale": None}, {}, "'input_scale' should be dict"),
        (body, {variance: -arrays[variance]}, "squares below zero"),
    ):
        files.write_safetensors(
            path, SUPERNET_FORMAT, SUPERNET_VERSION, {**arrays, **changed}, header
        )
        with pytest.raises(FileFormatError, match=message):
            pf.supernet.load(path)


def test_journals_of_judging(variants, tmp_path):
    pytest.importorskip("torch")
    from pnag_fast.supernet.judged import JudgedJournal

    path = tmp_path / "judged"
    identity = {"weights": "x", "space": {"a": [1]}}
    document = {"format": "pnag-judged", "version": 1, "of": identity, "correct": {"a": 3, "b": 4}}

    def attempt(rng):
        path.write_text(json.dumps(variants.vary(document, rng), indent=1))
        with JudgedJournal(path, identity, 10) as journal:
            assert all(0 <= n <= 10 for n in journal.correct.values())
            journal.add({"c": 1})

    try_all(300, 150, attempt)


def test_journals_of_confirming(variants, tiny, tiny_table, tmp_path):
    from pnag_fast.latency.confirm import FORMAT, VERSION, _Measurements
    from pnag_fast.runs import Run, journal

    path, settings = tmp_path / "confirmed", {"budgets": [["1.0"]]}
    names = tiny.to_strings(tiny.sample(3, seed=0))
    records = [
        {"arch": name, "measured": [1.5, 2.0], "round": 1, "run": run}
        for name, run in zip(names, ("a", "b", journal.identify(settings)), strict=True)
    ]

    def opened():
        return _Measurements(path, tiny_table, settings, len, Run())

    with opened() as known:
        known.append(*records)
    head = path.read_text().splitlines(keepends=True)[:2]
    under = json.loads(head[1])["conditions"]

    def attempt(rng):
        varied = [variants.vary({**record, "under": under}, rng) for record in records]
        lines = [journal.encode(record) for record in varied if isinstance(record, dict)]
        path.write_bytes("".join(head).encode() + b"".join(lines))
        with opened() as known:
            assert len(known.archs) == len(known.median) == len(known.repeats)
            assert (known.median > 0).all()
            assert known.spread > 0
            return len(known.archs)

    # Those of other calls are known at once, where what was varied may be so.
    assert {attempt(random.Random(seed)) for seed in range(40)} >= {0, 1}
    assert tuple(json.loads(head[0]).values()) == (FORMAT, VERSION)


def test_records_of_runs(variants, tmp_path):
    from pnag_fast import quickstart
    from pnag_fast.runs import Run

    settings = {"space": "mbv3-tiny", "architectures": 300, "budgets": 8, "seed": 0}
    identity = {"settings": settings, "images": "digits", "data": "x"}

    def run():
        run = Run(checkpoint=tmp_path / "work")
        return quickstart._Record(tmp_path, identity, lambda _: None, run)

    first = run()
    for name, need in (("supernet", None), ("accuracy table", "supernet")):
        first.step(
            name,
            needs=[] if need is None else [need],
            makes=name.split()[0],
            work=lambda path, _: {"made of": path.write_text("x")},
        )
    path = tmp_path / "run.json"
    before = path.read_text()

    def use(path):
        again = run()
        assert isinstance(again.facts("supernet"), dict)

    try_json(variants, path, use)
    path.write_text(before)
    assert run().steps == first.steps
