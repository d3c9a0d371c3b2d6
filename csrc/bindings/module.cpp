#include <pybind11/pybind11.h>

#include "register.hpp"

PYBIND11_MODULE(_core, module) {
    module.doc() =
        "Kernels of pnag_fast; strict about dtypes and shapes, see the modules above it.";
    pnag::python::register_errors(module);
    pnag::python::register_build_info(module);
    pnag::python::register_segments(module);
    pnag::python::register_space(module);
    pnag::python::register_cost(module);
    pnag::python::register_depthwise(module);
    pnag::python::register_pareto(module);
    pnag::python::register_walk(module);
    pnag::python::register_window(module);
}
