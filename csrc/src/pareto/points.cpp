#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/pareto.hpp"

namespace pnag {

void require_points(const Points& points, const Execution& execution) {
    if (points.m == 0)
        throw InvalidInput("points has no columns; at least one objective is needed");
    if (points.values.size() / points.m != points.n || points.values.size() % points.m != 0) {
        throw InvalidInput("points has " + std::to_string(points.values.size()) + " values, not " +
                           std::to_string(points.n) + " rows of " + std::to_string(points.m));
    }
    if (points.n > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
        throw InvalidInput("points has " + std::to_string(points.n) +
                           " rows; at most 2^31 - 1 are possible");
    }
    // One test per chunk, so that the scan runs at the speed of memory.
    constexpr std::size_t kChunk = 4096;
    constexpr std::size_t kGrain = 64 * kChunk;
    parallel_for(points.values.size(), kGrain, execution, [&](std::size_t from, std::size_t to) {
        for (std::size_t begin = from; begin < to; begin += kChunk) {
            const std::size_t end = std::min(to, begin + kChunk);
            const double* values = points.values.data();
            std::uint64_t n_nan = 0;
            for (std::size_t i = begin; i < end; ++i)
                n_nan += values[i] != values[i] ? 1 : 0;
            if (n_nan == 0) continue;
            for (std::size_t i = begin; i < end; ++i) {
                if (!std::isnan(points.values[i])) continue;
                throw InvalidInput(
                    "points: row " + std::to_string(i / points.m) + ", column " +
                    std::to_string(i % points.m) +
                    " is NaN; objectives must be numbers (remove the row, or use inf for "
                    "a failed evaluation)");
            }
        }
    });
}

}  // namespace pnag
