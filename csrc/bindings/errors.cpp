#include "pnag/errors.hpp"

#include <exception>
#include <new>

#include "arrays.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

// The classes live in Python; they are looked up when needed, because pnag_fast.errors may not have
// been imported when this module is.
void raise(const char* class_name, const char* message) {
    const py::object error_class = py::module_::import("pnag_fast.errors").attr(class_name);
    py::set_error(error_class, message);
}

}  // namespace

void register_errors(py::module_&) {
    py::register_local_exception_translator([](std::exception_ptr pending) {
        try {
            if (pending) std::rethrow_exception(pending);
        } catch (const InvalidInput& error) {
            raise("InvalidInputError", error.what());
        } catch (const InvalidType& error) {
            raise("InvalidTypeError", error.what());
        } catch (const std::bad_alloc&) {
            raise("MemoryShortageError",
                  "memory ran out; pass fewer rows or points at a time, or use fewer threads");
        }
    });
}

}  // namespace pnag::python
