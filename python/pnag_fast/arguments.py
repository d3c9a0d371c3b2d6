"""Checks of what a user passes: numbers, seeds, names, and arrays of numbers.

Each returns the value as the plain type that the code behind it works with, or raises an error that
names the argument, what was found, what is allowed and how to get there. Types of other libraries
are recognised without importing them.
"""

from __future__ import annotations

import itertools
import math
import operator
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInputError, InvalidTypeError, MemoryShortageError, PnagError

_FLOAT64 = np.dtype(np.float64)
_LARGEST_EXACT = 2**53
_SHOWN = 80
_NUMBERS = frozenset({int, float})
_SEQUENCES = frozenset({list, tuple})

# --- numbers --------------------------------------------------------------------------------------


def integer(value: object, name: str, low: int | None = None, high: int | None = None) -> int:
    """Return a whole number from `low` to `high`; those of numpy are welcome, bools are not.

    Raises
    ------
    InvalidInputError
        For anything else, 2.0 included: a number that only happens to be whole was computed.

    Examples
    --------
    >>> integer(np.uint8(3), "n", 0)
    3
    """
    if type(value) is int:
        found = value
    elif _is_bool(value):
        raise _no_integer(value, name, low, high)
    else:
        try:
            found = operator.index(value)  # type: ignore[arg-type]
        except Exception:  # whatever somebody's __index__ raises
            raise _no_integer(value, name, low, high) from None
    if (low is not None and found < low) or (high is not None and found > high):
        raise _no_integer(value, name, low, high)
    return found


def seed(value: object, name: str = "seed") -> int:
    """Return the seed of random numbers: an integer from 0 to 2^64 - 1."""
    if type(value) is int and 0 <= value < 2**64:
        return value
    try:
        return integer(value, name, 0, 2**64 - 1)
    except InvalidInputError:
        raise InvalidInputError(
            f"{name} should be an integer from 0 to 2**64 - 1, found {shown(value)}"
        ) from None


def number(
    value: object,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    finite: bool = True,
) -> float:
    """Return a real number from `low` to `high` as a float.

    Parameters
    ----------
    above, below : bool
        Whether `low` or `high` itself is refused.
    finite : bool
        Whether infinities are refused; NaN always is.

    Raises
    ------
    InvalidInputError
        For anything else: text, bools, complex numbers, arrays with dimensions, integers beyond the
        range of a float.

    Examples
    --------
    >>> number(3, "width", 0, above=True)
    3.0
    """
    if type(value) is float:
        found = value
    else:
        try:
            found = _real(value)
        except Exception:  # whatever somebody's __float__ raises
            raise _no_number(value, name, low, high, above, below, finite) from None
    if (
        math.isnan(found)
        or (finite and math.isinf(found))
        or found < low
        or found > high
        or (above and found == low)
        or (below and found == high)
    ):
        raise _no_number(value, name, low, high, above, below, finite)
    return found


def fraction(value: object, name: str, *, above: bool = False, below: bool = False) -> float:
    """Return a share from 0 to 1; `above` refuses 0 itself, `below` refuses 1.

    Examples
    --------
    >>> fraction(0.25, "rate")
    0.25
    """
    return number(value, name, 0, 1, above=above, below=below)


def _is_bool(value: object) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return True
    # Arrays and tensors without dimensions count as numbers, so theirs are to be refused as well.
    return str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _real(value: Any) -> float:
    if _is_bool(value) or isinstance(value, (str, bytes, bytearray, complex, np.complexfloating)):
        raise TypeError
    if len(getattr(value, "shape", ())) > 0:  # numpy and torch take one entry for a number
        raise TypeError
    if _is_masked(value):
        raise TypeError
    return float(value)


def _no_integer(value: object, name: str, low: int | None, high: int | None) -> InvalidInputError:
    if low is not None and high is not None:
        allowed = f" from {low} to {high}"
    elif low is not None:
        allowed = f" of at least {low}"
    elif high is not None:
        allowed = f" of at most {high}"
    else:
        allowed = ""
    return InvalidInputError(f"{name} should be an integer{allowed}, found {shown(value)}")


def _no_number(
    value: object, name: str, low: float, high: float, above: bool, below: bool, finite: bool
) -> InvalidInputError:
    limits = []
    if low > -math.inf:
        limits.append(f"{'above' if above else 'of at least'} {low:g}")
    if high < math.inf:
        limits.append(f"{'below' if below else 'at most'} {high:g}")
    kind = "finite number" if finite and len(limits) < 2 else "number"
    return InvalidInputError(
        f"{name} should be a {kind} {' and '.join(limits)}".rstrip() + f", found {shown(value)}"
    )


# --- names ----------------------------------------------------------------------------------------


def renamed(value: Any, name: str, former: Any, former_name: str) -> Any:
    """Return what a function's caller gave under a name or, with a warning, under its former one.

    Raises
    ------
    InvalidTypeError
        If both were given.
    """
    if former is None:
        return value
    if value is not None:
        raise InvalidTypeError(f"{former_name} is the former name of {name}; give {name} alone")
    warnings.warn(f"{former_name}= is now {name}=", DeprecationWarning, stacklevel=3)
    return former


def shown(value: object) -> str:
    """Write a value for an error message: on one line, short, whatever its class does."""
    try:
        text = repr(value)
    except Exception:  # somebody else's __repr__; integers of more than 4300 digits
        return f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def one_of(value: object, name: str, allowed: Iterable[str]) -> str:
    """Return a name that is among those allowed; an error says which are, the nearest first."""
    known = tuple(allowed)
    if isinstance(value, str) and value in known:
        return value
    names = [repr(entry) for entry in known]
    choice = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
    raise InvalidInputError(
        f"{name} should be {choice}, found {shown(value)}" + nearest(value, known)
    )


def nearest(value: object, known: Iterable[str]) -> str:
    """Say which known name was probably meant: ``"; did you mean 'x'?"``, or nothing."""
    import difflib  # takes longer to load than most calls

    if not isinstance(value, str):
        return ""
    found = difflib.get_close_matches(value[:200], list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def known_keys(given: Mapping[Any, object], allowed: Collection[str], where: str) -> None:
    """Refuse the first key that nobody reads, with the one that was probably meant."""
    for key in given:
        if key not in allowed:
            raise InvalidInputError(
                f"{where} has an unknown field {shown(key)}; it may have "
                f"{', '.join(map(repr, allowed))}" + nearest(key, allowed)
            )


# --- arrays ---------------------------------------------------------------------------------------


def floats(
    values: object,
    name: str,
    shape: tuple[int | None, ...] | None = None,
    *,
    meaning: str = "",
    finite: bool = False,
) -> npt.NDArray[np.float64]:
    """Return the numbers of an array-like as float64, C-contiguous.

    Accepted are arrays, nested sequences, and what turns into an array without losing anything:
    plain frames of pandas, tensors of torch on the CPU. Refused by name are masked entries, sparse
    matrices, units, missing values, tensors with a gradient or in bfloat16, objects, text, dates,
    complex numbers, bools, and integers that a float64 does not hold exactly.

    Parameters
    ----------
    values : array_like
    name : str
        What the user calls it.
    shape : tuple of int or None, optional
        Wanted sizes; None for any size. Without it every shape is good.
    meaning : str
        What the axes are, for the message about a wrong shape: ``"(n, m): one row per point"``.
    finite : bool
        Whether NaN and infinities are refused, naming the first.

    Returns
    -------
    ndarray of float64
        `values` itself where it is one already; not to be written to.

    Raises
    ------
    InvalidTypeError
        What cannot be taken for real numbers.
    InvalidInputError
        Another shape, rows of unequal length, integers beyond 2^53, or values that are not finite.

    Examples
    --------
    >>> floats([1, 2.5], "values", (None,)).tolist()
    [1.0, 2.5]
    """
    if (
        type(values) is np.ndarray
        and values.dtype is _FLOAT64
        and values.flags.c_contiguous
        and values.flags.aligned
    ):
        array = values
    else:
        array = _to_float64(values, name)
    if shape is not None and not _has_shape(array, shape):
        raise InvalidInputError(
            f"{name} has shape {array.shape}; it must be {meaning or _written(shape)}"
        )
    if finite and not np.isfinite(array).all():
        where = _first(~np.isfinite(array))
        raise InvalidInputError(
            f"{name} should be finite numbers, found {array[where]}{_at(where)}"
        )
    return array


def require_plain(array: object, name: str) -> None:
    """Refuse an array whose class says something that its numbers alone do not.

    Raises
    ------
    InvalidTypeError
        Masked entries, units, and any other subclass of numpy's array but memory maps, matrices
        and records.
    """
    if not isinstance(array, np.ndarray) or type(array) in _PLAIN_ARRAYS:
        return
    masked = _masked_array()
    if masked is not None and isinstance(array, masked):
        if not np.ma.is_masked(array):
            return
        n = int(np.ma.getmaskarray(array).sum())
        raise InvalidTypeError(
            f"{name} is a masked array with {n} masked "
            f"{'entry' if n == 1 else 'entries'}, which would count as numbers; pass only the rows "
            "that are not masked, as a plain array: numpy.ma.compress_rows(x)"
        )
    kind = f"{type(array).__module__}.{type(array).__qualname__}"
    unit = getattr(array, "unit", getattr(array, "units", None))
    raise InvalidTypeError(
        f"{name} is a {kind}"
        + (f" with the unit {shown(str(unit))}, which would be dropped" if unit is not None else "")
        + "; pass its numbers as a plain array: numpy.asarray(x.value) where it has a unit, "
        "x.view(numpy.ndarray) where it has none"
    )


_PLAIN_ARRAYS = (np.ndarray, np.memmap, np.matrix, np.recarray)


def _to_float64(values: object, name: str) -> npt.NDArray[np.float64]:
    array = _to_array(values, name)
    kind = array.dtype.kind
    if kind not in "iuf":
        raise InvalidTypeError(
            f"{name} has dtype {array.dtype}, {_KINDS.get(kind, 'no numbers')}; it must be real "
            "numbers (floating point or integers)" + _REMEDIES.get(kind, "")
        )
    if kind in "iu" and array.dtype.itemsize == 8 and array.size > 0:
        # Beyond 2^53 neighbours collapse into one float64, and ties would appear from nowhere.
        beyond = (array > _LARGEST_EXACT) | (array < -_LARGEST_EXACT)
        if beyond.any():
            where = _first(beyond)
            raise InvalidInputError(
                f"{name}: entry {where} is {int(array[where])}, which float64 does not hold "
                "exactly; integers must lie within -2^53 to 2^53"
            )
    if kind == "f" and array.dtype.itemsize > 8:
        raise InvalidTypeError(
            f"{name} has dtype {array.dtype}; pass float64, extended precision would be lost"
        )
    array = np.asarray(array, dtype=_FLOAT64, order="C")
    return array if array.flags.aligned else array.copy()


_KINDS = {
    "b": "true or false",
    "c": "complex numbers",
    "S": "text",
    "U": "text",
    "T": "text",
    "M": "dates",
    "m": "spans of time",
    "O": "objects",
    "V": "records",
}
_REMEDIES = {
    "O": "; missing values and numbers of other libraries arrive as objects: drop or convert them",
    "S": "; convert it with .astype(float)",
    "U": "; convert it with .astype(float)",
    "T": "; convert it with .astype(float)",
    "c": "; pass .real, if that is what is meant",
}


def _to_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return an array of the same meaning, or refuse by name what would lose some."""
    if isinstance(values, np.ndarray):
        require_plain(values, name)
        return values
    try:
        if isinstance(values, (list, tuple)):
            values = _plain_leaves(values, name)
        elif not isinstance(values, (int, float)):
            library = type(values).__module__.partition(".")[0]
            if library == "torch":
                values = _from_torch(values, name)
            elif library == "pandas":
                values = _from_pandas(values, name)
            else:
                _refuse_lossy(values, name)
        return np.asarray(values)
    except PnagError:
        raise
    except MemoryError:
        raise MemoryShortageError(
            f"{name} does not fit into memory as an array of numbers"
        ) from None
    except ValueError as error:
        raise InvalidInputError(
            f"{name} is not a rectangular array: {shown_error(error)}"
        ) from None
    except Exception as error:  # whatever somebody's __array__ raises
        raise InvalidTypeError(
            f"{name} is a {type(values).__name__}, which does not turn into an array of numbers "
            f"({shown_error(error)}); pass a numpy array"
        ) from None


def shown_error(error: BaseException) -> str:
    """Write the message of another library's error for a message of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 4 * _SHOWN else f"{text[: 4 * _SHOWN - 4]} ..."


def _plain_leaves(values: Any, name: str) -> Any:
    """Check what a nested sequence holds: numpy drops masks and units of the arrays in a list.

    Sequences of numbers come back as they are, at the price of one pass over their types.
    """
    kinds = set(map(type, values))
    level: Any = values
    for _ in range(8):  # nobody passes more dimensions
        if not kinds or not kinds <= _SEQUENCES:
            break
        # The last level is the long one: it is not kept unless it turns out to hold another.
        kinds = set(map(type, itertools.chain.from_iterable(level)))
        if kinds & _SEQUENCES:
            level = list(itertools.chain.from_iterable(level))
    if kinds <= _NUMBERS or all(
        kind is np.ndarray or (issubclass(kind, np.generic) and not issubclass(kind, np.bool_))
        for kind in kinds - _NUMBERS - _SEQUENCES
    ):
        return values
    return [
        _plain_leaves(item, name)
        if isinstance(item, (list, tuple))
        else item
        if isinstance(item, (str, bytes, int, float, np.generic)) and not _is_bool(item)
        else _leaf(item, name)
        for item in values
    ]


def _leaf(item: object, name: str) -> Any:
    if _is_bool(item):
        raise InvalidTypeError(f"{name} holds {shown(item)}; it must be real numbers")
    if _is_masked(item):
        raise InvalidTypeError(f"{name} holds masked entries; pass only what is not masked")
    if item is None or not (hasattr(item, "__array__") or hasattr(item, "__len__")):
        return item  # becomes an array of objects, which is refused as such
    return _to_array(item, f"an entry of {name}")


def _from_torch(values: Any, name: str) -> Any:
    if not hasattr(values, "requires_grad"):
        return values
    dtype = str(values.dtype).removeprefix("torch.")
    remedies = []
    if values.requires_grad:
        remedies.append((".detach()", "needs a gradient, which would be lost"))
    if str(values.layout) != "torch.strided":
        remedies.append((".to_dense()", "is sparse"))
    if dtype.startswith(("bfloat", "float8", "float4")):
        remedies.append((".float()", f"has dtype {dtype}, which numpy does not know"))
    if values.device.type != "cpu":
        remedies.append((".cpu()", f"is on device {values.device}"))
    if remedies:
        calls = "".join(call for call, _ in remedies)
        reasons = " and ".join(reason for _, reason in remedies)
        raise InvalidTypeError(f"{name} is a torch tensor that {reasons}; pass x{calls}")
    return values.resolve_conj().resolve_neg().numpy()


def _from_pandas(values: Any, name: str) -> Any:
    if hasattr(values, "columns"):
        columns = [_from_pandas(values.iloc[:, i], name) for i in range(values.shape[1])]
        if not columns:
            return np.empty(values.shape)
        return np.column_stack([_to_float64(column, name) for column in columns])
    dtype: Any = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype):
        return np.asarray(values)
    if values is sys.modules["pandas"].NA:
        raise InvalidTypeError(f"{name} is missing (pandas.NA)")
    if getattr(dtype, "kind", "") not in ("i", "u", "f"):
        raise InvalidTypeError(
            f"{name} has pandas' dtype {dtype}; it must be real numbers: convert it with "
            ".astype(float)"
        )
    n_missing = int(values.isna().sum())
    if n_missing:
        raise InvalidTypeError(
            f"{name} has {n_missing} missing values (pandas.NA); drop them with .dropna() or fill "
            "them with .fillna(...)"
        )
    return values.to_numpy(dtype={"i": "int64", "u": "uint64", "f": "float64"}[dtype.kind])


def _refuse_lossy(values: Any, name: str) -> None:
    kind = f"{type(values).__module__}.{type(values).__qualname__}"
    if hasattr(values, "nnz") and (hasattr(values, "toarray") or hasattr(values, "todense")):
        raise InvalidTypeError(f"{name} is sparse ({kind}); pass x.toarray() or x.todense()")
    if hasattr(values, "units") or hasattr(values, "unit"):
        raise InvalidTypeError(
            f"{name} is a {kind} with a unit, which would be dropped; pass its numbers alone"
        )
    if isinstance(values, (set, frozenset, Mapping, str, bytes, bytearray)) or values is None:
        raise InvalidTypeError(
            f"{name} is a {type(values).__name__}; it must be an array or a sequence of numbers"
        )
    missing = getattr(values, "null_count", 0)
    if callable(missing):
        missing = missing()
    if isinstance(missing, int) and missing:
        raise InvalidTypeError(f"{name} has {missing} missing values; drop or fill them")


def _masked_array() -> type | None:
    module = sys.modules.get("numpy.ma")  # where nobody loaded it, nobody has a masked array
    return None if module is None else module.MaskedArray


def _is_masked(value: object) -> bool:
    masked = _masked_array()
    return masked is not None and isinstance(value, masked) and bool(np.ma.is_masked(value))


def _has_shape(array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> bool:
    if array.ndim != len(shape):
        return False
    # all() with a generator takes twice as long, and points of a small front are few.
    for wanted, found in zip(shape, array.shape, strict=True):
        if wanted is not None and wanted != found:
            return False
    return True


def _written(shape: tuple[int | None, ...]) -> str:
    letters = iter("nmkjihg")
    sizes = [next(letters, "any") if size is None else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(where: tuple[int, ...]) -> str:
    if not where:
        return ""
    return f" at {where[0] if len(where) == 1 else where}"
