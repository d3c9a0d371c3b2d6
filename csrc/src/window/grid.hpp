// Counting the combinations of units by binned cost, and drawing from the counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pnag/execution.hpp"
#include "window/units.hpp"

namespace pnag::window {

/// Rows [start[b], start[b + 1]) of a unit fall into bin b.
struct Bins {
    std::vector<std::uint32_t> start;
    std::vector<double> lo;  ///< smallest and largest cost in the bin
    std::vector<double> hi;

    [[nodiscard]] std::size_t size() const { return lo.size(); }
    [[nodiscard]] std::uint32_t count(std::size_t b) const { return start[b + 1] - start[b]; }
};

/// ways[i][t] combinations of the units 0 to i have bins that sum to t.
template <typename Count>
struct Grid {
    double width = 0.0;
    std::vector<Bins> bins;
    std::vector<std::vector<Count>> ways;
    std::vector<double> lo;  ///< smallest and largest true cost of the combinations of all units
    std::vector<double> hi;

    [[nodiscard]] const std::vector<Count>& all_ways() const { return ways.back(); }
};

/// O(T^2) for T bins in all. Bins are as wide as makes `n_bins` of all units together; a single
/// unit has a bin for every row.
template <typename Count>
Grid<Count> make_grid(const std::vector<std::shared_ptr<const Unit>>& units, double n_bins,
                      const Execution& execution);

/// Column k gives k with probability `share`, else `alias`; columns are equally likely. The sweep
/// over light and heavy columns is that of Hübschle-Schneider and Sanders, "Parallel weighted
/// random sampling" (2022). A column without weight is never given, whatever rounding left over.
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

/// Which bin of a unit, given the sum of its bin and those of the units before it.
struct BinDraws {
    struct Sum {
        std::uint32_t offset;
        std::uint16_t first_bin;
        std::uint16_t n_bins;
    };
    std::vector<Sum> sums;
    std::vector<std::uint64_t> entries;  ///< 48 bits of share, 16 bits of alias
};

/// `before[t]`: combinations of the earlier units whose bins sum to t.
BinDraws make_draws(const std::vector<double>& before, const Bins& bins,
                    const Execution& execution);

}  // namespace pnag::window
