#include "arrays.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "pnag/errors.hpp"

namespace pnag::python {
namespace {

// A subclass may say more than its numbers, as masked arrays and quantities do: which ones do is
// written down once, in Python. Plain arrays, nearly all, cost one comparison.
void require_plain(const py::object& array, const char* name) {
    if (Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_) return;
    py::module_::import("pnag_fast.arguments").attr("require_plain")(array, name);
}

// numpy's own shortage of memory is none of the errors that pnag_fast promises.
py::array new_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape) {
    try {
        return {dtype, shape};
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_MemoryError)) throw;
        const py::str message = py::str(error.value());
        py::set_error(py::module_::import("pnag_fast.errors").attr("MemoryShortageError"), message);
        throw py::error_already_set();
    }
}

}  // namespace

py::array checked_array(const py::object& object, const char* name, const py::dtype& dtype,
                        py::ssize_t n_dims) {
    // Made only for a message: it takes longer than a small kernel.
    const auto wanted = [&] {
        return std::string(py::str(dtype)) + " array with " + std::to_string(n_dims) +
               (n_dims == 1 ? " dimension" : " dimensions");
    };
    if (!py::isinstance<py::array>(object)) {
        throw InvalidType(std::string(name) + " is a " +
                          std::string(py::str(py::type::of(object).attr("__name__"))) +
                          "; it must be a C-contiguous " + wanted());
    }
    require_plain(object, name);
    auto array = py::reinterpret_borrow<py::array>(object);
    if (!array.dtype().is(dtype) && !array.dtype().equal(dtype)) {
        throw InvalidType(std::string(name) + " has dtype " + std::string(py::str(array.dtype())) +
                          "; it must be a C-contiguous " + wanted());
    }
    if (array.ndim() != n_dims) {
        throw InvalidType(std::string(name) + " has " + std::to_string(array.ndim()) +
                          " dimensions; it must be a C-contiguous " + wanted());
    }
    const bool aligned = (static_cast<unsigned>(array.flags()) &
                          static_cast<unsigned>(py::detail::npy_api::NPY_ARRAY_ALIGNED_)) != 0;
    if ((static_cast<unsigned>(array.flags()) & static_cast<unsigned>(py::array::c_style)) == 0 ||
        !aligned) {
        throw InvalidType(std::string(name) +
                          " is not C-contiguous and aligned; pass numpy.ascontiguousarray(" + name +
                          ")");
    }
    return array;
}

void require_columns(const py::array& array, const char* name, std::size_t columns) {
    const auto has = static_cast<std::size_t>(array.shape(array.ndim() - 1));
    if (has == columns) return;
    throw InvalidInput(std::string(name) + " has " + std::to_string(has) +
                       " columns; it must have one for each of the " + std::to_string(columns) +
                       " slots");
}

py::array checked_output(const py::object& out, const py::dtype& dtype,
                         std::initializer_list<std::size_t> shape) {
    const std::vector<py::ssize_t> wanted(shape.begin(), shape.end());
    if (out.is_none()) return new_array(dtype, wanted);
    py::array array = checked_array(out, "out", dtype, static_cast<py::ssize_t>(wanted.size()));
    if (!array.writeable()) throw InvalidType("out is read-only");
    if (!std::equal(wanted.begin(), wanted.end(), array.shape())) {
        py::tuple expected(wanted.size());
        for (std::size_t i = 0; i < wanted.size(); ++i)
            expected[i] = wanted[i];
        throw InvalidInput("out has shape " + std::string(py::str(array.attr("shape"))) +
                           "; it must be " + std::string(py::str(expected)));
    }
    return array;
}

void require_apart(const py::array& out, const py::array& input, const char* name) {
    const auto* const to = static_cast<const std::byte*>(out.data());
    const auto* const from = static_cast<const std::byte*>(input.data());
    const std::less<> before;  // compares pointers into different arrays
    if (before(from, to + out.nbytes()) && before(to, from + input.nbytes())) {
        throw InvalidInput(std::string("out shares memory with ") + name);
    }
}

std::size_t checked_count(const py::int_& n, const char* name, std::size_t width) {
    const std::int64_t value = checked_int64(n, name);
    if (value < 0) {
        throw InvalidInput(std::string(name) + " is " + std::to_string(value) +
                           "; it must not be negative");
    }
    constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 62;
    if (static_cast<std::uint64_t>(value) > kMaxBytes / std::max<std::size_t>(width, 1)) {
        throw InvalidInput(std::string(name) + " is " + std::to_string(value) +
                           ", more rows than fit in memory");
    }
    return static_cast<std::size_t>(value);
}

std::uint64_t checked_seed(const py::int_& seed) {
    const auto value = PyLong_AsUnsignedLongLong(seed.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw InvalidInput("seed is " + std::string(py::str(seed)) + "; it must be 0 to 2^64 - 1");
    }
    return value;
}

std::int64_t checked_int64(const py::int_& value, const char* name) {
    const auto result = PyLong_AsLongLong(value.ptr());
    if (result == -1 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw InvalidInput(std::string(name) + " is " + std::string(py::str(value)) +
                           ", which does not fit in a 64-bit integer");
    }
    return result;
}

}  // namespace pnag::python
