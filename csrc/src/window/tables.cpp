#include "window/tables.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <utility>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "window/built_once.hpp"

namespace pnag::window {
namespace {

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

void require_fit(const Space& space, const CostSpec& spec) {
    if (spec.n_tables != 1) {
        throw InvalidInput("a window is over one cost table, not " + std::to_string(spec.n_tables));
    }
    if (spec.use_max[0]) {
        throw InvalidInput("the table takes the maximum over slots; a window needs a sum");
    }
    if (spec.n_slots != space.n_slots()) {
        throw InvalidInput("the table has " + std::to_string(spec.n_slots) +
                           " slots and the space has " + std::to_string(space.n_slots()));
    }
    for (std::size_t s = 0; s < spec.n_slots; ++s) {
        if (spec.n_codes[s] != space.n_choices()[s] + 1) {
            throw InvalidInput("the table has " + std::to_string(spec.n_codes[s]) +
                               " codes for slot " + std::to_string(s) + "; the space has " +
                               std::to_string(space.n_choices()[s] + 1));
        }
    }
}

// The most that two orders of a sum may differ by.
double rounding_of(const CostSpec& spec) {
    double scale = 0.0;
    bool integers = true;
    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        double sum = std::abs(spec.constants[k]);
        integers = integers && std::floor(spec.constants[k]) == spec.constants[k];
        for (std::size_t s = 0; s < spec.n_slots; ++s) {
            double of_slot = 0.0;
            for (std::size_t c = 0; c < static_cast<std::size_t>(spec.n_codes[s]); ++c) {
                const double entry = spec.entries[(k * spec.n_slots + s) * spec.max_codes + c];
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
    return integers && scale < 0x1p53
               ? 0.0
               : std::max(0x1p-52 * static_cast<double>(spec.n_slots + 8) * 2.0 * scale,
                          std::numeric_limits<double>::denorm_min());
}

}  // namespace

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

Tables::Tables(const Space& space, const CostSpec& spec, const Execution& execution)
    : n_slots(space.n_slots()),
      costs(spec),
      context_slot(spec.context_slot),
      max_codes(spec.max_codes),
      entries(spec.entries.begin(), spec.entries.end()) {
    require_fit(space, spec);
    for (const std::int64_t count : space.stage_counts())
        n_architectures *= static_cast<double>(count);
    if (n_architectures > 1e290) {
        throw InvalidInput("the space has more than 10^290 architectures, too many for windows");
    }
    rounding = rounding_of(spec);
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
    levels_.resize(partners.size());
    for (std::size_t k = 0; k < spec.n_contexts; ++k) {
        units[k][main_group] = maker(k).make(groups[main_group], spec.constants[k]);
        contexts.push_back(make_context(k, partners[0], execution));
    }
}

void Tables::require_window(double low, double high) const {
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

// Neighbouring factors whose rows multiply to few enough become one unit.
void Tables::group_factors() {
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
void Tables::choose_tails() {
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

Context Tables::make_context(std::size_t context, const Partner& partner,
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
double Tables::bins_for(const std::vector<Context>& of, double wanted, bool limit_entries) const {
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

std::vector<Grid<uint128>> Tables::count_grids(const Execution& execution) const {
    std::vector<Grid<uint128>> built(contexts.size());
    const double n_bins = bins_for(contexts, kCountBins, false);
    parallel_for(built.size(), 1, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t k = begin; k < end; ++k)
            built[k] = make_grid<uint128>(contexts[k].units, n_bins, execution);
    });
    return built;
}

Level Tables::make_level(std::size_t index, const Execution& execution) const {
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
}

std::shared_ptr<const Level> Tables::level_for(const Ends& ends, const Execution& execution) const {
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
    return built_once(mutex_, levels_[index], [&] { return make_level(index, execution); });
}

}  // namespace pnag::window
