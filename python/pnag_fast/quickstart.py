"""The main job, end to end: images and this computer in, a generator and its proof out.

Every step writes a file that can be kept and reused, and is skipped when that file is there and
its inputs have not changed, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import accuracy, costs, credibility, data, files, outputs, spaces
from .asking import Judge, ask
from .costs import CostTable
from .data import DIGITS, ImageData
from .errors import (
    FileAccessError,
    InvalidInputError,
    MissingDependencyError,
)
from .generator import Generator, train_generator
from .progress import ProgressCallback, duration, ignore_progress
from .report import Answer, Evaluated, FrontReport
from .runs import Run
from .search import extremes
from .spaces import Archs, SearchSpace
from .strict_json import shorten
from .threads import torch_threads

if TYPE_CHECKING:
    from .latency import Confirmed

__all__ = ["QuickstartSettings", "run"]

RUN_FORMAT = "pnag-run"
RUN_VERSION = 1

# The digits are few and easy. A small share to train on keeps networks apart, and leaves enough
# images to tell them apart by.
DIGITS_FRACTIONS = (0.3, 0.35, 0.35)


@dataclass(frozen=True)
class QuickstartSettings:
    """What a run depends on besides its images.

    Attributes
    ----------
    space : str
        Name of a MobileNetV3 space, or path of one as JSON.
    resolution : int, optional
        Input size in pixels; default: the space's own.
    epochs : int
        Passes over the training images; the default suits the digits.
    architectures : int
        Architectures to measure the accuracy of.
    budgets : int
        Budgets to ask the generator for.
    target : str
        TVM target of this machine.
    """

    space: str = "mbv3-tiny"
    resolution: int | None = None
    epochs: int = 32
    architectures: int = 300
    budgets: int = 8
    target: str = "llvm"
    seed: int = 0


# What steps depend on besides their inputs and what a whole folder depends on. These may change
# from one call to the next: the steps that depend on them are done anew, from what is kept of them.
_CHANGEABLE = {
    "accuracy table": ("architectures",),
    "random search": ("architectures",),
    "proof": ("budgets",),
}

_RECORD = "run.json"

# Standard deviations by which the generator trusts a prediction less. What it searches is full of
# networks that look good because nothing like them was judged. Of 0, 0.5, 1 and 2, on two seeds.
_CAUTION = 1.0

# A step that took so long before is announced with its time.
_LONG_SECONDS = 5.0


class _Record:
    """The record of a run: which step made which file from which inputs, and how long it took.

    It is written before the first step, so that a folder is known as that of a run from then on.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        notice: Callable[[str], None],
        run: Run,
    ) -> None:
        self.folder, self.notice, self.run = folder, notice, run
        self.path = folder / _RECORD
        self.identity = dict(identity)
        self.steps: dict[str, Any] = {}
        self._spent: dict[str, float] = {}
        if self.path.exists():
            self._read()
        elif folder.exists() and not _fresh(folder):
            raise InvalidInputError(
                f"'{folder}' exists and is not the folder of an earlier run; choose another output "
                "folder"
            )

    def _read(self) -> None:
        document = files.read_json(self.path, RUN_FORMAT, RUN_VERSION)
        found = files.require(document, "identity", dict, self.path)
        settings = files.require(found, "settings", dict, self.path)
        differences = _differences(found, self.identity)
        if differences:
            raise InvalidInputError(
                f"'{self.folder}' holds a run with other settings: {'; '.join(differences)}. Only "
                "'architectures' and 'budgets' may change within a folder: give the settings of "
                "that run to go on with it, choose another output folder, or delete this one"
            )
        for name, value in settings.items():
            now = self.identity["settings"].get(name)
            if now != value and name in ("architectures", "budgets"):
                self.notice(f"{name}: {value} in the earlier run, now {now}")
        self.steps = _steps(document, settings, self.path)
        spent = files.require({"spent": {}, **document}, "spent", dict, self.path)
        for name, seconds in spent.items():
            what = f"'{self.path}': field 'spent.{shorten(name)}'"
            self._spent[name] = files.number(seconds, what, low=0)

    def write(self) -> None:
        """Write the record."""
        body = {"identity": self.identity, "steps": self.steps, "spent": self._spent}
        files.write_json(self.path, RUN_FORMAT, RUN_VERSION, body)

    def step(
        self,
        name: str,
        *,
        needs: Sequence[str],
        makes: str,
        work: Callable[[Path, Path], Any],
        state: str = "",
        state_of: Sequence[str] | None = None,
        keeps_state: bool = False,
    ) -> None:
        """Run `work` unless `makes` is there and was made from the same `needs` and settings.

        Parameters
        ----------
        work : callable
            Called with the path of what it makes, and that of a file of its own in the run's folder
            of unfinished work, where it keeps what it goes on from when it is stopped. Other
            inputs, another file.
        state : str
            Name of that file, with ``{}`` for what tells inputs apart.
        state_of : sequence of str, optional
            Which of `needs` it rests on; default: all.
        keeps_state : bool
            The file stays when the step is done, for other settings to go on from.
        """
        target = self.folder / makes
        inputs = {need: _digest(self.folder / need) for need in needs}
        settings = {key: self.identity["settings"][key] for key in _needed(name)}
        of = inputs if state_of is None else {need: inputs[need] for need in state_of}
        own_name = state.format(_joined(of))
        done = self.steps.get(name)
        if (
            done
            and done.get("inputs") == inputs
            and done["settings"] == settings
            and target.exists()
        ):
            if state and not keeps_state:  # left by a run that was killed here
                (self.unfinished / own_name).unlink(missing_ok=True)
            self.notice(f"{name}: kept from the earlier run ({makes})")
            return
        before = done.get("seconds") if done else None
        known = isinstance(before, (int, float)) and before >= _LONG_SECONDS
        last_time = f"; took {duration(float(before or 0))} before" if known else ""
        self.run.progress(f"{name}: making {makes}{last_time}", 0, 0)
        files.make_folder(target.parent)
        own = self.unfinished / own_name
        started = time.monotonic()
        try:
            facts = work(target, own)
        except BaseException:
            self._spent[name] = self._spent.get(name, 0.0) + time.monotonic() - started
            # Only the time would be lost; what stopped the work is what has to be told.
            with contextlib.suppress(FileAccessError):
                self.write()
            raise
        seconds = self._spent.pop(name, 0.0) + time.monotonic() - started
        self.steps[name] = {
            "made": makes,
            "inputs": inputs,
            "settings": settings,
            "seconds": round(seconds, 2),
            **({"facts": facts} if isinstance(facts, dict) else {}),
        }
        self.write()
        if state and not keeps_state:
            own.unlink(missing_ok=True)
        self.notice(f"{name}: {self.steps[name]['seconds']:.1f} s ({makes})")

    @property
    def unfinished(self) -> Path:
        """The folder of what unfinished steps go on from."""
        return self.run.make_folder() or self.folder

    def facts(self, name: str) -> dict[str, Any]:
        """Return what a step noted about its result."""
        facts: dict[str, Any] = self.steps.get(name, {}).get("facts", {})
        return facts


_STEP_KEYS = ("made", "inputs", "settings", "seconds", "facts")


def _steps(document: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the steps of a record, every field checked."""
    files.check_keys(document, ("identity", "steps", "spent"), path)
    steps: dict[str, Any] = files.require(document, "steps", dict, path)
    for name in steps:
        within = f"steps.{shorten(name)}"
        step = files.require(steps, name, dict, path, within="steps")
        files.check_keys(step, _STEP_KEYS, path, within=within)
        files.require(step, "made", str, path, within=within)
        inputs = files.require(step, "inputs", dict, path, within=within)
        for need in inputs:
            files.require(inputs, need, str, path, within=f"{within}.inputs")
        files.number(step.get("seconds"), f"'{path}': field '{within}.seconds'", low=0)
        files.require({"facts": {}, **step}, "facts", dict, path, within=within)
        # The first records name the settings once for all steps.
        step.setdefault("settings", {key: settings.get(key) for key in _needed(name)})
        files.require(step, "settings", dict, path, within=within)
    return steps


def _needed(step: str) -> tuple[str, ...]:
    return _CHANGEABLE.get(step, ())


def _joined(inputs: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(inputs.items())).encode()).hexdigest()[:12]


def _fresh(folder: Path) -> bool:
    """Tell whether a run may start in a folder that is there."""
    if not folder.is_dir():
        return False
    # A run that was killed while it wrote its first record leaves what it was writing.
    return all(entry.name.startswith(f".{_RECORD}.") for entry in folder.iterdir())


def _differences(found: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what a run depends on as a whole and differs, with both values."""
    differences = []
    earlier, settings = found["settings"], now["settings"]
    same_space = "space" in found and found["space"] == now["space"]
    for name, value in settings.items():
        if name in ("architectures", "budgets") or (same_space and name in ("space", "resolution")):
            continue
        if earlier.get(name) != value:
            differences.append(f"{name} was {earlier.get(name)!r}, now {value!r}")
    if "space" in found and not same_space and earlier.get("space") == settings["space"]:
        differences.append(f"the definition of space '{settings['space']}' has changed since")
    if found.get("data") != now["data"]:
        before = found.get("images")
        if before != now["images"]:
            differences.append(f"images were '{before}', now '{now['images']}', which are others")
        elif not differences:  # the seed splits them, and the space says how large they are
            differences.append(f"the images in '{before}' have changed since")
    return differences


@dataclass(frozen=True)
class _Work:
    """What every step has before it, besides the files of the steps before."""

    record: _Record
    space: SearchSpace
    dataset: ImageData
    settings: QuickstartSettings

    @property
    def folder(self) -> Path:
        return self.record.folder

    @property
    def run(self) -> Run:
        return self.record.run


def run(
    out: files.StrPath,
    *,
    images: str = DIGITS,
    settings: QuickstartSettings | None = None,
    checkpoint: files.StrPath | None = None,
    progress: ProgressCallback = ignore_progress,
    notice: Callable[[str], None] = lambda _: None,
) -> FrontReport:
    """Train, measure, generate and prove; leave everything in the folder `out`.

    Parameters
    ----------
    out : path
        Made if absent. A folder of an earlier run with the same settings is completed.
    images : str
        ``"digits"`` (comes with scikit-learn), a folder of images by class, or an ``.npz`` file
        with ``images`` and ``labels``.
    settings : QuickstartSettings, optional
    checkpoint : path, optional
        Folder of what unfinished steps go on from; default: ``work`` in `out`.
    progress, notice : callable
        Told about progress inside a step, and one line per step.

    Returns
    -------
    FrontReport

    A run that was killed or interrupted goes on where it was when it is called again. So does one
    that is asked for other `architectures` or `budgets`: only what depends on them is done anew,
    and what was judged and measured before is not judged and measured again.

    Raises
    ------
    PnagError
        Before anything is written, if the images, the settings or the folder cannot be used, or
        torch or TVM is not installed.
    """
    settings = settings or QuickstartSettings()
    if settings.architectures < accuracy.MINIMUM_ROWS:
        raise InvalidInputError(
            f"architectures should be at least {accuracy.MINIMUM_ROWS}, found "
            f"{settings.architectures}"
        )
    if settings.budgets < 1 or settings.epochs < 1:
        raise InvalidInputError("budgets and epochs should be at least 1")
    folder = Path(out)
    sources = [images] if images != DIGITS else []
    sources += [settings.space] if settings.space not in spaces.names() else []
    outputs.check_folder(folder, inputs=sources, what="the output folder")
    _require_everything()
    dataset, space = _load_images(images, settings)
    identity = {
        "settings": asdict(settings),
        "images": images,
        "data": dataset.fingerprint,
        "space": space.fingerprint,
    }
    unfinished = folder / "work" if checkpoint is None else checkpoint
    run = Run(seed=settings.seed, progress=progress, checkpoint=unfinished)
    record = _Record(folder, identity, notice, run)
    files.make_folder(folder)
    record.write()
    with torch_threads(1):
        _run_steps(_Work(record, space, dataset, settings))
    report = FrontReport.load(folder / "front.json")
    write_report(report, folder)
    return report


def _run_steps(on: _Work) -> None:
    on.record.step(
        "supernet",
        needs=[],
        makes="supernet.safetensors",
        state="supernet_checkpoint.safetensors",
        work=lambda path, own: _train_supernet(on, path, own),
    )
    # What is asked depends on what networks cost.
    on.record.step(
        "cost table",
        needs=[],
        makes="cost_table.json",
        work=lambda path, _: _measure(on, path),
    )
    on.record.step(
        "accuracy table",
        needs=["supernet.safetensors", "cost_table.json"],
        makes="accuracy.csv",
        state="judged-{}.json",
        state_of=["supernet.safetensors"],
        keeps_state=True,
        work=lambda path, own: _judge(on, path, own),
    )
    on.record.step(
        "accuracy model",
        needs=["accuracy.csv"],
        makes="accuracy_model.safetensors",
        work=lambda path, _: _fit_accuracy(on, path),
    )
    on.record.step(
        "generator",
        needs=["accuracy_model.safetensors", "cost_table.json"],
        makes="generator.safetensors",
        state="generator-{}.safetensors",
        work=lambda path, own: _train_generator(on, path, own),
    )
    on.record.step(
        "random search",
        needs=["supernet.safetensors", "accuracy.csv"],
        makes="random.csv",
        state="judged-{}.json",
        state_of=["supernet.safetensors"],
        keeps_state=True,
        work=lambda path, own: _judge_random(on, path, own),
    )
    on.record.step(
        "proof",
        needs=["supernet.safetensors", "accuracy.csv", "generator.safetensors", "random.csv"],
        makes="front.json",
        work=lambda path, _: _prove(on, path),
    )


def write_report(report: FrontReport, folder: Path) -> None:
    """Write ``front.csv``, ``front.png`` and ``report.html`` into `folder`."""
    picture = report.plot()
    report.write_csv(folder / "front.csv")
    files.write_bytes(folder / "front.png", picture)
    files.write_text(folder / "report.html", report.to_html(picture))


def _require_everything() -> None:
    """Fail before the first file is written, not after minutes of training."""
    for module, extra in (
        ("torch", "train"),
        ("sklearn", "train"),
        ("PIL", "train"),
        ("tvm", "tvm"),
        ("matplotlib", "report"),
        ("onnx", "export"),
    ):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(module, extra, "the quickstart")


def _load_images(images: str, settings: QuickstartSettings) -> tuple[ImageData, SearchSpace]:
    """Load the images at the space's resolution, and the space with their classes."""
    sizes = None if settings.resolution is None else (settings.resolution,)
    space = spaces.find(settings.space, resolutions=sizes)
    space.require_network("the quickstart")
    if len(space.resolutions) != 1:
        raise InvalidInputError(f"the quickstart takes one resolution, found {space.resolutions}")
    shares = DIGITS_FRACTIONS if images == DIGITS else None
    dataset = data.find(images, space.resolutions[0], fractions=shares, seed=settings.seed)
    return dataset, space.with_classes(len(dataset.classes))


def _train_supernet(on: _Work, path: Path, checkpoint: Path) -> dict[str, Any]:
    from . import supernet

    net = supernet.build(on.space, seed=on.run.seed)
    log = supernet.train(
        net,
        on.dataset,
        epochs=on.settings.epochs,
        seed=on.run.seed,
        checkpoint=checkpoint,
        progress=on.run.progress,
    )
    supernet.save(net, path)
    last = log.epochs[-1]
    return {
        "epochs": len(log.epochs),
        "training images": len(on.dataset.train),
        "last loss": round(last.loss, 4),
        "last distillation loss": round(last.distillation_loss, 4),
    }


def _judge(on: _Work, path: Path, checkpoint: Path) -> dict[str, Any]:
    """Judge architectures of which half are drawn, and half chosen by what the others say."""
    wanted = on.settings.architectures
    table = CostTable.load(on.folder / "cost_table.json").for_space(on.space)
    drawn = _drawn(on.space, on.settings)
    archs, top1 = ask(
        _judged_by_supernet(on, checkpoint),
        [table],
        drawn,
        wanted,
        seed=on.run.seed,
        progress=on.run.progress,
    )
    accuracy.save_table(path, on.space, archs, top1)
    return {
        "architectures": len(archs),
        "of these drawn at random": len(drawn),
        "of these chosen by what was known": len(archs) - len(drawn),
        "validation images": len(on.dataset.validation),
        "lowest top-1": float(top1.min()),
        "highest top-1": float(top1.max()),
    }


def _judge_random(on: _Work, path: Path, checkpoint: Path) -> dict[str, Any]:
    """Judge as many drawn architectures: what a search that chooses nothing has to show."""
    drawn = _table_architectures(on.space, on.settings, on.settings.architectures)
    top1 = _judged_by_supernet(on, checkpoint)(drawn, on.run.progress)
    accuracy.save_table(path, on.space, drawn, top1)
    asked = _names(on.space, accuracy.load_table(on.folder / "accuracy.csv", on.space)[0])
    return {
        "architectures": len(drawn),
        "of these judged for the comparison alone": len(_names(on.space, drawn) - asked),
    }


def _names(space: SearchSpace, archs: Archs) -> set[str]:
    return set(space.to_strings(archs))


def _judged_by_supernet(on: _Work, checkpoint: Path) -> Judge:
    from . import supernet

    net = supernet.load(on.folder / "supernet.safetensors")

    def judge(archs: Archs, progress: ProgressCallback) -> npt.NDArray[np.float64]:
        return supernet.evaluate(
            net, archs, on.dataset, split="validation", checkpoint=checkpoint, progress=progress
        )

    return judge


def _drawn(space: SearchSpace, settings: QuickstartSettings) -> Archs:
    """Draw what is judged before any is chosen: half, or all codes; a small space as a whole."""
    wanted = settings.architectures
    if space.n_architectures <= wanted:
        return _table_architectures(space, settings, wanted)
    ends = extremes([costs.macs(space)])
    every_code = len(ends) + len(accuracy.covering(space, ends))
    return _table_architectures(space, settings, min(max(wanted - wanted // 2, every_code), wanted))


def _table_architectures(space: SearchSpace, settings: QuickstartSettings, n: int) -> Archs:
    """Draw uniformly over architectures and over decisions (shallower); extremes and every code."""
    if space.n_architectures <= n:
        return space.enumerate()
    # Twice as many as wanted, in turns, so that enough are left when repeats are dropped.
    drawn = np.stack(
        [
            space.sample(n, seed=settings.seed),
            space.sample(n, seed=settings.seed, distribution="decisions"),
        ],
        axis=1,
    ).reshape(-1, space.n_slots)
    ends = extremes([costs.macs(space)])
    # A code that nothing measured has is one that no search may use.
    archs = np.concatenate([ends, accuracy.covering(space, ends), drawn])
    _, first = np.unique(archs, axis=0, return_index=True)
    return np.ascontiguousarray(archs[np.sort(first)][:n])


def _fit_accuracy(on: _Work, path: Path) -> dict[str, Any]:
    archs, top1 = accuracy.load_table(on.folder / "accuracy.csv", on.space)
    # A search among chosen architectures finds what an ensemble of networks overrates.
    model = accuracy.fit_process(on.space, archs, top1, seed=on.run.seed, progress=on.run.progress)
    model.save(path)
    return dict(model.report)


def _measure(on: _Work, path: Path) -> dict[str, Any]:
    from . import latency

    table = latency.measure(
        on.space,
        target=on.settings.target,
        # The rules' schedules of so small a space are close to tuned ones, and tuning takes longer
        # than everything else here together.
        tuning_trials=0,
        checkpoint=on.record.unfinished / "latency",
        seed=on.run.seed,
        progress=on.run.progress,
    )
    table.save(path)
    correction = table.provenance.get("correction", {})
    return {
        "fastest ms": table.bounds[0],
        "slowest ms": table.bounds[1],
        **{f"network {key}": value for key, value in correction.items() if _plain(value)},
    }


def _plain(value: object) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _train_generator(on: _Work, path: Path, checkpoint: Path) -> dict[str, Any]:
    model = accuracy.load(on.folder / "accuracy_model.safetensors", on.space)
    table = CostTable.load(on.folder / "cost_table.json").for_space(on.space)
    generator = train_generator(
        on.space,
        model.cautious(_CAUTION),
        [table],
        seed=on.run.seed,
        checkpoint=checkpoint,
        progress=on.run.progress,
    )
    generator.save(path)
    return {key: value for key, value in generator.record.items() if _plain(value)}


def _budgets(table: CostTable, n: int) -> npt.NDArray[np.float64]:
    """Spread `n` budgets over the reachable range, away from its ends."""
    low, high = table.bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


def _prove(on: _Work, path: Path) -> dict[str, Any]:
    """Ask for budgets, extract what comes back, and measure it until it is within each of them."""
    from . import export, latency, supernet

    folder, space, dataset = on.folder, on.space, on.dataset
    generator = Generator.load(folder / "generator.safetensors")
    budgets = _budgets(generator.tables[0], on.settings.budgets)
    started = time.perf_counter()
    uncorrected = generator.generate(budgets, seed=on.run.seed)
    generation_ms = 1000 * (time.perf_counter() - started) / len(uncorrected)

    net = supernet.load(folder / "supernet.safetensors")
    extracted: dict[bytes, Any] = {}

    def network_of(arch: Archs) -> Any:
        """Extract a network, once however often it is measured."""
        key = arch.tobytes()
        if key not in extracted:
            extracted[key] = supernet.recalibrate(net.extract(arch), dataset)
        return extracted[key]

    timer = latency.timer(
        generator.tables[0],
        target=on.settings.target,
        weights=lambda arch: supernet.folded_weights(network_of(arch)),
        checkpoint=on.record.unfinished / "proof",
        progress=on.run.progress,
    )
    answers = latency.confirm(
        generator,
        budgets,
        timer,
        seed=on.run.seed,
        checkpoint=on.record.unfinished / "confirmed.jsonl",
        progress=on.run.progress,
    )
    answers.generator.save(folder / "generator_confirmed.safetensors")
    networks = [network_of(arch) for arch in answers.archs]
    notations = space.to_strings(answers.archs)
    names = []
    for i, (network, notation) in enumerate(zip(networks, notations, strict=True)):
        on.run.progress("exporting networks", i, len(networks))
        name = f"networks/budget-{answers.budgets[i, 0]:.3f}ms.onnx"
        files.make_folder((folder / name).parent)
        export.to_onnx(
            network, folder / name, metadata={"architecture": notation, "space": space.name}
        )
        names.append(name)
        on.run.progress("exporting networks", i + 1, len(networks))
    validation, test = (
        [supernet.accuracy(network, split.images, split.labels) for network in networks]
        for split in (dataset.validation, dataset.test)
    )
    evaluated, _ = _best_of(folder / "accuracy.csv", answers.table, budgets)
    drawn, drawn_validation = _best_of(folder / "random.csv", answers.table, budgets)
    evaluated_test, drawn_test = (
        supernet.evaluate(net, archs, dataset, split="test") for archs in (evaluated, drawn)
    )
    lost = uncorrected.top1 - answers.top1
    confirmation = {
        "confirmed": f"{int(answers.confirmed.sum())} of {len(answers)} budgets",
        "rounds": answers.n_rounds,
        "networks measured": answers.networks,
        "spread of one network's measurements": f"{answers.spread:.2%}",
        "least room left": f"{answers.room.min():.2%}",
        "predicted points lost to the uncorrected table": f"{100 * lost.mean():.2f}",
    }
    _report(
        on,
        answers,
        notations,
        timer.slowdown,
        validation,
        test,
        evaluated_test,
        drawn_validation,
        drawn_test,
        names,
        generation_ms,
        confirmation,
    ).save(path)
    return {"generation ms per budget": round(generation_ms, 2)}


def _best_of(
    judged: Path, table: CostTable, budgets: npt.NDArray[np.float64]
) -> tuple[Archs, npt.NDArray[np.float64]]:
    """Best of a table of judged architectures within each budget, and its top-1 there.

    Where none fits, the cheapest one stands in.
    """
    archs, top1 = accuracy.load_table(judged, table.space)
    latency_ms = table(archs)
    fits = latency_ms[None] <= budgets[:, None]
    best = np.where(fits, top1[None], -1.0).argmax(axis=1)
    rows = np.where(fits.any(axis=1), best, latency_ms.argmin())
    return np.ascontiguousarray(archs[rows]), top1[rows]


def _report(
    on: _Work,
    answers: Confirmed,
    notations: Sequence[str],
    slowdown: float,
    validation: Sequence[float],
    test: Sequence[float],
    evaluated_test: npt.NDArray[np.float64],
    drawn_validation: npt.NDArray[np.float64],
    drawn_test: npt.NDArray[np.float64],
    names: Sequence[str],
    generation_ms: float,
    confirmation: Mapping[str, Any],
) -> FrontReport:
    record, space, table, generator = on.record, on.space, answers.table, answers.generator
    archs, top1 = accuracy.load_table(record.folder / "accuracy.csv", space)
    macs, parameters = costs.macs(space), costs.parameters(space)
    drawn = _names(space, _drawn(space, on.settings))
    steps = {name: f"{step['seconds']:.1f} s" for name, step in record.steps.items()}
    return FrontReport(
        space=space.name,
        device=table.device,
        accuracy_source=(
            f"{generator.model.source} (held-out Kendall "
            f"{generator.model.report.get('kendall', 0):.2f}, mean error "
            f"{100 * generator.model.report.get('mean_error', 0):.2f} points)"
        ),
        evaluated=tuple(
            Evaluated(name, cost, value, chosen=name not in drawn)
            for name, cost, value in zip(
                space.to_strings(archs), table(archs).tolist(), top1.tolist(), strict=True
            )
        ),
        answers=tuple(
            Answer(
                budget_ms=float(answers.budgets[i, 0]),
                arch=notations[i],
                source=answers.source[i],
                predicted_latency_ms=float(answers.costs[i, 0]),
                measured_latency_ms=float(answers.measured[i]),
                predicted_top1=float(answers.top1[i]),
                predicted_top1_std=float(answers.top1_std[i]),
                top1_validation=float(validation[i]),
                top1_test=float(test[i]),
                evaluated_top1_test=float(evaluated_test[i]),
                macs=int(macs(answers.archs[i : i + 1])[0]),
                parameters=int(parameters(answers.archs[i : i + 1])[0]),
                onnx=names[i],
                predicted_latency_std_ms=float(answers.costs_std[i, 0]),
                confirmed=bool(answers.confirmed[i]),
                measurements=int(answers.repeats[i]),
                round=int(answers.rounds[i]),
                random_top1_validation=float(drawn_validation[i]),
                random_top1_test=float(drawn_test[i]),
            )
            for i in range(len(answers))
        ),
        slowdown=slowdown,
        sections={
            "Supernet": record.facts("supernet"),
            "Accuracy table": record.facts("accuracy table"),
            "Random search, to compare with": record.facts("random search"),
            "Accuracy model, on held-out architectures": record.facts("accuracy model"),
            "Latency table": {**record.facts("cost table"), **_conditions(table)},
            "Generator": {
                **record.facts("generator"),
                "generation ms per budget": round(generation_ms, 2),
                "answered by": {
                    name: answers.source.count(name) for name in sorted(set(answers.source))
                },
            },
            "Measured on the device": confirmation,
            "Time": steps,
            "Machine": {
                "system": platform.platform(),
                "python": platform.python_version(),
                **files.provenance(),
            },
        },
        warnings=tuple(
            credibility.distinct(
                _doubts(generator, on.dataset, top1, test),
                [f"Not confirmed: {note}." for note in answers.notes if note],
            )
        ),
        definition=space.definition,
        drawn=int(record.facts("random search")["architectures"]),
    )


def _doubts(
    generator: Generator,
    dataset: ImageData,
    evaluated: npt.NDArray[np.float64],
    answered: Sequence[float],
) -> list[str]:
    """Say what makes the run worthless, worst first."""
    classes = len(dataset.classes)
    return credibility.distinct(
        credibility.of_judged(
            evaluated, classes, len(dataset.validation), what="evaluated architectures"
        ),
        credibility.of_judged(answered, classes, len(dataset.test), what="generated networks"),
        credibility.of_generator(generator),
        dataset.warnings,
    )


def _conditions(table: CostTable) -> dict[str, Any]:
    conditions: dict[str, Any] = dict(table.provenance.get("conditions", {}))
    return conditions


def _digest(path: Path) -> str:
    return files.file_digest(path)[:32]
