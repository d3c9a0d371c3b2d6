#include "window/grid.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "pnag/parallel.hpp"
#include "pnag/random.hpp"

namespace pnag::window {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

}  // namespace

template <typename Count>
Grid<Count> make_grid(const std::vector<std::shared_ptr<const Unit>>& units, double n_bins,
                      const Execution& execution) {
    Pacer pacer(execution);
    Grid<Count> grid;
    double span = 0.0;
    for (const auto& unit : units)
        span += unit->span();
    grid.width = span > 0.0 ? span / n_bins : 1.0;
    grid.ways.push_back({1});
    grid.lo = {0.0};
    grid.hi = {0.0};
    // A single unit needs no bins: every row is one.
    const bool one_row_each = units.size() == 1;
    if (units.size() < 2) grid.width = 0.0;
    for (const auto& unit : units) {
        grid.bins.push_back(cut(*unit, grid.width, one_row_each));
        const Bins& bins = grid.bins.back();
        std::vector<Count> before = std::move(grid.ways.back());
        const std::size_t n = before.size();
        std::vector<Count> ways(n + bins.size() - 1, 0);
        std::vector<double> lo(ways.size(), kInfinity);
        std::vector<double> hi(ways.size(), -kInfinity);
        for (std::size_t b = 0; b < bins.size(); ++b) {
            if (bins.count(b) == 0) continue;
            pacer.spend(2 * n);
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
    if (!units.empty()) grid.ways.erase(grid.ways.begin());
    return grid;
}

template Grid<double> make_grid(const std::vector<std::shared_ptr<const Unit>>&, double,
                                const Execution&);
template Grid<uint128> make_grid(const std::vector<std::shared_ptr<const Unit>>&, double,
                                 const Execution&);

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

}  // namespace pnag::window
