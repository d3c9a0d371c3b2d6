#include <algorithm>
#include <limits>
#include <vector>

#include "../simd/kernels.hpp"
#include "divide_and_conquer.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"
#include "staircase.hpp"

namespace pnag {
namespace {

void sort_1d(const Points& points, std::span<std::int32_t> out, const Execution& execution) {
    const auto order = column_order(points, 0, execution);
    std::int32_t rank = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (i > 0 && points.values[order[i]] != points.values[order[i - 1]]) ++rank;
        out[order[i]] = rank;
    }
}

// In lexicographic order a point is dominated by a front if and only if the front's lowest second
// objective, that of its last point, is not above the point's. These values rise with the front.
void sort_2d(const Points& points, std::span<std::int32_t> out, const Execution& execution) {
    const auto order = lexicographic_order(points, execution);
    // The free fronts after the last hold +inf in a power of two of places, so that the search
    // below always takes the same number of steps and none of them is a branch.
    std::vector<double> lowest(64, std::numeric_limits<double>::infinity());
    std::size_t n_fronts = 0;
    double last_x = 0.0;
    double last_y = 0.0;
    std::int32_t rank = -1;
    constexpr std::size_t kAhead = 16;
    Pacer pacer(execution);
    for (std::size_t k = 0; k < order.size(); ++k) {
        pacer.spend(20);
        // The order is random in memory; points are fetched before they are needed.
        if (k + kAhead < order.size()) __builtin_prefetch(points.row(order[k + kAhead]));
        const double* point = points.row(order[k]);
        const double x = point[0];
        const double y = point[1];
        if (rank < 0 || x != last_x || y != last_y) {
            const double* base = lowest.data();
            for (std::size_t half = lowest.size() / 2; half > 0; half /= 2) {
                base += half & all_if(base[half - 1] <= y);
            }
            auto front = static_cast<std::size_t>(base - lowest.data());
            // +inf is not below the free places either; like any value that every front dominates,
            // it opens the first of them.
            if (front >= n_fronts) {
                front = n_fronts;
                if (++n_fronts == lowest.size()) {
                    lowest.resize(2 * lowest.size(), std::numeric_limits<double>::infinity());
                }
            }
            lowest[front] = y;
            rank = static_cast<std::int32_t>(front);
        }
        out[order[k]] = rank;
        last_x = x;
        last_y = y;
    }
}

// As in two objectives, with a staircase of the other two objectives for every front. Returns
// false, with `out` unspecified, when staircases grow so long that moving their steps costs too
// much.
bool sort_3d(const Points& points, std::span<std::int32_t> out, const Execution& execution) {
    const auto order = lexicographic_order(points, execution);
    std::vector<Staircase<double, double>> fronts;
    std::size_t moves_left = (std::size_t{1} << 20) + 512 * points.n;
    const double* last = nullptr;
    std::int32_t rank = 0;
    Pacer pacer(execution);
    for (const std::uint32_t i : order) {
        pacer.spend(300);
        const double* point = points.row(i);
        if (last == nullptr || !equal_rows(point, last, 3)) {
            std::size_t low = 0;
            std::size_t high = fronts.size();
            while (low < high) {
                const std::size_t middle = (low + high) / 2;
                if (fronts[middle].covers(point[1], point[2])) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if (low == fronts.size()) fronts.emplace_back();
            const std::size_t moved = fronts[low].insert(point[1], point[2]);
            if (moved > moves_left) return false;
            moves_left -= moved;
            rank = static_cast<std::int32_t>(low);
        }
        out[i] = rank;
        last = point;
    }
    return true;
}

}  // namespace

void non_dominated_sort(const Points& points, std::span<std::int32_t> out,
                        const Execution& execution) {
    require_points(points);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    if (execution.threads < 1) {
        throw InvalidInput("threads is " + std::to_string(execution.threads) +
                           "; it must be at least 1");
    }
    if (points.n == 0) return;
    if (points.m == 1) return sort_1d(points, out, execution);
    if (points.m == 2) return sort_2d(points, out, execution);
    if (points.m == 3 && sort_3d(points, out, execution)) return;
    sort_by_dividing(points, out, execution);
}

}  // namespace pnag
