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
    const double range = high - low;
    if (std::isfinite(range)) return (above - below) / range;
    if (below == above) return 0.0;                   // equal infinities too
    if (std::isfinite(high) && std::isfinite(low)) {  // the difference alone overflowed
        return (above / 2 - below / 2) / (high / 2 - low / 2);
    }
    return std::isfinite(above - below) || (std::isfinite(above) && std::isfinite(below)) ? 0.0
                                                                                          : 1.0;
}

void add_column(const Column& column, std::span<double> out, const Execution& execution) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    RowSort rows(column, column, out.size(), execution);
    const double low = rows.least();
    const double high = rows.most();
    if (low == high) return;
    const auto add = [&](const RowSort::Entry* entry) {
        out[entry->row()] += share((entry - 1)->value, (entry + 1)->value, low, high);
    };
    rows.run([&](std::size_t b) {
        const RowSort::Bucket bucket = rows.bucket(b);
        for (std::size_t i = 1; i + 1 < bucket.size(); ++i)
            add(&bucket[i]);
    });
    // The ends of a bucket have neighbours in others, which are sorted only now.
    const RowSort::Bucket all = rows.entries();
    for (std::size_t b = 0; b < rows.n_buckets(); ++b) {
        const std::size_t begin = rows.start(b);
        const std::size_t end = rows.start(b + 1);
        if (begin == end) continue;
        if (begin > 0 && begin + 1 < all.size()) add(&all[begin]);
        if (end - begin > 1 && end < all.size()) add(&all[end - 1]);
    }
    out[all.front().row()] = kInfinity;
    out[all.back().row()] = kInfinity;
}

}  // namespace

void crowding_distance(const Points& points, std::span<double> out, const Execution& execution) {
    require_points(points, execution);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    if (points.n <= 2) {
        std::fill(out.begin(), out.end(), std::numeric_limits<double>::infinity());
        return;
    }
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t j = 0; j < points.m; ++j) {
        execution.check();
        add_column(column_of(points, j), out, execution);
    }
}

}  // namespace pnag
