"""The file of a generator: one safetensors file with a JSON header.

Architectures are kept once, in the bank if there is one, and the uncertainty of tables as arrays in
single precision: sixteen devices with it are a few MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import costs as cost_tables
from .. import files
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import FileFormatError, InvalidInputError
from ..search import Front
from ..spaces import Archs, SearchSpace, from_definition
from ..strict_json import shorten
from ..typing import FloatArray
from .bank import Bank
from .devices import check_devices
from .policies import BudgetPolicy

if TYPE_CHECKING:
    from .generator import Generator

GENERATOR_FORMAT = "pnag-generator"
# 3 knows devices, a bank, and uncertain tables; 2 names the kind of policy; 1 knew only the LSTM.
GENERATOR_VERSION = 3

# Fields of the header, and arrays; those of the policy are what it would write itself, those of
# the model its reader knows.
_KEYS = ("space", "tables", "model", "archive", "record")
_TENSORS = ("archive.archs", "archive.top1")
_POLICY, _MODEL, _ROOT = "policy.", "model.", "posterior."

Tensors = dict[str, npt.NDArray[Any]]


def write(generator: Generator, path: files.StrPath) -> None:
    """Write everything that `read` needs, atomically."""
    model_tensors, model_body = generator.model.to_tensors(_MODEL)
    policy_tensors, policy_body = generator.policy.to_tensors(_POLICY)
    archive, bank = generator.archive, generator.bank
    tensors: Tensors = {
        **model_tensors,
        **policy_tensors,
        "archive.archs": archive.archs,
        "archive.top1": archive.top1,
    }
    if bank is not None:
        tensors |= {"bank.archs": bank.archs, "bank.top1": bank.top1}
    body: dict[str, Any] = {
        "space": generator.space.definition,
        "tables": [_table(table, tensors) for table in generator.tables],
        "model": model_body,
        **policy_body,
        "archive": {"evaluations": archive.evaluations, "seconds": archive.seconds},
        "record": dict(generator.record),
    }
    if generator.devices:
        # The first is the first of the tables.
        body["devices"] = [_table(table, tensors) for table in generator.devices[1:]]
    files.write_safetensors(path, GENERATOR_FORMAT, GENERATOR_VERSION, tensors, body)


def read(path: files.StrPath) -> dict[str, Any]:
    """Return the fields of a generator.

    Raises
    ------
    FileFormatError
        If the file is truncated, foreign, inconsistent, or from a newer version.
    """
    tensors, body = files.read_safetensors(path, GENERATOR_FORMAT, GENERATOR_VERSION)
    space = from_definition(files.require(body, "space", dict, path), f"'{path}'")
    listed = files.require_each(body, "tables", dict, path)
    if not listed:
        raise FileFormatError(f"'{path}' holds no cost table")
    also = files.require_each(body, "devices", dict, path) if "devices" in body else None
    known = {*_TENSORS}
    try:
        tables = tuple(_read_table(entry, space, tensors, known, path) for entry in listed)
        devices: tuple[CostTable, ...] = ()
        if also is not None:
            devices = (
                tables[0],
                *(_read_table(entry, space, tensors, known, path) for entry in also),
            )
            check_devices(devices)
        model = AccuracyModel.from_tensors(
            tensors, files.require(body, "model", dict, path), path, _MODEL
        ).for_space(space)
        archive = _read_archive(space, tables, model, tensors, body, path)
        bank = None
        if "bank.archs" in tensors or "bank.top1" in tensors:
            bank = Bank(*_read_architectures("bank", space, tensors, path))
            known |= {"bank.archs", "bank.top1"}
    except FileFormatError:
        raise
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}' is inconsistent: {error}") from error
    policy = BudgetPolicy.from_tensors(space, len(tables), tensors, body, path, _POLICY)
    policy_tensors, policy_body = policy.to_tensors(_POLICY)
    files.check_keys(body, (*_KEYS, "devices", *policy_body), path)
    known |= policy_tensors.keys()
    extra = [name for name in tensors if name not in known and not name.startswith(_MODEL)]
    if extra:
        raise FileFormatError(f"'{path}' has the extra tensor {shorten(extra[0])}")
    return {
        "policy": policy,
        "model": model,
        "tables": tables,
        "archive": archive,
        "record": files.require(body, "record", dict, path),
        "devices": devices,
        "bank": bank,
    }


def _table(table: CostTable, tensors: Tensors) -> dict[str, Any]:
    """Return the header of a table, with the root of its posterior among the arrays instead."""
    document = replace(table, posterior=None).to_json()
    if table.posterior is not None:
        known = table.posterior
        name = f"{_ROOT}{sum(key.startswith(_ROOT) for key in tensors)}"
        tensors[name] = known.root.astype(np.float32)
        document["posterior"] = {"root": name, "misfit": known.misfit, "floor": known.floor}
    return document


def _read_table(
    document: Mapping[str, Any],
    space: SearchSpace,
    tensors: Mapping[str, npt.NDArray[Any]],
    known: set[str],
    path: files.StrPath,
) -> CostTable:
    posterior = document.get("posterior")
    if isinstance(posterior, dict) and isinstance(posterior.get("root"), str):
        name = posterior["root"]
        if not name.startswith(_ROOT) or name not in tensors:
            raise FileFormatError(f"'{path}' lacks the array {shorten(name)} of a table")
        known.add(name)
        document = {**document, "posterior": {**posterior, "root": tensors[name]}}
    return CostTable.from_json(document, path).for_space(space)


def _read_architectures(
    name: str, space: SearchSpace, tensors: Mapping[str, npt.NDArray[Any]], path: files.StrPath
) -> tuple[Archs, FloatArray]:
    """Return the architectures of the archive or the bank, and what is predicted of them."""
    archs, top1 = tensors.get(f"{name}.archs"), tensors.get(f"{name}.top1")
    if (
        archs is None
        or top1 is None
        or archs.dtype != np.uint8
        or archs.ndim != 2
        or archs.shape[1] != space.n_slots
        or top1.dtype != np.float64
        or top1.shape != archs.shape[:1]
        or not np.isfinite(top1).all()
    ):
        raise FileFormatError(f"'{path}': the {name} of known architectures is damaged")
    space.validate(archs)
    return archs, top1


def _read_archive(
    space: SearchSpace,
    tables: Sequence[CostTable],
    model: AccuracyModel,
    tensors: Mapping[str, npt.NDArray[Any]],
    body: Mapping[str, Any],
    path: files.StrPath,
) -> Front:
    about = files.require(body, "archive", dict, path)
    files.check_keys(about, ("evaluations", "seconds"), path, within="archive")
    archs, top1 = _read_architectures("archive", space, tensors, path)
    return Front.of(
        archs,
        top1,
        cost_tables.stack(tables)(archs),
        tables,
        accuracy_source=model.source,
        evaluations=files.integer(
            about.get("evaluations"), f"'{path}': field 'archive.evaluations'", low=0
        ),
        seconds=files.number(about.get("seconds"), f"'{path}': field 'archive.seconds'", low=0),
        objective=model.objective,
    )
