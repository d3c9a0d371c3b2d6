#include "pnag/segments.hpp"

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

Statistic statistic_named(const std::string& name) {
    if (name == "mean") return Statistic::kMean;
    if (name == "median") return Statistic::kMedian;
    if (name == "min") return Statistic::kMinimum;
    if (name == "max") return Statistic::kMaximum;
    throw InvalidInput("statistic is '" + name + "'; it must be mean, median, min or max");
}

py::array reduce(const py::object& values, const py::object& offsets, const std::string& statistic,
                 int threads) {
    const Input<double> numbers(values, "values", 1);
    const Input<std::int64_t> ends(offsets, "offsets", 1);
    if (ends.values.empty()) throw InvalidInput("offsets is empty; it must begin with 0");
    const Statistic chosen = statistic_named(statistic);
    const Output<double> out({ends.extent(0) - 1});
    run_interruptibly(threads, [&](const Execution& execution) {
        reduce_segments(numbers.values, ends.values, chosen, out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_segments(py::module_& module) {
    module.def("reduce_segments", &reduce, py::arg("values"), py::arg("offsets"),
               py::arg("statistic"), py::arg("threads"));
}

}  // namespace pnag::python
