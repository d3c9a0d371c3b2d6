#include "divide_and_conquer.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "../simd/levels.hpp"
#include "../simd/points.hpp"
#include "buffer.hpp"
#include "ordering.hpp"
#include "pnag/parallel.hpp"
#include "staircase.hpp"

namespace pnag {
namespace {

// Up to these sizes all pairs are compared. Measured with AVX2 and AVX-512, 4 to 6 objectives:
// times are within 6 % from half to twice as much.
constexpr std::size_t kSmallSet = 512;
constexpr std::size_t kSmallProduct = 1024 * 1024;

// Sets below this size take less time than a thread to start.
constexpr std::size_t kFork = 4096;

// Equal points are merged and the rest numbered in lexicographic order; that number, the
// *position*, stands for the first objective. Every other objective is replaced by its rank with
// ties broken by position. Then a point dominates another if and only if its position and all its
// ranks are strictly smaller: if a dominates b it comes first and wins every tie, and the other way
// round no objective of a can be larger. So no step below has to think of ties.
struct Ranking {
    Ranking(const Points& points, const Execution& execution) {
        const auto order = lexicographic_order(points, execution);
        position_of.resize(points.n);
        std::vector<std::uint32_t> representative;
        for (std::size_t i = 0; i < order.size(); ++i) {
            if (i == 0 || !equal_rows(points.row(order[i]), points.row(order[i - 1]), points.m)) {
                representative.push_back(order[i]);
            }
            position_of[order[i]] = static_cast<std::int32_t>(representative.size() - 1);
        }
        const std::size_t n = representative.size();
        fronts.assign(n, 0);
        columns.resize(points.m - 1);
        std::vector<double> values(n);
        for (std::size_t j = 0; j + 1 < points.m; ++j) {
            for (std::size_t i = 0; i < n; ++i)
                values[i] = points.row(representative[i])[j + 1];
            const Column column{values.data(), 1};
            RowSort rows(column, column, n, execution);
            rows.run();
            columns[j].resize(n);
            for (std::size_t i = 0; i < n; ++i)
                columns[j][rows.entries()[i].row()] = static_cast<std::int32_t>(i);
        }
    }

    std::vector<std::int32_t> position_of;           // of every row
    std::vector<std::vector<std::int32_t>> columns;  // by position
    std::vector<std::int32_t> fronts;                // by position
};

// What one thread does, with memory of its own.
class Divider {
  public:
    Divider(Ranking& ranking, const Execution& execution)
        : kernel_(simd::kernels<simd::PointKernels>()),
          execution_(execution),
          pacer_(execution),
          columns_(ranking.columns),
          ranking_(ranking) {}

    void run() {
        std::vector<std::int32_t> all(ranking_.fronts.size());
        std::iota(all.begin(), all.end(), 0);
        rank_within(all, columns_.size());
    }

  private:
    using Set = std::span<const std::int32_t>;  // positions, rising

    // Values below the pivot go low. The pivot is the value of a member, so `high` is never empty,
    // and members' values differ, so repeated splitting ends.
    class Halves {
      public:
        Halves(Set set, const std::int32_t* column, std::int32_t pivot)
            : size_(set.size()), members_(2 * size_) {
            std::int32_t* low = members_.data();
            std::int32_t* high = low + size_;
            for (const std::int32_t p : set) {
                const std::size_t is_low = column[static_cast<std::size_t>(p)] < pivot ? 1 : 0;
                *low = *high = p;
                low += is_low;
                high += 1 - is_low;
            }
            n_low_ = static_cast<std::size_t>(low - members_.data());
        }

        [[nodiscard]] Set low() const { return {members_.data(), n_low_}; }
        [[nodiscard]] Set high() const { return {members_.data() + size_, size_ - n_low_}; }

      private:
        std::size_t size_;
        Buffer<std::int32_t> members_;
        std::size_t n_low_;
    };

    // Steps (rank value, rank): of the points seen so far, those of which no other has a smaller
    // value and at least the front. Values and fronts both rise.
    struct Step {
        std::int32_t value;
        std::int32_t front;
    };

    [[nodiscard]] std::int32_t value(std::size_t column, std::int32_t position) const {
        return columns_[column][static_cast<std::size_t>(position)];
    }
    [[nodiscard]] std::int32_t& front(std::int32_t position) {
        return ranking_.fronts[static_cast<std::size_t>(position)];
    }

    // Raise the fronts of `set` by dominance within it, looking at the first k columns.
    void rank_within(Set set, std::size_t k) {
        if (set.size() < 2) return;
        if (set.size() <= kSmallSet) return rank_within_small(set, k);
        if (k == 1) return sweep_within(set);
        const Halves halves(set, columns_[k - 1].data(), median(set, {}, k - 1));
        const Set low = halves.low();
        const Set high = halves.high();
        rank_within(low, k);
        rank_across(low, high, k - 1);
        rank_within(high, k);
    }

    // Raise the fronts of `high` by the points of `low` that are smaller in position and in the
    // first k columns; in the columns after those every point of `low` is smaller.
    void rank_across(Set low, Set high, std::size_t k) {
        if (low.empty() || high.empty()) return;
        while (!high.empty() && high.front() < low.front())
            high = high.subspan(1);
        if (high.empty()) return;
        while (!low.empty() && low.back() > high.back())
            low = low.first(low.size() - 1);
        if (low.empty()) return;
        if (k == 0) return sweep_positions(low, high);
        if (low.size() * high.size() <= kSmallProduct) return rank_across_small(low, high, k);
        if (k == 1) return sweep_across(low, high);

        const std::size_t column = k - 1;
        const auto [low_min, low_max] = range(low, column);
        const auto [high_min, high_max] = range(high, column);
        if (low_min > high_max) return;
        if (low_max < high_min) return rank_across(low, high, k - 1);
        const std::int32_t pivot = median(low, high, column);
        const Halves lows(low, columns_[column].data(), pivot);
        const Halves highs(high, columns_[column].data(), pivot);
        const auto raise_lower = [&](Divider& by) { by.rank_across(lows.low(), highs.low(), k); };
        const auto raise_upper = [&](Divider& by) {
            by.rank_across(lows.low(), highs.high(), k - 1);
            by.rank_across(lows.high(), highs.high(), k);
        };
        if (execution_.threads == 1 || low.size() + high.size() < kFork) {
            raise_lower(*this);
            raise_upper(*this);
            return;
        }
        parallel_for(2, 1, execution_, [&](std::size_t task, std::size_t) {
            const int threads = (execution_.threads + static_cast<int>(task)) / 2;
            Divider other(ranking_, Execution(threads, execution_.cancellation));
            task == 0 ? raise_lower(other) : raise_upper(other);
        });
    }

    [[nodiscard]] std::pair<std::int32_t, std::int32_t> range(Set set, std::size_t column) const {
        std::int32_t least = value(column, set[0]);
        std::int32_t most = least;
        for (const std::int32_t p : set) {
            least = std::min(least, value(column, p));
            most = std::max(most, value(column, p));
        }
        return {least, most};
    }

    // Splits at the median of up to 255 evenly spaced members: near enough, and cheap. The result
    // depends on the pivot only in how long it takes.
    [[nodiscard]] std::int32_t median(Set a, Set b, std::size_t column) {
        constexpr std::size_t kSample = 255;
        sample_.clear();
        const std::size_t total = a.size() + b.size();
        const std::size_t step = std::max<std::size_t>(1, total / kSample);
        for (std::size_t i = step / 2; i < total; i += step) {
            sample_.push_back(value(column, i < a.size() ? a[i] : b[i - a.size()]));
        }
        const auto middle = sample_.begin() + static_cast<std::ptrdiff_t>(sample_.size() / 2);
        std::nth_element(sample_.begin(), middle, sample_.end());
        return *middle;
    }

    // Copies the columns and fronts of a set side by side.
    void gather(Set set, std::size_t k) {
        gathered_.resize((k + 1) * set.size());
        column_pointers_.resize(k);
        for (std::size_t c = 0; c < k; ++c) {
            std::int32_t* to = gathered_.data() + c * set.size();
            const std::int32_t* from = columns_[c].data();
            for (std::size_t i = 0; i < set.size(); ++i)
                to[i] = from[set[i]];
            column_pointers_[c] = to;
        }
        std::int32_t* fronts = gathered_.data() + k * set.size();
        for (std::size_t i = 0; i < set.size(); ++i)
            fronts[i] = front(set[i]);
    }

    void rank_within_small(Set set, std::size_t k) {
        pacer_.spend(set.size() * set.size() / 8);
        gather(set, k);
        query_.resize(k);
        std::int32_t* fronts = gathered_.data() + k * set.size();
        for (std::size_t i = 1; i < set.size(); ++i) {
            for (std::size_t c = 0; c < k; ++c)
                query_[c] = column_pointers_[c][i];
            std::int32_t best;
            kernel_.max_ranks_below(column_pointers_.data(), static_cast<int>(k), fronts, 1, &i,
                                    query_.data(), &best);
            fronts[i] = std::max(fronts[i], best + 1);
        }
        for (std::size_t i = 0; i < set.size(); ++i)
            front(set[i]) = fronts[i];
    }

    void rank_across_small(Set low, Set high, std::size_t k) {
        pacer_.spend(low.size() * high.size() / 4);
        gather(low, k);
        const std::int32_t* fronts = gathered_.data() + k * low.size();
        constexpr std::size_t kBatch = 64;
        query_.resize(k * kBatch);
        std::size_t n_before[kBatch];
        std::int32_t best[kBatch];
        std::size_t before = 0;
        for (; !high.empty(); high = high.subspan(std::min(kBatch, high.size()))) {
            const Set batch = high.first(std::min(kBatch, high.size()));
            for (std::size_t i = 0; i < batch.size(); ++i) {
                while (before < low.size() && low[before] < batch[i])
                    ++before;
                n_before[i] = before;
                for (std::size_t c = 0; c < k; ++c)
                    query_[i * k + c] = value(c, batch[i]);
            }
            kernel_.max_ranks_below(column_pointers_.data(), static_cast<int>(k), fronts,
                                    batch.size(), n_before, query_.data(), best);
            for (std::size_t i = 0; i < batch.size(); ++i)
                front(batch[i]) = std::max(front(batch[i]), best[i] + 1);
        }
    }

    void sweep_positions(Set low, Set high) {
        std::int32_t best = -1;
        std::size_t next = 0;
        for (const std::int32_t p : high) {
            while (next < low.size() && low[next] < p)
                best = std::max(best, front(low[next++]));
            front(p) = std::max(front(p), best + 1);
        }
    }

    // Number of steps with a value below `value`.
    [[nodiscard]] std::size_t steps_below(std::int32_t value) const {
        const Step* base = steps_.data();
        std::size_t size = steps_.size();
        if (size == 0) return 0;
        while (size > 1) {
            const std::size_t half = size / 2;
            base += half & all_if(base[half - 1].value < value);
            size -= half;
        }
        return static_cast<std::size_t>(base - steps_.data()) + (base->value < value ? 1 : 0);
    }

    void add_step(std::int32_t value, std::int32_t front) {
        const std::size_t at = steps_below(value);
        if (at > 0 && steps_[at - 1].front >= front) return;
        std::size_t stop = at;
        while (stop < steps_.size() && steps_[stop].front <= front)
            ++stop;
        const auto first = steps_.begin() + static_cast<std::ptrdiff_t>(at);
        if (stop == at) {
            steps_.insert(first, Step{value, front});
        } else {
            *first = Step{value, front};
            steps_.erase(first + 1, steps_.begin() + static_cast<std::ptrdiff_t>(stop));
        }
    }

    void raise_by_steps(std::int32_t position) {
        const std::size_t below = steps_below(value(0, position));
        if (below > 0) front(position) = std::max(front(position), steps_[below - 1].front + 1);
    }

    void sweep_within(Set set) {
        pacer_.spend(32 * set.size());
        steps_.clear();
        for (const std::int32_t p : set) {
            raise_by_steps(p);
            add_step(value(0, p), front(p));
        }
    }

    void sweep_across(Set low, Set high) {
        pacer_.spend(32 * (low.size() + high.size()));
        steps_.clear();
        std::size_t next = 0;
        for (const std::int32_t p : high) {
            for (; next < low.size() && low[next] < p; ++next) {
                add_step(value(0, low[next]), front(low[next]));
            }
            raise_by_steps(p);
        }
    }

    const simd::PointKernels& kernel_;
    Execution execution_;
    Pacer pacer_;
    const std::vector<std::vector<std::int32_t>>& columns_;
    Ranking& ranking_;
    std::vector<std::int32_t> sample_;
    std::vector<std::int32_t> gathered_;
    std::vector<const std::int32_t*> column_pointers_;
    std::vector<std::int32_t> query_;
    std::vector<Step> steps_;
};

}  // namespace

void sort_by_dividing(const Points& points, std::span<std::int32_t> out,
                      const Execution& execution) {
    Ranking ranking(points, execution);
    Divider(ranking, execution).run();
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = ranking.fronts[static_cast<std::size_t>(ranking.position_of[i])];
}

}  // namespace pnag
