#include <algorithm>
#include <cmath>
#include <limits>

#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"

namespace pnag {
namespace {

// (above - below) / (high - low) for low <= below <= above <= high, if high - low overflows.
double share(double below, double above, double low, double high) {
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
    const double range = high - low;
    // Entries that have neighbours; a few at a time, so that divisions are done side by side.
    const auto add = [&](const RowSort::Entry* entries, std::size_t n) {
        constexpr std::size_t kBatch = 32;
        double shares[kBatch];
        for (std::size_t begin = 0; begin < n; begin += kBatch) {
            const RowSort::Entry* from = entries + begin;
            const std::size_t size = std::min(kBatch, n - begin);
            if (std::isfinite(range)) {
                for (std::size_t i = 0; i < size; ++i)
                    shares[i] = (from[i + 1].value - (from + i - 1)->value) / range;
            } else {
                for (std::size_t i = 0; i < size; ++i)
                    shares[i] = share((from + i - 1)->value, from[i + 1].value, low, high);
            }
            for (std::size_t i = 0; i < size; ++i)
                out[from[i].row()] += shares[i];
        }
    };
    rows.run([&](std::size_t b) {
        const RowSort::Bucket bucket = rows.bucket(b);
        if (bucket.size() > 2) add(&bucket[1], bucket.size() - 2);
    });
    // The ends of a bucket have neighbours in others, which are sorted only now.
    const RowSort::Bucket all = rows.entries();
    for (std::size_t b = 0; b < rows.n_buckets(); ++b) {
        const std::size_t begin = rows.start(b);
        const std::size_t end = rows.start(b + 1);
        if (begin == end) continue;
        if (begin > 0 && begin + 1 < all.size()) add(&all[begin], 1);
        if (end - begin > 1 && end < all.size()) add(&all[end - 1], 1);
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
