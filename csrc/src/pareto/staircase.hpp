// The minimal points of a planar set: x strictly rising, y strictly falling.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pnag {

/// All bits set if true. Compilers turn a choice between two numbers into a branch as they like,
/// and halving a range on random data mispredicts every other one; they leave this alone.
inline std::size_t all_if(bool condition) {
    return std::size_t{0} - static_cast<std::size_t>(condition);
}

template <typename X, typename Y>
class Staircase {
  public:
    struct Step {
        X x;
        Y y;
    };

    /// Is there a step with step.x <= x and step.y <= y? O(log size).
    [[nodiscard]] bool covers(X x, Y y) const {
        const std::size_t after = steps_up_to(x);
        return after > 0 && steps_[after - 1].y <= y;
    }

    /// The same for B points in B staircases that have steps. The searches go on side by side, so
    /// that none waits for the memory and the comparisons of another.
    template <std::size_t B>
    static void covers(const Staircase* const (&stairs)[B], const X (&x)[B], const Y (&y)[B],
                       bool (&covered)[B]) {
        const Step* base[B];
        std::size_t size[B];
        std::size_t longest = 0;
        for (std::size_t i = 0; i < B; ++i) {
            base[i] = stairs[i]->steps_.data();
            size[i] = stairs[i]->steps_.size();
            longest = std::max(longest, size[i]);
        }
        for (; longest > 1; longest -= longest / 2) {
            for (std::size_t i = 0; i < B; ++i) {
                const std::size_t half = size[i] / 2;
                base[i] += half & all_if(base[i][half].x <= x[i]);
                size[i] -= half;
            }
        }
        for (std::size_t i = 0; i < B; ++i)
            covered[i] = (base[i]->x <= x[i]) & (base[i]->y <= y[i]);
    }

    /// Add a point that is not covered and drop the steps that it covers. O(log size) and a move of
    /// the steps behind it; returns how many steps moved.
    std::size_t insert(X x, Y y) {
        std::size_t at = steps_up_to(x);
        if (at > 0 && steps_[at - 1].x == x) --at;  // same x, larger y
        std::size_t stop = at;
        while (stop < steps_.size() && steps_[stop].y >= y)
            ++stop;
        const auto first = steps_.begin() + static_cast<std::ptrdiff_t>(at);
        if (stop == at) {
            steps_.insert(first, Step{x, y});
        } else {
            *first = Step{x, y};
            steps_.erase(first + 1, steps_.begin() + static_cast<std::ptrdiff_t>(stop));
        }
        return steps_.size() - at;
    }

    /// Number of steps with step.x <= x.
    [[nodiscard]] std::size_t steps_up_to(X x) const {
        // Halving without a branch: the outcome of each comparison is a coin flip.
        const Step* base = steps_.data();
        std::size_t size = steps_.size();
        if (size == 0) return 0;
        while (size > 1) {
            const std::size_t half = size / 2;
            base += half & all_if(base[half - 1].x <= x);
            size -= half;
        }
        return static_cast<std::size_t>(base - steps_.data()) + (base->x <= x ? 1 : 0);
    }

    [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }
    void clear() { steps_.clear(); }

  private:
    std::vector<Step> steps_;
};

}  // namespace pnag
