// Architectures whose additive cost lies in a window: how many there are, and uniform samples.
//
// Method. An additive cost is a sum over independent *units*: runs of slots whose rows can be
// listed (a stage of ofa-mbv3 has 7371 rows). One unit is the *tail*: its rows are sorted by cost.
// The costs of the others are cut into bins of equal width, and a dynamic programme over units
// counts the combinations of every sum of bins, together with the smallest and largest true cost
// among them. A draw picks a sum of bins, walks back through the units (one alias table per unit
// and sum: Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE
// TSE 1991) and picks rows uniformly inside the bins: all combinations x of the units with that sum
// are equally likely. Of the tail, the rows that bring x into the window are neighbours, from the
// first that is dear enough; let m bound their number for every x of that sum of bins. The sum was
// picked in proportion to its combinations times m; one of m places from that first row on is
// picked, and accepted if the cost, computed as CostTables does, lies in the window. The idea of
// counting first and drawing from the counts: Nijenhuis and Wilf, "Combinatorial Algorithms", 1978,
// ch. 13; that of sorting one part of a sum to look up what completes the other: Horowitz and
// Sahni, "Computing partitions with applications to the knapsack problem", J. ACM 1974.
//
// Narrow windows hold few rows of a tail, and then m is far above the mean. So the tail of a
// narrower window is longer: all pairs of rows of two units, or of a unit and part of another (up
// to 2^23 pairs). Wide windows need no search: where rows beside the edges of the window are few,
// all rows that any x may need are picked from.
//
// Exactness. Every accepted row is in the window to the last bit, and every row of the window can
// be drawn. Probabilities are stored to 2^-48 of a column: the distribution is within 2^-40 (total
// variation) of uniform, far below what any number of samples that can be drawn would show.
//
// Cost. With T bins in all and P pairs in the tail: O(T^2 + P) time and memory, built when first
// needed (ofa-mbv3: 3 MiB, and for windows of less than about 10^-5 of the range of costs 36 MiB
// more); O(T log P + P) per window; O(units) per candidate. The share of candidates that is
// accepted is the mean number of rows of the tail in the window over the largest near it: a half or
// so where several are expected, and in proportion to the width below that (on ofa-mbv3 about 10^-7
// of the range).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "pnag/cost.hpp"
#include "pnag/execution.hpp"
#include "pnag/random.hpp"
#include "pnag/space.hpp"

namespace pnag {

/// How many architectures a window holds.
struct WindowCount {
    uint128 lower = 0;  ///< that certainly lie in the window
    uint128 upper = 0;  ///< that may lie in it; equal to `lower` where the count is exact
    /// What `upper` counts beyond `lower` is within this distance of an edge of the window.
    double tolerance = 0.0;
};

class WindowSampler {
  public:
    /// One summed table over the slots of `space`; neither is needed afterwards. Throws
    /// InvalidInput for a table that does not fit the space, that takes the maximum, or for a space
    /// whose units cannot be listed (a stage with more than 2^22 combinations of optional slots).
    WindowSampler(const Space& space, const CostSpec& spec, const Execution& execution = 1);
    ~WindowSampler();
    WindowSampler(WindowSampler&&) noexcept;
    WindowSampler& operator=(WindowSampler&&) noexcept;

    [[nodiscard]] std::size_t n_slots() const;

    /// Count the architectures with low <= cost <= high. Exact where the window or the space is
    /// small or where all costs fall on the grid of the bins. Throws InvalidInput unless low and
    /// high are finite and in order, and for spaces of 2^127 or more architectures.
    [[nodiscard]] WindowCount count(double low, double high, const Execution& execution) const;

    /// Draw architectures with low <= cost <= high uniformly; a row depends on the seed and its
    /// number only. Throws InvalidInput, naming what can be reached, if there is none, or if 2^20
    /// candidates for one row all lay outside a window that is all but empty.
    void sample(double low, double high, std::uint64_t seed, std::span<std::uint8_t> out,
                const Execution& execution) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace pnag
