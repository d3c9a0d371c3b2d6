#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cells.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"
#include "volume.hpp"

namespace pnag {
namespace {

// Points that no other dominates; a volume needs no others.
std::vector<std::size_t> minimal_rows(const Points& points, const std::vector<std::size_t>& rows,
                                      const Execution& execution) {
    std::vector<double> values;
    values.reserve(rows.size() * points.m);
    for (const std::size_t i : rows) {
        values.insert(values.end(), points.row(i), points.row(i) + points.m);
    }
    std::vector<std::uint8_t> keep(rows.size());
    is_non_dominated({values, rows.size(), points.m}, keep, execution);
    std::vector<std::size_t> minimal;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (keep[i] != 0) minimal.push_back(rows[i]);
    }
    return minimal;
}

// From here on cells are faster than sweeps.
constexpr std::size_t kCellObjectives = 5;

}  // namespace

std::vector<std::size_t> rows_inside(const Points& points, std::span<const double> reference) {
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
    std::vector<std::size_t> rows;
    std::vector<double> widest(points.m, 0.0);
    for (std::size_t i = 0; i < points.n; ++i) {
        const double* point = points.row(i);
        bool inside = true;
        for (std::size_t j = 0; j < points.m; ++j) {
            if (point[j] == -std::numeric_limits<double>::infinity()) {
                throw InvalidInput("points: row " + std::to_string(i) + ", column " +
                                   std::to_string(j) +
                                   " is -inf; its hypervolume is infinite (replace it by a bound)");
            }
            inside = inside && point[j] < reference[j];
        }
        if (!inside) continue;
        rows.push_back(i);
        for (std::size_t j = 0; j < points.m; ++j) {
            widest[j] = std::max(widest[j], reference[j] - point[j]);
        }
    }
    double box = 1.0;
    for (const double width : widest)
        box *= rows.empty() ? 0.0 : width;
    if (!std::isfinite(box)) {
        throw InvalidInput(
            "the hypervolume overflows a double; scale the objectives (for instance to [0, 1])");
    }
    return rows;
}

double hypervolume(const Points& points, std::span<const double> reference,
                   const Execution& execution) {
    const auto rows = rows_inside(points, reference);
    if (points.m >= kCellObjectives && points.m <= kMaxCellObjectives) {
        return volume_by_cells(points, minimal_rows(points, rows, execution), reference, execution);
    }
    std::vector<double> values;
    values.reserve(rows.size() * points.m);
    for (const std::size_t i : rows) {
        values.insert(values.end(), points.row(i), points.row(i) + points.m);
    }
    VolumeSolver solver(reference, execution);
    return solver.volume(values);
}

}  // namespace pnag
