#include "pnag/window.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"

namespace pnag {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kWindowStream = 5;

// Factors are joined into units while their rows stay in the second-level cache.
constexpr std::size_t kMaxJoinedRows = 16384;
constexpr std::size_t kMaxFactorRows = std::size_t{1} << 22;
// 2^23 entries of 8 bytes: 64 MiB, over all contexts.
constexpr std::size_t kMaxEntries = std::size_t{1} << 23;
// Bins of the sum: the coarse tables of ofa-mbv3 take 3 MiB and stay in a cache, the fine ones,
// 50 MiB, are for windows that are narrow against the coarse bins. Counting needs no tables.
constexpr double kCoarseBins = 1024;
constexpr double kFineBins = 4096;
constexpr double kCountBins = 8192;
// Windows with fewer candidates than this are listed where few of them would be accepted.
constexpr double kMaxListed = 1 << 20;
constexpr double kMinAcceptance = 0.05;
constexpr std::uint32_t kMaxAttempts = 1U << 20;
constexpr std::size_t kLanes = 64;

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

void require_threads(const Execution& execution) {
    if (execution.threads < 1) {
        throw InvalidInput("threads is " + std::to_string(execution.threads) + "; at least 1");
    }
}

std::string slot_name(std::size_t slot) {
    return "slot " + std::to_string(slot);
}

// Slots whose allowed rows can be listed independently of all others.
struct Factor {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::vector<std::uint8_t> rows;

    [[nodiscard]] std::size_t n_rows() const { return rows.size() / n_slots; }
};

// A run of slots with all its rows, cheapest first.
struct Unit {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::vector<double> costs;
    std::vector<std::uint8_t> codes;

    void write(std::size_t row, std::uint8_t* arch) const {
        const std::uint8_t* from = codes.data() + row * n_slots;
        if (n_slots == 4) {
            std::memcpy(arch + first_slot, from, 4);
        } else {
            std::memcpy(arch + first_slot, from, n_slots);
        }
    }
    [[nodiscard]] double span() const { return costs.back() - costs.front(); }
};

// Everything under one context (input resolution): the binned units and the exact one, whose costs
// include the constant.
struct Context {
    std::vector<Unit> units;
    Unit exact;
};

// Rows [start[b], start[b + 1]) of a unit fall into bin b.
struct Bins {
    std::vector<std::uint32_t> start;
    std::vector<double> lo;  // smallest and largest cost in the bin
    std::vector<double> hi;

    [[nodiscard]] std::size_t size() const { return lo.size(); }
    [[nodiscard]] std::uint32_t count(std::size_t b) const { return start[b + 1] - start[b]; }
};

// The counts of one context: ways[i][t] combinations of the units 0 to i have bins that sum to t.
template <typename Count>
struct Grid {
    double width = 0.0;
    std::vector<Bins> bins;
    std::vector<std::vector<Count>> ways;
    std::vector<double> lo;  // smallest and largest true cost of the combinations of all units
    std::vector<double> hi;

    [[nodiscard]] const std::vector<Count>& all_ways() const { return ways.back(); }
};

Bins cut(const Unit& unit, double width, bool one_row_each) {
    const std::size_t n_rows = unit.costs.size();
    const double first = unit.costs.front();
    const auto bin_of = [&](std::size_t row) {
        return one_row_each ? row : static_cast<std::size_t>((unit.costs[row] - first) / width);
    };
    const std::size_t n_bins = bin_of(n_rows - 1) + 1;
    Bins bins;
    bins.start.assign(n_bins + 1, 0);
    bins.lo.assign(n_bins, kInfinity);
    bins.hi.assign(n_bins, -kInfinity);
    for (std::size_t row = 0; row < n_rows; ++row) {
        const std::size_t b = bin_of(row);
        ++bins.start[b + 1];
        bins.lo[b] = std::min(bins.lo[b], unit.costs[row]);
        bins.hi[b] = std::max(bins.hi[b], unit.costs[row]);
    }
    std::partial_sum(bins.start.begin(), bins.start.end(), bins.start.begin());
    return bins;
}

template <typename Count>
Grid<Count> make_grid(const Context& context, double n_bins) {
    Grid<Count> grid;
    double span = 0.0;
    for (const Unit& unit : context.units)
        span += unit.span();
    grid.width = span > 0.0 ? span / n_bins : 1.0;
    grid.ways.push_back({1});
    grid.lo = {0.0};
    grid.hi = {0.0};
    // A single unit needs no bins: every row is one.
    const bool one_row_each = context.units.size() == 1;
    if (context.units.size() < 2) grid.width = 0.0;
    for (const Unit& unit : context.units) {
        grid.bins.push_back(cut(unit, grid.width, one_row_each));
        const Bins& bins = grid.bins.back();
        std::vector<Count> before = std::move(grid.ways.back());
        const std::size_t n = before.size();
        std::vector<Count> ways(n + bins.size() - 1, 0);
        std::vector<double> lo(ways.size(), kInfinity);
        std::vector<double> hi(ways.size(), -kInfinity);
        for (std::size_t b = 0; b < bins.size(); ++b) {
            if (bins.count(b) == 0) continue;
            const auto rows = static_cast<Count>(bins.count(b));
            const double bin_lo = bins.lo[b];
            const double bin_hi = bins.hi[b];
            for (std::size_t t = 0; t < n; ++t)
                ways[t + b] += rows * before[t];
            for (std::size_t t = 0; t < n; ++t) {
                const double least = grid.lo[t] + bin_lo;
                const double most = grid.hi[t] + bin_hi;
                lo[t + b] = least < lo[t + b] ? least : lo[t + b];
                hi[t + b] = most > hi[t + b] ? most : hi[t + b];
            }
        }
        grid.ways.back() = std::move(before);
        grid.ways.push_back(std::move(ways));
        grid.lo = std::move(lo);
        grid.hi = std::move(hi);
    }
    // ways[i] so far counts the units before i.
    if (!context.units.empty()) grid.ways.erase(grid.ways.begin());
    return grid;
}

// Rows of the exact unit that may, and that must, bring a sum of bins into the window.
struct Completion {
    std::size_t may_begin = 0;
    std::size_t may_end = 0;
    std::size_t must_begin = 0;
    std::size_t must_end = 0;

    [[nodiscard]] std::size_t may() const { return may_end - may_begin; }
    [[nodiscard]] std::size_t must() const { return must_end - must_begin; }
};

Completion complete(const std::vector<double>& costs, double low, double high, double lo, double hi,
                    double rounding) {
    if (rounding == 0.0) {
        // Costs are integers: differences with these ends are exact, those with others may round.
        low = std::ceil(low);
        high = std::floor(high);
    }
    const auto at_least = [&](double cost) {
        return static_cast<std::size_t>(std::lower_bound(costs.begin(), costs.end(), cost) -
                                        costs.begin());
    };
    const auto beyond = [&](double cost) {
        return static_cast<std::size_t>(std::upper_bound(costs.begin(), costs.end(), cost) -
                                        costs.begin());
    };
    Completion found;
    found.may_begin = at_least(low - hi - rounding);
    found.may_end = std::max(found.may_begin, beyond(high - lo + rounding));
    // Within the outer rows, and never a negative number of them.
    found.must_begin = std::min(at_least(low - lo + rounding), found.may_end);
    found.must_end = std::max(found.must_begin, beyond(high - hi - rounding));
    return found;
}

// Column k gives k with probability `share`, else `alias`; columns are equally likely. The sweep
// over light and heavy columns is that of Hübschle-Schneider and Sanders, "Parallel weighted random
// sampling" (2022). A column without weight is never given, whatever rounding left over.
template <typename Emit>
void make_alias(const double* weights, std::size_t n, const Emit& emit) {
    double total = 0.0;
    for (std::size_t i = 0; i < n; ++i)
        total += weights[i];
    const double capacity = total / static_cast<double>(n);
    const auto light_from = [&](std::size_t i) {
        while (i < n && weights[i] > capacity)
            ++i;
        return i;
    };
    const auto heavy_from = [&](std::size_t i) {
        while (i < n && !(weights[i] > capacity))
            ++i;
        return i;
    };
    std::size_t light = light_from(0);
    std::size_t heavy = heavy_from(0);
    std::size_t last_heavy = heavy;
    double left = heavy < n ? weights[heavy] : 0.0;
    while (heavy < n) {
        last_heavy = heavy;
        if (left > capacity && light < n) {
            emit(light, weights[light] / capacity, heavy);
            left -= capacity - weights[light];
            light = light_from(light + 1);
            continue;
        }
        const std::size_t heir = heavy_from(heavy + 1);
        if (heir >= n) {
            emit(heavy, 1.0, heavy);
        } else {
            emit(heavy, std::min(left / capacity, 1.0), heir);
            left += weights[heir] - capacity;
        }
        heavy = heir;
    }
    for (; light < n; light = light_from(light + 1)) {
        if (weights[light] > 0.0) {
            emit(light, 1.0, light);
        } else {
            emit(light, 0.0, last_heavy);
        }
    }
}

// Which bin of a unit, given the sum of its bin and those of the units before it.
struct BinDraws {
    struct Sum {
        std::uint32_t offset;
        std::uint16_t first_bin;
        std::uint16_t n_bins;
    };
    std::vector<Sum> sums;
    std::vector<std::uint64_t> entries;  // 48 bits of share, 16 bits of alias
};

struct Level {
    std::vector<Grid<double>> grids;           // per context
    std::vector<std::vector<BinDraws>> draws;  // per context and unit; none for unit 0
};

BinDraws make_draws(const std::vector<double>& before, const Bins& bins,
                    const Execution& execution) {
    BinDraws draws;
    draws.sums.resize(before.size() + bins.size() - 1);
    std::uint32_t offset = 0;
    for (std::size_t t = 0; t < draws.sums.size(); ++t) {
        const std::size_t first = t + 1 > before.size() ? t + 1 - before.size() : 0;
        const std::size_t last = std::min(t, bins.size() - 1);
        draws.sums[t] = {offset, static_cast<std::uint16_t>(first),
                         static_cast<std::uint16_t>(last - first + 1)};
        offset += static_cast<std::uint32_t>(last - first + 1);
    }
    draws.entries.resize(offset);
    parallel_for(draws.sums.size(), 64, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<double> weights(bins.size());
        for (std::size_t t = begin; t < end; ++t) {
            const BinDraws::Sum& sum = draws.sums[t];
            double total = 0.0;
            for (std::size_t k = 0; k < sum.n_bins; ++k) {
                const std::size_t b = sum.first_bin + k;
                weights[k] = before[t - b] * static_cast<double>(bins.count(b));
                total += weights[k];
            }
            if (!(total > 0.0)) continue;  // never asked for
            std::uint64_t* entries = draws.entries.data() + sum.offset;
            make_alias(weights.data(), sum.n_bins,
                       [&](std::size_t k, double share, std::size_t alias) {
                           constexpr std::uint64_t kFull = (std::uint64_t{1} << 48) - 1;
                           const auto part = static_cast<std::uint64_t>(share * 0x1p48);
                           entries[k] = std::min(part, kFull) << 16 | alias;
                       });
        }
    });
    return draws;
}

// Candidates of one sum of bins, as one column of an alias table.
struct Cell {
    std::uint64_t share;
    std::uint32_t alias;
    std::uint32_t context;
    std::uint32_t sum;
    std::uint32_t begin;  // rows of the exact unit
    std::uint32_t count;
};

struct Plan {
    double low = 0.0;
    double high = 0.0;
    std::shared_ptr<const Level> level;
    std::vector<Cell> cells;
    double lower = 0.0;
    double upper = 0.0;
    bool is_listed = false;
    std::vector<std::uint8_t> listed;  // every architecture of the window
};

}  // namespace

struct WindowSampler::Tables {
    std::size_t n_slots = 0;
    CostTables costs;
    std::vector<Context> contexts;
    double n_architectures = 1.0;
    bool fits_integer = true;  // fewer than 2^127 architectures
    // Sums in another order than that of CostTables differ from it by at most this.
    double rounding = 0.0;
    double min_cost = kInfinity;
    double max_cost = -kInfinity;

    // Built when first needed.
    mutable std::mutex mutex;
    mutable std::shared_ptr<const Level> levels[2];
    mutable std::shared_ptr<const std::vector<Grid<uint128>>> count_grids;
    mutable std::shared_ptr<const Plan> last_plan;

    Tables(const Space& space, const CostSpec& spec);

    void build_contexts(const std::vector<Factor>& factors, const CostSpec& spec);
    [[nodiscard]] double bins_for(double wanted, bool limit_entries) const;
    [[nodiscard]] std::shared_ptr<const Level> level(std::size_t index,
                                                     const Execution& execution) const;
    [[nodiscard]] std::shared_ptr<const Plan> plan(double low, double high,
                                                   const Execution& execution) const;
    [[nodiscard]] Plan make_plan(double low, double high, const Execution& execution) const;
    [[noreturn]] void throw_empty(const Plan& plan) const;
    void draw(const Plan& plan, std::uint64_t key, std::size_t begin, std::size_t end,
              std::uint8_t* out) const;
    void require_window(double low, double high) const;

    // Call `visit` with blocks of complete rows: those of the window whose completions are in
    // may but, if only_edges, not in must.
    template <typename Count, typename Visit>
    void walk(const std::vector<Grid<Count>>& grids, double low, double high, bool only_edges,
              const Visit& visit) const;
};

namespace {

std::vector<Factor> factors_of(const Space& space, int context_slot) {
    std::vector<Factor> factors;
    std::size_t at = 0;
    const std::vector<StageSpec> stages = space.stages();
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const StageSpec& stage = stages[i];
        const std::size_t n = stage.n_choices.size();
        const std::size_t n_required = stage.rows ? 0 : static_cast<std::size_t>(stage.min_depth);
        if (context_slot >= static_cast<int>(at + n_required) &&
            context_slot < static_cast<int>(at + n)) {
            throw InvalidInput(slot_name(static_cast<std::size_t>(context_slot)) +
                               " picks the context but may be absent or is part of listed rows; "
                               "windows need it present on its own");
        }
        if (stage.rows) {
            factors.push_back({at, n, *stage.rows});
        }
        for (std::size_t s = 0; s < n_required; ++s) {
            Factor factor{at + s, 1, {}};
            for (int code = 1; code <= stage.n_choices[s]; ++code)
                factor.rows.push_back(static_cast<std::uint8_t>(code));
            factors.push_back(std::move(factor));
        }
        if (!stage.rows && n_required < n) {
            Factor factor{at + n_required, n - n_required, {}};
            std::vector<std::uint8_t> row(factor.n_slots, 0);
            std::size_t n_rows = 0;
            for (std::size_t depth = 0; depth <= factor.n_slots; ++depth) {
                // An odometer over the choices of the first `depth` slots.
                std::fill(row.begin(), row.end(), 0);
                std::fill_n(row.begin(), depth, 1);
                for (bool more = true; more;) {
                    if (++n_rows > kMaxFactorRows) {
                        throw InvalidInput("stage " + std::to_string(i) +
                                           " has more than 2^22 combinations of optional slots, "
                                           "too many for windows; split it into several stages");
                    }
                    factor.rows.insert(factor.rows.end(), row.begin(), row.end());
                    more = false;
                    for (std::size_t s = depth; s-- > 0;) {
                        if (row[s] < stage.n_choices[n_required + s]) {
                            ++row[s];
                            more = true;
                            break;
                        }
                        row[s] = 1;
                    }
                }
            }
            factors.push_back(std::move(factor));
        }
        if (factors.back().n_rows() > kMaxFactorRows) {
            throw InvalidInput("stage " + std::to_string(i) +
                               " lists more than 2^22 rows, too many for windows");
        }
        at += n;
    }
    return factors;
}

}  // namespace

WindowSampler::Tables::Tables(const Space& space, const CostSpec& spec)
    : n_slots(space.n_slots()), costs(spec) {
    if (spec.n_tables != 1) {
        throw InvalidInput("a window is over one cost table, not " + std::to_string(spec.n_tables));
    }
    if (spec.use_max[0]) {
        throw InvalidInput("the table takes the maximum over slots; a window needs a sum");
    }
    if (spec.n_slots != n_slots) {
        throw InvalidInput("the table has " + std::to_string(spec.n_slots) +
                           " slots and the space has " + std::to_string(n_slots));
    }
    for (std::size_t s = 0; s < n_slots; ++s) {
        if (spec.n_codes[s] != space.n_choices()[s] + 1) {
            throw InvalidInput("the table has " + std::to_string(spec.n_codes[s]) + " codes for " +
                               slot_name(s) + "; the space has " +
                               std::to_string(space.n_choices()[s] + 1));
        }
    }
    for (const std::int64_t count : space.stage_counts())
        n_architectures *= static_cast<double>(count);
    if (n_architectures > 1e290) {
        throw InvalidInput("the space has more than 10^290 architectures, too many for windows");
    }
    fits_integer = n_architectures < 0x1p126;

    double scale = 0.0;
    bool integers = true;
    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        double largest = std::abs(spec.constants[k]);
        integers = integers && std::floor(spec.constants[k]) == spec.constants[k];
        for (std::size_t s = 0; s < n_slots; ++s) {
            double of_slot = 0.0;
            for (std::size_t c = 0; c < static_cast<std::size_t>(spec.n_codes[s]); ++c) {
                const double entry = spec.entries[(k * n_slots + s) * spec.max_codes + c];
                of_slot = std::max(of_slot, std::abs(entry));
                integers = integers && std::floor(entry) == entry;
            }
            largest += of_slot;
        }
        scale = std::max(scale, largest);
    }
    if (!(scale < 1e300)) {
        throw InvalidInput("costs of the table reach " + number(scale) +
                           ", too large for windows; use a larger unit");
    }
    // Each sum of n terms in any order is within (n - 1) 2^-53 times the sum of magnitudes of the
    // true one; twice that between two orders, and room for the sums formed on the way. Sums of
    // integers below 2^53 are exact.
    rounding =
        integers && scale < 0x1p53 ? 0.0 : 0x1p-52 * static_cast<double>(n_slots + 8) * 2.0 * scale;
    build_contexts(factors_of(space, spec.context_slot), spec);
}

void WindowSampler::Tables::build_contexts(const std::vector<Factor>& factors,
                                           const CostSpec& spec) {
    const auto picks_context = [&](const Factor& factor) {
        return static_cast<int>(factor.first_slot) == spec.context_slot;
    };
    // Neighbouring factors whose rows multiply to few enough become one unit.
    std::vector<std::vector<std::size_t>> groups;
    std::size_t joined = 1;
    for (std::size_t f = 0; f < factors.size(); ++f) {
        const std::size_t rows = picks_context(factors[f]) ? 1 : factors[f].n_rows();
        if (groups.empty() || (rows > 1 && rows > kMaxJoinedRows / joined)) {
            groups.emplace_back();
            joined = 1;
        }
        joined = std::min(joined * rows, kMaxFactorRows);
        groups.back().push_back(f);
    }

    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        const double* entries = spec.entries.data() + k * n_slots * spec.max_codes;
        std::vector<Unit> units;
        for (const auto& group : groups) {
            Unit unit;
            unit.first_slot = factors[group.front()].first_slot;
            std::vector<std::uint8_t> rows;
            std::size_t n_rows = 1;
            for (const std::size_t f : group) {
                const Factor& factor = factors[f];
                const bool pinned = picks_context(factor);
                const std::size_t more = pinned ? 1 : factor.n_rows();
                const std::size_t width = unit.n_slots + factor.n_slots;
                std::vector<std::uint8_t> product;
                product.reserve(n_rows * more * width);
                for (std::size_t r = 0; r < n_rows; ++r) {
                    for (std::size_t q = 0; q < more; ++q) {
                        const std::uint8_t* left = rows.data() + r * unit.n_slots;
                        const std::uint8_t* right =
                            factor.rows.data() + (pinned ? k : q) * factor.n_slots;
                        product.insert(product.end(), left, left + unit.n_slots);
                        product.insert(product.end(), right, right + factor.n_slots);
                    }
                }
                rows = std::move(product);
                n_rows *= more;
                unit.n_slots = width;
            }
            std::vector<std::pair<double, std::uint32_t>> order(n_rows);
            for (std::size_t r = 0; r < n_rows; ++r) {
                double cost = 0.0;
                for (std::size_t s = 0; s < unit.n_slots; ++s) {
                    cost += entries[(unit.first_slot + s) * spec.max_codes +
                                    rows[r * unit.n_slots + s]];
                }
                order[r] = {cost, static_cast<std::uint32_t>(r)};
            }
            std::sort(order.begin(), order.end());
            unit.costs.reserve(n_rows);
            unit.codes.reserve(rows.size());
            for (const auto& [cost, row] : order) {
                const std::uint8_t* codes = rows.data() + row * unit.n_slots;
                unit.costs.push_back(cost);
                unit.codes.insert(unit.codes.end(), codes, codes + unit.n_slots);
            }
            units.push_back(std::move(unit));
        }
        const auto largest = std::max_element(
            units.begin(), units.end(),
            [](const Unit& a, const Unit& b) { return a.costs.size() < b.costs.size(); });
        Context context;
        context.exact = std::move(*largest);
        units.erase(largest);
        context.units = std::move(units);
        double least = spec.constants[k];
        double most = spec.constants[k];
        for (double& cost : context.exact.costs)
            cost += spec.constants[k];
        least = context.exact.costs.front();
        most = context.exact.costs.back();
        for (const Unit& unit : context.units) {
            least += unit.costs.front();
            most += unit.costs.back();
        }
        min_cost = std::min(min_cost, least);
        max_cost = std::max(max_cost, most);
        contexts.push_back(std::move(context));
    }
}

// Fewer bins where several contexts share the memory.
double WindowSampler::Tables::bins_for(double wanted, bool limit_entries) const {
    const double most = wanted / std::sqrt(static_cast<double>(contexts.size()));
    if (!limit_entries) return most;
    double entries = 0.0;  // with `most` bins, over all contexts
    for (const Context& context : contexts) {
        double span = 0.0;
        for (const Unit& unit : context.units)
            span += unit.span();
        if (!(span > 0.0)) continue;
        double before = 0.0;
        for (const Unit& unit : context.units) {
            const double bins = unit.span() / span * most + 1.0;
            entries += before * bins;
            before += bins;
        }
    }
    return entries <= static_cast<double>(kMaxEntries)
               ? most
               : most * std::sqrt(static_cast<double>(kMaxEntries) / entries);
}

std::shared_ptr<const Level> WindowSampler::Tables::level(std::size_t index,
                                                          const Execution& execution) const {
    if (!levels[index]) {
        auto built = std::make_shared<Level>();
        const double n_bins = bins_for(index == 0 ? kCoarseBins : kFineBins, true);
        for (const Context& context : contexts) {
            built->grids.push_back(make_grid<double>(context, n_bins));
            const Grid<double>& grid = built->grids.back();
            std::vector<BinDraws> draws(context.units.size());
            for (std::size_t i = 1; i < context.units.size(); ++i) {
                draws[i] = make_draws(grid.ways[i - 1], grid.bins[i], execution);
            }
            built->draws.push_back(std::move(draws));
        }
        levels[index] = std::move(built);
    }
    return levels[index];
}

void WindowSampler::Tables::require_window(double low, double high) const {
    if (!std::isfinite(low) || !std::isfinite(high)) {
        throw InvalidInput("the window is " + number(low) + " to " + number(high) +
                           "; both ends must be finite (costs reach from " + number(min_cost) +
                           " to " + number(max_cost) + ")");
    }
    if (low > high) {
        throw InvalidInput("the window is " + number(low) + " to " + number(high) +
                           "; its low end must not be above its high end");
    }
}

template <typename Count, typename Visit>
void WindowSampler::Tables::walk(const std::vector<Grid<Count>>& grids, double low, double high,
                                 bool only_edges, const Visit& visit) const {
    constexpr std::size_t kBlock = 64;
    std::vector<std::uint8_t> block(kBlock * n_slots);
    std::vector<double> found(kBlock);
    std::size_t filled = 0;
    const auto flush = [&] {
        const std::span<const std::uint8_t> rows(block.data(), filled * n_slots);
        costs.lookup(rows, {found.data(), filled}, 1);
        for (std::size_t i = 0; i < filled; ++i) {
            if (found[i] >= low && found[i] <= high) visit(rows.data() + i * n_slots);
        }
        filled = 0;
    };
    std::vector<std::uint8_t> arch(n_slots, 0);
    for (std::size_t k = 0; k < contexts.size(); ++k) {
        const Context& context = contexts[k];
        const Grid<Count>& grid = grids[k];
        for (std::size_t sum = 0; sum < grid.lo.size(); ++sum) {
            if (grid.all_ways()[sum] == 0) continue;
            const Completion rows =
                complete(context.exact.costs, low, high, grid.lo[sum], grid.hi[sum], rounding);
            if (rows.may() == 0 || (only_edges && rows.may() == rows.must())) continue;
            // Every combination of units with these bins, depth first from the last unit.
            const auto descend = [&](const auto& self, std::size_t unit, std::size_t left) -> void {
                if (unit == 0) {
                    for (std::size_t r = rows.may_begin; r < rows.may_end; ++r) {
                        if (only_edges && r == rows.must_begin) r = rows.must_end;
                        if (r >= rows.may_end) break;
                        context.exact.write(r, arch.data());
                        std::memcpy(block.data() + filled * n_slots, arch.data(), n_slots);
                        if (++filled == kBlock) flush();
                    }
                    return;
                }
                const Bins& bins = grid.bins[unit - 1];
                const std::size_t n_before = unit == 1 ? 1 : grid.ways[unit - 2].size();
                const std::size_t first = left + 1 > n_before ? left + 1 - n_before : 0;
                const std::size_t last = std::min(left, bins.size() - 1);
                for (std::size_t b = first; b <= last; ++b) {
                    if (bins.count(b) == 0) continue;
                    if (unit > 1 && grid.ways[unit - 2][left - b] == 0) continue;
                    for (std::size_t r = bins.start[b]; r < bins.start[b + 1]; ++r) {
                        context.units[unit - 1].write(r, arch.data());
                        self(self, unit - 1, left - b);
                    }
                }
            };
            descend(descend, context.units.size(), sum);
        }
    }
    flush();
}

void WindowSampler::Tables::throw_empty(const Plan& plan) const {
    const std::string message = "no architecture costs " + number(plan.low) + " to " +
                                number(plan.high) + "; costs reach from " + number(min_cost) +
                                " to " + number(max_cost);
    if (plan.high < min_cost || plan.low > max_cost) throw InvalidInput(message);
    double below = -kInfinity;
    double above = kInfinity;
    double tolerance = rounding;
    for (std::size_t k = 0; k < contexts.size(); ++k) {
        const Grid<double>& grid = plan.level->grids[k];
        const std::vector<double>& rows = contexts[k].exact.costs;
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            if (!(grid.all_ways()[t] > 0.0)) continue;
            tolerance = std::max(tolerance, grid.hi[t] - grid.lo[t]);
            const auto next = std::lower_bound(rows.begin(), rows.end(), plan.low - grid.lo[t]);
            if (next != rows.end()) above = std::min(above, grid.hi[t] + *next);
            if (next != rows.begin()) below = std::max(below, grid.lo[t] + *(next - 1));
        }
    }
    std::string nearest;
    if (below > -kInfinity) nearest += " " + number(below);
    if (above < kInfinity) nearest += (nearest.empty() ? " " : " and ") + number(above);
    throw InvalidInput(message + ", and the nearest to this window are" + nearest + " (to within " +
                       number(tolerance) + ")");
}

Plan WindowSampler::Tables::make_plan(double low, double high, const Execution& execution) const {
    Plan plan;
    plan.low = low;
    plan.high = high;
    // Half of the candidates or more are accepted while bins leave less doubt than the window is
    // wide.
    plan.level = level(0, execution);
    double doubt = 0.0;
    for (const Grid<double>& grid : plan.level->grids) {
        doubt = std::max(doubt, grid.width * static_cast<double>(grid.bins.size()));
    }
    if (contexts[0].units.size() > 1 && high - low < 0.5 * doubt) plan.level = level(1, execution);

    std::vector<double> weights;
    for (std::size_t k = 0; k < contexts.size(); ++k) {
        const Grid<double>& grid = plan.level->grids[k];
        const std::vector<double>& rows = contexts[k].exact.costs;
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            const double ways = grid.all_ways()[t];
            if (!(ways > 0.0)) continue;
            const Completion found = complete(rows, low, high, grid.lo[t], grid.hi[t], rounding);
            if (found.may() == 0) continue;
            weights.push_back(ways * static_cast<double>(found.may()));
            plan.upper += weights.back();
            plan.lower += ways * static_cast<double>(found.must());
            plan.cells.push_back({0, 0, static_cast<std::uint32_t>(k),
                                  static_cast<std::uint32_t>(t),
                                  static_cast<std::uint32_t>(found.may_begin),
                                  static_cast<std::uint32_t>(found.may())});
        }
    }
    if (plan.cells.empty()) throw_empty(plan);
    make_alias(weights.data(), weights.size(), [&](std::size_t i, double share, std::size_t alias) {
        plan.cells[i].share =
            share >= 1.0 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(share * 0x1p64);
        plan.cells[i].alias = static_cast<std::uint32_t>(alias);
    });
    if (plan.upper <= kMaxListed && plan.lower < kMinAcceptance * plan.upper) {
        plan.is_listed = true;
        walk(plan.level->grids, low, high, false, [&](const std::uint8_t* row) {
            plan.listed.insert(plan.listed.end(), row, row + n_slots);
        });
        if (plan.listed.empty()) throw_empty(plan);
    }
    return plan;
}

std::shared_ptr<const Plan> WindowSampler::Tables::plan(double low, double high,
                                                        const Execution& execution) const {
    const std::lock_guard lock(mutex);
    if (!last_plan || last_plan->low != low || last_plan->high != high) {
        last_plan = std::make_shared<const Plan>(make_plan(low, high, execution));
    }
    return last_plan;
}

namespace {

// The k-th of n equally likely columns and a uniform number of 64 bits from one word; what n takes
// of the word is missing in the number, at most 2^-64 n of probability.
struct Column {
    std::size_t k;
    std::uint64_t rest;

    Column(std::uint64_t word, std::size_t n) {
        const uint128 product = static_cast<uint128>(word) * n;
        k = static_cast<std::size_t>(product >> 64);
        rest = static_cast<std::uint64_t>(product);
    }
};

}  // namespace

// Many rows at once, step by step: each step reads tables that are far larger than the caches near
// the core, so that the next step's entry is fetched for all rows while others are worked on. Every
// row has its own stream; which rows share a block changes nothing.
void WindowSampler::Tables::draw(const Plan& plan, std::uint64_t key, std::size_t begin,
                                 std::size_t end, std::uint8_t* out) const {
    struct Lane {
        RowStream random{0, 0};
        std::size_t row = 0;
        std::uint32_t attempts = 0;
        const Cell* cell = nullptr;
        std::size_t left = 0;  // bins still to be spread over the units
        const std::uint64_t* entry = nullptr;
        std::uint32_t first_bin = 0;
        Column column{0, 0};
    };
    const std::size_t n_units = contexts[0].units.size();
    // A row's block of 2^16 numbers lasts for this many candidates, with room for rejected numbers;
    // then the row goes on in a block of another stream.
    const auto per_block = static_cast<std::uint32_t>(32768 / (2 * n_units + 2));
    const Level& level = *plan.level;
    std::vector<Lane> lanes(std::min(kLanes, end - begin));
    std::vector<std::uint32_t> bins(lanes.size() * std::max<std::size_t>(n_units, 1));
    std::vector<std::uint8_t> archs(lanes.size() * n_slots);
    std::vector<double> found(lanes.size());
    std::size_t next = begin;
    std::size_t active = 0;
    const auto start = [&](Lane& lane) {
        lane.row = next;
        lane.random = RowStream(key, next);
        lane.attempts = 0;
        ++next;
    };
    while (active < lanes.size())
        start(lanes[active++]);

    while (active > 0) {
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            lane.column = Column(lane.random.next(), plan.cells.size());
            lane.cell = plan.cells.data() + lane.column.k;
            __builtin_prefetch(lane.cell);
        }
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            if (lane.column.rest >= lane.cell->share) {
                lane.cell = plan.cells.data() + lane.cell->alias;
            }
            lane.left = lane.cell->sum;
        }
        for (std::size_t i = n_units; i-- > 1;) {
            for (std::size_t l = 0; l < active; ++l) {
                Lane& lane = lanes[l];
                const BinDraws& draws = level.draws[lane.cell->context][i];
                const BinDraws::Sum sum = draws.sums[lane.left];
                lane.column = Column(lane.random.next(), sum.n_bins);
                lane.entry = draws.entries.data() + sum.offset + lane.column.k;
                lane.first_bin = sum.first_bin;
                __builtin_prefetch(lane.entry);
            }
            for (std::size_t l = 0; l < active; ++l) {
                Lane& lane = lanes[l];
                const std::uint64_t entry = *lane.entry;
                const std::uint64_t k = lane.column.rest >> 16 < entry >> 16
                                            ? static_cast<std::uint64_t>(lane.column.k)
                                            : entry & 0xFFFF;
                const std::size_t bin = lane.first_bin + static_cast<std::size_t>(k);
                bins[l * n_units + i] = static_cast<std::uint32_t>(bin);
                lane.left -= bin;
            }
        }
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            const Context& context = contexts[lane.cell->context];
            const std::vector<Bins>& grid_bins = level.grids[lane.cell->context].bins;
            std::uint8_t* arch = archs.data() + l * n_slots;
            if (n_units > 0) bins[l * n_units] = static_cast<std::uint32_t>(lane.left);
            for (std::size_t i = 0; i < n_units; ++i) {
                const std::uint32_t* const range =
                    grid_bins[i].start.data() + bins[l * n_units + i];
                const std::size_t row = range[0] + lane.random.below(range[1] - range[0]);
                context.units[i].write(row, arch);
            }
            context.exact.write(lane.cell->begin + lane.random.below(lane.cell->count), arch);
        }
        costs.lookup({archs.data(), active * n_slots}, {found.data(), active}, 1);

        // Lanes from the last to the first, so that the last active one can take a freed place.
        for (std::size_t l = active; l-- > 0;) {
            Lane& lane = lanes[l];
            if (found[l] >= plan.low && found[l] <= plan.high) {
                std::memcpy(out + lane.row * n_slots, archs.data() + l * n_slots, n_slots);
                if (next < end) {
                    start(lane);
                } else {
                    lane = lanes[--active];
                }
                continue;
            }
            if (++lane.attempts == kMaxAttempts) {
                throw InvalidInput("none of 2^20 candidates costs " + number(plan.low) + " to " +
                                   number(plan.high) +
                                   ", a window much narrower than the bins of costs; widen it");
            }
            if (lane.attempts % per_block == 0) {
                lane.random = RowStream(stream_key(key, lane.attempts / per_block), lane.row);
            }
        }
    }
}

WindowSampler::WindowSampler(const Space& space, const CostSpec& spec)
    : tables_(std::make_unique<Tables>(space, spec)) {}
WindowSampler::~WindowSampler() = default;
WindowSampler::WindowSampler(WindowSampler&&) noexcept = default;
WindowSampler& WindowSampler::operator=(WindowSampler&&) noexcept = default;

std::size_t WindowSampler::n_slots() const {
    return tables_->n_slots;
}

WindowCount WindowSampler::count(double low, double high, const Execution& execution) const {
    const Tables& tables = *tables_;
    tables.require_window(low, high);
    require_threads(execution);
    if (!tables.fits_integer) {
        throw InvalidInput("the space has 2^126 or more architectures, too many to count exactly");
    }
    std::shared_ptr<const std::vector<Grid<uint128>>> grids;
    {
        const std::lock_guard lock(tables.mutex);
        if (!tables.count_grids) {
            std::vector<Grid<uint128>> built(tables.contexts.size());
            const double n_bins = tables.bins_for(kCountBins, false);
            parallel_for(built.size(), 1, execution, [&](std::size_t begin, std::size_t end) {
                for (std::size_t k = begin; k < end; ++k)
                    built[k] = make_grid<uint128>(tables.contexts[k], n_bins);
            });
            tables.count_grids =
                std::make_shared<const std::vector<Grid<uint128>>>(std::move(built));
        }
        grids = tables.count_grids;
    }
    WindowCount count;
    for (std::size_t k = 0; k < grids->size(); ++k) {
        const Grid<uint128>& grid = (*grids)[k];
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            const uint128 ways = grid.all_ways()[t];
            if (ways == 0) continue;
            const Completion found = complete(tables.contexts[k].exact.costs, low, high, grid.lo[t],
                                              grid.hi[t], tables.rounding);
            count.upper += ways * found.may();
            count.lower += ways * found.must();
            if (found.may() != found.must()) {
                count.tolerance =
                    std::max(count.tolerance, grid.hi[t] - grid.lo[t] + tables.rounding);
            }
        }
    }
    if (count.upper != count.lower &&
        count.upper - count.lower <= static_cast<uint128>(kMaxListed)) {
        uint128 inside = 0;
        tables.walk(*grids, low, high, true, [&](const std::uint8_t*) { ++inside; });
        count.lower += inside;
        count.upper = count.lower;
    }
    if (count.upper == count.lower) count.tolerance = 0.0;
    return count;
}

void WindowSampler::sample(double low, double high, std::uint64_t seed, std::span<std::uint8_t> out,
                           const Execution& execution) const {
    const Tables& tables = *tables_;
    tables.require_window(low, high);
    require_threads(execution);
    if (out.size() % tables.n_slots != 0) throw InvalidInput("out has the wrong size");
    const std::size_t n_rows = out.size() / tables.n_slots;
    const std::shared_ptr<const Plan> plan = tables.plan(low, high, execution);
    const std::uint64_t key = stream_key(seed, kWindowStream);
    if (plan->is_listed) {
        const std::size_t n_listed = plan->listed.size() / tables.n_slots;
        parallel_for(n_rows, 4096, execution, [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                RowStream random(key, r);
                std::memcpy(out.data() + r * tables.n_slots,
                            plan->listed.data() + random.below(n_listed) * tables.n_slots,
                            tables.n_slots);
            }
        });
        return;
    }
    // Small ranges where rows are dear, so that threads and interrupts do not wait for each other.
    const std::size_t grain = plan->lower < kMinAcceptance * plan->upper ? 16 : 2048;
    parallel_for(n_rows, grain, execution, [&](std::size_t begin, std::size_t end) {
        tables.draw(*plan, key, begin, end, out.data());
    });
}

}  // namespace pnag
