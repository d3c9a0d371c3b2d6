#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../simd/cells.hpp"
#include "cells.hpp"
#include "pnag/errors.hpp"
#include "pnag/float_flags.hpp"
#include "pnag/pareto.hpp"
#include "stretch.hpp"
#include "volume.hpp"

namespace pnag {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// From here on cells are faster than sweeps.
constexpr std::size_t kCellObjectives = 5;

// With few points in so many objectives cuts are faster than cells.
constexpr std::size_t kCutObjectives = 5;

// Few rows, or rounds that drop a smaller part, are not worth a round of drop_covered.
constexpr std::size_t kFewRows = 8;
constexpr std::size_t kWorthwhilePart = 4;

// Drop the rows that the row with the largest box covers, then the next, while that pays. Of random
// points in few objectives hardly any are left. Rows change places.
void drop_covered(std::vector<double>& values, std::span<const double> reference,
                  const Execution& execution) {
    const std::size_t m = reference.size();
    std::size_t n = values.size() / m;
    double* rows = values.data();
    for (std::size_t first = 0; first + kFewRows < n; ++first) {
        execution.check();
        std::size_t largest = first;
        double volume = 0.0;
        for (std::size_t i = first; i < n; ++i) {
            double box = 1.0;
            for (std::size_t j = 0; j < m; ++j)
                box *= reference[j] - rows[i * m + j];
            largest = box > volume ? i : largest;
            volume = std::max(box, volume);
        }
        std::swap_ranges(rows + first * m, rows + first * m + m, rows + largest * m);
        const double* pivot = rows + first * m;
        // Each row is moved before it is judged, for want of a branch that could be guessed.
        std::size_t kept = first + 1;
        for (std::size_t i = first + 1; i < n; ++i) {
            const double* row = rows + i * m;
            bool covered = true;
            for (std::size_t j = 0; j < m; ++j) {
                covered = covered & (pivot[j] <= row[j]);
                rows[kept * m + j] = row[j];
            }
            kept += covered ? 0 : 1;
        }
        const bool done = n - kept < (n - first) / kWorthwhilePart;
        n = kept;
        if (done) break;
    }
    values.resize(n * m);
}

// Says what is wrong with points or reference, if anything is.
void require_volume(const Points& points, std::span<const double> reference) {
    require_points(points);
    if (reference.size() != points.m) {
        throw InvalidInput("reference has " + std::to_string(reference.size()) +
                           " entries; points have " + std::to_string(points.m) + " objectives");
    }
    for (std::size_t j = 0; j < points.m; ++j) {
        if (!std::isfinite(reference[j])) {
            throw InvalidInput("reference: entry " + std::to_string(j) + " is " +
                               std::to_string(reference[j]) +
                               "; the reference must be finite, or the volume is not");
        }
    }
    for (std::size_t i = 0; i < points.n * points.m; ++i) {
        if (points.values[i] != -kInfinity) continue;
        throw InvalidInput("points: row " + std::to_string(i / points.m) + ", column " +
                           std::to_string(i % points.m) +
                           " is -inf; its hypervolume is infinite (replace it by a bound)");
    }
}

// Volume of points better than the reference.
double measure(std::vector<double> values, std::span<const double> reference,
               const Execution& execution) {
    const std::size_t m = reference.size();
    drop_covered(values, reference, execution);
    if (m >= kCellObjectives && m <= kMaxCellObjectives) {
        const std::size_t n = values.size() / m;
        if (m == kCutObjectives && n <= simd::kMaxCutRows) {
            return volume_by_cuts({values, n, m}, reference, execution);
        }
        std::vector<std::uint8_t> keep(n);
        is_non_dominated({values, n, m}, keep, execution);
        std::vector<std::size_t> minimal;
        for (std::size_t i = 0; i < n; ++i) {
            if (keep[i] != 0) minimal.push_back(i);
        }
        return volume_by_cells({values, n, m}, minimal, reference, execution);
    }
    VolumeSolver solver(reference, execution);
    return solver.volume(values);
}

}  // namespace

Inside points_inside(const Points& points, std::span<const double> reference, bool with_rows) {
    const std::size_t m = points.m;
    const std::size_t n = points.n;
    // Nothing is read before the shape is known to be right; n * m might overflow.
    constexpr auto kMaxRows = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
    bool good = m > 0 && reference.size() == m && n <= kMaxRows && points.values.size() / m == n &&
                points.values.size() % m == 0;
    for (const double value : reference)
        good = good && std::isfinite(value);
    Inside inside;
    if (!good) {
        require_volume(points, reference);
        return inside;
    }
    // One pass without branches. A row more, because the last one is written before it is judged.
    inside.values.resize((n + 1) * m);
    inside.lowest.assign(reference.begin(), reference.end());
    double* const lowest = inside.lowest.data();
    if (with_rows) inside.rows.resize(n + 1);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double* point = points.row(i);
        double* to = inside.values.data() + kept * m;
        bool below = true;
        for (std::size_t j = 0; j < m; ++j) {
            // Neither NaN nor -inf is above -inf.
            good = good & (point[j] > -kInfinity);
            below = below & (point[j] < reference[j]);
            to[j] = point[j];
        }
        for (std::size_t j = 0; j < m; ++j) {
            const double least = std::min(lowest[j], point[j]);
            lowest[j] = below ? least : lowest[j];
        }
        if (with_rows) inside.rows[kept] = i;
        kept += below ? 1 : 0;
    }
    if (!good) require_volume(points, reference);
    inside.box = 1.0;
    for (std::size_t j = 0; j < m; ++j)
        inside.box *= reference[j] - lowest[j];
    inside.values.resize(kept * m);
    if (with_rows) inside.rows.resize(kept);
    return inside;
}

double hypervolume(const Points& points, std::span<const double> reference,
                   const Execution& execution) {
    const float_flags::Watch watch;
    Inside inside = points_inside(points, reference, false);
    if (std::isfinite(inside.box)) {
        float_flags::write(0);
        const double volume = measure(std::move(inside.values), reference, execution);
        if (watch.raised() == 0) return volume;
        inside = points_inside(points, reference, false);
    }
    const Stretch stretch(inside.lowest, reference);
    float_flags::write(0);
    stretch.apply(inside.values);
    const auto& corner = stretch.reference();
    // Stretching may have moved points to the reference.
    Inside stretched = points_inside(inside.view(), corner, false);
    const double volume = measure(std::move(stretched.values), corner, execution);
    if ((watch.raised() & float_flags::kUnderflow) != 0 && !(volume >= stretch.least_certain())) {
        throw InvalidInput(
            "the hypervolume is too small beside the box from the lowest values to the reference "
            "for double precision; drop points that lie that far apart, or move the reference");
    }
    const double restored = stretch.restore(volume);
    if (std::isnan(restored)) {
        throw InvalidInput(
            "the hypervolume underflows a double; scale the objectives (for instance to [0, 1])");
    }
    if (std::isinf(restored)) {
        throw InvalidInput(
            "the hypervolume overflows a double; scale the objectives (for instance to [0, 1])");
    }
    return restored;
}

}  // namespace pnag
