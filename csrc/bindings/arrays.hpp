// Arrays at the border: taken as they are or refused, never converted.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>

namespace pnag::python {

namespace py = pybind11;

/// An argument of the wrong dtype, number of dimensions or memory layout.
class InvalidType : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

/// The array behind `object` if it has this dtype and number of dimensions and is C-contiguous and
/// aligned; else throws InvalidType. Read-only arrays are fine; masked entries, units and unknown
/// subclasses are refused, because their numbers alone mean something else.
py::array checked_array(const py::object& object, const char* name, const py::dtype& dtype,
                        py::ssize_t n_dims);

/// A checked array and a view of its values. Keeps the array alive; needs the GIL to go away.
template <typename T>
struct Input {
    py::array array;
    std::span<const T> values;

    Input(const py::object& object, const char* name, py::ssize_t n_dims)
        : array(checked_array(object, name, py::dtype::of<T>(), n_dims)),
          values(static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())) {}

    [[nodiscard]] std::size_t extent(py::ssize_t axis) const {
        return static_cast<std::size_t>(array.shape(axis));
    }
};

/// Throws InvalidInput unless the array has `columns` columns.
void require_columns(const py::array& array, const char* name, std::size_t columns);

/// `out` itself if it is a writeable array of this dtype and shape that could be an input; else
/// throws InvalidType or InvalidInput. A new array for None.
py::array checked_output(const py::object& out, const py::dtype& dtype,
                         std::initializer_list<std::size_t> shape);

/// Throws InvalidInput if `out` and the input called `name` overlap.
void require_apart(const py::array& out, const py::array& input, const char* name);

/// A new array, or the caller's: beyond the caches the pages of fresh memory take longer than a
/// fast kernel. `values` covers it.
template <typename T>
struct Output {
    py::array array;
    std::span<T> values;

    explicit Output(std::initializer_list<std::size_t> shape, const py::object& out = py::none())
        : array(checked_output(out, py::dtype::of<T>(), shape)),
          values(static_cast<T*>(array.mutable_data()), static_cast<std::size_t>(array.size())) {}
};

/// A number of rows: throws InvalidInput unless 0 <= n and n * width bytes are conceivable.
std::size_t checked_count(const py::int_& n, const char* name, std::size_t width);

/// Throws InvalidInput unless 0 <= seed < 2^64.
std::uint64_t checked_seed(const py::int_& seed);

/// Throws InvalidInput unless `value` is an int64.
std::int64_t checked_int64(const py::int_& value, const char* name);

}  // namespace pnag::python
