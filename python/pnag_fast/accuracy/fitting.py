"""Fitting an accuracy model to measured architectures; needs torch, for cells scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError, MissingDependencyError
from ..optional_torch import require_torch
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from .model import AccuracyModel, Float32Array, FloatArray, distance_term, one_hot
from .network import LINKS, Link, NetworkModel, from_link, to_link
from .table import TableModel, cell_index, check_measured, n_cells
from .validation import agreement, kendall

if TYPE_CHECKING:
    import torch

# Below this a held-out fold holds a handful of rows and says nothing.
MINIMUM_ROWS = 20

# Ridge penalties to choose from, for a target of unit variance.
_PENALTIES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

# Trees of an ensemble over cells.
_TREES = 100


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

    Cells (``nasbench201``) are not sums of their codes: an edge may be dead, and what it adds
    depends on its paths. There an ensemble of trees learns from `SearchSpace.features`, and the
    model is a table of all cells: measured ones keep what was measured, the others are predicted.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        Distinct architectures are best; repeats weigh more.
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction.
    seed : int
        Splits and initial weights, or the trees.
    members : int
        Folds, and members of the ensemble.
    hidden, epochs : int
        Width of the network and the most full-batch steps it may take; not used for cells.

    Returns
    -------
    AccuracyModel
        A `NetworkModel`, for cells a `TableModel`.
        With ``report``: ``kendall``, ``spearman``, ``mean_error`` on held-out rows, ``rows``.

    Raises
    ------
    InvalidInputError
        For fewer than 20 rows, a constant accuracy, values outside [0, 1] (percent?), foreign rows.
    """
    target = check_measured(space, archs, top1)
    check_rows(target, members)
    if space.features is not None:
        return _fit_cells(space, space.features, archs, target, seed, members, progress)
    torch = require_torch("fitting an accuracy model")
    features = one_hot(space, archs)
    fold = np.random.default_rng(seed).permutation(len(archs)) % members
    link, penalty = min(
        itertools.product(LINKS, _PENALTIES),
        key=lambda choice: _held_out_error(features, target, fold, *choice),
    )
    linked = to_link(target, link)
    mean, scale = float(linked.mean()), float(linked.std())
    normalised = (linked - mean) / scale
    ridges = [_ridge(features[fold != k], normalised[fold != k], penalty) for k in range(members)]
    linear = np.stack([solution[:-1] for solution in ridges])
    constant = np.array([solution[-1] for solution in ridges])
    residual = normalised[None] - (linear @ features.T + constant[:, None])
    network = _ResidualNetworks(torch, features.shape[1], hidden, members, seed)
    correction, state = network.fit(features, residual, fold, epochs, progress)
    linear_held_out = normalised - residual[fold, np.arange(len(archs))]
    held_out = from_link(mean + scale * (linear_held_out + correction), link)
    error = held_out - target
    first, biases, weights = state
    noise = float(np.sqrt(np.mean(error**2)))

    def predict_without(inside: npt.NDArray[np.bool_]) -> FloatArray:
        solution = _ridge(features[inside], normalised[inside], penalty)
        guess = features @ solution[:-1] + solution[-1]
        return np.asarray(from_link(mean + scale * guess, link))

    return NetworkModel(
        space=space,
        source=f"fitted on {len(archs)} measured architectures",
        noise=noise,
        report={
            "rows": len(archs),
            **agreement(held_out, target),
            "link": link,
            "steps": network.best_step,
        },
        distance=distance_term(features, target, noise, penalty, predict_without),
        linear=(scale * linear).astype(np.float32),
        first=first,
        biases=(
            biases[0],
            (scale * biases[1] + (mean + scale * constant)[:, None]).astype(np.float32),
        ),
        weights=((scale * weights).astype(np.float32),),
        link=link,
    )


def _fit_cells(
    space: SearchSpace,
    features_of: Callable[[Archs], Float32Array],
    archs: Archs,
    top1: FloatArray,
    seed: int,
    folds: int,
    progress: ProgressCallback,
) -> TableModel:
    """Tabulate extremely randomised trees (Geurts et al., 2006) over every cell of a small space.

    A measured cell is exact, as in any table. The std of the others is the disagreement of the
    trees, scaled to the errors on held-out rows: poor cells vary tens of points, good ones less.
    """
    every = space.enumerate()
    known, all_features = features_of(archs), features_of(every)
    fold = np.random.default_rng(seed).permutation(len(archs)) % folds
    steps = folds * len(LINKS) + 1
    held_out: dict[Link, tuple[FloatArray, FloatArray]] = {}
    for link in LINKS:
        guess, apart = np.empty(len(archs)), np.empty(len(archs))
        for k in range(folds):
            progress("fitting the accuracy model", len(held_out) * folds + k, steps)
            out = fold == k
            guess[out], apart[out] = _trees(known[~out], top1[~out], known[out], link, seed)
        held_out[link] = guess, apart
    link = max(LINKS, key=lambda choice: kendall(held_out[choice][0], top1))
    guess, apart = held_out[link]
    noise = float(np.sqrt(np.mean((guess - top1) ** 2)))
    # Trees may agree and be wrong.
    least = 0.1 * noise
    scale = float(np.sqrt(np.mean(((guess - top1) / np.maximum(apart, least)) ** 2)))
    predicted, apart = _trees(known, top1, all_features, link, seed)
    cells, deviations = np.full((2, n_cells(space)), np.nan)
    index = cell_index(space, every)
    cells[index], deviations[index] = predicted, scale * np.maximum(apart, least)
    measured, inverse = np.unique(cell_index(space, archs), return_inverse=True)
    cells[measured] = np.bincount(inverse, top1) / np.bincount(inverse)
    deviations[measured] = 0.0
    progress("fitting the accuracy model", steps, steps)
    return TableModel(
        space=space,
        source=f"fitted on {len(archs)} measured architectures, which are looked up",
        noise=noise,
        report={
            "rows": len(archs),
            **agreement(guess, top1),
            "link": link,
            "trees": _TREES,
        },
        cells=cells,
        deviations=deviations,
    )


def _trees(
    features: Float32Array, top1: FloatArray, others: Float32Array, link: Link, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Fit an ensemble; return its prediction of other rows and the std of its trees."""
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as error:
        raise MissingDependencyError(
            "sklearn", "train", "fitting an accuracy model of cells"
        ) from error
    forest = ExtraTreesRegressor(n_estimators=_TREES, random_state=seed % 2**32, n_jobs=1)
    forest.fit(features, to_link(top1, link))
    mean, squared = np.zeros((2, len(others)))
    for tree in forest.estimators_:
        guess = from_link(tree.predict(others), link)
        mean += guess / _TREES
        squared += guess**2 / _TREES
    return mean.clip(0, 1), np.sqrt(np.maximum(squared - mean**2, 0))


def check_rows(target: FloatArray, members: int) -> None:
    """Check that there is enough to learn from for this many folds."""
    n = len(target)
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
    if not 2 <= members <= n // 2:
        raise InvalidInputError(
            f"members should be from 2 to half the number of rows, found {members}"
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
    linked = to_link(top1, link)
    target = (linked - linked.mean()) / linked.std()
    guess = np.empty_like(target)
    for k in range(int(fold.max()) + 1):
        inside = fold != k
        solution = _ridge(features[inside], target[inside], penalty)
        guess[~inside] = features[~inside] @ solution[:-1] + solution[-1]
    predicted = from_link(linked.mean() + linked.std() * guess, link)
    return float(np.mean((predicted - top1) ** 2))


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
