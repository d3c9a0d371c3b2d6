// Every architecture of a window, where they are few.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "pnag/parallel.hpp"
#include "window/ends.hpp"
#include "window/tables.hpp"

namespace pnag::window {

/// Windows with fewer candidates than this may be listed.
inline constexpr double kMaxListed = 1 << 20;

/// Call `visit` with the complete rows of the window whose tails are in may but, if only_edges, not
/// in must.
template <typename Count, typename Visit>
void walk(const Tables& tables, const std::vector<Context>& of,
          const std::vector<Grid<Count>>& grids, double low, double high, bool only_edges,
          const Execution& execution, const Visit& visit) {
    const std::size_t n_slots = tables.n_slots;
    constexpr std::size_t kBlock = 64;
    const Ends ends(low, high, tables.rounding);
    Pacer pacer(execution);
    std::vector<std::uint8_t> block(kBlock * n_slots);
    std::vector<double> found(kBlock);
    std::size_t filled = 0;
    const auto flush = [&] {
        const std::span<const std::uint8_t> rows(block.data(), filled * n_slots);
        tables.costs.lookup(rows, {found.data(), filled}, 1);
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

}  // namespace pnag::window
