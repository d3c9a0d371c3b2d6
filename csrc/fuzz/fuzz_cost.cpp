// Cost tables, spreads and lookups: refused or accepted as by definition; accepted lookups give the
// sum that the contract spells out, to the last bit.
#include <algorithm>
#include <cmath>

#include "bytes.hpp"
#include "pnag/cost.hpp"

using namespace pnag;
using namespace pnag::fuzz;

namespace {

// One table's entries and constant in one context.
struct Naive {
    const CostSpec& spec;
    std::size_t table;
    std::size_t context;

    [[nodiscard]] double entry(std::size_t slot, std::size_t code) const {
        return spec
            .entries[((table * spec.n_contexts + context) * spec.n_slots + slot) * spec.max_codes +
                     code];
    }
    [[nodiscard]] double constant() const {
        return spec.constants[table * spec.n_contexts + context];
    }

    [[nodiscard]] double cost(const std::uint8_t* row) const {
        double total = constant();
        for (std::size_t s = 0; s < spec.n_slots; s += 2) {
            const double first = entry(s, row[s]);
            const bool single = s + 1 == spec.n_slots;
            const double second = single ? first : entry(s + 1, row[s + 1]);
            if (spec.use_max[table]) {
                total = std::max({total, first, second});
            } else {
                total += single ? first : first + second;
            }
        }
        return total;
    }
};

bool is_possible(const CostSpec& spec) {
    if (spec.n_tables == 0 || spec.n_slots == 0 || spec.n_codes.size() != spec.n_slots ||
        spec.use_max.size() != spec.n_tables || spec.context_slot < -1 ||
        spec.context_slot >= static_cast<int>(spec.n_slots)) {
        return false;
    }
    for (const int n : spec.n_codes) {
        if (n < 2 || n > 255 || static_cast<std::size_t>(n) > spec.max_codes) return false;
    }
    const int contexts =
        spec.context_slot < 0 ? 1 : spec.n_codes[static_cast<std::size_t>(spec.context_slot)] - 1;
    if (static_cast<int>(spec.n_contexts) != contexts ||
        spec.constants.size() != spec.n_tables * spec.n_contexts ||
        spec.entries.size() != spec.constants.size() * spec.n_slots * spec.max_codes) {
        return false;
    }
    for (std::size_t t = 0; t < spec.n_tables; ++t) {
        for (std::size_t k = 0; k < spec.n_contexts; ++k) {
            const Naive naive{spec, t, k};
            if (!std::isfinite(naive.constant())) return false;
            for (std::size_t s = 0; s < spec.n_slots; ++s) {
                for (std::size_t c = 0; c < static_cast<std::size_t>(spec.n_codes[s]); ++c) {
                    if (!std::isfinite(naive.entry(s, c))) return false;
                }
            }
        }
    }
    return true;
}

bool is_valid_row(const CostSpec& spec, const std::uint8_t* row) {
    for (std::size_t s = 0; s < spec.n_slots; ++s) {
        if (row[s] >= spec.n_codes[s]) return false;
        if (row[s] == 0 && static_cast<int>(s) == spec.context_slot) return false;
    }
    return true;
}

// The tables as the numbers of one spread, by table last; the documented order of operations.
struct NaiveSpread {
    const CostSpec& spec;
    std::vector<double> entries;
    std::vector<double> constants;
    double misfit;

    NaiveSpread(const CostSpec& tables, double beside) : spec(tables), misfit(beside) {
        for (std::size_t k = 0; k < spec.n_contexts; ++k) {
            for (std::size_t t = 0; t < spec.n_tables; ++t)
                constants.push_back(Naive{spec, t, k}.constant());
            for (std::size_t i = 0; i < spec.n_slots * spec.max_codes; ++i) {
                for (std::size_t t = 0; t < spec.n_tables; ++t)
                    entries.push_back(Naive{spec, t, k}.entry(0, i));
            }
        }
    }

    [[nodiscard]] SpreadSpec parts() const {
        return {spec.n_contexts, spec.n_slots, spec.max_codes,    spec.n_tables, entries,
                constants,       misfit,       spec.context_slot, spec.n_codes};
    }

    [[nodiscard]] double deviation(const std::uint8_t* row, std::size_t context,
                                   double mean) const {
        double squares[8] = {};
        for (std::size_t t = 0; t < spec.n_tables; ++t) {
            const Naive naive{spec, t, context};
            double sum = naive.constant();
            for (std::size_t s = 0; s < spec.n_slots; ++s)
                sum += naive.entry(s, row[s]);
            squares[t % 8] += sum * sum;
        }
        for (const std::size_t half : {4U, 2U, 1U}) {
            for (std::size_t i = 0; i < half; ++i)
                squares[i] += squares[i + half];
        }
        return std::sqrt(squares[0] + misfit * mean * (misfit * mean));
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes in(data, size);
    CostSpec spec;
    spec.n_tables = in.below(10);
    spec.n_slots = in.below(8);
    spec.context_slot = static_cast<int>(in.below(10)) - 1;
    spec.max_codes = in.below(40) == 1 ? 256 : 1 + in.below(6);
    for (std::size_t s = 0; s < spec.n_slots; ++s) {
        const std::uint8_t value = in.byte();
        spec.n_codes.push_back(value == 255 ? 256 : value % 7);
        if (value < 200) {
            spec.n_codes.back() = static_cast<int>(std::max<std::size_t>(2, spec.max_codes));
        }
    }
    spec.n_contexts = 1;
    if (spec.context_slot >= 0 && spec.context_slot < static_cast<int>(spec.n_slots)) {
        const int codes = spec.n_codes[static_cast<std::size_t>(spec.context_slot)];
        spec.n_contexts = static_cast<std::size_t>(std::max(codes, 1)) - 1;
    }
    if (in.byte() == 1) ++spec.n_contexts;
    for (std::size_t t = 0; t < spec.n_tables; ++t)
        spec.use_max.push_back(in.below(3) == 1);
    // A few values, repeated in an order that no slot shares with another.
    std::vector<double> values(1 + in.below(64));
    for (double& value : values)
        value = in.number();
    std::size_t n_values = spec.n_tables * spec.n_contexts * spec.n_slots * spec.max_codes;
    if (in.byte() == 1 && n_values > 0) --n_values;
    std::vector<double> entries(n_values);
    for (std::size_t i = 0; i < n_values; ++i)
        entries[i] = values[i * 7 % values.size()];
    std::vector<double> constants(spec.n_tables * spec.n_contexts);
    for (double& value : constants)
        value = in.number();
    spec.entries = entries;
    spec.constants = constants;

    if (!is_possible(spec)) {
        REQUIRE(refuses([&] { const CostTables tables(spec); }));
        return 0;
    }
    const CostTables tables(spec);
    const NaiveSpread naive_spread(spec, in.number());
    const double misfit = naive_spread.misfit;
    const bool bad_misfit = !(misfit >= 0.0) || std::isinf(misfit);
    REQUIRE(refuses([&] { const CostSpread spread(naive_spread.parts()); }) == bad_misfit);
    // More rows than the kernels take at once.
    std::vector<std::uint8_t> rows(spec.n_slots * in.below(200));
    const bool hostile = in.below(4) == 1;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto n = static_cast<unsigned>(spec.n_codes[i % spec.n_slots]);
        const bool is_context = static_cast<int>(i % spec.n_slots) == spec.context_slot;
        const unsigned value = in.size() > 0 ? in.byte() : static_cast<unsigned>(i * 31 >> 3);
        const bool wrong = hostile && value >= 254;
        rows[i] = static_cast<std::uint8_t>(wrong                    ? value
                                            : is_context && !hostile ? 1 + value % (n - 1)
                                                                     : value % n);
    }
    const std::size_t n_rows = rows.size() / spec.n_slots;
    bool valid = true;
    for (std::size_t r = 0; r < n_rows; ++r)
        valid = valid && is_valid_row(spec, rows.data() + r * spec.n_slots);
    std::vector<double> costs(n_rows * spec.n_tables);
    REQUIRE(refuses([&] { tables.lookup(rows, costs, 1); }) == !valid);
    if (!valid) return 0;
    for (std::size_t r = 0; r < n_rows; ++r) {
        const std::uint8_t* row = rows.data() + r * spec.n_slots;
        const std::size_t context =
            spec.context_slot < 0 ? 0 : row[spec.context_slot] - std::size_t{1};
        for (std::size_t t = 0; t < spec.n_tables; ++t) {
            const double expected = Naive{spec, t, context}.cost(row);
            const double found = costs[r * spec.n_tables + t];
            // Sums of large numbers may overflow both ways.
            REQUIRE(found == expected || (std::isnan(found) && std::isnan(expected)));
        }
    }
    if (bad_misfit) return 0;
    std::vector<double> mean(n_rows);
    for (std::size_t r = 0; r < n_rows; ++r)
        mean[r] = costs[r * spec.n_tables];
    std::vector<double> deviations(n_rows);
    CostSpread(naive_spread.parts()).lookup(rows, mean, deviations, 1);
    for (std::size_t r = 0; r < n_rows; ++r) {
        const std::uint8_t* row = rows.data() + r * spec.n_slots;
        const std::size_t context =
            spec.context_slot < 0 ? 0 : row[spec.context_slot] - std::size_t{1};
        const double expected = naive_spread.deviation(row, context, mean[r]);
        REQUIRE(deviations[r] == expected || (std::isnan(deviations[r]) && std::isnan(expected)));
    }
    return 0;
}
