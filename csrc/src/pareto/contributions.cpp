#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cells.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/float_flags.hpp"
#include "pnag/pareto.hpp"
#include "stretch.hpp"
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

// Sweep by z over the staircase of x and y, after HVC3D (Guerreiro and Fonseca, "Computing and
// updating hypervolume contributions in up to four dimensions", IEEE TEC 2018). Every step knows
// the area that it alone covers: its own rectangle, up to its neighbours, less what the points
// cover that no other step covers. Those are the *inner* points of the step: steps that it
// replaced, and points that it alone dominates. O(n log n) while steps have few inner points and
// insertion moves few steps.
class ContributionSweep {
  public:
    ContributionSweep(std::span<const double> reference, std::size_t n)
        // Two guards: nothing lies beyond them, and they are never replaced.
        : steps_{{-kInfinity, reference[1], kNone}, {reference[0], -kInfinity, kNone}},
          owners_(n) {}

    void add(double x, double y, double z, std::uint32_t id) {
        // The first step right of x; steps before it are at or left of x.
        const auto after = static_cast<std::size_t>(
            std::upper_bound(steps_.begin(), steps_.end(), x,
                             [](double value, const Step& step) { return value < step.x; }) -
            steps_.begin());
        const std::size_t last = after - 1;
        if (steps_[last].id != kNone && steps_[last].y <= y) {
            // Covered. Only the step's own area loses, and only if no other step covers the point.
            if (steps_[last - 1].y > y) add_inner(last, x, y, z);
            return;
        }
        // Steps [first, stop) lie in the point's quadrant and become its inner points.
        const std::size_t first = steps_[last].x == x ? last : after;
        std::size_t stop = first;
        Owner& owner = owners_[id];
        owner.z = z;
        while (steps_[stop].y >= y) {
            settle(stop, z);
            const Step& step = steps_[stop++];
            owner.inner.push_back({step.x, step.y});
            owners_[step.id].inner = {};
        }
        if (first == stop) {
            steps_.insert(steps_.begin() + static_cast<std::ptrdiff_t>(first), {x, y, id});
        } else {
            steps_[first] = {x, y, id};
            steps_.erase(steps_.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                         steps_.begin() + static_cast<std::ptrdiff_t>(stop));
        }
        measure(first);
        // Neighbours end where the new step begins; what lies beyond is covered twice.
        for (const std::size_t neighbour : {first - 1, first + 1}) {
            if (steps_[neighbour].id == kNone) continue;
            settle(neighbour, z);
            measure(neighbour);
        }
    }

    void finish(double z) {
        for (std::size_t i = 1; i + 1 < steps_.size(); ++i)
            settle(i, z);
    }

    [[nodiscard]] double volume(std::uint32_t id) const { return owners_[id].volume; }

  private:
    static constexpr double kInfinity = std::numeric_limits<double>::infinity();
    static constexpr std::uint32_t kNone = 0xFFFFFFFFU;

    struct Step {
        double x;
        double y;
        std::uint32_t id;
    };
    struct Corner {
        double x;
        double y;
    };
    struct Owner {
        std::vector<Corner> inner;  // a staircase: x rising, y falling
        double area = 0.0;
        double z = 0.0;  // up to here the volume is counted
        double volume = 0.0;
    };

    void settle(std::size_t at, double z) {
        Owner& owner = owners_[steps_[at].id];
        owner.volume += owner.area * (z - owner.z);
        owner.z = z;
    }

    void add_inner(std::size_t at, double x, double y, double z) {
        std::vector<Corner>& inner = owners_[steps_[at].id].inner;
        const auto after =
            std::upper_bound(inner.begin(), inner.end(), x,
                             [](double value, const Corner& corner) { return value < corner.x; });
        auto first = after;
        if (first != inner.begin() && (first - 1)->y <= y) return;
        if (first != inner.begin() && (first - 1)->x == x) --first;
        auto stop = first;
        while (stop != inner.end() && stop->y >= y)
            ++stop;
        settle(at, z);
        inner.insert(inner.erase(first, stop), {x, y});
        measure(at);
    }

    // Areas are added, never subtracted, so that nothing cancels.
    void measure(std::size_t at) {
        const Step& step = steps_[at];
        const double right = steps_[at + 1].x;
        Owner& owner = owners_[step.id];
        // The left guard stands at the top of the plane; inner points at or above the step before
        // are covered by it, and those at or beyond the step after by that one.
        double top = steps_[at - 1].y;
        auto& inner = owner.inner;
        const auto kept = std::remove_if(inner.begin(), inner.end(), [&](const Corner& corner) {
            return corner.x >= right || corner.y >= top;
        });
        inner.erase(kept, inner.end());
        double x = step.x;
        double area = 0.0;
        for (const Corner& corner : inner) {
            area += (corner.x - x) * (top - step.y);
            x = corner.x;
            top = corner.y;
        }
        owner.area = area + (right - x) * (top - step.y);
    }

    std::vector<Step> steps_;
    std::vector<Owner> owners_;
};

void contributions_3d(const Points& points, std::span<const std::size_t> rows,
                      std::span<const double> reference, std::span<double> out,
                      const Execution& execution) {
    // By z, then x, then y: whatever dominates a point comes before it.
    std::vector<double> turned;
    turned.reserve(3 * rows.size());
    for (const std::size_t i : rows) {
        const double* point = points.row(i);
        turned.insert(turned.end(), {point[2], point[0], point[1]});
    }
    const auto order = lexicographic_order({turned, rows.size(), 3});
    ContributionSweep sweep(reference, rows.size());
    Pacer pacer(execution);
    for (const std::uint32_t i : order) {
        pacer.spend(100);
        const double* point = turned.data() + 3 * static_cast<std::size_t>(i);
        sweep.add(point[1], point[2], point[0], i);
    }
    sweep.finish(reference[2]);
    for (std::size_t i = 0; i < rows.size(); ++i)
        out[rows[i]] = sweep.volume(static_cast<std::uint32_t>(i));
}

// Where the part of its box ends that a point may have for itself: an edge ends where a point
// begins that is above it in this objective only. False if another point covers the whole box.
bool find_own_corner(const Points& points, std::span<const std::size_t> rows, std::size_t i,
                     std::span<const double> reference, std::vector<double>& corner) {
    const double* point = points.row(i);
    corner.assign(reference.begin(), reference.end());
    for (const std::size_t k : rows) {
        if (k == i) continue;
        const double* other = points.row(k);
        std::size_t n_above = 0;
        std::size_t last = 0;
        for (std::size_t j = 0; j < points.m; ++j) {
            if (other[j] <= point[j]) continue;
            ++n_above;
            last = j;
        }
        if (n_above == 0) return false;
        if (n_above == 1) corner[last] = std::min(corner[last], other[last]);
    }
    return true;
}

// Appends the other points that reach into [point i, corner), cut to it.
void append_cut(const Points& points, std::span<const std::size_t> rows, std::size_t i,
                std::span<const double> corner, std::vector<double>& cut) {
    const double* point = points.row(i);
    for (const std::size_t k : rows) {
        const double* other = points.row(k);
        bool reaches = k != i;
        for (std::size_t j = 0; j < points.m; ++j)
            reaches = reaches && other[j] < corner[j];
        for (std::size_t j = 0; j < points.m && reaches; ++j)
            cut.push_back(std::max(other[j], point[j]));
    }
}

// Own box less what the others cover of it.
void contributions_by_cutting(const Points& points, std::span<const std::size_t> rows,
                              std::span<const double> reference, std::span<double> out,
                              const Execution& execution) {
    const std::size_t m = points.m;
    VolumeSolver solver(reference, execution);
    Pacer pacer(execution);
    std::vector<double> cut;
    std::vector<double> corner;
    for (const std::size_t i : rows) {
        pacer.spend(rows.size() * m);
        if (!find_own_corner(points, rows, i, reference, corner)) continue;
        cut.clear();
        append_cut(points, rows, i, corner, cut);
        const double* point = points.row(i);
        double own = 1.0;
        for (std::size_t j = 0; j < m; ++j)
            own *= corner[j] - point[j];
        solver.set_reference(corner);
        out[i] = std::max(0.0, own - solver.volume(cut));
    }
}

// Of `rows`, which are better than the reference everywhere; out is 0 before.
void contribute(const Points& points, std::span<const std::size_t> rows,
                std::span<const double> reference, std::span<double> out,
                const Execution& execution) {
    if (points.m == 2) return contributions_2d(points, rows, reference, out);
    if (points.m == 3) return contributions_3d(points, rows, reference, out, execution);
    if (points.m > 3 && points.m <= kMaxCellObjectives) {
        return contributions_by_cells(points, rows, reference, out, execution);
    }
    contributions_by_cutting(points, rows, reference, out, execution);
}

// Contributions with stretched objectives, and what may be said of them.
struct Stretched {
    Stretched(Inside inside, std::span<const double> reference, const Execution& execution)
        : stretch(inside.lowest, reference), parts(inside.view().n, 0.0) {
        const float_flags::Watch watch;
        stretch.apply(inside.values);
        // Stretching may have moved points to the reference.
        const Points points = inside.view();
        const Inside left = points_inside(points, stretch.reference(), true);
        contribute(points, left.rows, stretch.reference(), parts, execution);
        exact = (watch.raised() & float_flags::kUnderflow) == 0;
    }

    [[nodiscard]] bool certain(std::size_t i) const {
        return exact || parts[i] >= stretch.least_certain();
    }

    Stretch stretch;
    std::vector<double> parts;
    bool exact = false;
};

[[noreturn]] void refuse_part(std::size_t row, const char* what) {
    throw InvalidInput("points: the hypervolume contribution of row " + std::to_string(row) + " " +
                       what + "; scale the objectives (for instance to [0, 1])");
}

double restore_part(const Stretched& stretched, std::size_t i, std::size_t row) {
    const double part = stretched.stretch.restore(stretched.parts[i]);
    if (std::isnan(part)) refuse_part(row, "underflows a double");
    if (std::isinf(part)) refuse_part(row, "overflows a double");
    return part;
}

// The contribution of row i of the points inside, which is tiny beside the box of all: what others
// leave of the box that may be its own, measured by itself.
double lone_part(const Inside& inside, std::size_t i, std::span<const double> reference,
                 const Execution& execution) {
    const Points points = inside.view();
    std::vector<std::size_t> rows(points.n);
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    std::vector<double> corner;
    if (!find_own_corner(points, rows, i, reference, corner)) return 0.0;
    Inside own;
    own.lowest.assign(points.row(i), points.row(i) + points.m);
    own.values = own.lowest;
    append_cut(points, rows, i, corner, own.values);
    const Stretched stretched(std::move(own), corner, execution);
    const std::size_t row = inside.rows[i];
    if (!stretched.certain(0)) refuse_part(row, "is too small for double precision");
    return restore_part(stretched, 0, row);
}

}  // namespace

void hypervolume_contributions(const Points& points, std::span<const double> reference,
                               std::span<double> out, const Execution& execution) {
    const float_flags::Watch watch;
    const Inside inside = points_inside(points, reference, true);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    std::fill(out.begin(), out.end(), 0.0);
    if (std::isfinite(inside.box)) {
        float_flags::write(0);
        contribute(points, inside.rows, reference, out, execution);
        if (watch.raised() == 0) return;
    }
    const Points candidates = inside.view();
    const Stretched stretched(inside, reference, execution);
    std::vector<std::uint8_t> minimal(candidates.n);
    is_non_dominated(candidates, minimal, execution);
    for (std::size_t i = 0; i < candidates.n; ++i) {
        execution.check();
        const std::size_t row = inside.rows[i];
        if (stretched.certain(i)) {
            out[row] = restore_part(stretched, i, row);
        } else {
            out[row] = minimal[i] != 0 ? lone_part(inside, i, reference, execution) : 0.0;
        }
    }
}

}  // namespace pnag
