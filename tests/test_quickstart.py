from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import quickstart
from pnag_fast.errors import DataError, InvalidInputError, PnagError
from pnag_fast.quickstart import QuickstartSettings
from pnag_fast.report import FrontReport
from pnag_fast.runs import Run

pytest.importorskip("torch")
pytest.importorskip("tvm")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A space of 20 networks: everything is real, and small."""
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
    assert space.n_architectures == 4 + 16
    path = tmp_path_factory.mktemp("space") / "mini.json"
    space.save(path)
    return QuickstartSettings(space=str(path), epochs=8, architectures=20, budgets=3)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    notices = []
    report = quickstart.run(folder, settings=settings, notice=notices.append)
    return folder, report, notices


def test_everything_is_there(finished):
    folder, report, notices = finished
    for name in (
        "run.json",
        "supernet.safetensors",
        "accuracy.csv",
        "accuracy_model.safetensors",
        "cost_table.json",
        "generator.safetensors",
        "random.csv",
        "front.csv",
        "front.json",
        "front.png",
        "report.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert len(notices) == 7
    assert len(report.answers) == 3
    assert len(report.evaluated) == report.drawn == 20
    # All there are: nothing is left to choose.
    assert not any(row.chosen for row in report.evaluated)
    for answer in report.answers:
        # Not by the table alone: each was measured until it was.
        assert 0 < answer.measured_latency_ms <= answer.budget_ms
        assert answer.measurements >= 1
        assert 1 <= answer.round <= 3
        assert (folder / answer.onnx).stat().st_size > 0


def test_reported_accuracy_is_that_of_the_exported_network(finished, settings):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, report, _ = finished
    dataset = pf.data.load_digits(8, fractions=quickstart.DIGITS_FRACTIONS, seed=settings.seed)
    images = pf.data.normalize(dataset.test.images)
    for answer in report.answers:
        session = onnxruntime.InferenceSession(
            str(folder / answer.onnx), providers=["CPUExecutionProvider"]
        )
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        top1 = np.mean(logits.argmax(axis=1) == dataset.test.labels)
        # A tie of two logits may fall either way.
        assert top1 == pytest.approx(answer.top1_test, abs=2 / len(images))


def test_what_was_measured_corrects_the_table_and_the_generator(finished):
    folder, report, _ = finished
    before = pf.Generator.load(folder / "generator.safetensors")
    after = pf.Generator.load(folder / "generator_confirmed.safetensors")
    assert after.tables[0].provenance["updated"] >= len({a.arch for a in report.answers})
    archs = before.space.from_strings([answer.arch for answer in report.answers])
    # What was measured also says how far single measurements scatter, which may be more than was
    # thought.
    known, unknown = (g.tables[0](archs, return_std=True)[1] for g in (after, before))
    assert (known < 1.1 * unknown).all()
    facts = report.sections["Measured on the device"]
    assert facts["confirmed"] == "3 of 3 budgets"
    assert facts["rounds"] <= 3
    assert all(answer.confirmed for answer in report.answers)
    assert "Every answer was confirmed within its budget" in " ".join(report.findings())


def test_budgets_are_no_costs_of_known_architectures(finished):
    folder, report, _ = finished
    generator = pf.Generator.load(folder / "generator.safetensors")
    known = generator.archive.costs[:, 0]
    for answer in report.answers:
        assert np.abs(known - answer.budget_ms).min() > 1e-9


def test_a_second_run_keeps_everything(finished, settings):
    folder, report, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    notices = []
    again = quickstart.run(folder, settings=settings, notice=notices.append)
    assert all("kept from the earlier run" in line for line in notices)
    assert again == report
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}


def test_a_lost_file_is_made_again(finished, settings):
    folder, report, _ = finished
    (folder / "generator.safetensors").unlink()
    (folder / "front.png").unlink()
    notices = []
    again = quickstart.run(folder, settings=settings, notice=notices.append)
    redone = [line.split(":")[0] for line in notices if "kept" not in line]
    assert redone == ["generator", "proof"]
    assert (folder / "front.png").exists()
    # Same inputs and seed: the same generator, the same answers.
    assert [a.arch for a in again.answers] == [a.arch for a in report.answers]


def test_other_settings_do_not_mix(finished, settings):
    folder, *_ = finished
    before = (folder / "run.json").read_bytes()
    with pytest.raises(InvalidInputError, match="other settings") as caught:
        quickstart.run(folder, settings=dataclasses.replace(settings, seed=1, epochs=9))
    # Each of them, with both values, and what to do.
    assert "seed was 0, now 1" in str(caught.value)
    assert "epochs was 8, now 9" in str(caught.value)
    assert "budgets" not in str(caught.value).partition("Only")[0]
    assert "choose another output folder" in str(caught.value)
    assert (folder / "run.json").read_bytes() == before


def test_other_images_are_told_apart_from_moved_ones(finished, settings, monkeypatch):
    folder, *_ = finished
    dataset, space = quickstart._load_images(quickstart.DIGITS, settings)
    monkeypatch.setattr(quickstart, "_load_images", lambda images, settings: (dataset, space))
    notices = []
    quickstart.run(folder, images="moved", settings=settings, notice=notices.append)
    assert all("kept" in line for line in notices)
    swapped = dataclasses.replace(dataset, train=dataset.test, test=dataset.train)
    monkeypatch.setattr(quickstart, "_load_images", lambda images, settings: (swapped, space))
    with pytest.raises(InvalidInputError, match="images were 'moved', now 'others'"):
        quickstart.run(folder, images="others", settings=settings)


def test_more_budgets_redo_the_proof_alone(finished, settings, tmp_path):
    folder, *_ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    parts = [p for p in copy.glob("*.safetensors") if p.stem != "generator_confirmed"]
    before = {p: p.read_bytes() for p in parts}
    notices, measured = [], []
    again = quickstart.run(
        copy,
        settings=dataclasses.replace(settings, budgets=5),
        notice=notices.append,
        progress=lambda text, done, total: measured.append(text),
    )
    redone = [line.split(":")[0] for line in notices if "kept" not in line]
    assert redone == ["budgets", "proof"]
    assert "budgets: 3 in the earlier run, now 5" in notices
    assert len(again.answers) == 5
    assert {p: p.read_bytes() for p in parts} == before
    # Networks that were measured before are not measured again.
    assert any(text.startswith("reusing") for text in measured)


def test_the_first_records_can_be_gone_on_with(finished, settings, tmp_path):
    """Earlier releases named the settings once for all steps, and the space by its path."""
    folder, *_ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    record = json.loads((copy / "run.json").read_text())
    record.pop("sha256", None)
    record.pop("spent")
    del record["identity"]["space"]
    for step in record["steps"].values():
        del step["settings"]
    (copy / "run.json").write_text(json.dumps(record))
    notices = []
    quickstart.run(copy, settings=settings, notice=notices.append)
    assert all("kept from the earlier run" in line for line in notices)


def test_what_is_asked_and_what_is_asked_again(tmp_path, monkeypatch):
    """Half is drawn, half chosen by it; nothing is judged twice, stopped or with more to judge."""
    settings = QuickstartSettings(resolution=8, architectures=24)
    dataset, space = quickstart._load_images(quickstart.DIGITS, settings)
    pf.supernet.save(pf.supernet.build(space), tmp_path / "supernet.safetensors")
    pf.costs.macs(space).save(tmp_path / "cost_table.json")
    judged, stop_after = [], [12]

    def count_correct(self, archs, report):
        if len(judged) in stop_after:
            stop_after.clear()
            raise KeyboardInterrupt
        judged.extend(space.to_strings(archs))
        # Any function of the architecture: larger ones are better, by steps.
        return 400 + archs.sum(axis=1).astype(np.int64)

    monkeypatch.setattr("pnag_fast.supernet.evaluation.Judge.count_correct", count_correct)

    def table(settings):
        run = Run(checkpoint=tmp_path)
        record = quickstart._Record(tmp_path / "new", {}, lambda _: None, run)
        record.folder = tmp_path
        on = quickstart._Work(record, space, dataset, settings)
        judging = tmp_path / "judged.json"
        facts = quickstart._judge(on, tmp_path / "accuracy.csv", judging)
        random = quickstart._judge_random(on, tmp_path / "random.csv", judging)
        return facts, random, (tmp_path / "accuracy.csv").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        table(settings)
    assert len(judged) == 12
    facts, random, first = table(settings)
    assert facts["architectures"] == 24
    assert facts["of these drawn at random"] == facts["of these chosen by what was known"] == 12
    assert random == {"architectures": 24, "of these judged for the comparison alone": 12}
    # Stopped or not, it is the same table, and nothing was judged twice.
    assert len(judged) == len(set(judged)) == 36
    assert table(settings)[2] == first
    assert len(judged) == 36
    archs, top1 = pf.accuracy.load_table(tmp_path / "accuracy.csv", space)
    drawn = quickstart._drawn(space, settings)
    chosen = ~np.isin(space.to_strings(archs), space.to_strings(drawn))
    # What was chosen is better for what it costs.
    costs = pf.costs.macs(space)(archs)
    assert np.corrcoef(costs, top1 - chosen)[0, 1] > 0
    front = pf.pareto.is_non_dominated(np.column_stack([-top1, costs]))
    assert (front & chosen).sum() > (front & ~chosen).sum()

    many = table(dataclasses.replace(settings, architectures=30))
    assert many[0]["architectures"] == 30
    assert len(judged) == len(set(judged))


# Every step is a fake that works in pieces and keeps them; the folder, the record and the files are
# real. One process forks: each child stops itself before or after one change to the file system,
# and another one goes on from what is left.
CHANGES = r"""
import contextlib, json, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from pnag_fast import files, quickstart
from pnag_fast.report import FrontReport

folder, how = Path(sys.argv[1]), sys.argv[2]
dataset = SimpleNamespace(fingerprint="images")
space = SimpleNamespace(fingerprint="space")
quickstart._require_everything = lambda: None
quickstart.torch_threads = lambda threads: contextlib.nullcontext()
quickstart._load_images = lambda images, settings: (dataset, space)
quickstart.write_report = lambda report, folder: files.write_text(folder / "report.html", "page")

def pieces(own, log):
    done = json.loads(own.read_text()) if own.exists() else []
    for piece in range(len(done), 3):
        with open(log, "a") as stream:
            stream.write(f"{own.name} {piece}\n")
        done.append(piece)
        files.write_text(own, json.dumps(done))
    return str(done)

def log(path):
    return path.parents[0].with_name(path.parents[0].name + ".log")

def stateful(on, path, own):
    files.write_text(path, path.name + pieces(own, log(path)))
    return {"fact": 1}

def stateless(on, path):
    files.write_text(path, path.name)
    return {"fact": 2}

def prove(on, path):
    assert on.record.facts("supernet") == {"fact": 1}
    FrontReport("s", "d", "m", (), ()).save(path)

quickstart._train_supernet = quickstart._judge = quickstart._train_generator = stateful
quickstart._judge_random = lambda on, path, own: files.write_text(path, path.name)
quickstart._fit_accuracy = quickstart._measure = stateless
quickstart._prove = prove

def stop():
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyboardInterrupt

def arm(wanted):
    seen = [0]
    def counted(function):
        def call(*arguments, **options):
            seen[0] += 1
            if seen[0] == wanted:
                stop()
            result = function(*arguments, **options)
            seen[0] += 1
            if seen[0] == wanted:
                stop()
            return result
        return call
    for name in ("replace", "rename", "mkdir", "unlink", "fsync", "open", "write"):
        setattr(os, name, counted(getattr(os, name)))

def call(target, wanted, **options):
    child = os.fork()
    if child == 0:
        code = 3
        try:
            if wanted:
                arm(wanted)
            quickstart.run(target, **options)
            code = 0
        except KeyboardInterrupt:
            code = 4
        except BaseException as error:
            print(f"{target.name}: {type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def products(target):
    named = ("supernet.safetensors", "accuracy.csv", "accuracy_model.safetensors",
             "cost_table.json", "generator.safetensors", "random.csv", "report.html")
    left = sorted(p.name for p in (target / "work").iterdir() if p.name[0] != ".")
    report = FrontReport.load(target / "front.json")
    return [(target / name).read_text() for name in named], report, left

assert call(folder / "whole", 0) == 0
expected = products(folder / "whole")
# What unfinished steps go on from may be kept elsewhere: nothing of it is in the folder then.
assert call(folder / "apart", 0, checkpoint=folder / "elsewhere") == 0
assert not (folder / "apart" / "work").exists()
(folder / "elsewhere").rename(folder / "apart" / "work")
assert products(folder / "apart") == expected
stopped = 0
for wanted in range(1, 2000):
    target = folder / f"stopped-{wanted}"
    first = call(target, wanted)
    if first == 0:
        break
    assert first == (-signal.SIGKILL if how == "kill" else 4), (wanted, first)
    stopped += 1
    assert call(target, 0) == 0, wanted
    assert products(target) == expected, wanted
    # At most the piece that was under way is done twice.
    work = log(target / "x").read_text().splitlines()
    assert len(work) <= 10 and len(set(work)) == 9, (wanted, work)
print(json.dumps({"stopped": stopped}))
"""


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_run_stopped_at_any_change_goes_on(tmp_path, how):
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, str(tmp_path), how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["stopped"] > 60


def test_interrupted_inside_every_kind_of_work(finished, settings, tmp_path):
    folder, *_ = finished
    stopped = []

    def stop_once(text, done, total):
        work = text.partition(" · ")[0].partition(" ")[0] if total == 0 else text[:12]
        if total and done and work not in stopped:
            stopped.append(work)
            raise KeyboardInterrupt

    for _ in range(40):
        try:
            report = quickstart.run(tmp_path / "run", settings=settings, progress=stop_once)
            break
        except KeyboardInterrupt:
            assert (tmp_path / "run" / "run.json").exists()
    assert len(stopped) >= 5
    assert len(report.answers) == 3
    same_until_measured(folder, tmp_path / "run")


def same_until_measured(folder, other):
    net, again = (pf.supernet.load(f / "supernet.safetensors") for f in (folder, other))
    state = again.state_dict()
    assert all((state[name] == value).all() for name, value in net.state_dict().items())
    # What is chosen beside depends on what was measured on this machine.
    assert (folder / "random.csv").read_bytes() == (other / "random.csv").read_bytes()


def test_killed_and_interrupted_for_real(finished, settings, tmp_path):
    """The command, killed in its first step, interrupted while it measures, and called again."""
    folder, *_ = finished
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "pnag_fast", "quickstart", "--space", settings.space,
        "--epochs", str(settings.epochs), "--architectures", str(settings.architectures),
        "--budgets", str(settings.budgets), "--out", str(out),
    ]  # fmt: skip
    for there, how in (
        (out / "run.json", signal.SIGKILL),
        (out / "work" / "supernet_checkpoint.safetensors", signal.SIGKILL),
        (out / "work" / "latency" / "measurements.jsonl", signal.SIGINT),
    ):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 240
        while not there.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        if how == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL, err
        else:
            assert process.returncode == 130, err
            assert f"kept: all that was finished in '{out}'" in err
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "supernet: kept from the earlier run" in done.stderr
    same_until_measured(folder, out)


def test_the_images_are_no_place_for_a_run(settings, tmp_path):
    photos = tmp_path / "photos"
    (photos / "a").mkdir(parents=True)
    for out in (photos, photos / "run"):
        with pytest.raises(InvalidInputError, match="this command reads"):
            quickstart.run(out, images=str(photos), settings=settings)
    assert [p.name for p in photos.iterdir()] == ["a"]


def test_doubts_come_from_every_part():
    class Table:
        provenance = {"correction": {"r2": 0.5}, "warnings": ["the table itself"]}  # noqa: RUF012
        device = "cpu"

    table = Table()
    model = types.SimpleNamespace(report={"kendall": 0.1, "warnings": ["the model itself"]})
    generator = types.SimpleNamespace(
        tables=[table], devices=(), model=model, record={"warnings": ["g"]}
    )
    dataset = types.SimpleNamespace(
        classes=("a", "b"), validation=[0] * 100, test=[0] * 100, warnings=("the images",)
    )
    doubts = quickstart._doubts(generator, dataset, np.array([0.5, 0.6]), [0.99])
    text = "\n".join(doubts)
    assert doubts[0].startswith("All evaluated architectures guess")
    for part in ("Kendall 0.10", "R2 0.50", "the table itself", "the model itself", "the images"):
        assert part in text
    table.provenance, model.report = {"correction": {"r2": 0.99}}, {"kendall": 0.9}
    generator.record, dataset.warnings = {}, ()
    assert quickstart._doubts(generator, dataset, np.array([0.9, 0.95]), [0.9]) == []


def test_a_foreign_folder_is_left_alone(settings, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="not the folder of an earlier run"):
        quickstart.run(tmp_path, settings=settings)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"space": "nasbench201"}, InvalidInputError),
        ({"space": "resnet"}, InvalidInputError),
        ({"architectures": 3}, InvalidInputError),
        ({"budgets": 0}, InvalidInputError),
    ],
)
def test_bad_settings_write_nothing(settings, tmp_path, change, error):
    with pytest.raises(error):
        quickstart.run(tmp_path / "run", settings=dataclasses.replace(settings, **change))
    assert not (tmp_path / "run").exists()


def test_bad_images_write_nothing(settings, tmp_path):
    (tmp_path / "photos" / "only_class").mkdir(parents=True)
    for images, error in ((tmp_path / "photos", DataError), (tmp_path / "absent", PnagError)):
        with pytest.raises(error):
            quickstart.run(tmp_path / "run", images=str(images), settings=settings)
        assert not (tmp_path / "run").exists()


def test_the_record_can_be_read_by_a_person(finished):
    folder, *_ = finished
    record = json.loads((folder / "run.json").read_text())
    assert record["format"] == "pnag-run"
    assert set(record["steps"]) == {
        "supernet",
        "accuracy table",
        "accuracy model",
        "cost table",
        "generator",
        "random search",
        "proof",
    }
    assert all(step["seconds"] >= 0 for step in record["steps"].values())


def test_report_is_rebuilt_from_its_json(finished):
    folder, *_ = finished
    loaded = FrontReport.load(folder / "front.json")
    page = (folder / "report.html").read_text()
    quickstart.write_report(loaded, folder)
    assert (folder / "report.html").read_text() == page
    for answer in loaded.answers:
        assert answer.arch in page


def test_judged_architectures_have_every_code():
    from pnag_fast.quickstart import QuickstartSettings, _table_architectures

    for name in ("mbv3-tiny", "mbv3-cifar"):
        space, settings = pf.spaces.get(name), QuickstartSettings(space=name)
        archs = _table_architectures(space, settings, 60)
        assert archs.shape == (60, space.n_slots)
        assert len(pf.accuracy.covering(space, archs)) == 0
        more = _table_architectures(space, settings, 80)
        np.testing.assert_array_equal(more[:60], archs)


def test_few_architectures_have_every_code_before_any_is_chosen():
    from pnag_fast.quickstart import QuickstartSettings, _drawn

    space = pf.spaces.get("mbv3-tiny")
    drawn = _drawn(space, QuickstartSettings(architectures=20))
    assert len(drawn) < 20
    assert len(pf.accuracy.covering(space, drawn)) == 0
    assert len(_drawn(space, QuickstartSettings(architectures=300))) == 150
