"""The published table of NAS-Bench-Macro (Su et al., CVPR 2021) as an accuracy model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import arguments, costs, files
from ..errors import FileFormatError, InvalidInputError
from ..spaces import Archs, SearchSpace, get
from ..typing import FloatArray
from .measured import Measured
from .table import TableModel, arranged

# The published file is about 2 MB.
_LIMIT = 64 << 20
# Of accuracies in percent, and of their mean, which the file repeats.
_TOLERANCE = 0.01

_COUNTS = (("params", costs.parameters), ("flops", costs.macs))


def load_nasbench_macro(path: files.StrPath) -> TableModel:
    """Read the published table of NAS-Bench-Macro, ``nas-bench-macro_cifar10.json``.

    Parameters
    ----------
    path : path
        JSON: for each string of eight digits an object with ``test_acc``, top-1 in percent of
        networks that were trained independently; ``mean_acc``, ``std``, ``params`` and ``flops``
        are checked where they are there.

    Returns
    -------
    TableModel
        Of space ``nasbench-macro``, with the mean of each network. Its standard deviation is that
        of a single training, pooled over all networks, over the root of the trainings of each.

    Raises
    ------
    FileFormatError
        If the file is no such table, or gives strings of the same network different accuracies.
    FileAccessError
        If it cannot be read.

    Warns
    -----
    UserWarning
        If the parameters or multiply-adds of the file are not those of the space.
    """
    document = files.parse_json(files.read_bytes(path, limit=_LIMIT), f"'{path}'")
    if not isinstance(document, dict) or not document:
        raise FileFormatError(
            f"'{path}' should be an object with one entry for each architecture, as published in "
            f"github.com/xiusu/NAS-Bench-Macro, found {arguments.shown(document)}"
        )
    space = get("nasbench-macro")
    names = list(document)
    try:
        rows = space.from_strings(names)
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}': {error}") from error
    trained = [_trainings(document[name], f"'{path}', architecture {name}") for name in names]
    # Strings of one network repeat what was found once.
    _, first, network = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    for i, leader in enumerate(first[network.reshape(-1)].tolist()):
        if not np.array_equal(trained[i], trained[leader]):
            raise FileFormatError(
                f"'{path}': architectures {names[leader]} and {names[i]} are the same network, and "
                f"have different accuracies, {trained[leader].tolist()} and {trained[i].tolist()}"
            )
    _compare_counts(document, names, space, rows, path)
    archs = np.ascontiguousarray(rows[first])
    runs = [trained[i] / 100 for i in first.tolist()]
    top1 = np.array([run.mean() for run in runs])
    deviations = None
    n_repeats = sum(len(run) - 1 for run in runs)
    if n_repeats:
        squares = sum(float(((run - run.mean()) ** 2).sum()) for run in runs)
        n_runs = np.array([len(run) for run in runs])
        deviations = np.sqrt(squares / n_repeats) / np.sqrt(n_runs)
    measured = Measured.of(space, archs, top1)
    return TableModel(
        space=space,
        source=f"NAS-Bench-Macro: {len(archs)} of {space.n_architectures} networks, looked up",
        report={**measured.facts(), "warnings": measured.doubts()},
        **arranged(space, archs, top1, deviations),
    )


def _trainings(entry: object, where: str) -> FloatArray:
    """Top-1 in percent of every training."""
    if not isinstance(entry, dict) or not isinstance(entry.get("test_acc"), list):
        raise FileFormatError(f"{where} should be an object with a list 'test_acc'")
    found = entry["test_acc"]
    if not found:
        raise FileFormatError(f"{where}: 'test_acc' is empty; it needs one accuracy at least")
    values = [files.number(v, f"{where}: 'test_acc', in percent", low=0, high=100) for v in found]
    trained = np.array(values)
    for field, value in (("mean_acc", trained.mean()), ("std", trained.std())):
        if field in entry:
            said = files.number(entry[field], f"{where}: '{field}'")
            if abs(said - value) > _TOLERANCE:
                raise FileFormatError(
                    f"{where}: '{field}' is {said:g}, and that of 'test_acc' {value:g}"
                )
    return trained


def _compare_counts(
    document: Mapping[str, Any],
    names: list[str],
    space: SearchSpace,
    rows: Archs,
    path: files.StrPath,
) -> None:
    for field, count in _COUNTS:
        known = [i for i, name in enumerate(names) if field in document[name]]
        if not known:
            continue
        said = np.array(
            [
                files.integer(document[names[i]][field], f"'{path}', {names[i]}: '{field}'", low=0)
                for i in known
            ]
        )
        own = count(space)(np.ascontiguousarray(rows[known]))
        wrong = np.flatnonzero(said != own)
        if len(wrong):
            i = wrong[0]
            warnings.warn(
                f"'{path}': '{field}' of {len(wrong)} architectures differs from that of space "
                f"'{space.name}', for example of {names[known[i]]}: {said[i]} and {own[i]:.0f}; "
                "cost tables are the space's own",
                stacklevel=3,
            )
