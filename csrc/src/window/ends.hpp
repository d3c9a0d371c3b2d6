// Which rows of a tail bring the rest of an architecture into a window.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "window/tail.hpp"

namespace pnag::window {

/// A window as the tables see it: sums in another order than that of CostTables differ from it by
/// at most `rounding`.
struct Ends {
    double low;
    double high;
    double rounding;

    Ends(double first, double last, double error) : low(first), high(last), rounding(error) {
        if (rounding != 0.0) return;
        // Costs are integers: differences with these ends are exact, those with others may round.
        low = std::ceil(low);
        high = std::floor(high);
    }
    /// Of the rows of a tail that may follow a sum.
    [[nodiscard]] double first_after(double sum) const { return low - sum - rounding; }
    [[nodiscard]] double last_after(double sum) const { return high - sum + rounding; }
    /// Holds those rows wherever they are, with room for the errors of the differences.
    [[nodiscard]] double width() const { return high - low + 3.0 * rounding; }
};

/// Rows of the tail that may, and that must, bring a sum of bins into the window.
struct Completion {
    std::size_t may_begin = 0;
    std::size_t may_end = 0;
    std::size_t must_begin = 0;
    std::size_t must_end = 0;

    [[nodiscard]] std::size_t may() const { return may_end - may_begin; }
    [[nodiscard]] std::size_t must() const { return must_end - must_begin; }
};

inline Completion complete(const Tail& tail, const Ends& ends, double lo, double hi) {
    Completion found;
    found.may_begin = tail.at_least(ends.first_after(hi));
    found.may_end = std::max(found.may_begin, tail.beyond(ends.last_after(lo)));
    // Within the outer rows, and never a negative number of them.
    found.must_begin = std::min(tail.at_least(ends.low - lo + ends.rounding), found.may_end);
    found.must_end = std::max(found.must_begin, tail.beyond(ends.high - hi - ends.rounding));
    return found;
}

}  // namespace pnag::window
