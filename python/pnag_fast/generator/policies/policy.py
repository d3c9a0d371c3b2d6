"""What a policy is to a generator, its file and a search on another device."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ... import files
from ...errors import FileFormatError, InvalidInputError
from ...spaces import Archs, SearchSpace
from ...strict_json import shorten
from ...typing import FloatArray

Tensors = Mapping[str, npt.NDArray[Any]]


class BudgetPolicy(abc.ABC):
    """Answers budgets with architectures, in numpy; its training may use more.

    A policy of your own is a subclass that defines the abstract methods; to be saved it has a
    `kind`, by which files name it, `_content` and `_read`. What it answers need not meet the
    budget: the generator checks every answer.
    """

    # Name in files; a policy without one cannot be saved.
    kind: ClassVar[str] = ""
    # Architectures to ask for each budget, unless the user says how many.
    n_candidates: ClassVar[int] = 32

    @property
    @abc.abstractmethod
    def space(self) -> SearchSpace:
        """Where the answers come from."""

    @abc.abstractmethod
    def candidates(self, budgets: FloatArray, n: int, rng: np.random.Generator) -> Archs:
        """Propose architectures that are likely to be good within each budget.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)
        n : int
            At least 1.
        rng : Generator
            All randomness there is: the same one, the same answers.

        Returns
        -------
        ndarray of uint8, shape (b, at least n, n_slots)
        """

    @abc.abstractmethod
    def sample(self, budgets: FloatArray, n_samples: int, rng: np.random.Generator) -> Archs:
        """Draw architectures from what the policy believes of exactly these budgets.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)
        n_samples : int
            Architectures for each budget, at least 1; the first is greedy.

        Returns
        -------
        ndarray of uint8, shape (b, n_samples, n_slots)
        """

    @abc.abstractmethod
    def rescaled(self, space: SearchSpace, costs: FloatArray) -> BudgetPolicy:
        """Return the same policy for other tables, by which the old front costs `costs`.

        Parameters
        ----------
        space : SearchSpace
            With the same slots.
        costs : ndarray of float64, shape (n, n_tables)
        """

    # --- files ------------------------------------------------------------------------------------

    def to_tensors(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values; `from_tensors` reads them back.

        Names of arrays have the prefix, but for those that files had before there were prefixes.
        """
        tensors, body = self._content(prefix)
        return tensors, {"policy": self.kind, **body}

    @staticmethod
    def from_tensors(
        space: SearchSpace,
        n_tables: int,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
    ) -> BudgetPolicy:
        """Read what `to_tensors` returned, checking every name, shape and value.

        Raises
        ------
        FileFormatError
            Names what is missing, damaged or of an unknown kind.
        """
        kinds = {policy.kind: policy for policy in BudgetPolicy.__subclasses__() if policy.kind}
        # Files of version 1 knew the LSTM alone.
        kind = files.require({"policy": "lstm", **body}, "policy", str, path)
        if kind not in kinds:
            raise FileFormatError(
                f"'{path}' has a policy of unknown kind {shorten(kind)}; known are {sorted(kinds)}"
            )
        return kinds[kind]._read(space, n_tables, tensors, body, path, prefix)

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values, all that `_read` needs."""
        del prefix
        raise InvalidInputError(f"a {type(self).__name__} cannot be saved")

    @classmethod
    def _read(
        cls,
        space: SearchSpace,
        n_tables: int,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
    ) -> BudgetPolicy:
        """Read what `_content` returned; `take` checks arrays."""
        del space, n_tables, tensors, body, path, prefix
        raise NotImplementedError


def take(
    tensors: Tensors,
    name: str,
    dtype: npt.DTypeLike,
    shape: tuple[int | None, ...],
    path: files.StrPath,
) -> npt.NDArray[Any]:
    """Return an array of a file, checked for type, shape (None: any size) and being finite."""
    array = tensors.get(name)
    if array is None:
        raise FileFormatError(f"'{path}' lacks the policy's array '{name}'")
    fits = array.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype or array.size == 0:
        wanted = tuple("any" if n is None else n for n in shape)
        raise FileFormatError(
            f"'{path}': '{name}' should be {np.dtype(dtype)} of shape {wanted}, found "
            f"{array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise FileFormatError(f"'{path}': '{name}' is not finite")
    return array
