// One function per topic, each in the file of its topic.
#pragma once

#include <pybind11/pybind11.h>

namespace pnag::python {

void register_errors(pybind11::module_& module);
void register_build_info(pybind11::module_& module);
void register_segments(pybind11::module_& module);
void register_space(pybind11::module_& module);
void register_cost(pybind11::module_& module);
void register_depthwise(pybind11::module_& module);
void register_pareto(pybind11::module_& module);
void register_walk(pybind11::module_& module);
void register_window(pybind11::module_& module);

}  // namespace pnag::python
