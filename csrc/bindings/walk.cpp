#include "pnag/walk.hpp"

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

Walker make_walker(const Space& space, const py::object& entries, const py::object& constants,
                   std::vector<bool> use_max, int context_slot, std::vector<int> n_codes) {
    const Input<double> entry_values(entries, "entries", 4);
    const Input<double> constant_values(constants, "constants", 2);
    CostSpec spec;
    spec.n_tables = entry_values.extent(0);
    spec.n_contexts = entry_values.extent(1);
    spec.n_slots = entry_values.extent(2);
    spec.max_codes = entry_values.extent(3);
    spec.entries = entry_values.values;
    spec.constants = constant_values.values;
    spec.use_max = std::move(use_max);
    spec.context_slot = context_slot;
    spec.n_codes = std::move(n_codes);
    const py::gil_scoped_release release;
    return {space, spec};
}

py::array walk(const Walker& walker, const py::object& curvature, const py::object& linear,
               const py::object& starts, const py::object& limits, const py::object& thresholds,
               const py::object& noise, const py::int_& n_moves, const py::int_& seed,
               int threads) {
    const Input<float> bent(curvature, "curvature", 2);
    const Input<float> straight(linear, "linear", 1);
    const Input<std::uint8_t> codes(starts, "starts", 2);
    require_columns(codes.array, "starts", walker.n_slots());
    const Input<double> bounds(limits, "limits", 2);
    require_columns(bounds.array, "limits", walker.n_tables());
    const Input<float> losses(thresholds, "thresholds", 1);
    const Input<float> deviations(noise, "noise", 1);
    const Walks walks{codes.values,
                      bounds.values,
                      losses.values,
                      deviations.values,
                      checked_count(n_moves, "n_moves", 1),
                      checked_seed(seed)};
    const Output<std::uint8_t> out({codes.extent(0), walker.n_slots()});
    run_interruptibly(threads, [&](const Execution& execution) {
        walker.walk({bent.values, straight.values}, walks, out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_walk(py::module_& module) {
    py::class_<Walker>(module, "Walker", "Walks on a quadratic estimate, within limits on costs.")
        .def(py::init(&make_walker), py::arg("space"), py::arg("entries"), py::arg("constants"),
             py::arg("use_max"), py::arg("context_slot"), py::arg("n_codes"))
        .def("walk", &walk, py::arg("curvature"), py::arg("linear"), py::arg("starts"),
             py::arg("limits"), py::arg("thresholds"), py::arg("noise"), py::arg("n_moves"),
             py::arg("seed"), py::arg("threads"));
}

}  // namespace pnag::python
