#include "sweep.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "buffer.hpp"
#include "ordering.hpp"
#include "pnag/parallel.hpp"
#include "staircase.hpp"

namespace pnag {
namespace {

constexpr std::size_t kBatch = 8;  // points that search side by side
constexpr std::size_t kStep = 64;  // points that one stage hands to the next at a time
constexpr std::size_t kRound = 8192;

// Points come in lexicographic order; a front dominates those that its staircase of the other two
// objectives covers. Fronts cover less and less, so the first that does not is the point's.
//
// With several threads each has a range of fronts, a *stage*, and hands the points that all of them
// cover to the next, in order. Where the ranges end is chosen anew for every round of points, by
// how many of the last round each front took; it changes the time and nothing else.
class Sweep {
  public:
    Sweep(const Points& points, std::span<std::int32_t> out, const Execution& execution)
        : points_(points),
          out_(out),
          execution_(execution),
          order_(lexicographic_order(points, execution)),
          most_moves_((std::size_t{1} << 20) + 512 * points.n) {}

    bool run() {
        fronts_.resize(1);
        grown_.resize(1);
        const double* first = points_.row(order_[0]);
        fronts_[0].insert(first[1], first[2]);
        out_[order_[0]] = 0;
        std::size_t begin = 1;
        std::vector<std::size_t> splits;  // first fronts of the stages after the first
        while (begin < points_.n && !too_long_) {
            std::size_t end = points_.n;
            if (execution_.threads > 1) end = std::min(end, begin + std::max(kRound, begin / 4));
            sweep(begin, end, splits);
            if (execution_.threads > 1 && !too_long_) splits = split_evenly(begin, end);
            begin = end;
        }
        return !too_long_;
    }

  private:
    using Stairs = Staircase<double, double>;

    static constexpr std::size_t kEnded = ~(~std::size_t{0} >> 1);  // flag on top of a number

    // Rows on their way from one stage to the next.
    struct Queue {
        explicit Queue(std::size_t n) : rows(n) {}

        void publish(std::size_t n) {
            size.store(n, std::memory_order_release);
            size.notify_one();
        }

        Buffer<std::uint32_t> rows;
        std::atomic<std::size_t> size{0};
    };

    // A front per distinct row that passed, counted over one round.
    [[nodiscard]] std::vector<std::size_t> split_evenly(std::size_t begin, std::size_t end) const {
        std::vector<std::size_t> counts(fronts_.size(), 0);
        for (std::size_t i = begin; i < end; ++i)
            ++counts[static_cast<std::size_t>(out_[order_[i]])];
        const auto n_stages = static_cast<std::size_t>(execution_.threads);
        std::vector<std::size_t> splits;
        std::size_t before = 0;
        for (std::size_t f = 0; f + 1 < counts.size(); ++f) {
            before += counts[f];
            if (before * n_stages >= (splits.size() + 1) * (end - begin)) splits.push_back(f + 1);
            if (splits.size() + 1 == n_stages) break;
        }
        return splits;
    }

    void sweep(std::size_t begin, std::size_t end, const std::vector<std::size_t>& splits) {
        // No stage may move the fronts of another.
        fronts_.reserve(fronts_.size() + (splits.empty() ? 0 : end - begin));
        grown_.reserve(fronts_.capacity());
        std::vector<std::unique_ptr<Queue>> queues;
        for (std::size_t s = 0; s < splits.size(); ++s)
            queues.push_back(std::make_unique<Queue>(end - begin));
        parallel_for(splits.size() + 1, 1, execution_, [&](std::size_t s, std::size_t) {
            const bool last = s == splits.size();
            Stage stage(*this, begin, s == 0 ? 0 : splits[s - 1], last ? kEnded : splits[s],
                        last ? nullptr : queues[s].get());
            if (s == 0) {
                stage.take(order_.data() + begin, end - begin);
            } else {
                stage.take_all(*queues[s - 1]);
            }
        });
    }

    // Fronts [first, last), with a queue for the points that they all cover, or all from `first`
    // on.
    class Stage {
      public:
        Stage(Sweep& sweep, std::size_t begin, std::size_t first, std::size_t last, Queue* next)
            : sweep_(sweep),
              pacer_(sweep.execution_),
              first_(first),
              last_(last),
              next_(next),
              batch_(begin),
              row_(sweep.points_.row(sweep.order_[begin - 1])),
              front_(static_cast<std::size_t>(sweep.out_[sweep.order_[begin - 1]])) {}
        ~Stage() {
            // Also if this stage fails: the next would wait for ever.
            if (next_ != nullptr) next_->publish(n_covered_ | kEnded);
        }
        Stage(const Stage&) = delete;
        Stage& operator=(const Stage&) = delete;

        void take_all(Queue& queue) {
            for (std::size_t taken = 0;;) {
                const std::size_t state = queue.size.load(std::memory_order_acquire);
                const std::size_t ready = state & ~kEnded;
                if (taken < ready) {
                    take(queue.rows.data() + taken, ready - taken);
                    taken = ready;
                } else if (state != ready) {
                    return;
                } else {
                    queue.size.wait(state, std::memory_order_acquire);
                }
            }
        }

        void take(const std::uint32_t* rows, std::size_t n) {
            for (std::size_t i = 0; i < n && !sweep_.too_long_; i += kStep)
                take_step(rows + i, std::min(kStep, n - i), n - i);
        }

      private:
        struct Point {
            double y;
            double z;
            std::size_t front;
        };

        void take_step(const std::uint32_t* rows, std::size_t n, std::size_t n_known) {
            pacer_.spend(150 * n);
            Point points[kStep];
            Point* fresh[kStep];  // those that do not repeat the one before them
            std::size_t n_fresh = 0;
            for (std::size_t i = 0; i < n; ++i) {
                // The order is random in memory; points are fetched before they are needed.
                if (i + kStep < n_known) __builtin_prefetch(sweep_.points_.row(rows[i + kStep]));
                const double* row = sweep_.points_.row(rows[i]);
                points[i] = {row[1], row[2], kEnded};
                if (!equal_rows(row, row_, 3)) fresh[n_fresh++] = &points[i];
                row_ = row;
            }
            if (next_ != nullptr) n_fresh = drop_covered(fresh, n_fresh);
            for (std::size_t i = 0; i < n_fresh; i += kBatch)
                place(fresh + i, std::min(kBatch, n_fresh - i));
            for (std::size_t i = 0; i < n; ++i) {
                if (points[i].front != kEnded) front_ = points[i].front;
                if (front_ < last_) {
                    sweep_.out_[rows[i]] = static_cast<std::int32_t>(front_);
                } else {
                    next_->rows.data()[n_covered_++] = rows[i];
                }
            }
            if (next_ != nullptr) next_->publish(n_covered_);
        }

        // Does front(i) cover point i? For n points of a batch.
        template <typename Front>
        void look(Point* const* points, std::size_t n, Front&& front,
                  bool (&covered)[kBatch]) const {
            const Stairs* stairs[kBatch];
            double y[kBatch];
            double z[kBatch];
            for (std::size_t i = 0; i < kBatch; ++i) {
                const std::size_t p = i < n ? i : 0;
                stairs[i] = &sweep_.fronts_[front(p)];
                y[i] = points[p]->y;
                z[i] = points[p]->z;
            }
            Stairs::covers(stairs, y, z, covered);
        }

        // What the last front covers is for the next stage.
        std::size_t drop_covered(Point** points, std::size_t n) const {
            std::size_t kept = 0;
            for (std::size_t begin = 0; begin < n; begin += kBatch) {
                bool covered[kBatch];
                const std::size_t size = std::min(kBatch, n - begin);
                look(points + begin, size, [&](std::size_t) { return last_ - 1; }, covered);
                for (std::size_t i = begin; i < begin + size; ++i) {
                    points[i]->front = last_;
                    points[kept] = points[i];
                    kept += covered[i - begin] ? 0 : 1;
                }
            }
            return kept;
        }

        // The points of a batch search the fronts as they are before it. Fronts only reach lower:
        // each point goes on from there.
        void place(Point* const* points, std::size_t n) {
            ++batch_;
            std::vector<Stairs>& fronts = sweep_.fronts_;
            std::size_t low[kBatch];
            std::fill_n(low, kBatch, first_);
            const auto advance = [&](std::size_t ahead, std::size_t step) {
                bool covered[kBatch];
                look(points, n, [&](std::size_t i) { return low[i] + ahead; }, covered);
                for (std::size_t i = 0; i < kBatch; ++i)
                    low[i] += step & all_if(covered[i]);
            };
            std::size_t size = (next_ != nullptr ? last_ : fronts.size()) - first_;
            for (; size > 1; size -= size / 2)
                advance(size / 2 - 1, size / 2);
            advance(0, 1);
            for (std::size_t i = 0; i < n; ++i) {
                std::size_t front = low[i];
                const double y = points[i]->y;
                const double z = points[i]->z;
                const std::size_t end = next_ != nullptr ? last_ : fronts.size();
                while (front < end && sweep_.grown_[front] == batch_ && fronts[front].covers(y, z))
                    ++front;
                points[i]->front = front;
                if (front == last_) continue;
                // Only the last stage opens fronts, and looks how many there are.
                if (next_ == nullptr && front == end) {
                    fronts.emplace_back();
                    sweep_.grown_.push_back(batch_);
                }
                n_moves_ += fronts[front].insert(y, z);
                sweep_.grown_[front] = batch_;
            }
            if (n_moves_ > sweep_.most_moves_) sweep_.too_long_ = true;
        }

        Sweep& sweep_;
        Pacer pacer_;
        std::size_t first_;
        std::size_t last_;
        Queue* next_;
        std::size_t n_covered_ = 0;
        std::size_t n_moves_ = 0;
        std::size_t batch_;
        const double* row_;  // of the last point
        std::size_t front_;  // of the last point
    };

    const Points& points_;
    std::span<std::int32_t> out_;
    Execution execution_;
    std::vector<std::uint32_t> order_;
    std::size_t most_moves_;
    std::vector<Stairs> fronts_;
    std::vector<std::size_t> grown_;  // by front: the last batch that it took a point of
    std::atomic<bool> too_long_{false};
};

}  // namespace

bool sort_by_sweeping(const Points& points, std::span<std::int32_t> out,
                      const Execution& execution) {
    return Sweep(points, out, execution).run();
}

}  // namespace pnag
