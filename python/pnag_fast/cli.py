"""The ``pnag`` command: a thin layer that reads options, calls the library and prints.

Exit code 0 is success, 1 a failure (one line on standard error says what and what to do), 2 bad
usage, 130 an interruption. With ``--json`` standard output is one JSON document and nothing else,
on failure one with ``error``, ``message`` and ``remedy``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from . import __version__, keeping, outputs
from .errors import InvalidInputError, UnsupportedSpaceError
from .keeping import Keeper, State
from .terminal import finish, say, say_json, say_table, showing_progress

if TYPE_CHECKING:
    from .accuracy import AccuracyModel
    from .data import ImageData
    from .report import FrontReport
    from .spaces import Archs, SearchSpace

EXISTING = click.Path(exists=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; this is the entry point of ``pnag``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    keeper = Keeper()
    try:
        code = pnag.main(args=given, prog_name="pnag", standalone_mode=False, obj=keeper)
        finish()
    except (Exception, KeyboardInterrupt) as error:
        from . import failures

        if arguments is None:
            failures.defer_interrupts()
        # Not from the parsed options: they may be what is wrong.
        code = failures.tell(error, keeper, as_json="--json" in given)
        with contextlib.suppress(Exception):
            finish()
        if arguments is None and code == failures.INTERRUPTED:
            # Files are closed and children ended on the way here; taking torch apart would keep
            # whoever pressed Ctrl-C waiting for most of a second.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pnag")
def pnag() -> None:
    """Find the network to deploy under any budget.

    Start with:  pnag quickstart --out quickstart
    """


# --- options that several commands share -------------------------------------------------------


def _space_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--classes", type=click.IntRange(2), help="Number of classes."),
        click.option("--width", type=click.FloatRange(0.1, 10), help="Channel multiplier."),
        click.option(
            "--resolution",
            "resolutions",
            type=click.IntRange(8, 4096),
            multiple=True,
            help="Input size in pixels; repeat it for an elastic resolution.",
        ),
        click.option(
            "--space",
            "space_name",
            default="mbv3-tiny",
            show_default=True,
            help="A built-in space, or the path of a space written as JSON.",
        ),
    ):
        command = option(command)
    return command


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all randomness."
)
_cautious_option = click.option(
    "--cautious",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Predict the mean less this many standard deviations, for searches.",
)
_torch_threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of torch [default: torch's own choice]. Small networks are best with 1.",
)
_force_option = click.option(
    "--force", is_flag=True, help="Let --out replace a file of another kind; never an input."
)
_no_checkpoint_option = click.option(
    "--no-checkpoint",
    is_flag=True,
    help="Do not keep the state of the work in OUT.checkpoint, which is removed when it is done.",
)
_data_option = click.option(
    "--data",
    "images",
    default="digits",
    show_default=True,
    help="'digits', a folder of images by class or of shards, or an .npz of images and labels.",
)
_own_data_option = click.option(
    "--data",
    "images",
    help="The images that the supernet was trained on, as for 'supernet train'; the digits are "
    "found without it.",
)
_other_data_option = click.option(
    "--other-data", is_flag=True, help="Take images that the supernet was not trained on."
)


def _space(
    name: str,
    resolutions: tuple[int, ...] = (),
    width: float | None = None,
    classes: int | None = None,
) -> SearchSpace:
    from . import spaces

    return spaces.find(name, resolutions=resolutions or None, width=width, classes=classes)


def _images(source: str, resolution: int, seed: int) -> ImageData:
    from . import data

    if source == _DIGITS:
        return data.load_digits(resolution, seed=seed)
    return data.load(source, resolution, seed=seed)


_DIGITS = "digits"

# Folds of each nested cross-validation.
_FOLDS = 5


def _files(*names: str | None) -> list[Path]:
    """Those of `names` that are paths, not what is built in: a folder may be called 'digits'."""
    from . import spaces

    built_in = {_DIGITS, *spaces.names()}
    return [Path(name) for name in names if name is not None and name not in built_in]


def _kept_fits(
    state: State | None, fit: Callable[..., AccuracyModel], identity: Sequence[Any]
) -> Callable[..., AccuracyModel]:
    """Keep every model that `fit` returns in the folder `state`, and fit none twice."""
    if state is None:
        return fit
    import hashlib

    from . import accuracy, files

    folder = state.path

    def kept(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
        digest = hashlib.sha256(repr([__version__, space.fingerprint, *identity]).encode())
        digest.update(archs.tobytes() + top1.tobytes())
        path = files.make_folder(folder) / f"{digest.hexdigest()[:32]}.safetensors"
        if path.exists():
            return accuracy.load(path, space)
        model = fit(space, archs, top1)
        model.save(path)
        return model

    return kept


def _keeper() -> Keeper:
    """Return what knows the states of the command that runs."""
    return click.get_current_context().ensure_object(Keeper)


def _say_warnings(warnings: Sequence[str]) -> None:
    """Say first what a reader has to know before all that follows."""
    for line in warnings:
        say(f"WARNING: {line}")
    if warnings:
        say()


# --- commands ----------------------------------------------------------------------------------


@pnag.command()
@click.option("--out", type=ANY_PATH, required=True, help="Folder for everything that is made.")
@_data_option
@click.option("--space", "space_name", default="mbv3-tiny", show_default=True)
@click.option("--resolution", type=click.IntRange(8, 4096), help="Input size in pixels.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Passes over the images.")
@click.option("--architectures", type=click.IntRange(20), default=None, help="To judge.")
@click.option("--budgets", type=click.IntRange(1), default=None, help="To ask for.")
@_seed_option
@_json_option
def quickstart(
    out: Path,
    images: str,
    space_name: str,
    resolution: int | None,
    epochs: int | None,
    architectures: int | None,
    budgets: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Go from images and this computer to a generator, and prove it.

    \b
    Trains a supernet, measures the accuracy of some of its networks and the
    latency of its blocks on this CPU, trains a generator, asks it for budgets
    it has not seen, and measures what it answers. Run it again with the same
    options to go on after an interruption, or with more --budgets or
    --architectures to add to what is there.

    \b
    Example:
      pnag quickstart --out quickstart
      pnag quickstart --data photos/ --space mbv3-cifar --out photos-run
    """  # noqa: D301 - \b is click's mark for "do not rewrap"
    from .quickstart import QuickstartSettings, run

    defaults = QuickstartSettings()
    settings = QuickstartSettings(
        space=space_name,
        resolution=resolution,
        epochs=epochs or defaults.epochs,
        architectures=architectures or defaults.architectures,
        budgets=budgets or defaults.budgets,
        seed=seed,
    )
    state = State(out, "all that was finished", temporary=False)
    with _keeper().keeping(state), showing_progress(quiet=as_json) as progress:
        report = run(
            out,
            images=images,
            settings=settings,
            progress=progress,
            notice=(lambda _: None) if as_json else (lambda line: say(line, error=True)),
        )
    _show_report(report, out, as_json)


def _show_report(report: FrontReport, folder: Path, as_json: bool) -> None:
    from .report import TABLE_HEAD

    if as_json:
        say_json(
            {
                "space": report.space,
                "device": report.device,
                "answers": [dataclasses.asdict(answer) for answer in report.answers],
                "slowdown": report.slowdown,
                "warnings": list(report.warnings),
                "findings": report.findings(),
                "report": str(folder / "report.html"),
            }
        )
        return
    _say_warnings(report.warnings)
    say_table(TABLE_HEAD, report.table())
    say()
    for line in report.findings():
        say(line)
    say()
    say(f"The whole story: {folder / 'report.html'}")


@pnag.command()
@_space_options
@click.option("--out", type=ANY_PATH, required=True, help="Cost table to write (JSON).")
@click.option("--target", default="llvm", show_default=True, help="TVM target.")
@click.option(
    "--runner",
    default="local",
    show_default=True,
    help="Where to measure: 'local', or rpc://HOST:PORT/KEY for the devices of a TVM tracker.",
)
@click.option(
    "--trials",
    type=click.IntRange(0),
    default=1400,
    show_default=True,
    help="Schedules to measure in all; 0 measures the code that fixed rules give. What is already "
    "tuned is kept, and more trials add to it.",
)
@click.option("--work-dir", type=ANY_PATH, help="Tuning database and journal [default: OUT.work].")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@_force_option
@_seed_option
@_json_option
def measure(
    space_name: str,
    resolutions: tuple[int, ...],
    width: float | None,
    classes: int | None,
    out: Path,
    target: str,
    runner: str,
    trials: int,
    work_dir: Path | None,
    threads: int,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a latency table of a search space with TVM.

    \b
    Example:
      pnag measure --space mbv3-tiny --out cpu.json
    """  # noqa: D301
    from . import credibility, latency
    from .latency.correction import GOOD_R2

    outputs.check(out, outputs.COST_TABLE, inputs=_files(space_name), force=force)
    work_dir = work_dir or outputs.beside(out, ".work")
    if work_dir is None:
        raise click.UsageError(f"--out {out} is no file: --work-dir says where to keep the work")
    outputs.check_folder(work_dir, inputs=_files(space_name), what="--work-dir")
    space = _space(space_name, resolutions, width, classes)
    # It stays: the next measurement, of more trials or another space, starts from it.
    state = State(work_dir, "all measurements", temporary=False)
    with _keeper().keeping(state), showing_progress(quiet=as_json) as progress:
        table = latency.measure(
            space,
            target=target,
            runner=runner,
            tuning_trials=trials,
            work_dir=work_dir,
            threads=threads,
            seed=seed,
            progress=progress,
        )
        table.save(out)
    low, high = table.bounds
    warnings = credibility.of_table(table.provenance, table.device)
    facts = {
        "space": space.name,
        "device": table.device,
        "fastest_ms": low,
        "slowest_ms": high,
        "correction": table.provenance.get("correction"),
        "tuning_trials": table.provenance["tuning_trials"],
        "tuning_speedup": table.provenance["tuning"]["speedup"],
        "unsteady_blocks": [
            key for key, block in table.provenance["blocks"].items() if not block["steady"]
        ],
        "table": str(out),
        "warnings": warnings,
    }
    if as_json:
        say_json(facts)
        return
    _say_warnings(warnings)
    say(f"{space.name} on {table.device}: {low:.3f} to {high:.3f} ms, written to {out}")
    if facts["tuning_trials"]:
        say(
            f"tuned with {facts['tuning_trials']} trials: kernels are "
            f"{facts['tuning_speedup']:.2f}x as fast as by rule (geometric mean)"
        )
    else:
        say("not tuned: the code is what fixed rules give")
    say(f"whole networks against the table: {_facts_line(facts['correction'])}")
    correction = facts["correction"]
    if not warnings and correction["r2"] < GOOD_R2:
        say(
            f"that is worse than R2 {GOOD_R2}: do not trust this table for close decisions; "
            "measure again with the device left alone"
        )
    if unsteady := facts["unsteady_blocks"]:
        say(
            f"{len(unsteady)} of {len(table.provenance['blocks'])} blocks are unsteady (spread "
            f"above 5 %), among them {unsteady[0]}; the table marks them"
        )


def _facts_line(facts: Any) -> str:
    if not isinstance(facts, dict):
        return "not compared"
    return ", ".join(
        f"{key} {value:.4g}" for key, value in facts.items() if isinstance(value, (int, float))
    )


@pnag.group()
def supernet() -> None:
    """Train a supernet or bring a published one, and judge architectures with it."""


@supernet.command("import")
@click.argument("checkpoint", type=EXISTING)
@_space_options
@click.option("--out", type=ANY_PATH, required=True, help="Supernet to write (safetensors).")
@_force_option
@_json_option
def supernet_import(
    checkpoint: Path,
    space_name: str,
    resolutions: tuple[int, ...],
    width: float | None,
    classes: int | None,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a checkpoint published with Once-for-All into a supernet; no code in it is run.

    \b
    Example:
      pnag supernet import ofa_mbv3_d234_e346_k357_w1.2 --space ofa-mbv3 --width 1.2 \\
          --out ofa.safetensors
    """  # noqa: D301
    outputs.check(out, outputs.SUPERNET, inputs=[checkpoint, *_files(space_name)], force=force)
    from . import supernet as library

    space = _space(space_name, resolutions, width, classes)
    net = library.load_ofa(checkpoint, space)
    library.save(net, out)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    if as_json:
        say_json({"supernet": str(out), "space": space.name, "parameters": parameters})
        return
    say(f"{space.name}: {parameters / 1e6:.1f} million parameters; written to {out}")


@supernet.command("train")
@_space_options
@_data_option
@click.option("--out", type=ANY_PATH, required=True, help="Supernet to write (safetensors).")
@click.option(
    "--recipe",
    type=click.Choice(["sandwich", "single-path", "progressive", "compound", "compound-elastic"]),
    default="sandwich",
    show_default=True,
    help="Which networks learn at each step, and from what; --dry-run spells it out.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=24, show_default=True, help="Of each long phase."
)
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True)
@click.option("--learning-rate", type=float, default=8e-3, show_default=True, help="Peak.")
@click.option("--random", "n_random", type=click.IntRange(0), help="Random networks a step.")
@click.option("--max-shift", type=click.IntRange(0), default=1, show_default=True, help="Pixels.")
@click.option("--flip", is_flag=True, help="Mirror half of the images; not for digits or letters.")
@click.option(
    "--min-area",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Below 1, show random parts of images, of at least this share.",
)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Decay of a running average of the weights, for instance 0.999; 0 for none.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the layers' arithmetic; float16 is for GPUs.",
)
@click.option("--device", help="For instance cuda:1 [default: a GPU where there is one].")
@click.option(
    "--checkpoint",
    type=ANY_PATH,
    help="Where to keep the state of training [default: OUT.checkpoint, removed when done].",
)
@click.option("--no-checkpoint", is_flag=True, help="Keep no state.")
@click.option("--checkpoint-every", type=click.IntRange(1), help="Steps; after each epoch anyway.")
@click.option("--dry-run", is_flag=True, help="Print the phases and stop.")
@_torch_threads_option
@_force_option
@_seed_option
@_json_option
def supernet_train(
    space_name: str,
    resolutions: tuple[int, ...],
    width: float | None,
    classes: int | None,
    images: str,
    out: Path,
    recipe: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    n_random: int | None,
    max_shift: int,
    flip: bool,
    min_area: float,
    ema: float,
    precision: str,
    device: str | None,
    checkpoint: Path | None,
    no_checkpoint: bool,
    checkpoint_every: int | None,
    dry_run: bool,
    threads: int | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a supernet on images; run it again to go on after an interruption.

    \b
    Example:
      pnag supernet train --data photos/ --space mbv3-cifar --out photos.safetensors

    \b
    On several GPUs or machines (every process takes a part of every batch):
      torchrun --nproc-per-node 2 --no-python pnag supernet train --data photos/ ...
    """  # noqa: D301
    from . import credibility
    from . import supernet as library

    plain = _space(space_name, resolutions, width)
    plain.require_network("a supernet")
    phases = library.plan(
        recipe, plain, epochs=epochs, learning_rate=learning_rate, n_random=n_random
    )
    if dry_run:
        if as_json:
            say_json([dataclasses.asdict(phase) for phase in phases])
        else:
            say("\n".join(phase.describe() for phase in phases))
        return
    outputs.check(out, outputs.SUPERNET, inputs=_files(images, space_name), force=force)
    dataset = _images(images, max(plain.resolutions), seed)
    if classes is not None and classes != len(dataset.classes):
        raise InvalidInputError(
            f"--classes is {classes}, but '{images}' has {len(dataset.classes)} classes"
        )
    space = plain.with_classes(len(dataset.classes))
    net = library.build(space, seed=seed)
    state = keeping.beside(
        out, ".checkpoint", checkpoint, not no_checkpoint, "the state of training"
    )
    with contextlib.ExitStack() as context:
        found = context.enter_context(library.distributed.joined())
        first = library.distributed.world()[0] == 0
        if device or found:
            net.to(library.device(str(device or found)))
        # One process writes the file, and removes it when it is done.
        context.enter_context(_keeper().keeping(state if first else None))
        with showing_progress(quiet=as_json or not first) as progress:
            log = library.train(
                net,
                dataset,
                recipe=phases,
                batch_size=batch_size,
                max_shift=max_shift,
                flip=flip,
                min_area=min_area,
                ema=ema,
                precision=precision,
                seed=seed,
                threads=threads,
                checkpoint=None if state is None else state.path,
                checkpoint_every=checkpoint_every,
                progress=progress,
            )
        if not first:
            return
        library.save(net, out)
    smallest_largest = library.evaluate(net, library.extremes(space), dataset)
    # Both the training and what is judged here may find that the networks guess: once is enough.
    guessing = log.warnings or credibility.of_judged(
        smallest_largest,
        len(dataset.classes),
        len(dataset.validation),
        what="trained networks (the smallest and the largest)",
    )
    warnings = credibility.distinct(guessing, dataset.warnings)
    facts = {
        "supernet": str(out),
        "recipe": recipe,
        "epochs": len(log.epochs),
        "loss": log.epochs[-1].loss,
        "distillation_loss": log.epochs[-1].distillation_loss,
        "top1_smallest": float(smallest_largest[0]),
        "top1_largest": float(smallest_largest[1]),
        "warnings": warnings,
    }
    if as_json:
        say_json(facts)
        return
    _say_warnings(warnings)
    say(
        f"{space.name}: smallest network {100 * smallest_largest[0]:.1f} %, largest "
        f"{100 * smallest_largest[1]:.1f} % on validation images; written to {out}"
    )


@supernet.command("evaluate")
@click.argument("path", type=EXISTING)
@_own_data_option
@_other_data_option
@click.option("--out", type=ANY_PATH, required=True, help="Accuracy table to write (CSV).")
@click.option("--architectures", type=click.IntRange(1), default=300, show_default=True)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Images to judge on.",
)
@click.option(
    "--related",
    is_flag=True,
    help="Sample architectures that share their first stages: several times as fast.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="In which the images are computed.",
)
@click.option(
    "--journal",
    type=ANY_PATH,
    help="Where to keep what is judged [default: OUT.journal, removed when done].",
)
@click.option("--no-journal", is_flag=True, help="Keep nothing of what is judged.")
@_torch_threads_option
@_force_option
@_seed_option
@_json_option
def supernet_evaluate(
    path: Path,
    images: str | None,
    other_data: bool,
    out: Path,
    architectures: int,
    split: str,
    related: bool,
    precision: str,
    journal: Path | None,
    no_journal: bool,
    threads: int | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure the accuracy of sampled architectures on held-out images.

    Images are split as they were when the supernet was trained; --seed is that of the sample.
    Run it again with the same options to go on after an interruption.

    \b
    Example:
      pnag supernet evaluate photos.safetensors --data photos/ --out photos.csv
    """  # noqa: D301
    import numpy as np

    from . import accuracy, credibility
    from . import supernet as library

    outputs.check(out, outputs.ACCURACY_TABLE, inputs=[path, *_files(images)], force=force)
    state = keeping.beside(out, ".journal", journal, not no_journal, "what was judged", head=1)
    net = library.load(path)
    dataset = library.images_of(net, images, seed=seed)
    sample = library.sample_related if related else type(net.space).sample
    drawn = sample(net.space, architectures, seed=seed)
    # Models refuse codes that nothing measured has: a few architectures that have all of them take
    # the place of as many drawn ones.
    every_code = accuracy.covering(net.space)
    if len(every_code) <= architectures // 2:
        drawn = np.concatenate([every_code, drawn])
    _, first = np.unique(drawn, axis=0, return_index=True)
    archs = np.unique(drawn[np.sort(first)[:architectures]], axis=0)
    started = time.perf_counter()
    with _keeper().keeping(state):
        with showing_progress(quiet=as_json) as progress:
            top1 = library.evaluate(
                net,
                archs,
                dataset,
                split=cast(Any, split),
                precision=cast(Any, precision),
                journal=None if state is None else state.path,
                other_data=other_data,
                threads=threads,
                progress=progress,
            )
        seconds = time.perf_counter() - started
        accuracy.save_table(out, net.space, archs, top1)
    judged = dataset.validation if split == "validation" else dataset.test
    warnings = credibility.distinct(
        credibility.of_judged(
            top1, len(dataset.classes), len(judged), what="evaluated architectures"
        ),
        dataset.warnings,
    )
    facts = {
        "architectures": len(archs),
        "architectures_per_second": len(archs) / seconds,
        "lowest_top1": float(top1.min()),
        "highest_top1": float(top1.max()),
        "table": str(out),
        "warnings": warnings,
    }
    if as_json:
        say_json(facts)
        return
    _say_warnings(warnings)
    say(
        f"{len(archs)} architectures ({len(archs) / seconds:.3g} a second), top-1 from "
        f"{100 * top1.min():.1f} to {100 * top1.max():.1f} %; written to {out}"
    )


@pnag.command("accuracy")
@click.argument("table", type=EXISTING)
@_space_options
@click.option("--out", type=ANY_PATH, required=True, help="Accuracy model to write (safetensors).")
@click.option(
    "--calibrate",
    "base",
    type=EXISTING,
    help="Correct this model (.safetensors, .pth) by the table instead of fitting a new one.",
)
@_cautious_option
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Nested cross-validation, by random folds and by ranges of multiply-adds.",
)
@_no_checkpoint_option
@_force_option
@_seed_option
@_json_option
def accuracy_command(
    table: Path,
    space_name: str,
    resolutions: tuple[int, ...],
    width: float | None,
    classes: int | None,
    out: Path,
    base: Path | None,
    cautious: float,
    check: bool,
    no_checkpoint: bool,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit an accuracy model to measured architectures, and say how true it is.

    \b
    TABLE is CSV with columns 'arch', in the notation of the space, and 'top1', a
    fraction.

    \b
    Example:
      pnag accuracy quickstart/accuracy.csv --space mbv3-tiny --out model.safetensors
      pnag accuracy measured.csv --space ofa-mbv3 --calibrate acc_predictor.pth \\
          --out calibrated.safetensors
    """  # noqa: D301
    from . import accuracy, costs, credibility, files
    from .threads import torch_threads

    outputs.check(
        out, outputs.ACCURACY_MODEL, inputs=[table, base, *_files(space_name)], force=force
    )
    state = keeping.beside(
        out, ".checkpoint", None, not no_checkpoint, "the models that were fitted"
    )
    space = _space(space_name, resolutions, width, classes)
    archs, top1 = accuracy.load_table(table, space)
    published = None if base is None else accuracy.load(base, space)

    def fit(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
        if published is not None:
            return accuracy.calibrate(published, archs, top1, seed=seed)
        return accuracy.fit(space, archs, top1, seed=seed)

    fit = _kept_fits(state, fit, [seed, None if base is None else files.read_bytes(base)])

    splits: dict[str, Any] = {"random folds": None} if check else {}
    if check:
        # A space of the user's own has no layers to count.
        with contextlib.suppress(UnsupportedSpaceError):
            splits["ranges of MACs"] = costs.macs(space)(archs)
    checks: dict[str, Any] = {}
    with (
        _keeper().keeping(state),
        showing_progress(quiet=as_json) as progress,
        torch_threads(1),
    ):
        fits, total = 0, 1 + _FOLDS * len(splits)

        def counted(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
            nonlocal fits
            model = fit(space, archs, top1)
            fits += 1
            progress("fitting and checking", fits, total)
            return model

        progress("fitting and checking", 0, total)
        model = counted(space, archs, top1)
        # Before the checks, which take longer and change nothing of it.
        model.cautious(cautious).save(out)
        for name, by in splits.items():
            checks[name] = accuracy.cross_validate(
                space, archs, top1, counted, folds=_FOLDS, seed=seed, by=by
            )
    warnings = credibility.distinct(
        credibility.of_model(model.report),
        *(credibility.of_model(check) for check in list(checks.values())[:1]),
    )
    if as_json:
        say_json(
            {
                "model": str(out),
                "source": model.source,
                **model.report,
                "checks": checks,
                "warnings": warnings,
            }
        )
        return
    _say_warnings(warnings)
    say(f"{model.source}; written to {out}")
    reports = checks or {"folds that also chose settings": dict(model.report)}
    say_table(
        ["Kendall", "Spearman", "error, points", "held out"],
        [
            [f"{r['kendall']:.3f}", f"{r['spearman']:.3f}", f"{100 * r['mean_error']:.3f}", name]
            for name, r in reports.items()
        ],
    )


@pnag.command()
@click.option(
    "--cost", "cost_paths", type=EXISTING, multiple=True, required=True, help="Cost table (JSON)."
)
@click.option(
    "--accuracy",
    "accuracy_path",
    type=EXISTING,
    required=True,
    help="Accuracy table (CSV), or an accuracy model (.safetensors, .pth).",
)
@click.option("--out", type=ANY_PATH, required=True, help="Generator to write (safetensors).")
@click.option(
    "--method",
    type=click.Choice(["expert", "pnag"]),
    default="expert",
    show_default=True,
    help="Front search and imitation, or PNAG as published.",
)
@click.option(
    "--checkpoint",
    type=ANY_PATH,
    help="Where to keep the state of training [default: OUT.checkpoint, removed when done].",
)
@click.option("--no-checkpoint", is_flag=True, help="Keep no state.")
@_cautious_option
@_force_option
@_seed_option
@_json_option
def train(
    cost_paths: tuple[Path, ...],
    accuracy_path: Path,
    out: Path,
    method: str,
    checkpoint: Path | None,
    no_checkpoint: bool,
    cautious: float,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a generator from an accuracy table and cost tables.

    Run it again with the same options to go on after an interruption.

    \b
    Example:
      pnag train --accuracy accuracy.csv --cost cpu.json --out generator.safetensors
    """  # noqa: D301
    from . import accuracy, credibility
    from .budgets import reach
    from .costs import CostTable
    from .generator import train_generator
    from .threads import torch_threads

    outputs.check(out, outputs.GENERATOR, inputs=[*cost_paths, accuracy_path], force=force)
    state = keeping.beside(
        out, ".checkpoint", checkpoint, not no_checkpoint, "the state of training"
    )
    fitted = keeping.beside(out, ".fitted", None, not no_checkpoint, "the accuracy model")
    tables = [CostTable.load(path) for path in cost_paths]
    space = tables[0].space
    with (
        _keeper().keeping(state, fitted),
        showing_progress(quiet=as_json) as progress,
        torch_threads(1),
    ):
        if accuracy_path.suffix == ".csv":
            archs, top1 = accuracy.load_table(accuracy_path, space)
            fit = _kept_fits(fitted, partial(accuracy.fit, seed=seed, progress=progress), [seed])
            model: AccuracyModel = fit(space, archs, top1)
        else:
            model = accuracy.load(accuracy_path, space)
        if cautious:
            model = model.cautious(cautious)
        generator = train_generator(
            space,
            model,
            tables,
            method=method,
            seed=seed,
            checkpoint=None if state is None else state.path,
            progress=progress,
        )
        generator.save(out)
    warnings = credibility.distinct(
        credibility.of_model(model.report),
        *(credibility.of_table(t.provenance, t.device) for t in generator.tables),
        credibility.listed(generator.record),
    )
    facts = {
        "generator": str(out),
        "accuracy_model": {"source": model.source, **model.report},
        "record": dict(generator.record),
        "reachable": [
            {"metric": t.metric, "unit": t.unit, "device": t.device, "range": list(t.bounds)}
            for t in generator.tables
        ],
        "warnings": warnings,
    }
    if as_json:
        say_json(facts)
        return
    _say_warnings(warnings)
    say(f"accuracy model: {model.source}; held out: {_facts_line(dict(model.report))}")
    for table in generator.tables:
        say(f"reachable: {reach(table)} on {table.device}")
    say(f"written to {out}")


def _budget(text: str) -> tuple[float, bool]:
    """Read a budget: a number, and whether it is a percentage of the range."""
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise click.BadParameter(
            f"a budget is a number, a percentage or inf: {error}", param_hint="--budget"
        ) from error
    if share and not 0 <= value <= 100:
        raise click.BadParameter(
            f"a share of the range is from 0% to 100%, found {text}", param_hint="--budget"
        )
    return value, share


def _bound(value: float, share: bool, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if not share:
        return value
    return high if value == 100 else low + (high - low) * value / 100


@pnag.command()
@click.argument("path", metavar="GENERATOR", type=ANY_PATH)
@click.option(
    "--budget",
    "budgets",
    type=str,
    multiple=True,
    required=True,
    help="Upper bound in the table's unit, a share of the way from the cheapest to the dearest "
    "network such as 50%, or inf for none; comma-separated for several costs; repeatable.",
)
@click.option(
    "--on-infeasible",
    type=click.Choice(["raise", "mark"]),
    default="raise",
    show_default=True,
    help="Whether a budget that no architecture meets ends the command, or is marked in its row.",
)
@click.option(
    "--candidates",
    type=click.IntRange(1),
    help="Proposals of the policy per budget; default: 5, for PNAG's policy 32.",
)
@_seed_option
@_json_option
def generate(
    path: Path,
    budgets: tuple[str, ...],
    on_infeasible: str,
    candidates: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Print the architecture for a budget; needs neither torch nor TVM.

    \b
    Example:
      pnag generate quickstart/generator.safetensors --budget 50% --budget inf
    """  # noqa: D301
    from . import credibility
    from .generator import Generator

    parsed = [[_budget(part) for part in budget.split(",")] for budget in budgets]
    generator = Generator.load(path)
    tables = generator.tables
    if any(len(row) != len(tables) for row in parsed):
        names = ", ".join(table.describe() for table in tables)
        raise click.BadParameter(
            f"this generator takes one number for each of: {names}", param_hint="--budget"
        )
    wanted = [
        [_bound(*part, table.bounds) for part, table in zip(row, tables, strict=True)]
        for row in parsed
    ]
    warnings = credibility.distinct(
        credibility.of_model(generator.model.report),
        *(credibility.of_table(table.provenance, table.device) for table in tables),
        credibility.listed(generator.record),
    )
    options: dict[str, Any] = {
        "n_candidates": candidates,
        "on_infeasible": on_infeasible,
        "seed": seed,
    }
    # The C++ tables are built on first use; ask once so that the time shown is that of an answer.
    generator.generate(wanted[:1], **options)
    started = time.perf_counter()
    answers = generator.generate(wanted, **options)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    units = [table.unit for table in generator.tables]
    feasible = answers.feasible
    notations = iter(generator.space.to_strings(answers.archs[feasible]))
    answered_by = [next(notations) if answered else None for answered in feasible]
    if as_json:
        say_json(
            {
                "space": generator.space.name,
                "accuracy_source": generator.model.source,
                "elapsed_ms": elapsed_ms,
                "warnings": warnings,
                "answers": [
                    {
                        # JSON knows no infinity: null is a cost that was left open.
                        "budget": [v if math.isfinite(v) else None for v in row.tolist()],
                        "feasible": name is not None,
                        "arch": name,
                        "codes": None if name is None else answers.archs[i].tolist(),
                        "costs": None if name is None else answers.costs[i].tolist(),
                        "units": units,
                        "top1": None if name is None else float(answers.top1[i]),
                        "top1_std": None if name is None else float(answers.top1_std[i]),
                        "source": answers.source[i],
                        "note": answers.notes[i],
                    }
                    for i, (row, name) in enumerate(zip(answers.budgets, answered_by, strict=True))
                ],
            }
        )
        return
    # Not where a program may read the table.
    for line in warnings:
        say(f"WARNING: {line}", error=True)
    head = [f"budget {unit}" for unit in units] + [f"cost {unit}" for unit in units]
    say_table(
        [*head, "top-1 %", "from", "architecture"],
        [
            [f"{v:g}" for v in answers.budgets[i]]
            + (
                ["-"] * (len(units) + 1)
                if name is None
                else [f"{v:.4g}" for v in answers.costs[i]]
                + [f"{100 * answers.top1[i]:.1f} ± {100 * answers.top1_std[i]:.1f}"]
            )
            + [answers.source[i], name or "-"]
            for i, name in enumerate(answered_by)
        ],
        left=2,
    )
    for note in dict.fromkeys(filter(None, answers.notes)):
        say(note, error=True)
    say(f"({elapsed_ms:.1f} ms; top-1 is predicted: {generator.model.source})", error=True)


@pnag.command()
@click.option("--supernet", "supernet_path", type=EXISTING, required=True)
@click.option("--arch", required=True, help="Architecture in the notation of the space.")
@_own_data_option
@_other_data_option
@click.option("--out", type=ANY_PATH, required=True, help="ONNX file to write.")
@_force_option
@_seed_option
@_json_option
def export(
    supernet_path: Path,
    arch: str,
    images: str | None,
    other_data: bool,
    out: Path,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Cut a network out of a supernet and write it as ONNX.

    \b
    Its batch-norm statistics are measured on training images: those of --data, or those that the
    supernet carries. Class names and preprocessing go into the file.

    \b
    Example:
      pnag export --supernet quickstart/supernet.safetensors \\
          --arch "2,1,2:3,5,0,5,0,0,7,3,0:2,4,0,4,0,0,1,4,0" --out net.onnx
    """  # noqa: D301
    from . import credibility
    from . import export as library
    from . import supernet as supernets

    outputs.check(out, outputs.ONNX, inputs=[supernet_path, *_files(images)], force=force)
    net = supernets.load(supernet_path)
    row = net.space.from_strings([arch])[0]
    known = net.trained_on
    # Held-out images are at hand where they are given, or come with the package.
    at_hand = images is not None or (known is not None and known.name == _DIGITS)
    dataset = supernets.images_of(net, images, seed=seed) if at_hand else None
    network = supernets.recalibrate(net.extract(row), dataset, other_data=other_data)
    library.to_onnx(network, out, metadata={"architecture": arch, "space": net.space.name})
    top1, warnings = None, []
    if dataset is not None:
        judged = dataset.validation
        top1 = supernets.accuracy(network, judged.images, judged.labels)
        warnings = credibility.of_judged(
            [top1], len(dataset.classes), len(judged), what="exported networks"
        )
    if as_json:
        say_json({"onnx": str(out), "arch": arch, "top1_validation": top1, "warnings": warnings})
        return
    _say_warnings(warnings)
    say(
        f"{out}: statistics from the images that the supernet carries; give --data to judge it"
        if top1 is None
        else f"{out}: top-1 {100 * top1:.1f} % on validation images"
    )


@pnag.command()
@click.argument("path", metavar="FOLDER|FRONT", type=EXISTING)
@click.option(
    "--judge",
    type=EXISTING,
    help="Accuracy model (.safetensors, .pth) or table (.csv) that was not searched: says which "
    "gains of a saved front it confirms.",
)
@click.option("--out", type=ANY_PATH, help="With --judge: every member's verdict (JSON).")
@_force_option
@_seed_option
@_json_option
def report(
    path: Path, judge: Path | None, out: Path | None, force: bool, seed: int, as_json: bool
) -> None:
    """Write the picture and the page of a run anew, or judge a saved front.

    \b
    A search finds what its accuracy model overrates. A model of another kind, or
    fitted to other measurements, tells which gains are real.

    \b
    Example:
      pnag report quickstart
      pnag report quickstart/front.json --judge other.safetensors
    """  # noqa: D301
    if out is not None:
        if judge is None:
            raise click.UsageError("--out goes with --judge; a run's report is written beside it")
        outputs.check(out, outputs.VERDICTS, inputs=[path, judge], force=force)
    if judge is not None:
        _judge_front(path, judge, out, seed, as_json)
        return
    if not path.is_dir():
        raise click.UsageError(f"{path} is a file: --judge says by which model to judge it")
    from .quickstart import write_report
    from .report import FrontReport

    loaded = FrontReport.load(path / "front.json")
    write_report(loaded, path)
    _show_report(loaded, path, as_json)


def _judge_front(path: Path, judge: Path, out: Path | None, seed: int, as_json: bool) -> None:
    from . import accuracy, credibility
    from .accuracy.validation import CONFIRMATION_HEAD, FrontLike, saved_front
    from .report import REPORT_FORMAT, FrontReport

    if path.is_dir():
        path = path / "front.json"
    model: AccuracyModel | None = None if judge.suffix == ".csv" else accuracy.load(judge)
    front: FrontLike
    if outputs.kind_of(path) == REPORT_FORMAT:
        front = FrontReport.load(path).front(path, None if model is None else model.space)
    else:
        front = saved_front(path)
    if model is None:
        archs, top1 = accuracy.load_table(judge, front.space)
        with showing_progress(quiet=as_json) as progress:
            model = accuracy.fit(front.space, archs, top1, seed=seed, progress=progress)
    elif judge.suffix in (".pth", ".pt"):
        model = accuracy.load(judge, front.space)
    found = accuracy.confirm(front, model)
    if out is not None:
        found.save(out)
    warnings = credibility.of_model(model.report)
    if as_json:
        say_json({**found.to_dict(), "warnings": warnings})
        return
    _say_warnings(warnings)
    say_table(CONFIRMATION_HEAD, found.table())
    say()
    for line in found.findings():
        say(line)


@pnag.command()
@_json_option
def doctor(as_json: bool) -> None:
    """Check that everything this package uses is there and works.

    \b
    Example:
      pnag doctor
    """  # noqa: D301
    from .doctor import examine

    checks = examine()
    healthy = not any(check.status == "broken" for check in checks)
    if as_json:
        say_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        for check in checks:
            remedy = f"; {check.remedy}" if check.remedy else ""
            say(f"{check.status:<7} {check.subject}: {check.detail}{remedy}")
    if not healthy:
        sys.exit(1)
