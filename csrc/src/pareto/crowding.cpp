#include <algorithm>
#include <cmath>
#include <limits>

#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"

namespace pnag {
namespace {

// (above - below) / (high - low) for low <= below <= above <= high.
double share(double below, double above, double low, double high) {
    if (below == above) return 0.0;  // equal infinities too
    const double range = high - low;
    if (std::isfinite(range)) return (above - below) / range;
    if (std::isfinite(high) && std::isfinite(low)) {  // the difference alone overflowed
        return (above / 2 - below / 2) / (high / 2 - low / 2);
    }
    return std::isfinite(above - below) || (std::isfinite(above) && std::isfinite(below)) ? 0.0
                                                                                          : 1.0;
}

}  // namespace

void crowding_distance(const Points& points, std::span<double> out, const Execution& execution) {
    require_points(points);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (points.n <= 2) {
        std::fill(out.begin(), out.end(), kInfinity);
        return;
    }
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t j = 0; j < points.m; ++j) {
        execution.check();
        const auto order = column_order(points, j, execution);
        const auto value = [&](std::size_t i) { return points.values[order[i] * points.m + j]; };
        const double low = value(0);
        const double high = value(points.n - 1);
        if (low == high) continue;
        out[order.front()] = kInfinity;
        out[order.back()] = kInfinity;
        double below = low;
        double here = value(1);
        Pacer pacer(execution);
        for (std::size_t i = 1; i + 1 < points.n; ++i) {
            pacer.spend(10);
            const double above = value(i + 1);
            out[order[i]] += share(below, above, low, high);
            below = here;
            here = above;
        }
    }
}

}  // namespace pnag
