#include "pnag/window.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "window/grid.hpp"
#include "window/tail.hpp"
#include "window/units.hpp"

namespace pnag {
namespace {

using namespace window;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kWindowStream = 5;

// Factors are joined into units while their rows stay in the second-level cache.
constexpr std::size_t kMaxJoinedRows = 16384;
// 2^23 entries of 8 bytes: 64 MiB, over all contexts.
constexpr std::size_t kMaxEntries = std::size_t{1} << 23;
// Bins of the sum: the tables of ofa-mbv3 take 3 MiB and stay in a cache. Counting needs no tables.
constexpr double kDrawBins = 1024;
constexpr double kCountBins = 8192;
// Most rows of the tails of all contexts beyond the first level, and how many of them a window of
// average crowding must hold before a narrower one calls for the next level.
constexpr std::size_t kTailRows[] = {std::size_t{1} << 20, std::size_t{1} << 23};
constexpr double kWantedRows = 8.0;
// Windows with fewer candidates than this are listed where few of them would be accepted.
constexpr double kMaxListed = 1 << 20;
constexpr double kMinAcceptance = 0.05;
// Where this share of the rows of all cells is in the window, a search for those that are costs
// more than it saves.
constexpr double kDirectAcceptance = 0.6;
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

// What is built when first needed. Not under the lock: a build may run the caller's signal
// handlers, and they may come back here.
template <typename T, typename Build>
std::shared_ptr<const T> built_once(std::mutex& mutex, std::shared_ptr<const T>& slot,
                                    const Build& build) {
    {
        const std::lock_guard lock(mutex);
        if (slot) return slot;
    }
    auto built = std::make_shared<const T>(build());
    const std::lock_guard lock(mutex);
    if (!slot) slot = std::move(built);
    return slot;
}

// Everything under one context (input resolution): the binned units, and the tail, whose costs
// include the constant.
struct Context {
    std::vector<std::shared_ptr<const Unit>> units;
    Tail tail;
};

// Which factors pair with the main unit in the tail: a run within `group`, or none.
struct Partner {
    std::size_t group = 0;
    Run run{0, 0};
    std::size_t n_rows = 1;
};

// A window as the tables see it: sums in another order than that of CostTables differ from it by at
// most `rounding`.
struct Ends {
    double low;
    double high;
    double rounding;

    Ends(double first, double last, double error) : low(first), high(last), rounding(error) {
        if (rounding != 0.0) return;
        // Costs are integers: differences with these ends are exact, those with others may round.
        low = std::ceil(low);
        high = std::floor(high);
    }
    // Of the rows of a tail that may follow a sum.
    [[nodiscard]] double first_after(double sum) const { return low - sum - rounding; }
    [[nodiscard]] double last_after(double sum) const { return high - sum + rounding; }
    // Holds those rows wherever they are, with room for the errors of the differences.
    [[nodiscard]] double width() const { return high - low + 3.0 * rounding; }
};

// Rows of the tail that may, and that must, bring a sum of bins into the window.
struct Completion {
    std::size_t may_begin = 0;
    std::size_t may_end = 0;
    std::size_t must_begin = 0;
    std::size_t must_end = 0;

    [[nodiscard]] std::size_t may() const { return may_end - may_begin; }
    [[nodiscard]] std::size_t must() const { return must_end - must_begin; }
};

Completion complete(const Tail& tail, const Ends& ends, double lo, double hi) {
    Completion found;
    found.may_begin = tail.at_least(ends.first_after(hi));
    found.may_end = std::max(found.may_begin, tail.beyond(ends.last_after(lo)));
    // Within the outer rows, and never a negative number of them.
    found.must_begin = std::min(tail.at_least(ends.low - lo + ends.rounding), found.may_end);
    found.must_end = std::max(found.must_begin, tail.beyond(ends.high - hi - ends.rounding));
    return found;
}

struct Level {
    std::vector<Context> contexts;
    std::vector<Grid<double>> grids;           // per context
    std::vector<std::vector<BinDraws>> draws;  // per context and unit; none for unit 0
};

// Candidates of one sum of bins, as one column of an alias table.
struct Cell {
    std::uint64_t share;
    std::uint32_t alias;
    std::uint32_t context;
    std::uint32_t sum;
    // Rows of the tail that may follow: from `begin` on if the plan is direct, else from the first
    // that is dear enough after the combination of units that was drawn.
    std::uint32_t begin;
    std::uint32_t most;
};

struct Plan {
    double low = 0.0;
    double high = 0.0;
    std::shared_ptr<const Level> level;
    std::vector<Cell> cells;
    // The rows of a cell are few enough beside those in the window to be drawn from as they are.
    bool is_direct = false;
    bool is_listed = false;
    std::vector<std::uint8_t> listed;  // every architecture of the window
};

}  // namespace

struct WindowSampler::Tables {
    std::size_t n_slots = 0;
    CostTables costs;
    std::vector<Factor> factors;
    int context_slot = -1;
    std::size_t max_codes = 0;
    std::vector<double> entries;  // (n_contexts, n_slots, max_codes)
    double n_architectures = 1.0;
    bool fits_integer = true;  // fewer than 2^127 architectures
    double rounding = 0.0;     // as in Ends
    double min_cost = kInfinity;
    double max_cost = -kInfinity;
    std::vector<Run> groups;        // of factors, one for each unit
    std::size_t main_group = 0;     // the group that is always in the tail
    std::vector<Partner> partners;  // by level; none at the first
    std::vector<std::vector<std::shared_ptr<const Unit>>> units;  // per context and group
    std::vector<Context> contexts;                                // of the first level

    // Built when first needed.
    mutable std::mutex mutex;
    mutable std::vector<std::shared_ptr<const Level>> levels;
    mutable std::shared_ptr<const std::vector<Grid<uint128>>> count_grids;
    mutable std::shared_ptr<const Plan> last_plan;

    Tables(const Space& space, const CostSpec& spec, const Execution& execution);

    [[nodiscard]] UnitMaker maker(std::size_t context) const {
        const std::size_t size = n_slots * max_codes;
        return {factors, context_slot, context,
                std::span<const double>(entries).subspan(context * size, size), max_codes};
    }
    void group_factors();
    void choose_tails();
    [[nodiscard]] Context make_context(std::size_t context, const Partner& partner,
                                       const Execution& execution) const;
    [[nodiscard]] double bins_for(const std::vector<Context>& of, double wanted,
                                  bool limit_entries) const;
    [[nodiscard]] std::shared_ptr<const Level> level(std::size_t index,
                                                     const Execution& execution) const;
    [[nodiscard]] std::size_t level_for(const Ends& ends) const;
    [[nodiscard]] std::shared_ptr<const Plan> plan(double low, double high,
                                                   const Execution& execution) const;
    [[nodiscard]] Plan make_plan(double low, double high, const Execution& execution) const;
    [[noreturn]] void throw_empty(const Plan& plan) const;
    void draw(const Plan& plan, std::uint64_t key, std::size_t begin, std::size_t end,
              std::uint8_t* out, const Execution& execution) const;
    void require_window(double low, double high) const;

    // Call `visit` with the complete rows of the window whose tails are in may but, if only_edges,
    // not in must.
    template <typename Count, typename Visit>
    void walk(const std::vector<Context>& of, const std::vector<Grid<Count>>& grids, double low,
              double high, bool only_edges, const Execution& execution, const Visit& visit) const;
};

WindowSampler::Tables::Tables(const Space& space, const CostSpec& spec, const Execution& execution)
    : n_slots(space.n_slots()),
      costs(spec),
      context_slot(spec.context_slot),
      max_codes(spec.max_codes),
      entries(spec.entries.begin(), spec.entries.end()) {
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
        double sum = std::abs(spec.constants[k]);
        integers = integers && std::floor(spec.constants[k]) == spec.constants[k];
        for (std::size_t s = 0; s < n_slots; ++s) {
            double of_slot = 0.0;
            for (std::size_t c = 0; c < static_cast<std::size_t>(spec.n_codes[s]); ++c) {
                const double entry = spec.entries[(k * n_slots + s) * spec.max_codes + c];
                of_slot = std::max(of_slot, std::abs(entry));
                integers = integers && std::floor(entry) == entry;
            }
            sum += of_slot;
        }
        scale = std::max(scale, sum);
    }
    if (!(scale < 1e300)) {
        throw InvalidInput("costs of the table reach " + number(scale) +
                           ", too large for windows; use a larger unit");
    }
    // Each sum of n terms in any order is within (n - 1) 2^-53 times the sum of magnitudes of the
    // true one; twice that between two orders, and room for the sums formed on the way. Sums of
    // integers below 2^53 are exact, which 0 stands for: subnormal costs must not underflow to it.
    rounding = integers && scale < 0x1p53
                   ? 0.0
                   : std::max(0x1p-52 * static_cast<double>(n_slots + 8) * 2.0 * scale,
                              std::numeric_limits<double>::denorm_min());
    factors = factors_of(space, context_slot);
    group_factors();
    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        units.emplace_back();
        double least = spec.constants[k];
        double most = spec.constants[k];
        for (const Run& group : groups) {
            execution.check();
            units[k].push_back(maker(k).make(group, 0.0));
            least += units[k].back()->costs.front();
            most += units[k].back()->costs.back();
        }
        min_cost = std::min(min_cost, least);
        max_cost = std::max(max_cost, most);
    }
    choose_tails();
    levels.resize(partners.size());
    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        units[k][main_group] = maker(k).make(groups[main_group], spec.constants[k]);
        contexts.push_back(make_context(k, partners[0], execution));
    }
}

// Neighbouring factors whose rows multiply to few enough become one unit.
void WindowSampler::Tables::group_factors() {
    const UnitMaker of_rows = maker(0);
    std::size_t joined = 1;
    for (std::size_t f = 0; f < factors.size(); ++f) {
        const std::size_t rows = of_rows.n_rows(f);
        if (groups.empty() || (rows > 1 && rows > kMaxJoinedRows / joined)) {
            groups.emplace_back(f, f);
            joined = 1;
        }
        joined = std::min(joined * rows, kMaxFactorRows);
        groups.back().second = f + 1;
    }
}

// The largest unit, or one that is half as large and fills its range of costs better: a tail whose
// rows cost the same in large groups, with gaps between them, has room for many in a narrow window
// and mostly none in it. At each further level the run at an end of a group that, paired with this
// unit, makes the longest tail that is allowed, by the same rule.
void WindowSampler::Tables::choose_tails() {
    const auto crowding = [&](std::size_t g) {
        const std::vector<double>& unit = units[0][g]->costs;
        double n = 0.0;
        for (std::size_t r = 1; r < unit.size(); ++r)
            n += unit[r] != unit[r - 1] ? 1.0 : 0.0;
        return n > 0.0 ? n / units[0][g]->span() : 0.0;
    };
    struct Choice {
        std::size_t n_rows = 1;
        double crowding = 0.0;
        Partner partner;
    };
    const auto best_of = [](const std::vector<Choice>& choices) {
        std::size_t most = 1;
        for (const Choice& choice : choices)
            most = std::max(most, choice.n_rows);
        Choice best;
        for (const Choice& choice : choices) {
            if (2 * choice.n_rows < most) continue;
            if (best.n_rows == 1 || choice.crowding > best.crowding) best = choice;
        }
        return best.partner;
    };
    std::vector<Choice> choices;
    for (std::size_t g = 0; g < groups.size(); ++g)
        choices.push_back({units[0][g]->size(), crowding(g), {g, groups[g], units[0][g]->size()}});
    main_group = best_of(choices).group;
    partners.emplace_back();
    if (groups.size() < 3) return;  // one binned unit: every row has its own bin
    for (const std::size_t limit : kTailRows) {
        choices.clear();
        for (std::size_t g = 0; g < groups.size(); ++g) {
            if (g == main_group) continue;
            const auto [first, last] = groups[g];
            for (std::size_t f = first; f < last; ++f) {
                for (const Run& run : {Run{first, f + 1}, Run{f, last}}) {
                    const std::size_t n = maker(0).n_rows(run);
                    if (n > 1 && n <= limit / units.size() / units[0][main_group]->size())
                        choices.push_back({n, crowding(g), {g, run, n}});
                }
            }
        }
        const Partner best = best_of(choices);
        if (best.n_rows > partners.back().n_rows) partners.push_back(best);
    }
}

Context WindowSampler::Tables::make_context(std::size_t context, const Partner& partner,
                                            const Execution& execution) const {
    Context made;
    std::shared_ptr<const Unit> paired;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        if (g == main_group) continue;
        if (partner.n_rows == 1 || g != partner.group) {
            made.units.push_back(units[context][g]);
            continue;
        }
        const auto [first, last] = groups[g];
        paired =
            partner.run == groups[g] ? units[context][g] : maker(context).make(partner.run, 0.0);
        if (partner.run.first > first)
            made.units.push_back(maker(context).make({first, partner.run.first}, 0.0));
        if (partner.run.second < last)
            made.units.push_back(maker(context).make({partner.run.second, last}, 0.0));
    }
    made.tail = Tail(units[context][main_group], std::move(paired), execution);
    return made;
}

// Fewer bins where several contexts share the memory.
double WindowSampler::Tables::bins_for(const std::vector<Context>& of, double wanted,
                                       bool limit_entries) const {
    const double most = wanted / std::sqrt(static_cast<double>(of.size()));
    if (!limit_entries) return most;
    double wide = 0.0;  // with `most` bins, over all contexts
    for (const Context& context : of) {
        double span = 0.0;
        for (const auto& unit : context.units)
            span += unit->span();
        if (!(span > 0.0)) continue;
        double before = 0.0;
        for (const auto& unit : context.units) {
            const double bins = unit->span() / span * most + 1.0;
            wide += before * bins;
            before += bins;
        }
    }
    return wide <= static_cast<double>(kMaxEntries)
               ? most
               : most * std::sqrt(static_cast<double>(kMaxEntries) / wide);
}

std::shared_ptr<const Level> WindowSampler::Tables::level(std::size_t index,
                                                          const Execution& execution) const {
    return built_once(mutex, levels[index], [&] {
        Level built;
        for (std::size_t k = 0; k < contexts.size(); ++k) {
            built.contexts.push_back(index == 0 ? contexts[k]
                                                : make_context(k, partners[index], execution));
        }
        const double n_bins = bins_for(built.contexts, kDrawBins, true);
        for (const Context& context : built.contexts) {
            built.grids.push_back(make_grid<double>(context.units, n_bins, execution));
            const Grid<double>& grid = built.grids.back();
            std::vector<BinDraws> draws(context.units.size());
            for (std::size_t i = 1; i < context.units.size(); ++i)
                draws[i] = make_draws(grid.ways[i - 1], grid.bins[i], execution);
            built.draws.push_back(std::move(draws));
        }
        return built;
    });
}

// The first level whose tail is crowded enough for the window.
std::size_t WindowSampler::Tables::level_for(const Ends& ends) const {
    std::size_t index = 0;
    for (; index + 1 < partners.size(); ++index) {
        double span = 0.0;
        for (const auto& of_context : units) {
            span =
                std::max(span, of_context[main_group]->span() +
                                   (index == 0 ? 0.0 : of_context[partners[index].group]->span()));
        }
        const auto rows =
            static_cast<double>(units[0][main_group]->size() * partners[index].n_rows);
        if (rows * (ends.high - ends.low) >= kWantedRows * span) break;
    }
    return index;
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
void WindowSampler::Tables::walk(const std::vector<Context>& of,
                                 const std::vector<Grid<Count>>& grids, double low, double high,
                                 bool only_edges, const Execution& execution,
                                 const Visit& visit) const {
    constexpr std::size_t kBlock = 64;
    const Ends ends(low, high, rounding);
    Pacer pacer(execution);
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
    std::vector<std::size_t> chosen;  // rows of the units, the last unit first
    for (std::size_t k = 0; k < of.size(); ++k) {
        const Context& context = of[k];
        const Tail& tail = context.tail;
        const Grid<Count>& grid = grids[k];
        chosen.resize(context.units.size());
        for (std::size_t sum = 0; sum < grid.lo.size(); ++sum) {
            if (grid.all_ways()[sum] == 0) continue;
            const Completion rows = complete(tail, ends, grid.lo[sum], grid.hi[sum]);
            if (rows.may() == 0 || (only_edges && rows.may() == rows.must())) continue;
            const auto finish = [&] {
                double cost = 0.0;
                for (std::size_t i = 0; i < context.units.size(); ++i)
                    cost += context.units[i]->costs[chosen[i]];
                pacer.spend(50);
                for (std::size_t r = tail.at_least(ends.first_after(cost)); r < rows.may_end; ++r) {
                    if (only_edges && r >= rows.must_begin && r < rows.must_end) {
                        r = rows.must_end - 1;
                        continue;
                    }
                    if (tail.cost(r) > ends.last_after(cost)) break;
                    pacer.spend(20);
                    tail.write(r, arch.data());
                    std::memcpy(block.data() + filled * n_slots, arch.data(), n_slots);
                    if (++filled == kBlock) flush();
                }
            };
            // Every combination of units with these bins, depth first from the last unit.
            const auto descend = [&](const auto& self, std::size_t unit, std::size_t left) -> void {
                if (unit == 0) return finish();
                const Bins& bins = grid.bins[unit - 1];
                const std::size_t n_before = unit == 1 ? 1 : grid.ways[unit - 2].size();
                const std::size_t first = left + 1 > n_before ? left + 1 - n_before : 0;
                const std::size_t last = std::min(left, bins.size() - 1);
                for (std::size_t b = first; b <= last; ++b) {
                    if (bins.count(b) == 0) continue;
                    if (unit > 1 && grid.ways[unit - 2][left - b] == 0) continue;
                    for (std::size_t r = bins.start[b]; r < bins.start[b + 1]; ++r) {
                        context.units[unit - 1]->write(r, arch.data());
                        chosen[unit - 1] = r;
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
    for (std::size_t k = 0; k < plan.level->contexts.size(); ++k) {
        const Grid<double>& grid = plan.level->grids[k];
        const Tail& tail = plan.level->contexts[k].tail;
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            if (!(grid.all_ways()[t] > 0.0)) continue;
            tolerance = std::max(tolerance, grid.hi[t] - grid.lo[t]);
            const std::size_t next = tail.at_least(plan.low - grid.lo[t]);
            if (next < tail.size()) above = std::min(above, grid.hi[t] + tail.cost(next));
            if (next > 0) below = std::max(below, grid.lo[t] + tail.cost(next - 1));
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
    const Ends ends(low, high, rounding);
    plan.level = level(level_for(ends), execution);
    std::vector<double> weights;
    const auto weigh = [&] {
        weights.clear();
        for (const Cell& cell : plan.cells) {
            weights.push_back(plan.level->grids[cell.context].all_ways()[cell.sum] *
                              static_cast<double>(cell.most));
        }
        return std::accumulate(weights.begin(), weights.end(), 0.0);
    };
    double lower = 0.0;
    for (std::size_t k = 0; ends.low <= ends.high && k < contexts.size(); ++k) {
        const Grid<double>& grid = plan.level->grids[k];
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            const double ways = grid.all_ways()[t];
            if (!(ways > 0.0)) continue;
            const Completion found =
                complete(plan.level->contexts[k].tail, ends, grid.lo[t], grid.hi[t]);
            if (found.may() == 0) continue;
            lower += ways * static_cast<double>(found.must());
            plan.cells.push_back({0, 0, static_cast<std::uint32_t>(k),
                                  static_cast<std::uint32_t>(t),
                                  static_cast<std::uint32_t>(found.may_begin),
                                  static_cast<std::uint32_t>(found.may())});
        }
    }
    if (plan.cells.empty()) throw_empty(plan);
    double upper = weigh();
    plan.is_direct = lower >= kDirectAcceptance * upper;
    if (!plan.is_direct) {
        std::vector<Crowding> crowding;
        for (const Context& context : plan.level->contexts)
            crowding.emplace_back(context.tail, ends.width(), execution);
        for (Cell& cell : plan.cells) {
            const std::size_t most =
                crowding[cell.context].most(cell.begin, cell.begin + cell.most);
            cell.most = static_cast<std::uint32_t>(most);
        }
        upper = weigh();
    }
    make_alias(weights.data(), weights.size(), [&](std::size_t i, double share, std::size_t alias) {
        plan.cells[i].share =
            share >= 1.0 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(share * 0x1p64);
        plan.cells[i].alias = static_cast<std::uint32_t>(alias);
    });
    if (upper <= kMaxListed && lower < kMinAcceptance * upper) {
        plan.is_listed = true;
        walk(plan.level->contexts, plan.level->grids, low, high, false, execution,
             [&](const std::uint8_t* row) {
                 plan.listed.insert(plan.listed.end(), row, row + n_slots);
             });
        if (plan.listed.empty()) throw_empty(plan);
    }
    return plan;
}

std::shared_ptr<const Plan> WindowSampler::Tables::plan(double low, double high,
                                                        const Execution& execution) const {
    {
        const std::lock_guard lock(mutex);
        if (last_plan && last_plan->low == low && last_plan->high == high) return last_plan;
    }
    auto made = std::make_shared<const Plan>(make_plan(low, high, execution));
    const std::lock_guard lock(mutex);
    last_plan = made;
    return made;
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
                                 std::size_t end, std::uint8_t* out,
                                 const Execution& execution) const {
    struct Lane {
        RowStream random{0, 0};
        std::size_t row = 0;
        std::uint32_t attempts = 0;
        const Cell* cell = nullptr;
        std::size_t left = 0;  // bins still to be spread over the units
        const std::uint64_t* entry = nullptr;
        std::uint32_t first_bin = 0;
        Column column{0, 0};
        double cost = 0.0;  // of the units
        std::size_t bucket = 0;
        bool is_done = false;
    };
    const Level& level = *plan.level;
    const Ends ends(plan.low, plan.high, rounding);
    const std::size_t n_units = level.contexts[0].units.size();
    // A row's block of 2^16 numbers lasts for this many candidates, with room for rejected numbers;
    // then the row goes on in a block of another stream.
    const auto per_block = static_cast<std::uint32_t>(32768 / (2 * n_units + 2));
    std::vector<Lane> lanes(std::min(kLanes, end - begin));
    // The bin of each unit, then its row.
    std::vector<std::uint32_t> chosen(lanes.size() * std::max<std::size_t>(n_units, 1));
    std::vector<std::size_t> hits(lanes.size());
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
        execution.check();
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
                chosen[l * n_units + i] = static_cast<std::uint32_t>(bin);
                lane.left -= bin;
            }
        }
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            const Context& context = level.contexts[lane.cell->context];
            const std::vector<Bins>& bins = level.grids[lane.cell->context].bins;
            std::uint32_t* const rows = chosen.data() + l * n_units;
            if (n_units > 0) rows[0] = static_cast<std::uint32_t>(lane.left);
            lane.cost = 0.0;
            for (std::size_t i = 0; i < n_units; ++i) {
                const std::uint32_t* const range = bins[i].start.data() + rows[i];
                rows[i] =
                    range[0] + static_cast<std::uint32_t>(lane.random.below(range[1] - range[0]));
                lane.cost += context.units[i]->costs[rows[i]];
            }
            if (plan.is_direct) continue;
            lane.bucket = context.tail.bucket_of(ends.first_after(lane.cost));
            __builtin_prefetch(context.tail.bucket(lane.bucket));
        }
        for (std::size_t l = 0; l < active && !plan.is_direct; ++l) {
            const Tail& tail = level.contexts[lanes[l].cell->context].tail;
            __builtin_prefetch(tail.order(*tail.bucket(lanes[l].bucket)));
        }
        std::size_t n_hits = 0;
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            lane.is_done = false;
            const Context& context = level.contexts[lane.cell->context];
            const Tail& tail = context.tail;
            std::size_t row = lane.cell->begin;
            if (!plan.is_direct) row = tail.at_least(ends.first_after(lane.cost), lane.bucket);
            row += lane.random.below(lane.cell->most);
            if (!plan.is_direct &&
                (row >= tail.size() || tail.cost(row) > ends.last_after(lane.cost)))
                continue;
            std::uint8_t* const arch = archs.data() + n_hits * n_slots;
            for (std::size_t i = 0; i < n_units; ++i)
                context.units[i]->write(chosen[l * n_units + i], arch);
            tail.write(row, arch);
            hits[n_hits++] = l;
        }
        costs.lookup({archs.data(), n_hits * n_slots}, {found.data(), n_hits}, 1);
        for (std::size_t h = 0; h < n_hits; ++h) {
            if (!(found[h] >= plan.low && found[h] <= plan.high)) continue;
            Lane& lane = lanes[hits[h]];
            std::memcpy(out + lane.row * n_slots, archs.data() + h * n_slots, n_slots);
            lane.is_done = true;
        }

        // Lanes from the last to the first, so that the last active one can take a freed place.
        for (std::size_t l = active; l-- > 0;) {
            Lane& lane = lanes[l];
            if (lane.is_done) {
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
                                   ", a window that is all but empty; widen it");
            }
            if (lane.attempts % per_block == 0) {
                lane.random = RowStream(stream_key(key, lane.attempts / per_block), lane.row);
            }
        }
    }
}

WindowSampler::WindowSampler(const Space& space, const CostSpec& spec, const Execution& execution)
    : tables_(std::make_unique<Tables>(space, spec, execution)) {}
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
    const Ends ends(low, high, tables.rounding);
    const auto grids = built_once(tables.mutex, tables.count_grids, [&] {
        std::vector<Grid<uint128>> built(tables.contexts.size());
        const double n_bins = tables.bins_for(tables.contexts, kCountBins, false);
        parallel_for(built.size(), 1, execution, [&](std::size_t begin, std::size_t end) {
            for (std::size_t k = begin; k < end; ++k)
                built[k] = make_grid<uint128>(tables.contexts[k].units, n_bins, execution);
        });
        return built;
    });
    WindowCount count;
    for (std::size_t k = 0; k < grids->size(); ++k) {
        const Grid<uint128>& grid = (*grids)[k];
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            const uint128 ways = grid.all_ways()[t];
            if (ways == 0) continue;
            const Completion found =
                complete(tables.contexts[k].tail, ends, grid.lo[t], grid.hi[t]);
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
        tables.walk(tables.contexts, *grids, low, high, true, execution,
                    [&](const std::uint8_t*) { ++inside; });
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
    const std::size_t grain = plan->is_direct ? 2048 : 256;
    parallel_for(n_rows, grain, execution, [&](std::size_t begin, std::size_t end) {
        tables.draw(*plan, key, begin, end, out.data(), execution);
    });
}

}  // namespace pnag
