#include <algorithm>
#include <vector>

#include "../simd/kernels.hpp"
#include "cells.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"
#include "volume.hpp"

namespace pnag {
namespace {

// Sweep by x over the staircase. A point that exactly one step covers takes its part from that
// step's own rectangle, so it is kept with the step; one that several cover matters to none.
void contributions_2d(const Points& points, std::span<const std::size_t> rows,
                      std::span<const double> reference, std::span<double> out) {
    std::vector<double> inside;
    for (const std::size_t i : rows) {
        inside.insert(inside.end(), points.row(i), points.row(i) + 2);
    }
    const auto order = lexicographic_order({inside, rows.size(), 2});
    struct Step {
        double x;
        double y;
        std::size_t row;
        bool repeated;
    };
    std::vector<Step> steps;
    std::vector<std::uint32_t> covered;
    for (const std::uint32_t i : order) {
        const double x = inside[2 * i];
        const double y = inside[2 * i + 1];
        if (!steps.empty() && steps.back().x == x && steps.back().y == y) {
            steps.back().repeated = true;
        } else if (steps.empty() || y < steps.back().y) {
            steps.push_back({x, y, rows[i], false});
        } else {
            covered.push_back(i);
        }
    }
    const std::size_t n = steps.size();
    // Covered points by their only step, in order of x: lists in one array, counted first.
    std::vector<std::uint32_t> owner(covered.size());
    std::vector<std::size_t> begin(n + 1, 0);
    for (std::size_t c = 0; c < covered.size(); ++c) {
        const double x = inside[2 * covered[c]];
        const double y = inside[2 * covered[c] + 1];
        // Steps that cover it: from the first with step.y <= y to the last with step.x <= x.
        const auto last = std::upper_bound(steps.begin(), steps.end(), x,
                                           [](double v, const Step& step) { return v < step.x; }) -
                          1;
        const bool single = last == steps.begin() || (last - 1)->y > y;
        owner[c] = static_cast<std::uint32_t>(single ? last - steps.begin()
                                                     : static_cast<std::ptrdiff_t>(n));
        if (single) ++begin[owner[c] + 1];
    }
    for (std::size_t s = 0; s < n; ++s)
        begin[s + 1] += begin[s];
    std::vector<std::uint32_t> listed(begin[n]);
    std::vector<std::size_t> next(begin.begin(), begin.end() - 1);
    for (std::size_t c = 0; c < covered.size(); ++c) {
        if (owner[c] < n) listed[next[owner[c]]++] = covered[c];
    }
    for (std::size_t s = 0; s < n; ++s) {
        if (steps[s].repeated) continue;
        const double right = s + 1 < n ? steps[s + 1].x : reference[0];
        double top = s > 0 ? steps[s - 1].y : reference[1];
        double x = steps[s].x;
        double area = 0.0;
        for (std::size_t c = begin[s]; c < begin[s + 1]; ++c) {
            const double* point = inside.data() + 2 * static_cast<std::size_t>(listed[c]);
            if (point[1] >= top) continue;
            area += (point[0] - x) * (top - steps[s].y);
            x = point[0];
            top = point[1];
        }
        out[steps[s].row] = area + (right - x) * (top - steps[s].y);
    }
}

void contributions_3d(const Points& points, std::span<const std::size_t> rows,
                      std::span<const double> reference, std::span<double> out) {
    SpaceCover cover(simd::kernels());
    cover.reset(reference.data());
    cover.assign(points, rows);
    for (std::size_t i = 0; i < rows.size(); ++i)
        out[rows[i]] = cover.own_volume(i);
}

// Own box less what the others cover of it.
void contributions_by_cutting(const Points& points, std::span<const std::size_t> rows,
                              std::span<const double> reference, std::span<double> out) {
    const std::size_t m = points.m;
    VolumeSolver solver(reference);
    std::vector<double> cut;
    for (const std::size_t i : rows) {
        const double* point = points.row(i);
        cut.clear();
        bool covered = false;
        for (const std::size_t k : rows) {
            if (k == i) continue;
            const double* other = points.row(k);
            bool covers = true;
            for (std::size_t j = 0; j < m; ++j) {
                covers = covers && other[j] <= point[j];
                cut.push_back(std::max(point[j], other[j]));
            }
            if (covers) {
                covered = true;
                break;
            }
        }
        if (covered) continue;
        double own = 1.0;
        for (std::size_t j = 0; j < m; ++j)
            own *= reference[j] - point[j];
        out[i] = std::max(0.0, own - solver.volume(cut));
    }
}

}  // namespace

void hypervolume_contributions(const Points& points, std::span<const double> reference,
                               std::span<double> out, const Execution& execution) {
    const auto rows = rows_inside(points, reference);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    std::fill(out.begin(), out.end(), 0.0);
    if (points.m == 2) return contributions_2d(points, rows, reference, out);
    if (points.m == 3) return contributions_3d(points, rows, reference, out);
    if (points.m > 3 && points.m <= kMaxCellObjectives) {
        return contributions_by_cells(points, rows, reference, out, execution);
    }
    contributions_by_cutting(points, rows, reference, out);
}

}  // namespace pnag
