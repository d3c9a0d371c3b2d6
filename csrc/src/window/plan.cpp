#include "window/plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "pnag/errors.hpp"
#include "window/ends.hpp"
#include "window/walk.hpp"

namespace pnag::window {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Windows are listed where fewer of their candidates than this share would be accepted.
constexpr double kMinAcceptance = 0.05;
// Where this share of the rows of all cells is in the window, a search for those that are costs
// more than it saves.
constexpr double kDirectAcceptance = 0.6;

[[noreturn]] void throw_empty(const Tables& tables, const Plan& plan) {
    const std::string message = "no architecture costs " + number(plan.low) + " to " +
                                number(plan.high) + "; costs reach from " +
                                number(tables.min_cost) + " to " + number(tables.max_cost);
    if (plan.high < tables.min_cost || plan.low > tables.max_cost) throw InvalidInput(message);
    double below = -kInfinity;
    double above = kInfinity;
    double tolerance = tables.rounding;
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

}  // namespace

Plan make_plan(const Tables& tables, double low, double high, const Execution& execution) {
    Plan plan;
    plan.low = low;
    plan.high = high;
    const Ends ends(low, high, tables.rounding);
    plan.level = tables.level_for(ends, execution);
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
    for (std::size_t k = 0; ends.low <= ends.high && k < plan.level->contexts.size(); ++k) {
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
    if (plan.cells.empty()) throw_empty(tables, plan);
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
        walk(tables, plan.level->contexts, plan.level->grids, low, high, false, execution,
             [&](const std::uint8_t* row) {
                 plan.listed.insert(plan.listed.end(), row, row + tables.n_slots);
             });
        if (plan.listed.empty()) throw_empty(tables, plan);
    }
    return plan;
}

}  // namespace pnag::window
