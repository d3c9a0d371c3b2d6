// How the architectures of one window are drawn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pnag/execution.hpp"
#include "window/tables.hpp"

namespace pnag::window {

/// Candidates of one sum of bins, as one column of an alias table.
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

/// Throws InvalidInput that names what can be reached if the window is empty.
Plan make_plan(const Tables& tables, double low, double high, const Execution& execution);

}  // namespace pnag::window
