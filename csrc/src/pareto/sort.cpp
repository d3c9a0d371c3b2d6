#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "divide_and_conquer.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"
#include "staircase.hpp"
#include "sweep.hpp"

namespace pnag {
namespace {

void sort_1d(const Points& points, std::span<std::int32_t> out, const Execution& execution) {
    RowSort rows(column_of(points, 0), column_of(points, 0), points.n, execution);
    rows.run();
    std::int32_t rank = 0;
    double last = rows.least();
    for (const RowSort::Entry& entry : rows.entries()) {
        if (entry.value != last) ++rank;
        last = entry.value;
        out[entry.row()] = rank;
    }
}

// Hands over what several threads finish, in order and one at a time: whoever finds nobody handing
// over does so, with all that is finished meanwhile.
class InOrder {
  public:
    explicit InOrder(std::size_t n) : finished_(n) {}

    template <typename Take>
    void finish(std::size_t i, Take&& take) {
        finished_[i].store(true);
        if (unseen_.fetch_add(1) != 0) return;
        for (std::size_t seen = 1;;) {
            while (next_ < finished_.size() && finished_[next_].load())
                take(next_++);
            const std::size_t before = unseen_.fetch_sub(seen);
            if (before == seen) return;
            seen = before - seen;
        }
    }

  private:
    std::vector<std::atomic<bool>> finished_;
    std::atomic<std::size_t> unseen_{0};  // finished since the last look; not 0 if somebody looks
    std::size_t next_ = 0;
};

// In lexicographic order a point is dominated by a front if and only if the front's lowest second
// objective, that of its last point, is not above the point's. These values rise with the front.
class Patience {
  public:
    Patience(std::span<std::int32_t> out, const Execution& execution)
        : out_(out), pacer_(execution), lowest_(64, kInfinity) {}

    /// Takes a bucket of points that come after all that were taken before.
    void take(RowSort::Bucket points) {
        for (std::size_t k = 0; k < points.size(); k += kBatch) {
            pacer_.spend(10 * kBatch);
            take_batch(points.data() + k, std::min(kBatch, points.size() - k), k > 0);
        }
    }

  private:
    static constexpr double kInfinity = std::numeric_limits<double>::infinity();
    static constexpr std::size_t kBatch = 8;

    // All points of a batch search the fronts as they are before it, side by side, so that none
    // waits for the comparisons of another. Fronts only reach lower: each goes on from there.
    void take_batch(const RowSort::Entry* points, std::size_t n, bool has_predecessor) {
        if (n_fronts_ + kBatch >= lowest_.size()) lowest_.resize(2 * lowest_.size(), kInfinity);
        // The free fronts after the last hold +inf in a power of two of places, so that every
        // search takes the same number of steps and none of them is a branch.
        const double* base[kBatch];
        double y[kBatch];
        for (std::size_t i = 0; i < kBatch; ++i) {
            base[i] = lowest_.data();
            y[i] = points[i < n ? i : 0].value;
        }
        for (std::size_t half = lowest_.size() / 2; half > 0; half /= 2) {
            for (std::size_t i = 0; i < kBatch; ++i)
                base[i] += half & all_if(base[i][half - 1] <= y[i]);
        }
        for (std::size_t i = 0; i < n; ++i) {
            const bool repeated = y[i] == last_y_ && (i > 0 || has_predecessor) &&
                                  RowSort::tied(*(points + i - 1), points[i]);
            if (!repeated) {
                // +inf is not below the free places either; like any value that every front
                // dominates, it opens the first of them.
                std::size_t front = static_cast<std::size_t>(base[i] - lowest_.data());
                front = std::min(front, n_fronts_);
                while (front < n_fronts_ && lowest_[front] <= y[i])
                    ++front;
                if (front == n_fronts_) ++n_fronts_;
                lowest_[front] = last_y_ = y[i];
                rank_ = static_cast<std::int32_t>(front);
            }
            out_[points[i].row()] = rank_;
        }
    }

    std::span<std::int32_t> out_;
    Pacer pacer_;
    std::vector<double> lowest_;
    std::size_t n_fronts_ = 0;
    double last_y_ = 0.0;
    std::int32_t rank_ = 0;
};

void sort_2d(const Points& points, std::span<std::int32_t> out, const Execution& execution) {
    RowSort rows(column_of(points, 0), column_of(points, 1), points.n, execution);
    Patience patience(out, execution);
    InOrder in_order(rows.n_buckets());
    rows.run([&](std::size_t bucket) {
        in_order.finish(bucket, [&](std::size_t i) { patience.take(rows.bucket(i)); });
    });
}

}  // namespace

void non_dominated_sort(const Points& points, std::span<std::int32_t> out,
                        const Execution& execution) {
    require_points(points, execution);
    if (out.size() != points.n) throw InvalidInput("out has the wrong size");
    if (execution.threads < 1) {
        throw InvalidInput("threads is " + std::to_string(execution.threads) +
                           "; it must be at least 1");
    }
    if (points.n == 0) return;
    if (points.m == 1) return sort_1d(points, out, execution);
    if (points.m == 2) return sort_2d(points, out, execution);
    if (points.m == 3 && sort_by_sweeping(points, out, execution)) return;
    sort_by_dividing(points, out, execution);
}

}  // namespace pnag
