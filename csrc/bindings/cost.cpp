#include "pnag/cost.hpp"

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

CostTables make_tables(const py::object& entries, const py::object& constants,
                       std::vector<bool> use_max, int context_slot, std::vector<int> n_codes) {
    const Input<double> entry_values(entries, "entries", 4);
    const Input<double> constant_values(constants, "constants", 2);
    CostSpec spec;
    spec.n_tables = entry_values.extent(0);
    spec.n_contexts = entry_values.extent(1);
    spec.n_slots = entry_values.extent(2);
    spec.max_codes = entry_values.extent(3);
    if (constant_values.extent(0) != spec.n_tables ||
        constant_values.extent(1) != spec.n_contexts) {
        throw InvalidInput("constants has shape (" + std::to_string(constant_values.extent(0)) +
                           ", " + std::to_string(constant_values.extent(1)) + "); entries has " +
                           std::to_string(spec.n_tables) + " tables and " +
                           std::to_string(spec.n_contexts) + " contexts");
    }
    spec.entries = entry_values.values;
    spec.constants = constant_values.values;
    spec.use_max = std::move(use_max);
    spec.context_slot = context_slot;
    spec.n_codes = std::move(n_codes);
    const py::gil_scoped_release release;
    return CostTables(spec);
}

py::array lookup(const CostTables& tables, const py::object& archs, int threads,
                 const py::object& out) {
    const Input<std::uint8_t> input(archs, "archs", 2);
    require_columns(input.array, "archs", tables.n_slots());
    const Output<double> costs({input.extent(0), tables.n_tables()}, out);
    require_apart(costs.array, input.array, "archs");
    run_interruptibly(threads, [&](const Execution& execution) {
        tables.lookup(input.values, costs.values, execution);
    });
    return costs.array;
}

CostSpread make_spread(const py::object& entries, const py::object& constants, double misfit,
                       int context_slot, std::vector<int> n_codes) {
    const Input<double> entry_values(entries, "entries", 4);
    const Input<double> constant_values(constants, "constants", 2);
    SpreadSpec spec;
    spec.n_contexts = entry_values.extent(0);
    spec.n_slots = entry_values.extent(1);
    spec.max_codes = entry_values.extent(2);
    spec.rank = entry_values.extent(3);
    if (constant_values.extent(0) != spec.n_contexts || constant_values.extent(1) != spec.rank) {
        throw InvalidInput("constants has shape (" + std::to_string(constant_values.extent(0)) +
                           ", " + std::to_string(constant_values.extent(1)) + "); entries has " +
                           std::to_string(spec.n_contexts) + " contexts and rank " +
                           std::to_string(spec.rank));
    }
    spec.entries = entry_values.values;
    spec.constants = constant_values.values;
    spec.misfit = misfit;
    spec.context_slot = context_slot;
    spec.n_codes = std::move(n_codes);
    const py::gil_scoped_release release;
    return CostSpread(spec);
}

py::array lookup_spread(const CostSpread& spread, const py::object& archs, const py::object& mean,
                        int threads) {
    const Input<std::uint8_t> input(archs, "archs", 2);
    require_columns(input.array, "archs", spread.n_slots());
    const Input<double> means(mean, "mean", 1);
    const Output<double> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        spread.lookup(input.values, means.values, out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_cost(py::module_& module) {
    py::class_<CostTables>(module, "CostTables",
                           "Costs that add up (or take the maximum) over slots.")
        .def(py::init(&make_tables), py::arg("entries"), py::arg("constants"), py::arg("use_max"),
             py::arg("context_slot"), py::arg("n_codes"))
        .def_property_readonly("n_slots", &CostTables::n_slots)
        .def_property_readonly("n_tables", &CostTables::n_tables)
        .def("lookup", &lookup, py::arg("archs"), py::arg("threads"), py::arg("out") = py::none());
    py::class_<CostSpread>(module, "CostSpread", "How far costs that add up may be wrong.")
        .def(py::init(&make_spread), py::arg("entries"), py::arg("constants"), py::arg("misfit"),
             py::arg("context_slot"), py::arg("n_codes"))
        .def("lookup", &lookup_spread, py::arg("archs"), py::arg("mean"), py::arg("threads"));
}

}  // namespace pnag::python
