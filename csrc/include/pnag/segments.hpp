// Statistics of consecutive runs of values, such as those of the neighbours of one architecture.
#pragma once

#include <cstdint>
#include <span>

#include "pnag/execution.hpp"

namespace pnag {

enum class Statistic { kMean, kMedian, kMinimum, kMaximum };

/// out[i] = the statistic of values[offsets[i]] to values[offsets[i + 1] - 1]. Values that are not
/// a number are left out; where none is left the result is not a number. Sums are taken in the
/// order of the values; of an even number of values the median is the mean of the middle two.
///
/// Throws InvalidInput unless offsets begin with 0, ascend, and end with the number of values. O(1)
/// for each value.
void reduce_segments(std::span<const double> values, std::span<const std::int64_t> offsets,
                     Statistic statistic, std::span<double> out, const Execution& execution);

}  // namespace pnag
