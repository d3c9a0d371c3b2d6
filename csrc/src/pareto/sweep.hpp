// Non-dominated sorting of three objectives by a sweep; see non_dominated_sort.
#pragma once

#include <cstdint>
#include <span>

#include "pnag/pareto.hpp"

namespace pnag {

/// m = 3, n > 0; points are free of NaN. Returns false, with `out` unspecified, when staircases
/// grow so long that moving their steps costs too much.
bool sort_by_sweeping(const Points& points, std::span<std::int32_t> out,
                      const Execution& execution);

}  // namespace pnag
