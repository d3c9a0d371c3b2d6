"""Fitting an accuracy model to measured architectures; needs torch, but for cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..agreement import absolute as agreement
from ..errors import InvalidInputError
from ..objective import TOP1, Objective
from ..optional_torch import require_torch
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from ..typing import BoolArray, Float32Array, FloatArray, IntArray
from .cells import fit_cells
from .codes import one_hot
from .distance import distance_term, reach_term
from .measured import Measured
from .model import AccuracyModel
from .network import LINKS, Link, NetworkModel, from_link, to_link

if TYPE_CHECKING:
    import torch

# Ridge penalties to choose from, for a target of unit variance.
_PENALTIES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

# Steps without a better one after which the network is not trained on: on 60 to 1,705 networks of
# three spaces, measured or made up, the longest wait for a better one was 27 steps.
_PATIENCE = 60


def fit(
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    seed: int = 0,
    members: int = 5,
    hidden: int = 32,
    epochs: int = 300,
    objective: Objective = TOP1,
    progress: ProgressCallback = ignore_progress,
) -> AccuracyModel:
    """Fit an accuracy model to measured architectures.

    Every member is fitted on all rows but its own fold: ridge regression on the codes, and a small
    network on what that leaves over. The number of epochs (none, where the network does not help)
    is the one that is best on the held-out folds together, so the held-out figures in ``report``
    rest on few choices only. The target is top-1, or its logit where that predicts held-out rows
    better: near 1 accuracy saturates.

    Cells (``nasbench201``) are not sums of their codes: an edge may be dead, and what it adds
    depends on its paths. There a Gaussian process learns from `SearchSpace.features` which of them
    matter, and the model is a table of all cells: measured ones keep what was measured, the others
    are predicted.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        An architecture that comes more than once is one row, with the mean of what was measured
        and a weight that says how well it is known. Codes that none of these has are marked as
        unknown: the model refuses them, and searches of spaces that reach them (`covering` names
        what to measure as well).
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction, or what the objective says instead.
    seed : int
        Splits and initial weights.
    members : int
        Folds, and members of the ensemble.
    hidden, epochs : int
        Width of the network and the most full-batch steps it may take; fewer, once held-out rows
        have gained nothing for a while. Not used for cells.
    objective : Objective
        What was measured: its unit, its limits, and whether smaller is better. The model predicts
        it as it is.

    Returns
    -------
    AccuracyModel
        A `NetworkModel`, for cells a `TableModel`.
        With ``report``: ``kendall``, ``spearman``, ``mean_error`` on held-out networks, ``rows``
        (architectures); where some were measured repeatedly ``measurements``, ``repeats`` and
        ``measurement_noise``, the standard deviation of one measurement; ``warnings``, a list of
        what makes the model worthless.

    Raises
    ------
    InvalidInputError
        For fewer than 20 architectures, a constant accuracy, values beyond the limits of the
        objective (percent?), foreign rows, one architecture with accuracies that contradict each
        other.
    """
    seed, members = arguments.seed(seed), arguments.integer(members, "members", 2)
    hidden = arguments.integer(hidden, "hidden", 1, 65536)
    epochs = arguments.integer(epochs, "epochs", 0)
    measured = Measured.of(space, archs, top1, objective)
    measured.require(members)
    with one_thread():
        if space.features is not None:
            return fit_cells(measured, space.features, seed, members, progress)
        return _fit_codes(measured, seed, members, hidden, epochs, progress)


def _fit_codes(
    measured: Measured,
    seed: int,
    members: int,
    hidden: int,
    epochs: int,
    progress: ProgressCallback,
) -> NetworkModel:
    torch = require_torch("fitting an accuracy model")
    target = measured.top1
    n = len(target)
    features = one_hot(measured.space, measured.archs)
    fold = measured.folds(members, seed)
    # A logit is of a fraction.
    links = LINKS if measured.objective.is_fraction else LINKS[:1]
    link, penalty, error = _choose(features, target, fold, links)
    weight = measured.weights(error)
    linked = to_link(target, link)
    mean, scale = float(linked.mean()), float(linked.std())
    normalised = (linked - mean) / scale
    ridges = [
        _ridge(features[fold != k], normalised[fold != k], penalty, weight[fold != k])
        for k in range(members)
    ]
    linear = np.stack([solution[:-1] for solution in ridges])
    constant = np.array([solution[-1] for solution in ridges])
    residual = normalised[None] - (linear @ features.T + constant[:, None])
    network = _ResidualNetworks(torch, features.shape[1], hidden, members, seed)
    correction, state = network.fit(features, residual, fold, weight, epochs, progress)
    linear_held_out = normalised - residual[fold, np.arange(n)]
    held_out = from_link(mean + scale * (linear_held_out + correction), link)
    first, biases, weights = state
    noise = float(np.sqrt(np.mean((held_out - target) ** 2)))

    def predict_without(inside: BoolArray) -> FloatArray:
        solution = _ridge(features[inside], normalised[inside], penalty, weight[inside])
        guess = features @ solution[:-1] + solution[-1]
        return np.asarray(from_link(mean + scale * guess, link))

    found = agreement(held_out, target)
    return NetworkModel(
        space=measured.space,
        source=f"fitted on {n} measured architectures",
        noise=noise,
        report={
            **measured.facts(),
            **found,
            "link": link,
            "steps": network.best_step,
            "warnings": measured.doubts(found["kendall"], noise) + measured.unseen(),
        },
        distance=distance_term(measured, features, noise, penalty, predict_without),
        reach=reach_term(measured, features, linear.mean(axis=0), noise, predict_without),
        seen=measured.codes,
        linear=(scale * linear).astype(np.float32),
        first=first,
        biases=(
            biases[0],
            (scale * biases[1] + (mean + scale * constant)[:, None]).astype(np.float32),
        ),
        weights=((scale * weights).astype(np.float32),),
        link=link,
        objective=measured.objective,
    )


def _choose(
    features: Float32Array, top1: FloatArray, fold: IntArray, allowed: Sequence[Link]
) -> tuple[Link, float, float]:
    """Choose link and penalty by the error of ridge regression on held-out networks.

    Returns
    -------
    link, penalty
    error : float
        Root mean square, in units of top-1.
    """
    links = {link: to_link(top1, link) for link in allowed}
    # Near 0 and 1 the logit is cut off, and what differs there may become equal.
    links = {link: linked for link, linked in links.items() if np.ptp(linked) > 0}
    centred = {link: (linked - linked.mean()) / linked.std() for link, linked in links.items()}
    guesses = {choice: np.empty(len(top1)) for choice in itertools.product(links, _PENALTIES)}
    for k in np.unique(fold):
        out = fold == k
        x, centre, gram = _gram(features[~out], None)
        held_out = features[out] - centre
        for penalty in _PENALTIES:
            system = gram + penalty * np.eye(len(gram))
            target = np.stack([values[~out] for values in centred.values()], axis=1)
            mean = target.mean(axis=0)
            slopes = np.linalg.solve(system, x.T @ (target - mean))
            for j, link in enumerate(links):
                guesses[link, penalty][out] = held_out @ slopes[:, j] + mean[j]

    def error(choice: tuple[Link, float]) -> float:
        link = choice[0]
        linked = links[link]
        predicted = from_link(linked.mean() + linked.std() * guesses[choice], link)
        return float(np.mean((predicted - top1) ** 2))

    errors = {choice: error(choice) for choice in guesses}
    link, penalty = min(errors, key=lambda choice: errors[choice])
    return link, penalty, float(np.sqrt(errors[link, penalty]))


def _gram(
    features: Float32Array, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centred features, their centre, and their products."""
    x = features.astype(np.float64)
    centre = np.average(x, axis=0, weights=weight)
    x -= centre
    return x, centre, (x if weight is None else x * weight[:, None]).T @ x


def _ridge(
    features: Float32Array, target: FloatArray, penalty: float, weight: FloatArray
) -> FloatArray:
    """Ridge regression; the last coefficient is the constant, which is not penalised."""
    x, centre, gram = _gram(features, weight)
    mean = float(np.average(target, weights=weight))
    gram[np.diag_indices_from(gram)] += penalty
    solution = np.linalg.solve(gram, x.T @ (weight * (target - mean)))
    return np.append(solution, mean - float(centre @ solution))


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
        fold: IntArray,
        weight: FloatArray,
        epochs: int,
        progress: ProgressCallback,
    ) -> tuple[FloatArray, tuple[Float32Array, tuple[Float32Array, Float32Array], Float32Array]]:
        """Train; return held-out corrections (n,) and the weights at the best step."""
        torch = self.torch
        x = torch.from_numpy(features)
        y = torch.from_numpy(residual.astype(np.float32))
        held_out = torch.from_numpy(np.arange(len(self.parameters[0]))[:, None] == fold[None])
        train = (~held_out).float() * torch.from_numpy(weight.astype(np.float32))
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
            if step >= min(epochs, self.best_step + _PATIENCE):
                break
            optimiser.zero_grad()
            (squared * train).sum(dim=1).div(train.sum(dim=1)).sum().backward()
            optimiser.step()
        progress("fitting the accuracy model", epochs, epochs)
        if best_state is None:
            raise InvalidInputError("the loss of the accuracy model is not a number")
        arrays = [p.numpy() for p in best_state]
        return best_correction, (arrays[0], (arrays[1][:, 0], arrays[3][:, 0]), arrays[2])
