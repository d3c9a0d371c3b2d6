from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import quickstart
from pnag_fast.errors import DataError, InvalidInputError, PnagError
from pnag_fast.quickstart import QuickstartSettings
from pnag_fast.report import FrontReport

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
        "front.csv",
        "front.json",
        "front.png",
        "report.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert len(notices) == 6
    assert len(report.answers) == 3
    assert len(report.evaluated) == 20
    for answer in report.answers:
        assert answer.predicted_latency_ms <= answer.budget_ms
        assert answer.measured_latency_ms > 0
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
    with pytest.raises(InvalidInputError, match="other settings"):
        quickstart.run(folder, settings=dataclasses.replace(settings, seed=1))


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
