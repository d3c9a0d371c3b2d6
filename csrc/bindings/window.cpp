#include "pnag/window.hpp"

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

WindowSampler make_sampler(const Space& space, const py::object& entries,
                           const py::object& constants, int context_slot,
                           std::vector<int> n_codes) {
    const Input<double> entry_values(entries, "entries", 3);
    const Input<double> constant_values(constants, "constants", 1);
    CostSpec spec;
    spec.n_tables = 1;
    spec.n_contexts = entry_values.extent(0);
    spec.n_slots = entry_values.extent(1);
    spec.max_codes = entry_values.extent(2);
    spec.entries = entry_values.values;
    spec.constants = constant_values.values;
    spec.use_max = {false};
    spec.context_slot = context_slot;
    spec.n_codes = std::move(n_codes);
    return run_interruptibly(
        1, [&](const Execution& execution) { return WindowSampler(space, spec, execution); });
}

py::int_ to_python(uint128 value) {
    const py::int_ high(static_cast<std::uint64_t>(value >> 64));
    const py::int_ low(static_cast<std::uint64_t>(value));
    return py::int_((high << py::int_(64)) | low);
}

py::tuple count(const WindowSampler& sampler, double low, double high, int threads) {
    WindowCount found;
    run_interruptibly(
        threads, [&](const Execution& execution) { found = sampler.count(low, high, execution); });
    return py::make_tuple(to_python(found.lower), to_python(found.upper), found.tolerance);
}

py::array sample(const WindowSampler& sampler, const py::int_& n, double low, double high,
                 const py::int_& seed, int threads, const py::object& into) {
    const std::uint64_t seed_value = checked_seed(seed);
    const Output<std::uint8_t> out({checked_count(n, "n", sampler.n_slots()), sampler.n_slots()},
                                   into);
    run_interruptibly(threads, [&](const Execution& execution) {
        sampler.sample(low, high, seed_value, out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_window(py::module_& module) {
    py::class_<WindowSampler>(module, "WindowSampler",
                              "Architectures of a space whose cost lies in a window.")
        .def(py::init(&make_sampler), py::arg("space"), py::arg("entries"), py::arg("constants"),
             py::arg("context_slot"), py::arg("n_codes"))
        .def_property_readonly("n_slots", &WindowSampler::n_slots)
        .def("count", &count, py::arg("low"), py::arg("high"), py::arg("threads"))
        .def("sample", &sample, py::arg("n"), py::arg("low"), py::arg("high"), py::arg("seed"),
             py::arg("threads"), py::arg("out") = py::none());
}

}  // namespace pnag::python
