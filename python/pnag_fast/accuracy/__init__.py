"""Accuracy models: top-1 of any architecture, learned from the ones that were measured.

`fit` learns from measured architectures (needs torch), `calibrate` corrects any model by them,
`table` looks them up, `load` reads all of these and the predictor published with Once-for-All.
`oracle` makes a function of architectures what searches may ask itself.
Prediction needs numpy only. A search exploits what its model overrates: `AccuracyModel.cautious`
searches a lower bound, `confirm` judges a finished front by another model.
"""

from __future__ import annotations

from .. import files
from ..agreement import kendall
from ..objective import TOP1, Objective
from ..spaces import SearchSpace
from .calibration import CalibratedModel, calibrate
from .codes import covering, one_hot
from .csv_files import load_nasbench201, load_table, save_table
from .fitting import fit
from .measured import MINIMUM_ROWS
from .model import MODEL_FORMAT, MODEL_VERSION, AccuracyModel
from .nasbench_macro import load_nasbench_macro
from .neighborhood import Neighborhood
from .network import NetworkModel, load_once_for_all
from .oracle import Oracle, oracle
from .posterior import ProcessModel, fit_process
from .table import TableModel, table
from .validation import Confirmation, confirm, cross_validate

__all__ = [
    "MINIMUM_ROWS",
    "TOP1",
    "AccuracyModel",
    "CalibratedModel",
    "Confirmation",
    "Neighborhood",
    "NetworkModel",
    "Objective",
    "Oracle",
    "ProcessModel",
    "TableModel",
    "calibrate",
    "confirm",
    "covering",
    "cross_validate",
    "fit",
    "fit_process",
    "kendall",
    "load",
    "load_nasbench201",
    "load_nasbench_macro",
    "load_table",
    "one_hot",
    "oracle",
    "save_table",
    "table",
]


def load(path: files.StrPath, space: SearchSpace | None = None) -> AccuracyModel:
    """Read an accuracy model.

    Parameters
    ----------
    path : path
        A file written by `AccuracyModel.save`, or the predictor published with Once-for-All
        (``.pth``; needs torch).
    space : SearchSpace, optional
        For a published predictor: the space, which fixes the input resolutions. Default:
        ``ofa-mbv3`` at 224 px. For our own format the space is in the file.

    Raises
    ------
    FileFormatError
        If the file is truncated, foreign, or from a newer version.
    """
    # A torch checkpoint is a zip file, or a bare pickle under its usual name.
    with files.open_regular(path, limit=files.SAFETENSORS_LIMIT) as stream:
        start = stream.read(4)
    if str(path).endswith((".pth", ".pt")) or start == b"PK\x03\x04":
        return load_once_for_all(path, space)
    tensors, body = files.read_safetensors(path, MODEL_FORMAT, MODEL_VERSION)
    model = AccuracyModel.from_tensors(tensors, body, path)
    return model if space is None or space == model.space else model.for_space(space)
