"""The benchmarks must not rot: they are run rarely, and claim much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def records(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from proof import records

    return records


def test_records_resume(records, tmp_path):
    calls = []

    def run(value):
        calls.append(value)
        return {"value": value}

    first = records.Records(tmp_path, "part")
    assert first.get(run, 1, seed=0)["value"] == 1
    assert first.get(run, 2, seed=1)["value"] == 2
    # Killed while a line was being written.
    path = tmp_path / "part.jsonl"
    path.write_text(path.read_text() + '{"key": "seed 2", "resu')
    again = records.Records(tmp_path, "part")
    assert again.get(run, 3, seed=0)["value"] == 1
    assert again.get(run, 3, seed=2)["value"] == 3
    assert calls == [1, 2, 3]
    assert records.Records(tmp_path, "part").get(run, 4, seed=2)["value"] == 3
    assert calls == [1, 2, 3]


def test_records_of_earlier_days_are_kept(records, tmp_path):
    key = json.dumps({"code": records.code_version(), "seed": 0}, sort_keys=True)
    line = json.dumps({"key": key, "result": {"value": 1}})
    (tmp_path / "part.jsonl").write_text("\n" + line + '\n\n{"key": "se')
    assert records.Records(tmp_path, "part").get(None, seed=0) == {"value": 1}
    assert records.Records(tmp_path, "part").get(None, seed=0) == {"value": 1}


def test_a_damaged_record_is_made_again(records, tmp_path):
    records.Records(tmp_path, "part").get(lambda: {"value": 1}, seed=0)
    records.Records(tmp_path, "part").get(lambda: {"value": 2}, seed=1)
    path = tmp_path / "part.jsonl"
    path.write_text(path.read_text().replace('"value": 1', '"value": 7'))
    assert records.Records(tmp_path, "part").get(lambda: {"value": 3}, seed=0)["value"] == 3
    assert records.Records(tmp_path, "part").get(None, seed=1)["value"] == 2


def test_records_of_other_code_are_not_used(records, tmp_path, monkeypatch):
    records.Records(tmp_path, "part").get(lambda: {"value": 1}, seed=0)
    monkeypatch.setattr(records, "code_version", lambda: "other")
    assert records.Records(tmp_path, "part").get(lambda: {"value": 2}, seed=0)["value"] == 2


def test_figures(records):
    assert records.spread([1.0]) == "1.000"
    assert records.spread([1.0, 2.0], 1) == "1.5 ± 0.7"
    assert records.spread([]) == "-"
    assert records.percent([1.0, 1.0]) == "100 %"
    # One budget in a thousand missed is not all of them met.
    assert records.percent([1.0, 0.9999]) == "99.9 %"


# Every script, what it needs, and options with which it runs in seconds; {data} is the folder of
# shared measurements, {tmp} an empty one. None: it needs what CI has not.
SCRIPTS = {
    "accuracy.py": (
        ["torch", "sklearn"],
        "defence --data {data}/ofa_imagenet --seeds 1 --evaluations 500",
    ),
    "confirm.py": (["tvm", "torch"], None),  # below
    "cost_posterior.py": (
        ["torch"],
        "--data {data} --devices v100_1 --networks 100 --seeds 1 --evaluations 500",
    ),
    "few_shot.py": ([], "cells --data {data} --seeds 1 --sizes 10 --devices fpga --networks 300"),
    "generator.py": (["sklearn", "matplotlib"], None),  # all of its parts run below
    "nasbench_macro.py": (
        ["torch", "sklearn", "PIL"],
        "--out {tmp}/table.csv.gz --networks 3 --epochs 1 --resolution 8",
    ),
    "measured_front.py": ([], "--data {data} --seeds 1"),
    "noise.py": (
        [],
        "--data {data} --devices silver_4114 --sets cifar100-test --seeds 1 --only questions",
    ),
    "publish.py": (["torch"], None),  # below
    "repeats.py": (
        [],
        "{data} --devices fpga --sets cifar10-test --noise 1.5 --seeds 1 --questions 40",
    ),
    "searches.py": (
        ["scipy"],
        "--data {data} --tiny --work-dir {tmp} --methods nsga2 evolution reinforce random",
    ),
    "supernet.py": (["torch", "sklearn", "PIL"], "--tiny --seeds 1 --epochs 1 --resolution 8"),
    "vectors.py": (["torch"], "--data {data} --tiny"),
    "threads.py": ([], "--rounds 1 --evaluations 200 --only front"),
    "kernels/compare_depthwise.py": (["torch"], "--rounds 1"),
    "kernels/compare_pareto.py": ([], "--tiny"),
    "kernels/compare_spaces.py": ([], "--tiny"),
    "kernels/compare_threads.py": ([], "--rounds 1 --only contributions"),
    "targets/cpu.py": (["tvm"], "--trials 0 --networks 4 --passes 3 --no-compare --work-dir {tmp}"),
    "targets/cuda.py": (["tvm"], None),
    "targets/rpc.py": (
        ["tvm", "tornado", "psutil", "cloudpickle"],
        "--tiny --loopback 1 --trials 0 --networks 4 --passes 3 --work-dir {tmp}",
    ),
}


def run_script(name, *options):
    return subprocess.run(
        [sys.executable, str(BENCH / name), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_every_script_is_listed():
    programs = {
        str(path.relative_to(BENCH))
        for path in BENCH.rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert programs == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_does(name):
    for module in SCRIPTS[name][0]:
        pytest.importorskip(module)
    done = run_script(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (_, options) in SCRIPTS.items() if options])
def test_every_script_runs(name, tmp_path, request):
    modules, options = SCRIPTS[name]
    for module in modules:
        pytest.importorskip(module)
    data = ""
    if "{data}" in options:
        data = request.getfixturevalue("shared_data")
        if not data.is_dir():
            pytest.skip("the folder of shared measurements is not here")
    if name.endswith("threads.py") and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    done = run_script(name, *options.format(data=data, tmp=tmp_path).split())
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) >= 3, done.stdout


@pytest.mark.slow
def test_publishing(tmp_path):
    for module in ("torch", "PIL"):
        pytest.importorskip(module)
    space = pf.spaces.get("mbv3-tiny", resolutions=(16,))
    pf.supernet.save(pf.supernet.build(space, seed=0), tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(120) % 10)
    out = tmp_path / "published"
    out.mkdir()
    options = ["--data", tmp_path / "images.npz", "--command", "none", "--architectures", 4]
    done = run_script("publish.py", tmp_path / "net.safetensors", *options, "--out", out)
    assert done.returncode == 0, done.stderr[-2000:]
    archs, top1 = pf.accuracy.load_table(out / "mbv3-tiny.csv", space)
    assert 4 <= len(archs) <= 6
    facts = json.loads((out / "mbv3-tiny.json").read_text())
    assert facts["top1_range"] == [top1.min(), top1.max()]
    pf.supernet.load(out / "mbv3-tiny.safetensors")


@pytest.mark.slow
def test_confirming(tmp_path):
    for module in ("torch", "tvm"):
        pytest.importorskip(module)
    from pnag_fast.spaces import MobileNetV3, mobilenetv3

    network = MobileNetV3(
        channels=(8, 16),
        strides=(2,),
        activations=("h_swish",),
        squeeze_excite=(True,),
        expand_channels=32,
        feature_channels=32,
        stem_stride=1,
        max_depth=2,
        kernels=(3, 5),
        expand_ratios=(2, 4),
        classes=10,
    )
    space = mobilenetv3.mobilenetv3_space("mini", network, min_depth=1, resolutions=(8,))
    archs, macs = space.enumerate(), pf.costs.macs(space)
    model = pf.accuracy.fit(space, archs, 1 - 0.2 * macs.bounds[0] / macs(archs), epochs=5)
    options = {"n_networks": 4, "passes": 3, "checkpoint": tmp_path / "measured"}
    table = pf.latency.measure(space, tuning_trials=0, **options)
    table.save(tmp_path / "table.json")
    settings = pf.generator.ExpertSettings(evaluations=1500, steps=30, hidden=16)
    generator = pf.train_generator(space, model, [table], settings=settings)
    generator.save(tmp_path / "generator.safetensors")
    given = ["--generator", tmp_path / "generator.safetensors", "--table", tmp_path / "table.json"]
    quick = ["--runs", 1, "--budgets", 2, "--evaluations", 500, "--passes", 3, "--fresh", 1]
    done = run_script("confirm.py", *given, *quick, "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "run 0: " in done.stdout
    assert "all within in " in done.stdout.splitlines()[-1]


def test_suites_are_found_and_scripts_are_not():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(BENCH), "--collect-only", "-q"],
        capture_output=True,
        text=True,
        check=False,
        cwd=BENCH.parent,
        # As from a shell: the worker of a parallel run may not time anything, and says so.
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    assert done.returncode == 0, done.stdout[-2000:]
    for what in (
        "test_sample", "test_window", "test_operation", "test_lookup", "test_non_dominated_sort",
        "test_is_non_dominated", "test_crowding_distance", "test_hypervolume[",
        "test_hypervolume_contributions", "test_judging", "test_answer",
    ):  # fmt: skip
        assert what in done.stdout
    assert "compare_" not in done.stdout


@pytest.mark.shared_data
@pytest.mark.slow
def test_every_part_runs_and_resumes(shared_data, tmp_path):
    for module in ("torch", "yaml", "sklearn", "matplotlib"):
        pytest.importorskip(module)
    options = ["--tiny", "--seeds", 1, "--data", shared_data, "--work-dir", tmp_path]
    outputs = []
    for _ in range(2):
        done = run_script("generator.py", *options)
        assert done.returncode == 0, done.stderr[-2000:]
        outputs.append([line for line in done.stdout.splitlines() if not line.startswith("<!--")])
    first, second = outputs
    assert first == second
    titles = [line for line in first if line.startswith("## ")]
    assert len(titles) == 9
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    # The first line names the format.
    kept = (tmp_path / "ofa.jsonl").read_text().splitlines()[1:]
    results = [json.loads(line)["result"] for line in kept]
    assert len(results) == 3
    assert all(result["met"] == 1 for result in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "--seeds should be at least 1"),
        (["--data", "nowhere"], "no folder 'nowhere'"),
        (["--only", "everything"], "invalid choice"),
        (["--quick", "--tiny"], "not allowed with"),
    ],
)
def test_bad_options(tmp_path, options, message):
    pytest.importorskip("sklearn")
    data = [] if "--data" in options else ["--data", str(tmp_path)]
    done = run_script("generator.py", "--checkpoint", tmp_path, *data, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_supernet_searches_what_was_judged_on_validation_images(monkeypatch):
    for module in ("torch", "sklearn", "PIL"):
        pytest.importorskip(module)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # restored after the import below, which sets them
    monkeypatch.syspath_prepend(str(BENCH))
    import supernet

    space = pf.spaces.get("mbv3-tiny", resolutions=(16,))
    macs = pf.costs.macs(space)
    judged = {"validation": 0.1, "test": 0.5}
    fitted = []

    def evaluate(net, archs, data, split, progress):
        return judged[split] + 0.4 * macs(archs) / macs.bounds[1]

    def fit(space, archs, top1, seed):
        fitted.append((archs, top1))
        return original_fit(space, archs, top1, seed=seed, epochs=1)

    def evolution(*args, **options):
        return original_evolution(*args, **options, population=10, generations=2)

    original_fit, original_evolution = pf.accuracy.fit, pf.search.evolution
    monkeypatch.setattr(pf.supernet, "train", lambda *_, **__: None)
    monkeypatch.setattr(pf.supernet, "evaluate", evaluate)
    monkeypatch.setattr(pf.accuracy, "fit", fit)
    monkeypatch.setattr(pf.search, "evolution", evolution)
    tables = supernet.one_seed(space, 0, 1)
    assert {title: len(rows) for title, rows in tables.items()} == {
        "training": 2,
        "front": 4,
        "search": 4,
    }
    [(archs, top1)] = fitted
    np.testing.assert_array_equal(top1, evaluate(None, archs, None, "validation", None))
    # The larger sample of the full space holds the smaller one.
    assert (
        tables["front"]["108 of the full space | progressive"][1]
        >= (tables["front"]["27 of the full space | progressive"][1])
    )
    for *_, reached in tables["search"].values():
        assert reached > 0.5
