#include "cells.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>

#include "../simd/cells.hpp"
#include "../simd/levels.hpp"
#include "../simd/points.hpp"
#include "pnag/parallel.hpp"

namespace pnag {
namespace {

using Corner = std::array<double, simd::kCellWidth>;

constexpr std::uint32_t kNone = 0xFFFFFFFFU;
// Leaves take all 2^k subsets of k rows, or k times 2^(k-1) for contributions.
constexpr std::size_t kLeaf = 8;
constexpr std::size_t kOwnedLeaf = 6;
constexpr std::size_t kLeafInFour = 24;
static_assert(kLeaf <= simd::kMaxCellRows && kLeafInFour <= simd::kMaxCellRowsInFour);
// Cells are made tasks of threads at this depth, if they have not become small before.
constexpr int kTaskDepth = 5;
constexpr std::size_t kTaskRows = 64;
// Fewer orthants are done before threads have started, whatever the number of threads.
constexpr std::size_t kFew = 128;

// Padding is 1 wide, so it changes no product.
double volume(const Corner& lower, const Corner& upper) {
    double product = 1.0;
    for (unsigned j = 0; j < simd::kCellWidth; ++j)
        product *= upper[j] - lower[j];
    return product;
}

// Volume of [lower, upper) less that of [lower, inner), without a difference of volumes.
double slabs(const Corner& lower, const Corner& upper, const Corner& inner) {
    Corner after;  // of the objectives from j on, the widths before the cut
    double product = 1.0;
    for (unsigned j = simd::kCellWidth; j-- > 0;) {
        after[j] = product;
        product *= upper[j] - lower[j];
    }
    double before = 1.0;
    double total = 0.0;
    for (unsigned j = 0; j < simd::kCellWidth; ++j) {
        total += before * (upper[j] - inner[j]) * after[j];
        before *= inner[j] - lower[j];
    }
    return total;
}

// A cell and the orthants that reach into it, set aside for a thread.
struct Task {
    std::vector<double> rows;
    std::vector<std::uint32_t> ids;  // empty if `owner` alone covers the cell
    std::uint32_t owner;
    Corner lower;
    Corner upper;
};

class Solver {
  public:
    Solver(std::size_t m, const Execution& execution)
        : kernel_(simd::kernels<simd::CellKernels>()),
          m_(static_cast<unsigned>(m)),
          leaf_(m <= 4 ? kLeafInFour : kLeaf),
          pacer_(execution) {}

    /// Volume of the cell that the orthants cover; or, if `tasks` is given, of parts of it, and the
    /// rest as tasks.
    double covered(const double* rows, std::size_t n, const Corner& lower, const Corner& outer,
                   std::size_t depth, std::vector<Task>* tasks) {
        Level& level = levels(depth, n);
        Corner upper = outer;
        simd::CellSummary summary;
        const std::size_t kept = clip(rows, n, lower, upper, level, summary);
        if (summary.covers > 0) return volume(lower, outer);
        return slabs(lower, outer, upper) + halves(level, kept, lower, upper, depth, tasks);
    }

    /// Volume of the cell that no orthant covers.
    double free(const double* rows, std::size_t n, const Corner& lower, Corner upper,
                std::size_t depth) {
        if (n == 0) return volume(lower, upper);
        Level& level = levels(depth, n);
        simd::CellSummary summary;
        const std::size_t kept = clip(rows, n, lower, upper, level, summary);
        if (summary.covers > 0) return 0.0;
        return free_halves(level, kept, lower, upper, depth);
    }

    /// Add to sums[id] the volume of the cell that only the orthant `id` covers; or, if `tasks` is
    /// given, set parts of the cell aside.
    void contribute(const double* rows, const std::uint32_t* ids, std::size_t n,
                    const Corner& lower, Corner upper, std::span<double> sums, std::size_t depth,
                    std::vector<Task>* tasks) {
        Level& level = levels(depth, n + simd::kCellWidth);
        simd::CellSummary summary;
        pacer_.spend(8 * n + 100);
        std::size_t kept = kernel_.clip_owned_cell(rows, ids, n, lower.data(), upper.data(),
                                                   level.rows.data(), level.ids.data(), &summary);
        if (summary.covers > 1) return;
        // Slabs in several objectives overlap: from the part of the first on, each is one of the
        // others for those before it.
        double* inside = level.rows.data();
        const auto add_slabs = [&](unsigned first) {
            std::size_t size = kept;
            for (unsigned j = first; j < simd::kCellWidth; ++j) {
                if (summary.slab[j] == kNone || summary.slab_at[j] >= upper[j]) continue;
                double* row = inside + size++ * simd::kCellWidth;
                std::copy(lower.begin(), lower.end(), row);
                row[j] = summary.slab_at[j];
            }
            return size;
        };
        if (summary.covers == 1) {
            leave(inside, add_slabs(0), summary.cover, lower, upper, sums, depth, tasks);
            return;
        }
        bool any_slab = false;
        for (unsigned j = 0; j < simd::kCellWidth; ++j) {
            if (summary.slab[j] == kNone || summary.slab_at[j] >= upper[j]) continue;
            any_slab = true;
            Corner part = lower;
            part[j] = summary.slab_at[j];
            leave(inside, add_slabs(j + 1), summary.slab[j], part, upper, sums, depth, tasks);
            upper[j] = summary.slab_at[j];
        }
        if (kept == 0) return;
        if (kept <= kOwnedLeaf) return contribute_leaf(level, kept, upper, sums, depth);
        if (any_slab) {  // many rows may be outside by now
            return contribute(inside, level.ids.data(), kept, lower, upper, sums, depth + 1, tasks);
        }
        if (tasks != nullptr && (depth >= kTaskDepth || kept <= kTaskRows)) {
            tasks->push_back({{inside, inside + kept * simd::kCellWidth},
                              {level.ids.begin(), level.ids.begin() + static_cast<long>(kept)},
                              kNone,
                              lower,
                              upper});
            return;
        }
        double at = 0.0;
        const unsigned objective = kernel_.choose_cut(inside, kept, lower.data(), &at);
        Corner middle = upper;
        middle[objective] = at;
        contribute(inside, level.ids.data(), kept, lower, middle, sums, depth + 1, tasks);
        middle = lower;
        middle[objective] = at;
        contribute(inside, level.ids.data(), kept, middle, upper, sums, depth + 1, tasks);
    }

  private:
    // Scratch of one depth; a deque, because references to levels outlive the making of deeper
    // ones.
    struct Level {
        std::vector<double> rows;
        std::vector<std::uint32_t> ids;
    };

    Level& levels(std::size_t depth, std::size_t n) {
        if (depth >= levels_.size()) levels_.resize(depth + 1);
        Level& level = levels_[depth];
        if (level.ids.size() < n + 1) {
            level.rows.resize((n + 1) * simd::kCellWidth);
            level.ids.resize(n + 1);
        }
        return level;
    }

    std::size_t clip(const double* rows, std::size_t n, const Corner& lower, Corner& upper,
                     Level& level, simd::CellSummary& summary) {
        pacer_.spend(8 * n + 100);
        return kernel_.clip_cell(rows, n, lower.data(), upper.data(), level.rows.data(), &summary);
    }

    // Cells are cut at about the median start in the objective in which most rows start inside.
    // Rows that start there leave the lower half and no longer start inside the upper, so cutting
    // ends. In the lower half rows are what they were; only some of them do not reach into it.
    std::size_t keep_lower(const Level& level, std::size_t n, const Corner& upper, Level& below) {
        pacer_.spend(2 * n + 100);
        return kernel_.keep_inside(level.rows.data(), nullptr, n, upper.data(), below.rows.data(),
                                   nullptr);
    }

    // As `covered`, of rows that are cut to the cell.
    double halves(const Level& level, std::size_t n, const Corner& lower, const Corner& upper,
                  std::size_t depth, std::vector<Task>* tasks) {
        if (n == 0) return 0.0;
        const double* rows = level.rows.data();
        if (n <= leaf_) return kernel_.union_of_rows(rows, n, m_, upper.data());
        if (tasks != nullptr && (depth >= kTaskDepth || n <= kTaskRows)) {
            tasks->push_back({{rows, rows + n * simd::kCellWidth}, {}, kNone, lower, upper});
            return 0.0;
        }
        Corner middle = upper;
        double at = 0.0;
        const unsigned objective = kernel_.choose_cut(rows, n, lower.data(), &at);
        middle[objective] = at;
        Level& below = levels(depth + 1, n);
        const std::size_t kept = keep_lower(level, n, middle, below);
        const double first = halves(below, kept, lower, middle, depth + 1, tasks);
        middle = lower;
        middle[objective] = at;
        return first + covered(rows, n, middle, upper, depth + 1, tasks);
    }

    // As `free`, of rows that are cut to the cell.
    double free_halves(const Level& level, std::size_t n, const Corner& lower, const Corner& upper,
                       std::size_t depth) {
        const double* rows = level.rows.data();
        if (n <= leaf_) {
            const double all = volume(lower, upper);
            if (n == 0) return all;
            return std::max(0.0, all - kernel_.union_of_rows(rows, n, m_, upper.data()));
        }
        Corner middle = upper;
        double at = 0.0;
        const unsigned objective = kernel_.choose_cut(rows, n, lower.data(), &at);
        middle[objective] = at;
        Level& below = levels(depth + 1, n);
        const std::size_t kept = keep_lower(level, n, middle, below);
        const double first = free_halves(below, kept, lower, middle, depth + 1);
        middle = lower;
        middle[objective] = at;
        return first + free(rows, n, middle, upper, depth + 1);
    }

    // The volume of a cell that `owner` covers, where no other does.
    void leave(const double* rows, std::size_t n, std::uint32_t owner, const Corner& lower,
               const Corner& upper, std::span<double> sums, std::size_t depth,
               std::vector<Task>* tasks) {
        if (tasks != nullptr && n > kTaskRows) {
            tasks->push_back({{rows, rows + n * simd::kCellWidth}, {}, owner, lower, upper});
        } else {
            sums[owner] += free(rows, n, lower, upper, depth + 1);
        }
    }

    // Each row in turn covers its own part of the cell.
    void contribute_leaf(const Level& level, std::size_t n, const Corner& upper,
                         std::span<double> sums, std::size_t depth) {
        std::array<double, kOwnedLeaf * simd::kCellWidth> others;
        for (std::size_t i = 0; i < n; ++i) {
            const double* row = level.rows.data() + i * simd::kCellWidth;
            Corner own;
            std::copy_n(row, simd::kCellWidth, own.begin());
            bool inside = true;
            for (unsigned j = 0; j < m_; ++j)
                inside = inside && own[j] < upper[j];
            if (!inside) continue;
            const auto to = std::copy_n(level.rows.data(), i * simd::kCellWidth, others.begin());
            std::copy_n(row + simd::kCellWidth, (n - 1 - i) * simd::kCellWidth, to);
            sums[level.ids[i]] += free(others.data(), n - 1, own, upper, depth + 1);
        }
    }

    const simd::CellKernels& kernel_;
    unsigned m_;
    std::size_t leaf_;
    Pacer pacer_;
    std::deque<Level> levels_;
};

// All orthants, padded, and the smallest cell that holds them.
struct Root {
    std::vector<double> rows;
    Corner lower;
    Corner upper;
};

Root make_root(const Points& points, std::span<const std::size_t> rows,
               std::span<const double> reference) {
    Root root;
    root.rows.assign(rows.size() * simd::kCellWidth, 0.0);
    root.lower.fill(0.0);
    root.upper.fill(1.0);
    std::copy(reference.begin(), reference.end(), root.upper.begin());
    std::copy(reference.begin(), reference.end(), root.lower.begin());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const double* point = points.row(rows[i]);
        double* row = root.rows.data() + i * simd::kCellWidth;
        for (std::size_t j = 0; j < points.m; ++j) {
            row[j] = point[j];
            root.lower[j] = std::min(root.lower[j], point[j]);
        }
    }
    return root;
}

}  // namespace

double volume_by_cells(const Points& points, std::span<const std::size_t> rows,
                       std::span<const double> reference, const Execution& execution) {
    const Root root = make_root(points, rows, reference);
    Solver solver(points.m, execution);
    std::vector<Task> tasks;
    double total = solver.covered(root.rows.data(), rows.size(), root.lower, root.upper, 0,
                                  rows.size() <= kFew ? nullptr : &tasks);
    std::vector<double> parts(tasks.size());
    parallel_for(tasks.size(), 1, execution, [&](std::size_t begin, std::size_t end) {
        Solver own(points.m, execution);
        for (std::size_t i = begin; i < end; ++i) {
            const Task& task = tasks[i];
            parts[i] = own.covered(task.rows.data(), task.rows.size() / simd::kCellWidth,
                                   task.lower, task.upper, 0, nullptr);
        }
    });
    for (const double part : parts)
        total += part;
    return total;
}

double volume_by_cuts(const Points& points, std::span<const double> reference,
                      const Execution& execution) {
    const std::size_t n = points.n;
    const std::size_t inner = points.m - 1;
    constexpr std::size_t kMost = simd::kMaxCutRows;
    const auto& kernel = simd::kernels<simd::CellKernels>();
    std::array<double, kMost> keys{};
    std::array<std::int64_t, kMost> place;
    for (std::size_t i = 0; i < n; ++i)
        keys[i] = points.row(i)[inner];
    simd::kernels<simd::PointKernels>().find_places(keys.data(), n, place.data());
    std::array<std::size_t, kMost> order;
    for (std::size_t i = 0; i < n; ++i)
        order[static_cast<std::size_t>(place[i])] = i;

    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    std::vector<double> members(inner * kMost, kInfinity);  // columns, by rising last objective
    double* last = members.data() + (inner - 1) * kMost;
    std::vector<double> parts(n * simd::kCellWidth);
    Corner upper;
    upper.fill(1.0);
    std::copy_n(reference.begin(), inner, upper.begin());
    Solver solver(inner, execution);
    double total = 0.0;
    for (std::size_t size = 0; size < n; ++size) {
        const double* point = points.row(order[size]);
        Corner corner{};
        std::copy_n(point, inner, corner.begin());
        Corner inside = upper;
        std::size_t n_parts = 0;
        double taken = kernel.covered_by_raised(members.data(), size, corner.data(), inside.data(),
                                                parts.data(), &n_parts);
        if (n_parts > 0) taken += solver.covered(parts.data(), n_parts, corner, inside, 0, nullptr);
        total += std::max(0.0, volume(corner, upper) - taken) * (reference[inner] - point[inner]);

        std::size_t at = size;
        while (at > 0 && last[at - 1] > point[inner - 1])
            --at;
        for (std::size_t j = 0; j < inner; ++j) {
            double* column = members.data() + j * kMost;
            std::copy_backward(column + at, column + size, column + size + 1);
            column[at] = point[j];
        }
    }
    return total;
}

void contributions_by_cells(const Points& points, std::span<const std::size_t> rows,
                            std::span<const double> reference, std::span<double> out,
                            const Execution& execution) {
    const Root root = make_root(points, rows, reference);
    std::vector<std::uint32_t> ids(rows.size());
    for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<std::uint32_t>(i);
    std::vector<double> sums(rows.size(), 0.0);
    Solver solver(points.m, execution);
    std::vector<Task> tasks;
    solver.contribute(root.rows.data(), ids.data(), ids.size(), root.lower, root.upper, sums, 0,
                      &tasks);
    // Tasks add to sums of their own, of which there is one for each of their rows.
    std::vector<std::vector<double>> parts(tasks.size());
    parallel_for(tasks.size(), 1, execution, [&](std::size_t begin, std::size_t end) {
        Solver own(points.m, execution);
        for (std::size_t i = begin; i < end; ++i) {
            const Task& task = tasks[i];
            const std::size_t n = task.rows.size() / simd::kCellWidth;
            if (task.ids.empty()) {
                parts[i] = {own.free(task.rows.data(), n, task.lower, task.upper, 0)};
                continue;
            }
            std::vector<std::uint32_t> local(n);
            for (std::size_t k = 0; k < n; ++k)
                local[k] = static_cast<std::uint32_t>(k);
            parts[i].assign(n, 0.0);
            own.contribute(task.rows.data(), local.data(), n, task.lower, task.upper, parts[i], 0,
                           nullptr);
        }
    });
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Task& task = tasks[i];
        for (std::size_t k = 0; k < parts[i].size(); ++k) {
            sums[task.ids.empty() ? task.owner : task.ids[k]] += parts[i][k];
        }
    }
    for (std::size_t i = 0; i < rows.size(); ++i)
        out[rows[i]] = sums[i];
}

}  // namespace pnag
