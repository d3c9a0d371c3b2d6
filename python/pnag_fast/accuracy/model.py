"""What every accuracy model is: top-1 of a batch, its uncertainty, its slope, and its file."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError, InvalidInputError
from ..spaces import Archs, SearchSpace, from_definition

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]
Model = TypeVar("Model", bound="AccuracyModel")

MODEL_FORMAT = "pnag-accuracy-model"
# 2 names the kind of model, and how cautious it is.
MODEL_VERSION = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class AccuracyModel(abc.ABC):
    """Maps a batch of architectures to top-1, with its uncertainty where it has one.

    A model of your own is a subclass that defines `_moments`, and `_slopes` where it has them.

    Attributes
    ----------
    space : SearchSpace
    source : str
        Where the numbers come from. A front is only as true as its accuracy model.
    noise : float
        Standard deviation of the error on held-out rows, as a fraction; 0 where it is unknown, or
        where the model is exact.
    report : dict
        What was seen on held-out rows, such as ``kendall``, ``spearman``, ``mean_error``, ``rows``.
    caution : float
        `predict` returns the mean less this many standard deviations; see `cautious`.
    distance : ndarray of float32, shape (features + 1, features), optional
        How the standard deviation grows away from the measured rows: by ``|(x, 1) @ distance|`` for
        the codes x; see `distance_term`.
    """

    space: SearchSpace
    source: str
    noise: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)
    caution: float = 0.0
    distance: Float32Array | None = None

    # Name of the kind in files; a model of the user's own has none and cannot be saved.
    kind: ClassVar[str] = ""

    @overload
    def predict(self, archs: Archs, *, return_std: Literal[False] = False) -> FloatArray: ...
    @overload
    def predict(
        self, archs: Archs, *, return_std: Literal[True]
    ) -> tuple[FloatArray, FloatArray]: ...
    def predict(
        self, archs: Archs, *, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Top-1 of each row, or its lower bound where the model is cautious.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
            Architectures of the model's space.
        return_std : bool
            Also return the standard deviation: disagreement of the members, the error seen on
            held-out rows, and the distance from the measured rows, as variances together.

        Returns
        -------
        top1 : ndarray of float64, shape (n,), in [0, 1]
        std : ndarray of float64, shape (n,)
            Only with `return_std`.
        """
        self.space.validate(archs)
        # Weights of a damaged file may be huge; that is found out below.
        with np.errstate(over="ignore", invalid="ignore"):
            top1, std = self._moments(archs, return_std or self.caution > 0)
            if std is not None:
                std = np.sqrt(std + self._unexplained(archs))
        if not (np.isfinite(top1).all() and (std is None or np.isfinite(std).all())):
            raise InvalidInputError(
                "the accuracy model predicts values that are not finite; its weights are damaged, "
                "fit or load it again"
            )
        if self.caution > 0 and std is not None:
            top1 = top1 - self.caution * std
        top1 = top1.clip(0.0, 1.0)
        return (top1, std) if return_std and std is not None else top1

    def sensitivity(self, archs: Archs) -> Float32Array | None:
        """First-order effect on the predicted top-1 of choosing each code.

        Returns
        -------
        ndarray of float32, shape (n, n_features), or None
            Derivative of what `predict` returns (before it is cut to [0, 1]) with respect to every
            column of `one_hot`, at each row. None where a model has no derivative: tables.
        """
        self.space.validate(archs)
        slopes = self._slopes(archs, self.caution > 0)
        if slopes is None:
            return None
        slope, of_variance = slopes
        if self.caution > 0 and of_variance is not None:
            std = self.predict(archs, return_std=True)[1]
            if self.distance is not None:
                far = one_hot(self.space, archs) @ self.distance[:-1] + self.distance[-1]
                of_variance += 2 * far @ self.distance[:-1].T
            # d sqrt(v) = dv / (2 sqrt(v)); where the std is 0, the variance has its least value.
            half = self.caution / (2 * np.where(std > 0, std, np.inf))
            slope = slope - half[:, None].astype(np.float32) * of_variance
        return slope

    def _unexplained(self, archs: Archs) -> FloatArray:
        """Variance beyond that of the members: held-out error and distance, shape (n,)."""
        return self.noise**2 + self._far_squared(archs)

    def _far_squared(self, archs: Archs) -> FloatArray:
        """Squared distance from the measured rows, shape (n,)."""
        squared = np.zeros(len(archs))
        if self.distance is not None:
            for start in range(0, len(archs), 8192):
                rows = slice(start, start + 8192)
                far = one_hot(self.space, archs[rows]) @ self.distance[:-1] + self.distance[-1]
                squared[rows] = np.einsum("ij,ij->i", far, far)
        return squared

    def cautious(self: Model, caution: float = 1.0) -> Model:
        """Return the same model predicting a lower confidence bound: mean - `caution` x std.

        A search then gains nothing from architectures of which the model knows little. The bound
        is one-sided: it says what a network should at least reach, not what it will, and `source`
        says so.
        """
        if not (math.isfinite(caution) and caution >= 0):
            raise InvalidInputError(f"caution should be 0 or a positive number, found {caution}")
        source = self.source.removesuffix(_bound(self.caution)) + _bound(caution)
        return dataclasses.replace(self, caution=float(caution), source=source)

    def for_space(self: Model, space: SearchSpace) -> Model:
        """Return the same model for another space over the same slots and network."""
        if space == self.space:
            return self
        if space.fingerprint != self.space.fingerprint:
            raise InvalidInputError(
                f"this accuracy model is for space '{self.space.name}' "
                f"({self.space.fingerprint}), not for '{space.name}' ({space.fingerprint})"
            )
        return dataclasses.replace(self, space=space)

    # --- files -------------------------------------------------------------------------------

    def to_tensors(self, prefix: str = "") -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays (named with `prefix`) and JSON values; `from_tensors` reads them back."""
        tensors, body = self._content(prefix)
        if self.distance is not None:
            tensors[f"{prefix}distance"] = self.distance
        return tensors, {
            "kind": self.kind,
            "space": self.space.definition,
            "source": self.source,
            "noise": self.noise,
            "report": dict(self.report),
            "caution": self.caution,
            **body,
        }

    @staticmethod
    def from_tensors(
        tensors: Tensors, body: Mapping[str, Any], path: files.StrPath, prefix: str = ""
    ) -> AccuracyModel:
        """Read what `to_tensors` returned, checking every name, shape and value."""
        # Version 1 knew one kind, and no caution.
        kind = files.require({"kind": "network", **body}, "kind", str, path)
        kinds = {model.kind: model for model in AccuracyModel.__subclasses__() if model.kind}
        if kind not in kinds:
            raise FileFormatError(
                f"'{path}': unknown kind {kind!r} of an accuracy model; known are {sorted(kinds)}"
            )
        space = from_definition(files.require(body, "space", dict, path), f"'{path}'")
        noise = _non_negative(body, "noise", path)
        caution = _non_negative({"caution": 0.0, **body}, "caution", path)
        size = int(feature_offsets(space)[-1])
        distance = None
        if f"{prefix}distance" in tensors:
            distance = tensor(tensors, f"{prefix}distance", (size + 1, size), path)
        return kinds[kind]._read(
            tensors,
            body,
            path,
            prefix,
            {
                "space": space,
                "source": files.require(body, "source", str, path),
                "noise": noise,
                "report": files.require(body, "report", dict, path),
                "caution": caution,
                "distance": distance,
            },
        )

    def save(self, path: files.StrPath) -> None:
        """Write the model as safetensors with a JSON header, atomically."""
        tensors, body = self.to_tensors()
        files.write_safetensors(path, MODEL_FORMAT, MODEL_VERSION, tensors, body)

    # --- what a kind of model defines --------------------------------------------------------

    @abc.abstractmethod
    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        """Return top-1 of valid rows, and the variance of the members if asked for."""

    def _slopes(
        self, archs: Archs, with_variance: bool
    ) -> tuple[Float32Array, Float32Array | None] | None:
        """Return the derivatives of both moments, each (n, n_features); None if there are none."""
        del archs, with_variance
        return None

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values beyond those of every model."""
        del prefix
        raise InvalidInputError(f"a {type(self).__name__} cannot be saved")

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> AccuracyModel:
        """Read what `_content` returned; `common` are the fields of every model."""
        del tensors, body, path, prefix, common
        raise NotImplementedError


def _bound(caution: float) -> str:
    return f"; lower bound, mean - {caution:g} std" if caution else ""


def feature_offsets(space: SearchSpace) -> npt.NDArray[np.intp]:
    """Column of code 1 of every slot in `one_hot`, and the number of columns at the end."""
    return np.concatenate([[0], np.cumsum(np.array(space.n_codes) - 1)])


def one_hot(space: SearchSpace, archs: Archs) -> Float32Array:
    """Encode rows as one column per slot and code (0, absent, has none).

    Returns
    -------
    ndarray of float32, shape (n, sum of choices)
    """
    choices = np.array(space.n_codes) - 1
    slots = np.repeat(np.arange(space.n_slots), choices)
    codes = np.arange(1, len(slots) + 1) - feature_offsets(space)[slots]
    # Comparing all columns is several times faster than writing ones where they belong.
    return np.equal(archs[:, slots], codes.astype(np.uint8)).astype(np.float32)


def distance_term(
    features: Float32Array,
    top1: FloatArray,
    noise: float,
    penalty: float,
    predict_without: Callable[[npt.NDArray[np.bool_]], FloatArray],
) -> Float32Array:
    """Learn how errors grow with the distance from the measured rows.

    The distance is the leverage of ridge regression, ``x' (X'X + penalty)^-1 x`` of centred x: the
    share of the noise that goes through the fit into x. Random held-out rows lie among measured
    ones and say nothing of rows far away, so its weight is what explains the errors on held-out
    *ranges* of top-1.

    Parameters
    ----------
    predict_without : callable
        Predictions of all rows by a fit to the rows of a mask.

    Returns
    -------
    ndarray of float32, shape (features + 1, features)
        See `AccuracyModel.distance`.
    """
    fold = np.empty(len(top1), dtype=np.intp)
    fold[np.argsort(top1, kind="stable")] = np.arange(len(top1)) * 5 // len(top1)
    squared = leverage = 0.0
    for k in range(5):
        root = _leverage_root(features[fold != k], penalty)
        far = features[fold == k] @ root[:-1] + root[-1]
        leverage += float(np.sum(far**2))
        error = predict_without(fold != k)[fold == k] - top1[fold == k]
        squared += float(np.sum(error**2 - noise**2))
    weight = np.sqrt(max(squared, 0.0) / leverage) if leverage > 0 else 0.0
    return (weight * _leverage_root(features, penalty)).astype(np.float32)


def _leverage_root(features: Float32Array, penalty: float) -> FloatArray:
    """Matrix R with ``|(x, 1) @ R|^2`` the leverage of x."""
    x = features.astype(np.float64)
    centre = x.mean(axis=0)
    x -= centre
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty
    root = np.linalg.inv(np.linalg.cholesky(gram)).T
    return np.vstack([root, -centre @ root])


def tensor(
    tensors: Tensors, name: str, shape: tuple[int | None, ...], path: files.StrPath
) -> Float32Array:
    """Return an array of a file, checked to be finite float32 of this shape (None: any size)."""
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


def _non_negative(body: Mapping[str, Any], name: str, path: files.StrPath) -> float:
    value = float(files.require(body, name, (int, float), path))
    if not (math.isfinite(value) and value >= 0):
        raise FileFormatError(f"'{path}': '{name}' should be 0 or positive, found {value}")
    return value
