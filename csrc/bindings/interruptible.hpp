// Kernels that Ctrl-C stops.
#pragma once

#include <pybind11/pybind11.h>

#include "pnag/execution.hpp"

namespace pnag::python {

/// Call kernel(execution) without the GIL. Signal handlers run while it works; if one raises, as
/// that of Ctrl-C does, the kernel stops and the exception is thrown.
///
/// Python runs handlers in its main thread only, so kernels called from others are not stopped.
template <typename Kernel>
auto run_interruptibly(int threads, Kernel&& kernel) {
    const pybind11::gil_scoped_release release;
    Cancellation cancellation([] {
        const pybind11::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    });
    return kernel(Execution(threads, &cancellation));
}

}  // namespace pnag::python
