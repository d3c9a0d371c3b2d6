"""Checks of what users pass: one place, one wording, and nothing lost on the way in."""

from __future__ import annotations

import decimal
import fractions
import subprocess
import sys

import numpy as np
import pytest

from pnag_fast import arguments
from pnag_fast.errors import InvalidInputError, InvalidTypeError, PnagError


class Hostile:
    """An object whose every conversion and description fails."""

    def __repr__(self):
        raise RuntimeError("no")

    def __index__(self):
        raise RuntimeError("no")

    def __float__(self):
        raise RuntimeError("no")

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


class Quantity(np.ndarray):
    """An array with a unit, as astropy and unyt have."""

    unit = "s"


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), True + 2])
def test_whole_numbers_of_any_library_are_plain_integers(value):
    found = arguments.integer(value, "n", 0, 3)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [
        True,
        np.bool_(True),
        np.array(True),
        1.5,
        2.0,
        np.float64(2),
        "2",
        b"2",
        None,
        [2],
        1j,
        np.array([2]),
        np.array([1, 2]),
        float("nan"),
        Hostile(),
        decimal.Decimal(2),
        -1,
        4,
        10**6000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(InvalidInputError, match="n should be an integer from 0 to 3, found "):
        arguments.integer(value, "n", 0, 3)


def test_ranges_are_said_as_they_are():
    for low, high, words in [
        (1, None, " of at least 1"),
        (None, 5, " of at most 5"),
        (None, None, ""),
    ]:
        with pytest.raises(InvalidInputError, match=f"^n should be an integer{words}, found 'x'$"):
            arguments.integer("x", "n", low, high)


def test_seeds():
    assert arguments.seed(np.uint64(2**64 - 1)) == 2**64 - 1
    for bad in (-1, 2**64, 1.5, True, None, "0", np.random.default_rng(0)):
        with pytest.raises(InvalidInputError, match=r"seed should be an integer from 0 to 2\*\*64"):
            arguments.seed(bad)


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.array(0.5), fractions.Fraction(1, 2), decimal.Decimal("0.5")]
)
def test_real_numbers_of_any_library_are_plain_floats(value):
    found = arguments.number(value, "width", 0, 1)
    assert found == 0.5
    assert type(found) is float


@pytest.mark.parametrize(
    "value",
    [
        "0.5",
        b"1",
        True,
        np.bool_(True),
        None,
        1j,
        np.complex64(1),
        [0.5],
        np.array([0.5]),
        Hostile(),
        float("nan"),
        float("inf"),
        -float("inf"),
        10**400,
        -0.1,
        1.1,
        np.ma.masked,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_in_range_is_refused(value):
    with pytest.raises(
        InvalidInputError, match="rate should be a number of at least 0 and at most 1, found "
    ):
        arguments.fraction(value, "rate")


def test_ends_of_ranges_may_be_left_out():
    assert arguments.number(0, "x", 0) == 0
    assert arguments.fraction(1, "x", above=True) == 1
    assert arguments.number(float("inf"), "x", finite=False) == float("inf")
    with pytest.raises(InvalidInputError, match="^x should be a finite number above 0, found 0$"):
        arguments.number(0, "x", 0, above=True)
    with pytest.raises(InvalidInputError, match="above 0 and below 1, found 1$"):
        arguments.fraction(1, "x", above=True, below=True)
    with pytest.raises(InvalidInputError, match="should be a number, found nan$"):
        arguments.number(float("nan"), "x", finite=False)


def test_messages_are_short_and_on_one_line():
    for value in ("x" * 10**6, "a\nb\x1b[31m", list(range(10**5)), 10**6000, Hostile()):
        text = arguments.shown(value)
        assert len(text) <= 80
        assert text.isprintable()


def test_names_are_guessed():
    assert arguments.one_of("nsga2", "method", ("nsga2", "random")) == "nsga2"
    with pytest.raises(InvalidInputError, match="did you mean 'nsga2'"):
        arguments.one_of("nsga-2", "method", ("nsga2", "random"))
    for bad in (None, 3, ["nsga2"], Hostile()):
        with pytest.raises(InvalidInputError, match="method should be 'nsga2' or 'random', found"):
            arguments.one_of(bad, "method", ("nsga2", "random"))
    with pytest.raises(InvalidInputError, match="x should be one of 'a', 'b', 'c', found 'd'"):
        arguments.one_of("d", "x", ("a", "b", "c"))
    with pytest.raises(InvalidInputError, match="stage 0 .*'min_dept'.*did you mean 'min_depth'"):
        arguments.known_keys({"min_dept": 1}, ("slots", "min_depth"), "stage 0")


# --- arrays ---------------------------------------------------------------------------------------


def good_arrays():
    plain = np.array([[1.0, 2.0], [3.0, 4.0]])
    return {
        "array": plain,
        "lists": plain.tolist(),
        "tuples": tuple(map(tuple, plain.tolist())),
        "list of arrays": list(plain),
        "list of scalars": [list(row) for row in plain],
        "integers": plain.astype(np.uint8),
        "float16": plain.astype(np.float16),
        "big-endian": plain.astype(">f8"),
        "fortran": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "read-only": np.frombuffer(plain.tobytes()).reshape(2, 2),
        "unmasked": np.ma.masked_array(plain, mask=False),
        "matrix": plain.view(np.matrix),
        "memoryview": memoryview(plain),
    }


@pytest.mark.parametrize("kind", good_arrays())
def test_numbers_in_any_container_become_float64(kind):
    given = good_arrays()[kind]
    found = arguments.floats(given, "points", (None, 2))
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])


def test_arrays_that_are_right_are_not_copied():
    array = np.ones((2, 3))
    assert arguments.floats(array, "points", (None, None)) is array


def bad_arrays():
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 0], [1, 1]])
    return {
        "masked": (masked, "2 masked entries"),
        "list of masked": ([masked[0], masked[1]], "masked"),
        "masked constant": ([[1.0, 2.0], [3.0, np.ma.masked]], "masked"),
        "unit": (np.ones((2, 2)).view(Quantity), "unit 's'"),
        "list of units": ([np.ones(2).view(Quantity)], "unit 's'"),
        "complex": (np.ones((2, 2), complex), "complex"),
        "text": (np.array([["1", "2"]]), "text"),
        "list of text": ([["1", "2"]], "text"),
        "bytes": (np.array([[b"1", b"2"]]), "text"),
        "dates": (np.array([["2020-01-01"]], dtype="M8[D]"), "dates"),
        "durations": (np.array([[1]], dtype="m8[s]"), "time"),
        "records": (np.zeros((2, 2), dtype=[("a", float)]), "records"),
        "objects": (np.array([[1.0, None]], dtype=object), "objects"),
        "none": ([[1.0, None]], "objects"),
        "decimals": ([[decimal.Decimal(1)]], "objects"),
        "bools": (np.ones((2, 2), bool), "true or false"),
        "list of bools": ([[1.0, True]], "True"),
        "ragged": ([[1.0], [1.0, 2.0]], "rectangular"),
        "huge": ([[2**53 + 1]], "2\\^53"),
        "beyond": ([[10**400]], "points"),
        "text alone": ("12", "str"),
        "nothing": (None, "NoneType"),
        "mapping": ({0: 1.0}, "dict"),
        "set": ({1.0}, "set"),
        "generator": ((x for x in [1.0]), "objects"),
        "hostile": (Hostile(), "Hostile"),
        "list of hostile": ([Hostile()], "points"),
        "class": (float, "points"),
        "scalar": (3.0, "shape"),
        "line": ([1.0, 2.0], "shape"),
        "wide": ([[1.0, 2.0, 3.0]], "shape"),
    }


@pytest.mark.parametrize("kind", bad_arrays())
def test_what_would_lose_its_meaning_is_refused_by_name(kind):
    given, message = bad_arrays()[kind]
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        arguments.floats(given, "points", (None, 2))


def test_extended_precision_is_refused():
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(InvalidTypeError, match="extended precision"):
            arguments.floats(np.ones((1, 2), np.longdouble), "points")


def test_values_that_are_not_finite_are_named():
    values = [[1.0, 2.0], [np.nan, np.inf]]
    assert np.isnan(arguments.floats(values, "top1")[1, 0])
    with pytest.raises(
        InvalidInputError, match=r"top1 should be finite numbers, found nan at \(1, 0\)"
    ):
        arguments.floats(values, "top1", finite=True)
    with pytest.raises(InvalidInputError, match=r"found inf at 1$"):
        arguments.floats([0.0, np.inf], "top1", finite=True)


def test_tensors():
    torch = pytest.importorskip("torch")
    plain = torch.ones(2, 2)
    np.testing.assert_array_equal(arguments.floats(plain, "points"), np.ones((2, 2)))
    np.testing.assert_array_equal(arguments.floats(list(plain), "points"), np.ones((2, 2)))
    for bad, remedy in [
        (plain.clone().requires_grad_(), r"needs a gradient.*x\.detach\(\)"),
        (plain.bfloat16(), r"bfloat16.*x\.float\(\)"),
        (plain.bfloat16().requires_grad_(), r"x\.detach\(\)\.float\(\)"),
        (plain.to_sparse(), r"sparse.*x\.to_dense\(\)"),
        (plain.to("meta"), r"device meta.*x\.cpu\(\)"),
        (plain.bool(), "true or false"),
        (plain.to(torch.complex64), "complex"),
        ([plain[0].clone().requires_grad_(), plain[1]], r"x\.detach\(\)"),
        (torch, "points"),
    ]:
        with pytest.raises(InvalidTypeError, match=remedy):
            arguments.floats(bad, "points")
    assert arguments.integer(torch.tensor(3), "n") == 3
    for bad in (torch.tensor(True), torch.tensor(1.5), torch.tensor([1, 2])):
        with pytest.raises(InvalidInputError, match="n should be an integer"):
            arguments.integer(bad, "n")


def test_frames():
    pandas = pytest.importorskip("pandas")
    plain = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    np.testing.assert_array_equal(arguments.floats(plain, "points"), [[1, 0.5], [2, 1.5]])
    np.testing.assert_array_equal(arguments.floats(plain["a"], "points"), [1, 2])
    nullable = plain.astype({"a": "Int64", "b": "Float64"})
    np.testing.assert_array_equal(arguments.floats(nullable, "points"), [[1, 0.5], [2, 1.5]])
    for bad, message in [
        (pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64")}), r"missing.*dropna"),
        (pandas.array([0.5, None], dtype="Float64"), r"missing.*dropna"),
        (plain.astype({"a": "string"}), "must be real numbers"),
        (plain.astype({"a": "category"}), "must be real numbers"),
        (plain.astype({"a": "object"}), "objects"),
        (plain > 1, "true or false"),
        (pandas.NA, "missing"),
        ([1.0, pandas.NA], "objects"),
        (pandas.to_datetime(["2020-01-01"]), "dates"),
        (plain.groupby("a"), "points"),
    ]:
        with pytest.raises(InvalidTypeError, match=message):
            arguments.floats(bad, "points")


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_matrix, sparse.coo_array):
        with pytest.raises(InvalidTypeError, match=r"sparse.*x\.toarray\(\)"):
            arguments.floats(kind(np.eye(3)), "points")


def test_arrays_of_a_class_that_says_more_are_refused():
    for plain in (np.ones(2), np.ones((2, 2)).view(np.matrix), np.ma.masked_array([1.0]), "text"):
        arguments.require_plain(plain, "archs")
    for bad in (np.ma.masked_array([1.0, 2.0], mask=[0, 1]), np.ones(2).view(Quantity)):
        with pytest.raises(InvalidTypeError, match="archs is a"):
            arguments.require_plain(bad, "archs")


def test_no_check_imports_another_library():
    code = (
        "import sys; from pnag_fast import arguments as a; a.floats([[1.0]], 'x');"
        "a.floats(memoryview(b'ab'), 'x'); a.integer(1, 'n');"
        "print(sorted({'torch', 'pandas', 'scipy', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "value",
    [Hostile(), object(), type, len, np.random, ..., NotImplemented],
    ids=lambda value: type(value).__name__,
)
def test_nothing_but_our_own_errors_comes_out(value):
    for check in (arguments.integer, arguments.number, arguments.floats, arguments.fraction):
        with pytest.raises(PnagError):
            check(value, "x")
