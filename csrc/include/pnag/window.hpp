// Architectures whose additive cost lies in a window: how many there are, and uniform samples.
//
// Method. An additive cost is a sum over independent *units*: runs of slots whose rows can be
// listed (a stage of ofa-mbv3 has 7371 rows). One unit, the largest, is kept exact: its rows are
// sorted by cost. The costs of the others are cut into bins of equal width, and a dynamic programme
// over units counts the combinations of every sum of bins, together with the smallest and largest
// true cost among them. A draw picks a sum of bins in proportion to its combinations times the rows
// of the exact unit that can complete them, walks back through the units (one alias table per unit
// and sum: Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE
// TSE 1991), picks rows uniformly inside the bins, and accepts if the cost, computed as CostTables
// does, lies in the window. Only candidates near an edge can be rejected. The idea of counting
// first and drawing from the counts: Nijenhuis and Wilf, "Combinatorial Algorithms", 1978, ch. 13.
//
// Exactness. Every accepted row is in the window to the last bit, and every row of the window can
// be drawn. Probabilities are stored to 2^-48 of a column: the distribution is within 2^-40 (total
// variation) of uniform, far below what any number of samples that can be drawn would show.
//
// Cost. With T bins in all: O(T^2) time and memory for the tables (at most 64 MiB, in tens of
// milliseconds, built when first needed); O(T log rows) per window; O(units) per draw. Windows
// narrower than units * bin width are drawn at an acceptance of about their ratio.
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
    WindowSampler(const Space& space, const CostSpec& spec);
    ~WindowSampler();
    WindowSampler(WindowSampler&&) noexcept;
    WindowSampler& operator=(WindowSampler&&) noexcept;

    [[nodiscard]] std::size_t n_slots() const;

    /// Count the architectures with low <= cost <= high. Exact where the window or the space is
    /// small or where all costs fall on the grid of the bins. Throws InvalidInput unless low and
    /// high are finite and in order, and for spaces of 2^127 or more architectures.
    [[nodiscard]] WindowCount count(double low, double high, const Execution& execution) const;

    /// Draw architectures with low <= cost <= high uniformly; a row depends on the seed and its
    /// number only. Throws InvalidInput, naming what can be reached, if there is none or if 2^20
    /// candidates near a very narrow window all lay outside it.
    void sample(double low, double high, std::uint64_t seed, std::span<std::uint8_t> out,
                const Execution& execution) const;

  private:
    struct Tables;
    std::unique_ptr<Tables> tables_;
};

}  // namespace pnag
