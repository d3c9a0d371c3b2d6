#include "pnag/pareto.hpp"

#include "arrays.hpp"
#include "interruptible.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

Points view(const Input<double>& input) {
    return {input.values, input.extent(0), input.extent(1)};
}

py::array sort(const py::object& points, int threads) {
    const Input<double> input(points, "points", 2);
    const Output<std::int32_t> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        non_dominated_sort(view(input), out.values, execution);
    });
    return out.array;
}

py::array mask(const py::object& points, int threads) {
    const Input<double> input(points, "points", 2);
    const Output<bool> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        // numpy's bool is a byte of 0 or 1.
        static_assert(sizeof(bool) == 1);
        is_non_dominated(view(input),
                         {reinterpret_cast<std::uint8_t*>(out.values.data()), out.values.size()},
                         execution);
    });
    return out.array;
}

py::array crowding(const py::object& points, int threads) {
    const Input<double> input(points, "points", 2);
    const Output<double> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        crowding_distance(view(input), out.values, execution);
    });
    return out.array;
}

double volume(const py::object& points, const py::object& reference, int threads) {
    const Input<double> input(points, "points", 2);
    const Input<double> corner(reference, "reference", 1);
    return run_interruptibly(threads, [&](const Execution& execution) {
        return hypervolume(view(input), corner.values, execution);
    });
}

py::array contributions(const py::object& points, const py::object& reference, int threads) {
    const Input<double> input(points, "points", 2);
    const Input<double> corner(reference, "reference", 1);
    const Output<double> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        hypervolume_contributions(view(input), corner.values, out.values, execution);
    });
    return out.array;
}

BestWithin make_best_within(const py::object& costs, const py::object& merit, int threads) {
    const Input<double> rows(costs, "costs", 2);
    const Input<double> values(merit, "merit", 1);
    return run_interruptibly(threads, [&](const Execution& execution) {
        return BestWithin(view(rows), values.values, execution);
    });
}

py::array find_within(const BestWithin& within, const py::object& bounds, int threads) {
    const Input<double> input(bounds, "bounds", 2);
    const Output<std::int64_t> out({input.extent(0)});
    run_interruptibly(threads, [&](const Execution& execution) {
        within.find(view(input), out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_pareto(py::module_& module) {
    py::class_<BestWithin>(module, "BestWithin", "Rows, asked for the best within upper bounds.")
        .def(py::init(&make_best_within), py::arg("costs"), py::arg("merit"),
             py::arg("threads") = 1)
        .def("find", &find_within, py::arg("bounds"), py::arg("threads"));
    module.def("non_dominated_sort", &sort, py::arg("points"), py::arg("threads"));
    module.def("is_non_dominated", &mask, py::arg("points"), py::arg("threads"));
    module.def("crowding_distance", &crowding, py::arg("points"), py::arg("threads") = 1);
    module.def("hypervolume", &volume, py::arg("points"), py::arg("reference"),
               py::arg("threads") = 1);
    module.def("hypervolume_contributions", &contributions, py::arg("points"), py::arg("reference"),
               py::arg("threads") = 1);
}

}  // namespace pnag::python
