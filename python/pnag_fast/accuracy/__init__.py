"""Accuracy models: top-1 of any architecture, learned from the ones that were measured.

One representation serves all: per ensemble member a linear term over the codes, plus a small
network whose first layer is a table indexed by slot and code. The predictor published with
Once-for-All is one member without linear term. Prediction needs numpy only; fitting needs torch.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from .. import files
from ..costs import spearman
from ..errors import (
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedSpaceError,
)
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, MobileNetV3, SearchSpace, from_definition

if TYPE_CHECKING:
    import torch

__all__ = [
    "AccuracyModel",
    "fit",
    "kendall",
    "load",
    "load_table",
    "save_table",
]

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

MODEL_FORMAT = "pnag-accuracy-model"
MODEL_VERSION = 1

# Below this a held-out fold holds a handful of rows and says nothing.
MINIMUM_ROWS = 20

Link = Literal["identity", "logit"]
_LINKS: tuple[Link, ...] = ("identity", "logit")
# Ridge penalties to choose from, for a target of unit variance.
_PENALTIES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Measured accuracies of exactly 0 and 1 have no logit; a thousand images cannot tell these apart.
_LOGIT_MARGIN = 1e-3

# Rows per matrix product: large enough for BLAS, small enough to stay in the last-level cache.
_PREDICT_ROWS = 8192


@dataclass(frozen=True, eq=False)
class AccuracyModel:
    """Maps a batch of architectures to top-1, with its uncertainty where it has one.

    Attributes
    ----------
    space : SearchSpace
    linear : ndarray of float32, shape (members, features)
        Linear term; features are the codes 1.. of all slots, one after another.
    first : ndarray of float32, shape (members, features, hidden)
        First layer of the network.
    biases, weights : tuples of ndarray of float32
        Bias of every layer, shape (members, width), and the weights of every layer after the
        first, shape (members, width_in, width_out).
    link : {"identity", "logit"}
        Whether the sum of all terms is top-1 itself or its logit, which saturates towards 1.
    noise : float
        Standard deviation of the error on held-out rows, as a fraction.
    report : dict
        What was seen on held-out rows: ``kendall``, ``spearman``, ``mean_error``, ``rows``.
    """

    space: SearchSpace
    linear: Float32Array
    first: Float32Array
    biases: tuple[Float32Array, ...]
    weights: tuple[Float32Array, ...]
    link: Link
    noise: float
    source: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_members(self) -> int:
        """Number of ensemble members."""
        return len(self.linear)

    @overload
    def predict(self, archs: Archs, *, return_std: Literal[False] = False) -> FloatArray: ...
    @overload
    def predict(
        self, archs: Archs, *, return_std: Literal[True]
    ) -> tuple[FloatArray, FloatArray]: ...
    def predict(
        self, archs: Archs, *, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Top-1 of each row.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
            Architectures of the model's space.
        return_std : bool
            Also return the standard deviation: disagreement of the members and the error seen on
            held-out rows.

        Returns
        -------
        top1 : ndarray of float64, shape (n,), in [0, 1]
        std : ndarray of float64, shape (n,)
            Only with `return_std`.
        """
        self.space.validate(archs)
        mean, variance = np.empty(len(archs)), np.empty(len(archs))
        for start in range(0, len(archs), _PREDICT_ROWS):
            rows = slice(start, start + _PREDICT_ROWS)
            # Weights of a damaged file may be huge; that is found out below.
            with np.errstate(over="ignore", invalid="ignore"):
                outputs = self._forward(one_hot(self.space, archs[rows])).astype(np.float64)
                mean[rows], variance[rows] = outputs.mean(axis=0), outputs.var(axis=0)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise InvalidInputError(
                "the accuracy model predicts values that are not finite; its weights are damaged, "
                "fit or load it again"
            )
        np.clip(mean, 0.0, 1.0, out=mean)
        return (mean, np.sqrt(variance + self.noise**2)) if return_std else mean

    def _forward(self, features: Float32Array) -> Float32Array:
        """Output of every member, shape (members, n)."""
        outputs = np.empty((self.n_members, len(features)), dtype=np.float32)
        for member in range(self.n_members):
            hidden = features @ self.first[member] + self.biases[0][member]
            for weight, bias in zip(self.weights, self.biases[1:], strict=True):
                np.maximum(hidden, 0, out=hidden)
                hidden = hidden @ weight[member] + bias[member]
            outputs[member] = hidden[:, 0] + features @ self.linear[member]
        return _from_link(outputs, self.link)

    def for_space(self, space: SearchSpace) -> AccuracyModel:
        """Return the same model for another space over the same slots and network."""
        if space == self.space:
            return self
        if space.fingerprint != self.space.fingerprint:
            raise InvalidInputError(
                f"this accuracy model is for space '{self.space.name}' "
                f"({self.space.fingerprint}), not for '{space.name}' ({space.fingerprint})"
            )
        return AccuracyModel(
            space,
            self.linear,
            self.first,
            self.biases,
            self.weights,
            self.link,
            self.noise,
            self.source,
            self.report,
        )

    def to_tensors(self, prefix: str = "") -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays (named with `prefix`) and JSON values; `from_tensors` reads them back."""
        tensors: dict[str, npt.NDArray[Any]] = {
            f"{prefix}linear": self.linear,
            f"{prefix}first": self.first,
        }
        for i, bias in enumerate(self.biases):
            tensors[f"{prefix}bias{i}"] = bias
        for i, weight in enumerate(self.weights):
            tensors[f"{prefix}weight{i}"] = weight
        body = {
            "space": self.space.definition,
            "layers": len(self.weights),
            "link": self.link,
            "noise": self.noise,
            "source": self.source,
            "report": dict(self.report),
        }
        return tensors, body

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, npt.NDArray[Any]],
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str = "",
    ) -> AccuracyModel:
        """Read what `to_tensors` returned, checking every name, shape and value."""
        space = from_definition(files.require(body, "space", dict, path), f"'{path}'")
        layers = files.require(body, "layers", int, path)
        n_features = sum(space.n_codes) - space.n_slots
        if not 1 <= layers <= 64:
            raise FileFormatError(f"'{path}': an accuracy model has 1 to 64 layers, found {layers}")
        linear = _tensor(tensors, f"{prefix}linear", (None, n_features), path)
        members = len(linear)
        first = _tensor(tensors, f"{prefix}first", (members, n_features, None), path)
        width = first.shape[2]
        biases = [_tensor(tensors, f"{prefix}bias0", (members, width), path)]
        weights = []
        for i in range(layers):
            weight = _tensor(tensors, f"{prefix}weight{i}", (members, width, None), path)
            width = weight.shape[2]
            weights.append(weight)
            biases.append(_tensor(tensors, f"{prefix}bias{i + 1}", (members, width), path))
        link = files.require(body, "link", str, path)
        if link not in ("identity", "logit"):
            raise FileFormatError(f"'{path}': unknown link {link!r} of an accuracy model")
        if members < 1 or width != 1:
            raise FileFormatError(f"'{path}': an accuracy model ends in one value, found {width}")
        return cls(
            space,
            linear,
            first,
            tuple(biases),
            tuple(weights),
            link,
            float(files.require(body, "noise", (int, float), path)),
            files.require(body, "source", str, path),
            files.require(body, "report", dict, path),
        )

    def save(self, path: files.StrPath) -> None:
        """Write the model as safetensors with a JSON header, atomically."""
        tensors, body = self.to_tensors()
        files.write_safetensors(path, MODEL_FORMAT, MODEL_VERSION, tensors, body)


def one_hot(space: SearchSpace, archs: Archs) -> Float32Array:
    """Encode rows as one column per slot and code (0, absent, has none).

    Returns
    -------
    ndarray of float32, shape (n, sum of choices)
    """
    offsets = np.concatenate([[0], np.cumsum(np.array(space.n_codes) - 1)])
    features = np.zeros((len(archs), int(offsets[-1])), dtype=np.float32)
    rows, slots = np.nonzero(archs)
    features[rows, offsets[slots] + archs[rows, slots] - 1] = 1.0
    return features


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
    if str(path).endswith((".pth", ".pt")) or files.read_bytes(path)[:4] == b"PK\x03\x04":
        return _load_once_for_all(path, space)
    tensors, body = files.read_safetensors(path, MODEL_FORMAT, MODEL_VERSION)
    model = AccuracyModel.from_tensors(tensors, body, path)
    return model if space is None else model.for_space(space)


def _tensor(
    tensors: Mapping[str, npt.NDArray[Any]],
    name: str,
    shape: tuple[int | None, ...],
    path: files.StrPath,
) -> Float32Array:
    array = tensors.get(name)
    wanted = tuple("any" if n is None else n for n in shape)
    if array is None:
        raise FileFormatError(f"'{path}' lacks the array '{name}'; it may be truncated or foreign")
    fits = array.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.float32 or not fits:
        raise FileFormatError(
            f"'{path}': array '{name}' should be float32 of shape {wanted}, found "
            f"{array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise FileFormatError(f"'{path}': array '{name}' holds a value that is not finite")
    return array


# --- the predictor published with Once-for-All ---------------------------------------------------

# Its inputs: one-hot kernel and expand ratio of 20 layers, then one-hot resolution (r - 112) / 16.
_OFA_LAYERS, _OFA_RESOLUTIONS = 20, 8


def _load_once_for_all(path: files.StrPath, space: SearchSpace | None) -> AccuracyModel:
    from .. import spaces

    torch = _require_torch("reading a predictor published as .pth")
    space = spaces.get("ofa-mbv3") if space is None else space
    network = space.network
    if not isinstance(network, MobileNetV3) or (
        network.kernels,
        network.expand_ratios,
        network.n_stages * network.max_depth,
    ) != ((3, 5, 7), (3, 4, 6), _OFA_LAYERS):
        raise UnsupportedSpaceError(
            f"the published predictor is for ofa-mbv3 and compofa-mbv3, not for '{space.name}'"
        )
    foreign = [
        r for r in space.resolutions if r % 16 or not 0 <= (r - 112) // 16 < _OFA_RESOLUTIONS
    ]
    if foreign:
        raise UnsupportedSpaceError(
            f"the published predictor knows resolutions 112, 128, ... 224; found {foreign[0]}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise FileFormatError(
            f"'{path}' is not a predictor that can be read without running code: {error}"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    arrays = [
        (name, value.detach().to(torch.float32).numpy())
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    ]
    matrices = [array for _, array in arrays if array.ndim == 2]
    vectors = [array for _, array in arrays if array.ndim == 1]
    n_inputs = 6 * _OFA_LAYERS + _OFA_RESOLUTIONS
    widths = [n_inputs] + [len(matrix) for matrix in matrices]
    if (
        len(matrices) != len(vectors)
        or widths[-1] != 1
        or any(m.shape != (o, i) for m, i, o in zip(matrices, widths, widths[1:], strict=False))
        or any(v.shape != (o,) for v, o in zip(vectors, widths[1:], strict=True))
    ):
        raise FileFormatError(
            f"'{path}' is not the predictor published with Once-for-All: expected layers from "
            f"{n_inputs} inputs to 1 output, found {[m.shape for m in matrices]}"
        )
    columns = matrices[0].T  # (128, 400)
    rows = []
    for slot in range(_OFA_LAYERS):
        for code in range(1, space.n_codes[slot]):
            kernel, expand = divmod(code - 1, 3)
            rows.append(columns[3 * slot + kernel] + columns[3 * (_OFA_LAYERS + slot) + expand])
    bias = vectors[0].copy()
    by_resolution = [columns[6 * _OFA_LAYERS + (r - 112) // 16] for r in space.resolutions]
    if space.resolution_slot is None:
        bias += by_resolution[0]
    else:
        rows.extend(by_resolution)
    first = np.stack(rows)[None]
    return AccuracyModel(
        space,
        np.zeros((1, first.shape[1]), dtype=np.float32),
        np.ascontiguousarray(first, dtype=np.float32),
        tuple(v[None].astype(np.float32) for v in [bias, *vectors[1:]]),
        tuple(np.ascontiguousarray(m.T)[None] for m in matrices[1:]),
        "identity",
        0.0,
        "published with Once-for-All; ranks well, is not calibrated",
    )


# --- fitting -------------------------------------------------------------------------------------


def fit(
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    seed: int = 0,
    members: int = 5,
    hidden: int = 32,
    epochs: int = 300,
    progress: ProgressCallback = ignore_progress,
) -> AccuracyModel:
    """Fit an accuracy model to measured architectures.

    Every member is fitted on all rows but its own fold: ridge regression on the codes, and a small
    network on what that leaves over. The number of epochs (none, where the network does not help)
    is the one that is best on the held-out folds together, so the held-out figures in ``report``
    rest on few choices only. The target is top-1, or its logit where that predicts held-out rows
    better: near 1 accuracy saturates.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        Distinct architectures are best; repeats weigh more.
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction.
    seed : int
        Splits and initial weights.
    members : int
        Folds, and members of the ensemble.
    hidden, epochs : int
        Width of the network and the most full-batch steps it may take.

    Returns
    -------
    AccuracyModel
        With ``report``: ``kendall``, ``spearman``, ``mean_error`` on held-out rows, ``rows``.

    Raises
    ------
    InvalidInputError
        For fewer than 20 rows, a constant accuracy, values outside [0, 1] (percent?), foreign rows.
    """
    space.validate(archs)
    target = np.asarray(top1, dtype=np.float64)
    _check_accuracies(target, len(archs))
    if not 2 <= members <= len(archs) // 2:
        raise InvalidInputError(
            f"members should be from 2 to half the number of rows, found {members}"
        )
    torch = _require_torch("fitting an accuracy model")
    features = one_hot(space, archs)
    fold = np.random.default_rng(seed).permutation(len(archs)) % members
    link, penalty = min(
        itertools.product(_LINKS, _PENALTIES),
        key=lambda choice: _held_out_error(features, target, fold, *choice),
    )
    linked = _to_link(target, link)
    mean, scale = float(linked.mean()), float(linked.std())
    normalised = (linked - mean) / scale
    ridges = [_ridge(features[fold != k], normalised[fold != k], penalty) for k in range(members)]
    linear = np.stack([solution[:-1] for solution in ridges])
    constant = np.array([solution[-1] for solution in ridges])
    residual = normalised[None] - (linear @ features.T + constant[:, None])
    network = _ResidualNetworks(torch, features.shape[1], hidden, members, seed)
    correction, state = network.fit(features, residual, fold, epochs, progress)
    linear_held_out = normalised - residual[fold, np.arange(len(archs))]
    held_out = _from_link(mean + scale * (linear_held_out + correction), link)
    error = held_out - target
    first, biases, weights = state
    return AccuracyModel(
        space,
        (scale * linear).astype(np.float32),
        first,
        (biases[0], (scale * biases[1] + (mean + scale * constant)[:, None]).astype(np.float32)),
        ((scale * weights).astype(np.float32),),
        link,
        float(np.sqrt(np.mean(error**2))),
        f"fitted on {len(archs)} measured architectures",
        {
            "rows": len(archs),
            "kendall": kendall(held_out, target),
            "spearman": spearman(held_out, target),
            "mean_error": float(np.abs(error).mean()),
            "link": link,
            "steps": network.best_step,
        },
    )


def _check_accuracies(target: FloatArray, n: int) -> None:
    if target.shape != (n,):
        raise InvalidInputError(
            f"top1 should have shape ({n},), one value per architecture, found {target.shape}"
        )
    bad = np.flatnonzero(~((target >= 0) & (target <= 1)))
    if len(bad):
        value = target[bad[0]]
        hint = "; divide percentages by 100" if 1 < value <= 100 else ""
        raise InvalidInputError(
            f"top1 of row {bad[0]} is {value}, which is not a fraction from 0 to 1{hint}"
        )
    if n < MINIMUM_ROWS:
        raise InvalidInputError(
            f"{n} measured architectures are too few to fit an accuracy model; measure at least "
            f"{MINIMUM_ROWS}, better a few hundred"
        )
    if np.ptp(target) == 0:
        raise InvalidInputError(
            f"all {n} architectures have the same top-1 ({target[0]}): there is nothing to learn; "
            "check that the supernet is trained and that its sub-networks are set"
        )


def _ridge(features: Float32Array, target: FloatArray, penalty: float) -> FloatArray:
    """Ridge regression; the last coefficient is the constant, which is not penalised."""
    x = features.astype(np.float64)
    centre, mean = x.mean(axis=0), float(target.mean())
    x -= centre
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty
    solution = np.linalg.solve(gram, x.T @ (target - mean))
    return np.append(solution, mean - float(centre @ solution))


def _held_out_error(
    features: Float32Array, top1: FloatArray, fold: npt.NDArray[Any], link: Link, penalty: float
) -> float:
    """Mean squared error of ridge regression on held-out rows, in units of top-1."""
    linked = _to_link(top1, link)
    target = (linked - linked.mean()) / linked.std()
    guess = np.empty_like(target)
    for k in range(int(fold.max()) + 1):
        inside = fold != k
        solution = _ridge(features[inside], target[inside], penalty)
        guess[~inside] = features[~inside] @ solution[:-1] + solution[-1]
    predicted = _from_link(linked.mean() + linked.std() * guess, link)
    return float(np.mean((predicted - top1) ** 2))


def _to_link(top1: FloatArray, link: Link) -> FloatArray:
    if link == "identity":
        return top1
    inside = top1.clip(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN)
    return np.asarray(np.log(inside / (1 - inside)))


def _from_link(values: npt.NDArray[Any], link: Link) -> npt.NDArray[Any]:
    # tanh saturates where exp would overflow.
    return values if link == "identity" else 0.5 * (1 + np.tanh(0.5 * values))


class _ResidualNetworks:
    """One small network per member, trained together as a batch of matrix products."""

    def __init__(self, torch: Any, n_features: int, hidden: int, members: int, seed: int) -> None:
        self.torch = torch
        generator = torch.Generator().manual_seed(seed)
        # He initialisation for inputs of which about n_slots of n_features are one.
        first = torch.randn(members, n_features, hidden, generator=generator) * 0.3
        bias = torch.zeros(members, 1, hidden)
        # The output starts at zero: before the first step the model is the ridge regression.
        last = torch.zeros(members, hidden, 1)
        last_bias = torch.zeros(members, 1, 1)
        self.parameters: list[torch.Tensor] = [
            p.requires_grad_() for p in (first, bias, last, last_bias)
        ]
        self.best_step = 0

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        first, bias, last, last_bias = self.parameters
        hidden = self.torch.relu(x @ first + bias)
        output: torch.Tensor = (hidden @ last + last_bias)[..., 0]
        return output

    def fit(
        self,
        features: Float32Array,
        residual: FloatArray,
        fold: npt.NDArray[Any],
        epochs: int,
        progress: ProgressCallback,
    ) -> tuple[FloatArray, tuple[Float32Array, tuple[Float32Array, Float32Array], Float32Array]]:
        """Train; return held-out corrections (n,) and the weights at the best step."""
        torch = self.torch
        x = torch.from_numpy(features)
        y = torch.from_numpy(residual.astype(np.float32))
        held_out = torch.from_numpy(np.arange(len(self.parameters[0]))[:, None] == fold[None])
        train = (~held_out).float()
        first, bias, last, last_bias = self.parameters
        optimiser = torch.optim.AdamW(
            [
                {"params": [first, last], "weight_decay": 3e-2},
                {"params": [bias, last_bias], "weight_decay": 0.0},
            ],
            lr=5e-3,
        )
        rows = torch.arange(len(features))
        owner = torch.from_numpy(fold)
        best_loss, best_state, best_correction = np.inf, None, np.zeros(len(features))
        for step in range(epochs + 1):
            output = self._forward(x)
            squared = (output - y) ** 2
            loss_held_out = float((squared.detach() * held_out).sum())
            if loss_held_out < best_loss:
                best_loss, self.best_step = loss_held_out, step
                best_state = [p.detach().clone() for p in self.parameters]
                best_correction = output.detach()[owner, rows].double().numpy()
            progress("fitting the accuracy model", step, epochs)
            if step == epochs:
                break
            optimiser.zero_grad()
            (squared * train).sum(dim=1).div(train.sum(dim=1)).sum().backward()
            optimiser.step()
        if best_state is None:
            raise InvalidInputError("the loss of the accuracy model is not a number")
        arrays = [p.numpy() for p in best_state]
        return best_correction, (arrays[0], (arrays[1][:, 0], arrays[3][:, 0]), arrays[2])


def kendall(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kendall's tau-b, with ties; 0 where one side is constant.

    Quadratic in time, linear in memory per block; 10,000 rows take about a second.

    Examples
    --------
    >>> kendall([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    0.333...
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    agree = pairs_x = pairs_y = 0.0
    for start in range(0, len(x), 256):
        rows = slice(start, start + 256)
        sign_x = np.sign(x[rows, None] - x[None])
        sign_y = np.sign(y[rows, None] - y[None])
        agree += float(np.sum(sign_x * sign_y))
        pairs_x += float(np.count_nonzero(sign_x))
        pairs_y += float(np.count_nonzero(sign_y))
    return agree / float(np.sqrt(pairs_x * pairs_y)) if pairs_x and pairs_y else 0.0


def _require_torch(purpose: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "train", purpose) from error
    return torch


# --- accuracy tables -----------------------------------------------------------------------------


def save_table(path: files.StrPath, space: SearchSpace, archs: Archs, top1: npt.ArrayLike) -> None:
    """Write measured accuracies as CSV: a column ``arch`` in the space's notation, and ``top1``."""
    values = np.asarray(top1, dtype=np.float64)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arch", "top1"])
    for arch, value in zip(space.to_strings(archs), values.tolist(), strict=True):
        writer.writerow([arch, repr(value)])
    files.write_text(path, text.getvalue())


def load_table(path: files.StrPath, space: SearchSpace) -> tuple[Archs, FloatArray]:
    """Read measured accuracies: architectures, shape (n, n_slots), and top-1, shape (n,).

    Raises
    ------
    FileFormatError
        If the columns ``arch`` and ``top1`` are missing, a row is short, or an architecture is
        foreign: the message names the row.
    """
    try:
        text = files.read_bytes(path).decode("utf-8")
        rows: Sequence[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"'{path}' is not a CSV file: {error}") from error
    if not rows or not {"arch", "top1"} <= set(rows[0]):
        raise FileFormatError(f"'{path}' should be a CSV file with columns 'arch' and 'top1'")
    values = []
    for i, row in enumerate(rows):
        values.append(_number(row["top1"], f"'{path}': top1 of row {i}"))
    try:
        archs = space.from_strings([str(row["arch"]) for row in rows])
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}': {error}") from error
    return archs, np.array(values)


def _number(text: object, what: str) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise FileFormatError(f"{what} should be a number, found {text!r}") from None
