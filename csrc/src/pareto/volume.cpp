#include "volume.hpp"

#include <algorithm>
#include <limits>

#include "../simd/levels.hpp"
#include "staircase.hpp"

namespace pnag {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Up to here counting smaller values, eight at a time, is faster than sorting; whole groups of 8.
constexpr std::size_t kCounted = 128;

}  // namespace

void PlaneCover::reset(double corner_x, double corner_y) {
    steps_.clear();
    steps_.push_back({-kInfinity, corner_y});
    steps_.push_back({corner_x, -kInfinity});
}

// Areas are only ever added, so nothing cancels.
double PlaneCover::add(double px, double py) {
    const auto after = std::upper_bound(steps_.begin(), steps_.end(), px,
                                        [](double x, const Step& step) { return x < step.x; });
    // A point at or beyond the right edge covers nothing.
    if (after == steps_.end()) return 0.0;
    const auto last = after - 1;
    if (last->y <= py) return 0.0;
    double area = 0.0;
    double x = px;
    double top = last->y;
    auto step = after;
    for (; step->y >= py; ++step) {
        area += (step->x - x) * (top - py);
        x = step->x;
        top = step->y;
    }
    area += (step->x - x) * (top - py);
    const auto first = last->x == px ? last : after;
    if (first == step) {
        steps_.insert(first, Step{px, py});
    } else {
        *first = Step{px, py};
        steps_.erase(first + 1, step);
    }
    return area;
}

void SpaceCover::reset(const double* corner, std::size_t most) {
    std::copy_n(corner, 3, corner_);
    n_ = 0;
    for (auto* column : {&x_, &y_, &z_})
        column->assign(most + simd::kMemberRoom, kInfinity);
}

double SpaceCover::free_volume(double px, double py, double pz) {
    const double quick =
        kernel_->free_space(x_.data(), y_.data(), z_.data(), n_, px, py, pz, corner_);
    if (quick >= 0.0) return quick;
    // At height pz the point's free area is cut off at the right by members not above it in y, and
    // at the top by members not above it in x.
    const std::size_t before = members_up_to(pz);
    double x_limit = corner_[0];
    double y_limit = corner_[1];
    kernel_->lower_limits(x_.data(), y_.data(), before, px, py, &x_limit, &y_limit);
    // Only members that reach into the rest of its box matter: few, on most fronts.
    events_.resize(n_);
    const std::size_t n_events =
        kernel_->collect_below(x_.data(), y_.data(), n_, x_limit, y_limit, events_.data());
    double area = (x_limit - px) * (y_limit - py);
    double volume = 0.0;
    double height = pz;
    plane_.reset(x_limit, y_limit);
    for (std::size_t e = 0; e < n_events; ++e) {
        const std::size_t i = events_[e];
        if (z_[i] > height) {
            volume += area * (z_[i] - height);
            height = z_[i];
        }
        if (x_[i] <= px && y_[i] <= py) return volume;
        area -= plane_.add(std::max(x_[i], px), std::max(y_[i], py));
    }
    return volume + std::max(area, 0.0) * (corner_[2] - height);
}

double SpaceCover::add(double px, double py, double pz) {
    const double volume = free_volume(px, py, pz);
    if (volume <= 0.0) return 0.0;
    n_ = kernel_->add_member(x_.data(), y_.data(), z_.data(), n_, px, py, pz);
    return volume;
}

std::size_t SpaceCover::members_up_to(double z) const {
    const double* base = z_.data();
    std::size_t size = n_;
    if (size == 0) return 0;
    while (size > 1) {
        const std::size_t half = size / 2;
        base += half & all_if(base[half - 1] <= z);
        size -= half;
    }
    return static_cast<std::size_t>(base - z_.data()) + (*base <= z ? 1 : 0);
}

VolumeSolver::VolumeSolver(std::span<const double> reference, const Execution& execution)
    : kernel_(simd::kernels<simd::VolumeKernels>()),
      points_(simd::kernels<simd::PointKernels>()),
      pacer_(execution),
      reference_(reference.begin(), reference.end()),
      levels_(reference.size() + 1),
      space_(kernel_) {}

double VolumeSolver::volume(std::vector<double>& values) {
    const std::size_t m = reference_.size();
    std::size_t n = values.size() / m;
    if (m >= 4) sort_rows(values.data(), n, m, m - 1, levels_[m]);
    if (m >= 5) n = keep_minimal(values.data(), n, m, levels_[m]);
    return volume_of(values.data(), n, m);
}

double VolumeSolver::volume_of(double* values, std::size_t n, std::size_t m) {
    if (n == 0) return 0.0;
    if (n == 1) {
        double volume = 1.0;
        for (std::size_t j = 0; j < m; ++j)
            volume *= reference_[j] - values[j];
        return volume;
    }
    if (m == 1) return volume_1d(values, n);
    if (m == 2) return volume_2d(values, n);
    if (m == 3) return volume_3d(values, n);
    if (m == 4) return volume_4d(values, n);
    return volume_wfg(values, n, m);
}

double VolumeSolver::volume_1d(const double* values, std::size_t n) const {
    return reference_[0] - *std::min_element(values, values + n);
}

double VolumeSolver::volume_2d(const double* values, std::size_t n) {
    order_by(values, n, 2, 0);
    double volume = 0.0;
    double lowest = reference_[1];
    for (std::size_t i = 0; i < n; ++i) {
        const double* point = values + 2 * static_cast<std::size_t>(order_[i]);
        const double next = std::min(lowest, point[1]);
        volume += (reference_[0] - point[0]) * (lowest - next);
        lowest = next;
    }
    return volume;
}

double VolumeSolver::volume_3d(const double* values, std::size_t n) {
    order_by(values, n, 3, 2);
    if (n <= simd::kMaxEvents) {
        double columns[3][simd::kMaxEvents] = {};
        for (std::size_t i = 0; i < n; ++i) {
            const double* point = values + 3 * static_cast<std::size_t>(order_[i]);
            for (std::size_t j = 0; j < 3; ++j)
                columns[j][i] = point[j];
        }
        return kernel_.covered_space(columns[0], columns[1], columns[2], n, reference_.data());
    }
    plane_.reset(reference_[0], reference_[1]);
    double volume = 0.0;
    double area = 0.0;
    double height = values[3 * static_cast<std::size_t>(order_[0]) + 2];
    for (std::size_t i = 0; i < n; ++i) {
        const double* point = values + 3 * static_cast<std::size_t>(order_[i]);
        const double added = plane_.add(point[0], point[1]);
        if (added == 0.0) continue;
        volume += area * (point[2] - height);
        height = point[2];
        area += added;
    }
    return volume + area * (reference_[2] - height);
}

double VolumeSolver::volume_4d(const double* values, std::size_t n) {
    space_.reset(reference_.data(), n);
    double volume = 0.0;
    double slice = 0.0;
    double height = values[3];
    for (std::size_t i = 0; i < n; ++i) {
        pacer_.spend(i + 100);
        const double* point = values + 4 * i;
        const double added = space_.add(point[0], point[1], point[2]);
        if (added == 0.0) continue;
        volume += slice * (point[3] - height);
        height = point[3];
        slice += added;
    }
    return volume + slice * (reference_[3] - height);
}

// The volume that each point adds to those that are smaller in the last objective. Cut to its box,
// these all have its own last objective, so their volume is one in an objective less.
double VolumeSolver::volume_wfg(double* values, std::size_t n, std::size_t m) {
    Level& level = levels_[m];
    const std::size_t inner = m - 1;
    // Rank by the last objective, then rows by the one before: cutting never reverses that order,
    // so every set of cut rows comes out sorted as the level below wants it.
    sort_rows(values, n, m, inner - 1, level);
    order_by(values, n, m, inner);
    level.rank.resize(n);
    for (std::size_t i = 0; i < n; ++i)
        level.rank[order_[i]] = i;
    level.cut.resize(n * inner);

    double volume = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        pacer_.spend(n * m);
        const double* point = values + i * m;
        const std::size_t rank = level.rank[i];
        double own = 1.0;
        for (std::size_t j = 0; j < inner; ++j)
            own *= reference_[j] - point[j];
        std::size_t n_cut = 0;
        double* to = level.cut.data();
        for (std::size_t k = 0; k < n; ++k) {
            if (level.rank[k] >= rank) continue;
            const double* other = values + k * m;
            for (std::size_t j = 0; j < inner; ++j)
                to[j] = std::max(point[j], other[j]);
            to += inner;
            ++n_cut;
        }
        if (inner > 4) n_cut = keep_minimal(level.cut.data(), n_cut, inner, levels_[inner]);
        own -= volume_of(level.cut.data(), n_cut, inner);
        volume += own * (reference_[inner] - point[inner]);
    }
    return volume;
}

// Rows sorted by the last objective: a row is covered only by rows before it, save for equal last
// objectives, where a covered row may stay, which costs time and nothing else.
std::size_t VolumeSolver::keep_minimal(double* values, std::size_t n, std::size_t m, Level& level) {
    level.kept.reset(m);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < n; ++i) {
        pacer_.spend(kept + 10);
        const double* row = values + i * m;
        if (level.kept.covers(points_, row)) continue;
        level.kept.add(row);
        if (kept != i) std::copy_n(row, m, values + kept * m);
        ++kept;
    }
    return kept;
}

void VolumeSolver::sort_rows(double* values, std::size_t n, std::size_t m, std::size_t column,
                             Level& level) {
    order_by(values, n, m, column);
    level.sorted.resize(n * m);
    for (std::size_t i = 0; i < n; ++i) {
        std::copy_n(values + static_cast<std::size_t>(order_[i]) * m, m,
                    level.sorted.data() + i * m);
    }
    std::copy_n(level.sorted.data(), n * m, values);
}

void VolumeSolver::order_by(const double* values, std::size_t n, std::size_t m,
                            std::size_t column) {
    order_.resize(n);
    if (n <= kCounted) {
        double keys[kCounted] = {};
        std::int64_t place[kCounted];
        for (std::size_t i = 0; i < n; ++i)
            keys[i] = values[i * m + column];
        points_.find_places(keys, n, place);
        for (std::size_t i = 0; i < n; ++i)
            order_[static_cast<std::size_t>(place[i])] = static_cast<std::uint32_t>(i);
        return;
    }
    items_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
        items_[i] = {order_key(values[i * m + column]), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(items_, scratch_);
    for (std::size_t i = 0; i < n; ++i)
        order_[i] = items_[i].index;
}

}  // namespace pnag
