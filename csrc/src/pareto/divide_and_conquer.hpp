// Non-dominated sorting by divide and conquer over the objectives; see non_dominated_sort.
#pragma once

#include <cstdint>
#include <span>

#include "pnag/pareto.hpp"

namespace pnag {

/// Any m >= 2, any n < 2^31; points are free of NaN.
void sort_by_dividing(const Points& points, std::span<std::int32_t> out,
                      const Execution& execution);

}  // namespace pnag
