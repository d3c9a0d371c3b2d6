#include "pnag/space.hpp"

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

using Codes = std::uint8_t;

Space make_space(const py::sequence& stages) {
    std::vector<StageSpec> specs;
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const std::string name = "stages[" + std::to_string(i) + "]";
        const py::object item = stages[i];
        if (!py::isinstance<py::tuple>(item) || py::len(item) != 3) {
            throw InvalidType(name + " must be a tuple (n_choices, min_depth, rows or None)");
        }
        const auto stage = py::reinterpret_borrow<py::tuple>(item);
        StageSpec spec;
        try {
            spec.n_choices = stage[0].cast<std::vector<int>>();
            spec.min_depth = stage[1].cast<int>();
        } catch (const py::cast_error&) {
            throw InvalidType(name +
                              " must be a tuple (n_choices: list of int, min_depth: int, "
                              "rows: uint8 array or None)");
        }
        if (!stage[2].is_none()) {
            const Input<Codes> rows(stage[2], (name + "[2]").c_str(), 2);
            require_columns(rows.array, (name + "[2]").c_str(), spec.n_choices.size());
            spec.rows.emplace(rows.values.begin(), rows.values.end());
        }
        specs.push_back(std::move(spec));
    }
    return Space(std::move(specs));
}

Input<Codes> batch(const Space& space, const py::object& object, const char* name) {
    Input<Codes> input(object, name, 2);
    require_columns(input.array, name, space.n_slots());
    return input;
}

py::array sample(const Space& space, const py::int_& n, const py::int_& seed, bool decisions,
                 int threads, const py::object& into) {
    const std::uint64_t seed_value = checked_seed(seed);
    const Output<Codes> out({checked_count(n, "n", space.n_slots()), space.n_slots()}, into);
    run_interruptibly(threads, [&](const Execution& execution) {
        if (decisions) {
            space.sample_decisions(seed_value, out.values, execution);
        } else {
            space.sample_uniform(seed_value, out.values, execution);
        }
    });
    return out.array;
}

py::array mutate(const Space& space, const py::object& archs, double rate, const py::int_& seed,
                 int threads, const py::object& into) {
    const Input<Codes> input = batch(space, archs, "archs");
    const std::uint64_t seed_value = checked_seed(seed);
    const Output<Codes> out({input.extent(0), space.n_slots()}, into);
    require_apart(out.array, input.array, "archs");
    run_interruptibly(threads, [&](const Execution& execution) {
        space.mutate(input.values, rate, seed_value, out.values, execution);
    });
    return out.array;
}

py::array crossover(const Space& space, const py::object& a, const py::object& b,
                    const py::int_& seed, int threads, const py::object& into) {
    const Input<Codes> first = batch(space, a, "a");
    const Input<Codes> second = batch(space, b, "b");
    const std::uint64_t seed_value = checked_seed(seed);
    const Output<Codes> out({first.extent(0), space.n_slots()}, into);
    require_apart(out.array, first.array, "a");
    require_apart(out.array, second.array, "b");
    run_interruptibly(threads, [&](const Execution& execution) {
        space.crossover(first.values, second.values, seed_value, out.values, execution);
    });
    return out.array;
}

py::array neighbors(const Space& space, const py::object& arch) {
    const Input<Codes> input(arch, "arch", 1);
    require_columns(input.array, "arch", space.n_slots());
    std::vector<Codes> rows;
    {
        const py::gil_scoped_release release;
        rows = space.neighbors(input.values);
    }
    const Output<Codes> out({rows.size() / space.n_slots(), space.n_slots()});
    std::copy(rows.begin(), rows.end(), out.values.begin());
    return out.array;
}

py::array neighborhood_offsets(const Space& space, const py::object& archs, const py::int_& radius,
                               const py::int_& samples, bool own, int threads) {
    const Input<Codes> input = batch(space, archs, "archs");
    const std::int64_t radius_value = checked_int64(radius, "radius");
    const std::int64_t samples_value = checked_int64(samples, "samples");
    const Output<std::int64_t> out({input.extent(0) + 1});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.neighborhood_offsets(input.values, radius_value, samples_value, own, out.values,
                                   execution);
    });
    return out.array;
}

py::array neighborhoods(const Space& space, const py::object& archs, const py::int_& radius,
                        bool own, const py::int_& seed, const py::object& offsets, int threads) {
    const Input<Codes> input = batch(space, archs, "archs");
    const std::int64_t radius_value = checked_int64(radius, "radius");
    const std::uint64_t seed_value = checked_seed(seed);
    const Input<std::int64_t> ends(offsets, "offsets", 1);
    if (ends.values.empty() || ends.values.back() < 0) {
        throw InvalidInput("offsets are not those of neighborhood_offsets");
    }
    const Output<Codes> out({static_cast<std::size_t>(ends.values.back()), space.n_slots()});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.neighborhoods(input.values, radius_value, own, seed_value, ends.values, out.values,
                            execution);
    });
    return out.array;
}

py::array one_hot(const Space& space, const py::object& archs, int threads) {
    const Input<Codes> input = batch(space, archs, "archs");
    std::size_t width = 0;
    for (const int choices : space.n_choices())
        width += static_cast<std::size_t>(choices);
    const Output<float> out({input.extent(0), width});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.one_hot(input.values, out.values, execution);
    });
    return out.array;
}

py::array enumerate(const Space& space, const py::int_& first, const py::int_& count, int threads) {
    const std::int64_t first_value = checked_int64(first, "first");
    const std::size_t n_rows = checked_count(count, "count", space.n_slots());
    space.require_range(first_value, n_rows);  // before an impossible amount of memory is asked for
    const Output<Codes> out({n_rows, space.n_slots()});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.enumerate(first_value, out.values, execution);
    });
    return out.array;
}

py::array rank(const Space& space, const py::object& archs, int threads) {
    const Input<Codes> input = batch(space, archs, "archs");
    const Output<std::int64_t> out({input.extent(0), space.n_stages()});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.rank(input.values, out.values, execution);
    });
    return out.array;
}

py::array unrank(const Space& space, const py::object& indices, int threads) {
    const Input<std::int64_t> input(indices, "indices", 2);
    if (input.extent(1) != space.n_stages()) {
        throw InvalidInput("indices has " + std::to_string(input.extent(1)) +
                           " columns; it must have one for each of the " +
                           std::to_string(space.n_stages()) + " stages");
    }
    const Output<Codes> out({input.extent(0), space.n_slots()});
    run_interruptibly(threads, [&](const Execution& execution) {
        space.unrank(input.values, out.values, execution);
    });
    return out.array;
}

py::object find_invalid(const Space& space, const py::object& archs, int threads) {
    const Input<Codes> input = batch(space, archs, "archs");
    std::optional<InvalidEntry> fault;
    run_interruptibly(threads, [&](const Execution& execution) {
        fault = space.find_invalid(input.values, execution);
    });
    if (!fault) return py::none();
    return py::make_tuple(fault->row, fault->slot, fault->value);
}

}  // namespace

void register_space(py::module_& module) {
    py::class_<Space>(module, "Space", "A search space: stages of slots.")
        .def(py::init(&make_space), py::arg("stages"))
        .def_property_readonly("n_slots", &Space::n_slots)
        .def_property_readonly(
            "n_choices", [](const Space& space) { return py::tuple(py::cast(space.n_choices())); })
        .def_property_readonly("stage_counts", &Space::stage_counts)
        .def("sample", &sample, py::arg("n"), py::arg("seed"), py::arg("decisions"),
             py::arg("threads"), py::arg("out") = py::none())
        .def("mutate", &mutate, py::arg("archs"), py::arg("rate"), py::arg("seed"),
             py::arg("threads"), py::arg("out") = py::none())
        .def("crossover", &crossover, py::arg("a"), py::arg("b"), py::arg("seed"),
             py::arg("threads"), py::arg("out") = py::none())
        .def("neighbors", &neighbors, py::arg("arch"))
        .def("neighborhood_offsets", &neighborhood_offsets, py::arg("archs"), py::arg("radius"),
             py::arg("samples"), py::arg("own"), py::arg("threads"))
        .def("neighborhoods", &neighborhoods, py::arg("archs"), py::arg("radius"), py::arg("own"),
             py::arg("seed"), py::arg("offsets"), py::arg("threads"))
        .def("one_hot", &one_hot, py::arg("archs"), py::arg("threads"))
        .def("enumerate", &enumerate, py::arg("first"), py::arg("count"), py::arg("threads"))
        .def("rank", &rank, py::arg("archs"), py::arg("threads"))
        .def("unrank", &unrank, py::arg("indices"), py::arg("threads"))
        .def("find_invalid", &find_invalid, py::arg("archs"), py::arg("threads"));
}

}  // namespace pnag::python
