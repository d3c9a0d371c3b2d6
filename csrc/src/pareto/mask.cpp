#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../simd/levels.hpp"
#include "../simd/points.hpp"
#include "block_list.hpp"
#include "divide_and_conquer.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/pareto.hpp"
#include "staircase.hpp"

namespace pnag {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kPrefilterMin = 1024;  // smaller batches are decided at once
constexpr std::size_t kSample = 1024;
constexpr std::size_t kPivots = 32;
constexpr std::size_t kGrain = 32768;
constexpr std::size_t kFilterGrain = 4096;

// Maps every objective to about [0, 1], never reversing an order: infinities go to the ends. Sums
// of such values over the objectives, in a fixed order, never decrease from a point to one it
// dominates.
class Normaliser {
  public:
    explicit Normaliser(const Points& points)
        : low_(points.m, kLargest), high_(points.m, -kLargest) {
        for (std::size_t i = 0; i < points.n; ++i) {
            for (std::size_t j = 0; j < points.m; ++j) {
                const double value = clamped(points.values[i * points.m + j]);
                low_[j] = std::min(low_[j], value);
                high_[j] = std::max(high_[j], value);
            }
        }
    }

    [[nodiscard]] double sum(const double* point) const {
        double total = 0.0;
        for (std::size_t j = 0; j < low_.size(); ++j) {
            const double range = high_[j] - low_[j];
            if (range > 0.0) total += (clamped(point[j]) - low_[j]) / range;
        }
        return total;
    }

  private:
    static constexpr double kLargest = 0x1p1000;  // differences of two stay finite

    static double clamped(double value) { return std::clamp(value, -kLargest, kLargest); }

    std::vector<double> low_;
    std::vector<double> high_;
};

Points select(const Points& points, const std::vector<std::uint32_t>& rows,
              std::vector<double>& storage, const Execution& execution) {
    storage.resize(rows.size() * points.m);
    parallel_for(rows.size(), kGrain, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const double* row = points.row(rows[i]);
            for (std::size_t j = 0; j < points.m; ++j)
                storage[i * points.m + j] = row[j];
        }
    });
    return {storage, rows.size(), points.m};
}

void mask_1d(const Points& points, std::span<std::uint8_t> out) {
    double least = points.values[0];
    for (const double value : points.values)
        least = std::min(least, value);
    for (std::size_t i = 0; i < points.n; ++i)
        out[i] = points.values[i] == least ? 1 : 0;
}

// In lexicographic order a point is dominated if and only if a different earlier one is not above
// it in the second objective.
void mask_2d(const Points& points, std::span<std::uint8_t> out, const Execution& execution) {
    const auto order = lexicographic_order(points, execution);
    double lowest = kInfinity;
    const double* kept = nullptr;
    Pacer pacer(execution);
    for (const std::uint32_t i : order) {
        pacer.spend(10);
        const double* point = points.row(i);
        const bool equal = kept != nullptr && point[0] == kept[0] && point[1] == kept[1];
        // The first point is kept even at +inf, which `lowest` cannot be above.
        const bool keep = equal || kept == nullptr || point[1] < lowest;
        out[i] = keep ? 1 : 0;
        if (keep) {
            lowest = point[1];
            kept = point;
        }
    }
}

bool mask_3d(const Points& points, std::span<std::uint8_t> out, const Execution& execution) {
    const auto order = lexicographic_order(points, execution);
    Staircase<double, double> stairs;
    std::size_t moves_left = (std::size_t{1} << 20) + 512 * points.n;
    const double* last = nullptr;
    std::uint8_t keep = 0;
    Pacer pacer(execution);
    for (const std::uint32_t i : order) {
        pacer.spend(100);
        const double* point = points.row(i);
        if (last == nullptr || !equal_rows(point, last, 3)) {
            keep = stairs.covers(point[1], point[2]) ? 0 : 1;
            if (keep != 0) {
                const std::size_t moved = stairs.insert(point[1], point[2]);
                if (moved > moves_left) return false;
                moves_left -= moved;
            }
        }
        out[i] = keep;
        last = point;
    }
    return true;
}

// Points in order of their normalised sum, each against the kept ones before it. Once kMaxKept are
// kept, the rest is only filtered by these and then divided: nothing can dominate a kept point, so
// the rest decides among itself.
void mask_by_sum(const Points& points, std::span<std::uint8_t> out, const Execution& execution) {
    constexpr std::size_t kMaxKept = 1024;
    const auto& kernel = simd::kernels<simd::PointKernels>();
    const Normaliser normaliser(points);
    std::vector<double> sums(points.n);
    parallel_for(points.n, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            sums[i] = normaliser.sum(points.row(i));
    });
    RowSort rows({sums.data(), 1}, {sums.data(), 1}, points.n, execution);
    rows.run();
    std::vector<std::uint32_t> order(points.n);
    for (std::size_t i = 0; i < points.n; ++i)
        order[i] = rows.entries()[i].row();
    // Rounding can give a point the sum of one that it dominates; it comes first lexicographically.
    for (std::size_t begin = 0; begin < points.n;) {
        std::size_t end = begin + 1;
        while (end < points.n && sums[order[end]] == sums[order[begin]])
            ++end;
        if (end - begin > 1) {
            std::sort(order.begin() + static_cast<std::ptrdiff_t>(begin),
                      order.begin() + static_cast<std::ptrdiff_t>(end),
                      [&](std::uint32_t a, std::uint32_t b) {
                          return std::lexicographical_compare(
                              points.row(a), points.row(a) + points.m, points.row(b),
                              points.row(b) + points.m);
                      });
        }
        begin = end;
    }
    BlockList kept(points.m);
    std::vector<std::uint32_t> rest;
    Pacer pacer(execution);
    // Threads filter as many points as were decided before by what is kept of these; the few that
    // pass meet what the same round keeps one after the other.
    for (std::size_t begin = 0; begin < points.n;) {
        const std::size_t end = std::min(points.n, std::max(kMaxKept, 2 * begin));
        const std::size_t n_kept = kept.size();
        parallel_for(end - begin, kFilterGrain, execution, [&](std::size_t from, std::size_t to) {
            Pacer own(execution);
            for (std::size_t i = begin + from; i < begin + to; ++i) {
                own.spend(n_kept + 10);
                out[order[i]] = kept.dominates(kernel, points.row(order[i])) ? 0 : 1;
            }
        });
        for (; begin < end; ++begin) {
            const std::uint32_t i = order[begin];
            if (out[i] == 0) continue;
            pacer.spend(kept.size() - n_kept + 10);
            const double* point = points.row(i);
            if (kept.dominates(kernel, point, n_kept)) {
                out[i] = 0;
            } else if (kept.size() < kMaxKept) {
                kept.add(point);
            } else {
                rest.push_back(i);
            }
        }
    }
    if (rest.empty()) return;
    std::vector<double> storage;
    std::vector<std::int32_t> ranks(rest.size());
    sort_by_dividing(select(points, rest, storage, execution), ranks, execution);
    for (std::size_t i = 0; i < rest.size(); ++i)
        out[rest[i]] = ranks[i] == 0 ? 1 : 0;
}

void mask_exactly(const Points& points, std::span<std::uint8_t> out, const Execution& execution) {
    if (points.n == 0) return;
    if (points.m == 1) return mask_1d(points, out);
    if (points.m == 2) return mask_2d(points, out, execution);
    if (points.m == 3 && mask_3d(points, out, execution)) return;
    mask_by_sum(points, out, execution);
}

}  // namespace

void is_non_dominated(const Points& points, std::span<std::uint8_t> out,
                      const Execution& execution) {
    require_points(points, execution);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    if (execution.threads < 1) {
        throw InvalidInput("threads is " + std::to_string(execution.threads) +
                           "; it must be at least 1");
    }
    if (points.n < kPrefilterMin || points.m == 1) return mask_exactly(points, out, execution);

    // Strong points of a sample, those with the smallest sums, rule out most of a random batch.
    std::vector<std::uint32_t> sample;
    for (std::size_t i = 0; i < kSample; ++i) {
        sample.push_back(static_cast<std::uint32_t>(i * points.n / kSample));
    }
    std::vector<double> sample_storage;
    const Points sampled = select(points, sample, sample_storage, execution);
    const Normaliser normaliser(sampled);
    std::vector<KeyIndex> by_sum(kSample);
    std::vector<KeyIndex> scratch;
    for (std::size_t i = 0; i < kSample; ++i) {
        by_sum[i] = {order_key(normaliser.sum(sampled.row(i))), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(by_sum, scratch);
    const auto& kernel = simd::kernels<simd::PointKernels>();
    BlockList pivots(points.m);
    for (std::size_t i = 0; i < kSample && pivots.size() < kPivots; ++i) {
        const double* point = sampled.row(by_sum[i].index);
        if (!pivots.dominates(kernel, point)) pivots.add(point);
    }
    parallel_for(points.n, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            out[i] = pivots.dominates(kernel, points.row(i)) ? 0 : 1;
        }
    });
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < points.n; ++i) {
        if (out[i] != 0) rows.push_back(static_cast<std::uint32_t>(i));
    }
    std::vector<double> storage;
    const Points rest = select(points, rows, storage, execution);
    std::vector<std::uint8_t> keep(rows.size());
    mask_exactly(rest, keep, execution);
    for (std::size_t i = 0; i < rows.size(); ++i)
        out[rows[i]] = keep[i];
}

}  // namespace pnag
