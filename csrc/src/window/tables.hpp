// What a cost table and a space say of all windows: units, tails and the counts of their bins.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pnag/cost.hpp"
#include "pnag/execution.hpp"
#include "pnag/random.hpp"
#include "pnag/space.hpp"
#include "window/ends.hpp"
#include "window/grid.hpp"
#include "window/tail.hpp"
#include "window/units.hpp"

namespace pnag::window {

/// A cost as errors tell it.
std::string number(double value);

/// Everything under one context (input resolution): the binned units, and the tail, whose costs
/// include the constant.
struct Context {
    std::vector<std::shared_ptr<const Unit>> units;
    Tail tail;
};

/// Which factors pair with the main unit in the tail: a run within `group`, or none.
struct Partner {
    std::size_t group = 0;
    Run run{0, 0};
    std::size_t n_rows = 1;
};

/// Tails of one length, and what draws the bins of the other units.
struct Level {
    std::vector<Context> contexts;
    std::vector<Grid<double>> grids;           // per context
    std::vector<std::vector<BinDraws>> draws;  // per context and unit; none for unit 0
};

struct Tables {
    std::size_t n_slots = 0;
    CostTables costs;
    std::vector<Factor> factors;
    int context_slot = -1;
    std::size_t max_codes = 0;
    std::vector<double> entries;  // (n_contexts, n_slots, max_codes)
    double n_architectures = 1.0;
    double rounding = 0.0;  // as in Ends
    double min_cost = std::numeric_limits<double>::infinity();
    double max_cost = -std::numeric_limits<double>::infinity();
    std::vector<Run> groups;        // of factors, one for each unit
    std::size_t main_group = 0;     // the group that is always in the tail
    std::vector<Partner> partners;  // by level; none at the first
    std::vector<std::vector<std::shared_ptr<const Unit>>> units;  // per context and group
    std::vector<Context> contexts;                                // of the first level

    Tables(const Space& space, const CostSpec& spec, const Execution& execution);

    /// Throws InvalidInput unless the ends are finite and in order.
    void require_window(double low, double high) const;

    /// The first level whose tail is crowded enough for the window. Built when first needed.
    [[nodiscard]] std::shared_ptr<const Level> level_for(const Ends& ends,
                                                         const Execution& execution) const;

    /// The counts that no draw needs, in finer bins and as integers.
    [[nodiscard]] std::vector<Grid<uint128>> count_grids(const Execution& execution) const;

  private:
    mutable std::mutex mutex_;
    mutable std::vector<std::shared_ptr<const Level>> levels_;

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
    [[nodiscard]] Level make_level(std::size_t index, const Execution& execution) const;
};

}  // namespace pnag::window
