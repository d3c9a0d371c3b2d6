"""What every accuracy model is: a quality of a batch, its uncertainty, its slope, and its file."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError
from ..objective import TOP1, Objective
from ..spaces import Archs, SearchSpace, from_definition, hull
from ..spaces.space import require_space
from ..threads import one_thread
from ..typing import BoolArray, Float32Array, FloatArray
from .codes import code_offsets, codes_reached, describe_code, feature_offsets, one_hot
from .distance import Reach

Tensors = Mapping[str, npt.NDArray[Any]]
Model = TypeVar("Model", bound="AccuracyModel")

MODEL_FORMAT = "pnag-accuracy-model"
# 2 names the kind of model, and how cautious it is.
MODEL_VERSION = 2


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AccuracyModel(abc.ABC):
    """Maps a batch of architectures to its objective, with its uncertainty where it has one.

    A model of your own is a subclass that defines `_moments`, and `_slopes` where it has them.

    What a code (a choice of a slot, or its absence) adds is known only if some measured network had
    it. Networks with other codes are refused by name, as are spaces that reach them: whatever
    searches such a space would be led there by numbers that mean nothing. Other combinations of
    known codes are predicted, with a standard deviation that grows beyond what was measured.

    Attributes
    ----------
    space : SearchSpace
    source : str
        Where the numbers come from. A front is only as true as its accuracy model.
    noise : float
        Standard deviation of the error on held-out rows, in the unit of the objective; 0 where it
        is unknown, or where the model is exact.
    report : dict
        What was seen on held-out rows, such as ``kendall``, ``spearman``, ``mean_error``, ``rows``;
        ``warnings``, a list of what makes the model worthless, each with its remedy.
    caution : float
        `predict` returns the mean made worse by this many standard deviations; see `cautious`.
    distance : ndarray of float32, shape (features + 1, features), optional
        How the standard deviation grows away from the measured rows: by ``|(x, 1) @ distance|`` for
        the codes x; see `distance_term`.
    reach : Reach, optional
        How it grows beyond the range of the measured rows.
    seen : ndarray of bool, shape (number of all codes,), optional
        Codes that the measured rows have, those of the first slot first, each with code 0; None
        where nothing is known of the data, which counts as all.
    objective : Objective
        What is predicted, in its unit and direction: top-1, unless it was fitted to another.
    """

    space: SearchSpace
    source: str
    noise: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)
    caution: float = 0.0
    distance: Float32Array | None = None
    reach: Reach | None = None
    seen: BoolArray | None = None
    objective: Objective = TOP1

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
        """Value of the objective of each row, or its bound where the model is cautious.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
            Architectures of the model's space.
        return_std : bool
            Also return the standard deviation: disagreement of the members, the error seen on
            held-out rows, and the distance from the measured rows, as variances together.

        Returns
        -------
        top1 : ndarray of float64, shape (n,)
            Within the limits of the objective: for top-1 from 0 to 1.
        std : ndarray of float64, shape (n,)
            Only with `return_std`.

        Raises
        ------
        InvalidInputError
            For rows that are no architectures of the space, or have a code that none of the
            networks had that the model was fitted on.
        """
        self._check(archs)
        # Weights of a damaged file may be huge; that is found out below.
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            top1, std = self._moments(archs, return_std or self.caution > 0)
            if std is not None:
                std = np.sqrt(std + self._unexplained(archs))
        if not (np.isfinite(top1).all() and (std is None or np.isfinite(std).all())):
            raise InvalidInputError(_DAMAGED)
        if self.caution > 0 and std is not None:
            top1 = top1 - self.objective.merit(self.caution * std)
        top1 = self.objective.clip(top1)
        return (top1, std) if return_std and std is not None else top1

    def sensitivity(self, archs: Archs) -> Float32Array | None:
        """First-order effect on the prediction of choosing each code.

        Returns
        -------
        ndarray of float32, shape (n, n_features), or None
            Derivative of what `predict` returns (before it is cut) with respect to every column of
            `one_hot`, at each row. None where a model has no derivative: tables.
        """
        self._check(archs)
        # Weights of a damaged file may be huge, as in `predict`.
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            slopes = self._slopes(archs, self.caution > 0)
            if slopes is None:
                return None
            slope, of_variance = slopes
            if self.caution > 0 and of_variance is not None:
                std = self.predict(archs, return_std=True)[1]
                if self.distance is not None:
                    far = one_hot(self.space, archs) @ self.distance[:-1] + self.distance[-1]
                    of_variance = of_variance + 2 * far @ self.distance[:-1].T
                if self.reach is not None:
                    of_variance = of_variance + self.reach.slopes(one_hot(self.space, archs))
                # d sqrt(v) = dv / (2 sqrt(v)); where std is 0, the variance has its least value.
                half = self.caution / (2 * np.where(std > 0, std, np.inf))
                half = self.objective.merit(half)
                slope = slope - half[:, None].astype(np.float32) * of_variance
        if not np.isfinite(slope).all():
            raise InvalidInputError(_DAMAGED)
        return slope

    def _check(self, archs: Archs) -> None:
        """Refuse rows that the model knows nothing of."""
        self.space.validate(archs)
        if self._open_codes is None or self.seen is None:
            return
        known = self.seen[code_offsets(self.space)[:-1] + archs]
        if not known.all():
            row, slot = np.argwhere(~known)[0].tolist()
            code = hull.describe_code(self.space, slot, int(archs[row, slot]))
            raise InvalidInputError(f"row {row} has {code}, which {self._unknown}")

    def knows(self, archs: Archs) -> BoolArray:
        """Say of which rows the model knows every code: `predict` takes those; shape (n,)."""
        self.space.validate(archs)
        if self._open_codes is None or self.seen is None:
            return np.ones(len(archs), dtype=np.bool_)
        known: BoolArray = self.seen[code_offsets(self.space)[:-1] + archs].all(axis=1)
        return known

    @cached_property
    def _open_codes(self) -> BoolArray | None:
        """Codes of the model's own space that no measured row has; None where there are none."""
        if self.seen is None:
            return None
        unseen = codes_reached(self.space) & ~self.seen
        return unseen if unseen.any() else None

    @property
    def _unknown(self) -> str:
        return (
            f"no network had that this accuracy model knows ({self.source}): nobody knows what it "
            "adds; measure networks with it, those of pf.accuracy.covering(space, archs), and fit "
            "again"
        )

    def require_determined(self, space: SearchSpace) -> None:
        """Refuse a space that reaches codes of which the model knows nothing.

        Raises
        ------
        InvalidInputError
            Names the first such code.
        """
        if self.seen is None:
            return
        unseen = np.flatnonzero(codes_reached(space) & ~self.seen)
        if len(unseen):
            raise InvalidInputError(
                f"space '{space.name}' reaches {describe_code(space, int(unseen[0]))}, which "
                f"{self._unknown}, or search a space without it ({len(unseen)} of "
                f"{np.count_nonzero(codes_reached(space))} codes are unknown)"
            )

    def _unexplained(self, archs: Archs) -> FloatArray:
        """Variance beyond that of the members: held-out error and distance, shape (n,)."""
        return self.noise**2 + self._far_squared(archs)

    def _far_squared(self, archs: Archs) -> FloatArray:
        """Squared distance from the measured rows, shape (n,)."""
        squared = np.zeros(len(archs))
        if self.distance is None and self.reach is None:
            return squared
        for rows in _blocks(len(archs)):
            features = one_hot(self.space, archs[rows])
            if self.distance is not None:
                far = features @ self.distance[:-1] + self.distance[-1]
                squared[rows] = np.einsum("ij,ij->i", far, far)
            if self.reach is not None:
                squared[rows] += self.reach.squared(features)
        return squared

    def cautious(self: Model, caution: float = 1.0) -> Model:
        """Return the same model predicting a confidence bound: mean - `caution` x std.

        Where smaller is better, mean + `caution` x std. A search then gains nothing from
        architectures of which the model knows little. The bound is one-sided: it says what a
        network should at least reach, not what it will, and `source` says so.
        """
        caution = arguments.number(caution, "caution", 0)
        source = self.source.removesuffix(self._bound(self.caution)) + self._bound(caution)
        return dataclasses.replace(self, caution=caution, source=source)

    def _bound(self, caution: float) -> str:
        if not caution:
            return ""
        side, sign = ("lower", "-") if self.objective.direction == "max" else ("upper", "+")
        return f"; {side} bound, mean {sign} {caution:g} std"

    def for_space(self: Model, space: SearchSpace) -> Model:
        """Return the same model for all of a space over the same slots and network.

        Raises
        ------
        InvalidInputError
            If the slots or the network differ, or the space reaches codes that no measured network
            had; see `require_determined`.
        """
        model = self.over(space)
        model.require_determined(space)
        return model

    def over(self: Model, space: SearchSpace) -> Model:
        """Return the same model for rows of a space over the same slots and network.

        Whoever searches a space wants `for_space`: here rows with codes that the model does not
        know are refused only when they are asked for.
        """
        require_space(space)
        if space == self.space:
            return self
        if space.fingerprint != self.space.fingerprint:
            raise InvalidInputError(
                f"this accuracy model is for space '{self.space.name}' "
                f"({self.space.fingerprint}), not for '{space.name}' ({space.fingerprint})"
            )
        return dataclasses.replace(self, space=space)

    def identity(self) -> Any:
        """Return what predictions depend on, JSON values; a model of the user's own has a name."""
        if not self.kind:
            return [f"{type(self).__module__}.{type(self).__qualname__}", self.source]
        tensors, body = self.to_tensors()
        weights = hashlib.sha256()
        for name, array in sorted(tensors.items()):
            weights.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return [weights.hexdigest(), body]

    def __repr__(self) -> str:
        facts = [
            f"{name.replace('_', ' ')} {self.report[name]:.4g}"
            for name in ("rows", "kendall", "mean_error")
            if isinstance(self.report.get(name), (int, float))
        ]
        warnings = self.report.get("warnings") or ()
        if warnings:
            facts.append(f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}")
        name = "" if self.objective == TOP1 else f", {self.objective.title}"
        lines = [f"<{type(self).__name__} of space '{self.space.name}'{name}", self.source, *facts]
        return one_line("; ".join(lines)) + ">"

    def __getstate__(self) -> dict[str, Any]:
        # What is derived is derived again.
        names = {field.name for field in dataclasses.fields(self)}
        return {name: value for name, value in self.__dict__.items() if name in names}

    # --- files -------------------------------------------------------------------------------

    def to_tensors(self, prefix: str = "") -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays (named with `prefix`) and JSON values; `from_tensors` reads them back."""
        tensors, body = self._content(prefix)
        if self.distance is not None:
            tensors[f"{prefix}distance"] = self.distance
        if self.reach is not None:
            tensors |= {f"{prefix}reach.{n}": array for n, array in self.reach.arrays.items()}
        if self.seen is not None:
            tensors[f"{prefix}seen"] = self.seen.astype(np.uint8)
        return tensors, {
            "kind": self.kind,
            "space": self.space.definition,
            "source": self.source,
            "noise": self.noise,
            "report": dict(self.report),
            "caution": self.caution,
            **({} if self.objective == TOP1 else {"objective": self.objective.to_json()}),
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
        found = files.require({"objective": TOP1.to_json(), **body}, "objective", dict, path)
        objective = Objective.from_json(found, path)
        # An error is at most as large as the objective's range.
        noise = _non_negative(body, "noise", path, objective.high - objective.low)
        caution = _non_negative({"caution": 0.0, **body}, "caution", path, math.inf)
        size = int(feature_offsets(space)[-1])
        # Files of older versions have none of these.
        distance = reach = seen = None
        if f"{prefix}distance" in tensors:
            distance = tensor(tensors, f"{prefix}distance", (size + 1, size), path)
        if f"{prefix}reach.directions" in tensors:
            arrays = {
                name: tensor(tensors, f"{prefix}reach.{name}", (None,) * (1 + (i == 0)), path)
                for i, name in enumerate(Reach.names)
            }
            reach = Reach.of_arrays(arrays, size, path)
        if f"{prefix}seen" in tensors:
            seen = _seen_of_file(tensors[f"{prefix}seen"], space, path)
        return kinds[kind]._read(
            tensors,
            body,
            path,
            prefix,
            {
                "space": space,
                "source": files.require(body, "source", str, path),
                "noise": noise,
                "report": checked_report(files.require(body, "report", dict, path), path),
                "caution": caution,
                "distance": distance,
                "reach": reach,
                "seen": seen,
                "objective": objective,
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


_DAMAGED = (
    "the accuracy model predicts values that are not finite; its weights are damaged, fit or load "
    "it again"
)


def _blocks(n: int) -> Iterator[slice]:
    """Rows small enough that a batch's features stay in the cache."""
    return (slice(start, start + 8192) for start in range(0, n, 8192))


def one_line(text: str) -> str:
    """Shorten a text to one line that a terminal shows as it is."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.shorten(plain, 400, placeholder=" ...")


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


def _seen_of_file(array: npt.NDArray[Any], space: SearchSpace, path: files.StrPath) -> BoolArray:
    size = int(code_offsets(space)[-1])
    if array.dtype != np.uint8 or array.shape != (size,) or array.max(initial=0) > 1:
        raise FileFormatError(
            f"'{path}': array 'seen' should be uint8 of shape ({size},) with values 0 and 1, found "
            f"{array.dtype} of shape {array.shape}"
        )
    return array.astype(np.bool_)


# Numbers that others print or compare.
_FIGURES = (
    "rows",
    "measurements",
    "repeats",
    "measurement_noise",
    "kendall",
    "spearman",
    "mean_error",
    "bias",
    "steps",
    "trees",
)


def checked_report(report: Mapping[str, Any], path: files.StrPath) -> dict[str, Any]:
    """Check that a report of a file holds what those who print it rely on."""
    _finite(report, path)
    for figures in (report, report.get("before", {})):
        if not isinstance(figures, dict):
            raise FileFormatError(f"'{path}': 'before' in a report should be an object")
        for name in _FIGURES:
            value = figures.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise FileFormatError(
                    f"'{path}': '{name}' in a report should be a number, found "
                    f"{arguments.shown(value)}"
                )
    warnings = report.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        raise FileFormatError(f"'{path}': 'warnings' in a report should be a list of texts")
    return dict(report)


def _finite(report: Mapping[str, Any], path: files.StrPath) -> None:
    left: list[Any] = [report]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, (int, float)) and not -1e300 < value < 1e300:
            raise FileFormatError(
                f"'{path}': a report holds a number that is not finite, or too large"
            )


def _non_negative(body: Mapping[str, Any], name: str, path: files.StrPath, most: float) -> float:
    value = files.require(body, name, (int, float), path)
    try:
        return arguments.number(value, f"'{path}': '{name}'", 0, most)
    except InvalidInputError as error:
        raise FileFormatError(str(error)) from None
