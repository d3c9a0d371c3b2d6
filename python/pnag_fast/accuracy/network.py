"""Ensembles of small networks over the codes, and the predictor published with Once-for-All."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError, UnsupportedSpaceError
from ..optional_torch import load_tensors, require_torch
from ..spaces import Archs, MobileNetV3, SearchSpace
from ..spaces.space import require_space
from ..threads import in_pieces
from ..typing import Float32Array, FloatArray
from .codes import feature_offsets, one_hot
from .model import AccuracyModel, Tensors, tensor

Link = Literal["identity", "logit"]
LINKS: tuple[Link, ...] = ("identity", "logit")
# Measured accuracies of exactly 0 and 1 have no logit; a thousand images cannot tell these apart.
_LOGIT_MARGIN = 1e-3

# Rows per matrix product: large enough for BLAS, small enough that a layer stays in the cache.
_PREDICT_ROWS = 1024


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NetworkModel(AccuracyModel):
    """An ensemble; each member is a linear term over the codes plus a small ReLU network.

    The predictor published with Once-for-All is one member without linear term.

    Attributes
    ----------
    linear : ndarray of float32, shape (members, features)
        Linear term; features are the codes 1.. of all slots, one after another.
    first : ndarray of float32, shape (members, features, hidden)
        First layer of the network.
    biases, weights : tuples of ndarray of float32
        Bias of every layer, shape (members, width), and the weights of every layer after the
        first, shape (members, width_in, width_out).
    link : {"identity", "logit"}
        Whether the sum of all terms is top-1 itself or its logit, which saturates towards 1.
    """

    linear: Float32Array
    first: Float32Array
    biases: tuple[Float32Array, ...]
    weights: tuple[Float32Array, ...]
    link: Link = "identity"

    kind: ClassVar[str] = "network"

    @property
    def n_members(self) -> int:
        """Number of ensemble members."""
        return len(self.linear)

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        mean = np.empty(len(archs))
        variance = np.empty(len(archs)) if with_variance else None
        shifts = self._shifts()

        def work(rows: slice) -> None:
            features = one_hot(self.space, archs[rows])
            # Another thread does not know what the caller ignores.
            with np.errstate(over="ignore", invalid="ignore"):
                outputs = np.stack(
                    [self._forward(m, features, shifts)[0] for m in range(self.n_members)]
                ).astype(np.float64)
            mean[rows] = outputs.mean(axis=0)
            if variance is not None:
                variance[rows] = outputs.var(axis=0)

        in_pieces(work, len(archs), _PREDICT_ROWS)
        return mean, variance

    def _shifts(self) -> list[Float32Array]:
        """Return what `_forward` adds in each layer, shape (members, width).

        relu(x + b) = max(x, -b) + b: with the last b moved into the next layer's bias, a layer is
        one product and one pass over its values instead of two.
        """
        shifts = [self.biases[0]]
        for weight, bias in zip(self.weights, self.biases[1:], strict=True):
            shifts.append((shifts[-1][:, None] @ weight)[:, 0] + bias)
        return shifts

    def _forward(
        self, member: int, features: Float32Array, shifts: list[Float32Array]
    ) -> tuple[Float32Array, list[Float32Array]]:
        """Top-1 by one member, shape (n,), and each hidden layer's values less its shift."""
        values = features @ self.first[member]
        hidden = []
        for weight, shift in zip(self.weights, shifts, strict=False):
            np.maximum(values, -shift[member], out=values)
            hidden.append(values)
            values = values @ weight[member]
        output = values[:, 0] + shifts[-1][member, 0]
        if self.linear[member].any():
            output += features @ self.linear[member]
        return from_link(output, self.link), hidden

    def _slopes(
        self, archs: Archs, with_variance: bool
    ) -> tuple[Float32Array, Float32Array | None]:
        of_mean = np.zeros((len(archs), self.linear.shape[1]), dtype=np.float32)
        of_variance = np.zeros_like(of_mean) if with_variance else None
        shifts = self._shifts()
        for start in range(0, len(archs), _PREDICT_ROWS):
            rows = slice(start, start + _PREDICT_ROWS)
            features = one_hot(self.space, archs[rows])
            outputs, slopes = zip(
                *(self._member_slopes(m, features, shifts) for m in range(self.n_members)),
                strict=True,
            )
            of_mean[rows] = sum(slopes) / np.float32(self.n_members)
            if of_variance is not None:
                excess = np.stack(outputs) - np.mean(outputs, axis=0)
                for part, slope in zip(2 * excess / self.n_members, slopes, strict=True):
                    of_variance[rows] += part[:, None] * slope
        return of_mean, of_variance

    def _member_slopes(
        self, member: int, features: Float32Array, shifts: list[Float32Array]
    ) -> tuple[Float32Array, Float32Array]:
        """Top-1 by one member and its derivative, by going back through the ReLU network."""
        output, hidden = self._forward(member, features, shifts)
        slope = np.broadcast_to(self.weights[-1][member][:, 0], hidden[-1].shape)
        for layer in range(len(hidden) - 1, -1, -1):
            before = self.first if layer == 0 else self.weights[layer - 1]
            slope = (slope * (hidden[layer] > -shifts[layer][member])) @ before[member].T
        slope = slope + self.linear[member]
        if self.link == "logit":
            slope *= (output * (1 - output))[:, None]
        return output, slope

    # --- files -------------------------------------------------------------------------------

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors: dict[str, npt.NDArray[Any]] = {
            f"{prefix}linear": self.linear,
            f"{prefix}first": self.first,
        }
        for i, bias in enumerate(self.biases):
            tensors[f"{prefix}bias{i}"] = bias
        for i, weight in enumerate(self.weights):
            tensors[f"{prefix}weight{i}"] = weight
        return tensors, {"layers": len(self.weights), "link": self.link}

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> NetworkModel:
        layers = files.require(body, "layers", int, path)
        n_features = int(feature_offsets(common["space"])[-1])
        if not 1 <= layers <= 64:
            raise FileFormatError(f"'{path}': an accuracy model has 1 to 64 layers, found {layers}")
        linear = tensor(tensors, f"{prefix}linear", (None, n_features), path)
        members = len(linear)
        first = tensor(tensors, f"{prefix}first", (members, n_features, None), path)
        width = first.shape[2]
        biases = [tensor(tensors, f"{prefix}bias0", (members, width), path)]
        weights = []
        for i in range(layers):
            weight = tensor(tensors, f"{prefix}weight{i}", (members, width, None), path)
            width = weight.shape[2]
            weights.append(weight)
            biases.append(tensor(tensors, f"{prefix}bias{i + 1}", (members, width), path))
        link = files.require(body, "link", str, path)
        allowed = LINKS if common["objective"].is_fraction else LINKS[:1]
        if link not in allowed:
            raise FileFormatError(f"'{path}': unknown link {link!r} of an accuracy model")
        if members < 1 or width != 1:
            raise FileFormatError(f"'{path}': an accuracy model ends in one value, found {width}")
        return cls(
            linear=linear,
            first=first,
            biases=tuple(biases),
            weights=tuple(weights),
            link=link,
            **common,
        )


def to_link(top1: FloatArray, link: Link) -> FloatArray:
    """Map top-1 to what the terms of a member add up to."""
    if link == "identity":
        return top1
    inside = top1.clip(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN)
    return np.asarray(np.log(inside / (1 - inside)))


def from_link(values: npt.NDArray[Any], link: Link) -> npt.NDArray[Any]:
    """Map the sum of the terms of a member to top-1."""
    # tanh saturates where exp would overflow.
    return values if link == "identity" else 0.5 * (1 + np.tanh(0.5 * values))


# --- the predictor published with Once-for-All ---------------------------------------------------

# Its inputs: one-hot kernel and expand ratio of 20 layers, then one-hot resolution (r - 112) / 16.
_OFA_LAYERS, _OFA_RESOLUTIONS = 20, 8


def load_once_for_all(path: files.StrPath, space: SearchSpace | None) -> NetworkModel:
    """Read the predictor published with Once-for-All as a model over the codes of `space`."""
    from .. import spaces

    torch = require_torch("reading a predictor published as .pth")
    space = spaces.get("ofa-mbv3") if space is None else space
    require_space(space)
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
    state = load_tensors(path)
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    state = state if isinstance(state, dict) else {}
    tensors = [value.detach() for value in state.values() if isinstance(value, torch.Tensor)]
    if not all(t.layout == torch.strided and t.is_floating_point() for t in tensors if t.ndim):
        raise FileFormatError(f"'{path}' holds tensors that are no plain arrays of numbers")
    arrays = [t.to(torch.float32).numpy() for t in tensors if t.ndim]
    if not all(np.isfinite(array).all() for array in arrays):
        raise FileFormatError(f"'{path}' holds weights that are not finite; it is damaged")
    matrices = [array for array in arrays if array.ndim == 2]
    vectors = [array for array in arrays if array.ndim == 1]
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
    return NetworkModel(
        space=space,
        source="published with Once-for-All; ranks well, is not calibrated",
        linear=np.zeros((1, first.shape[1]), dtype=np.float32),
        first=np.ascontiguousarray(first, dtype=np.float32),
        biases=tuple(v[None].astype(np.float32) for v in [bias, *vectors[1:]]),
        weights=tuple(np.ascontiguousarray(m.T)[None] for m in matrices[1:]),
    )
