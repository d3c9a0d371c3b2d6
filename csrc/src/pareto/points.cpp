#include <cmath>
#include <limits>
#include <string>

#include "pnag/errors.hpp"
#include "pnag/pareto.hpp"

namespace pnag {

void require_points(const Points& points) {
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
    const std::size_t size = points.values.size();
    for (std::size_t begin = 0; begin < size; begin += kChunk) {
        const std::size_t end = begin + kChunk < size ? begin + kChunk : size;
        bool any = false;
        for (std::size_t i = begin; i < end; ++i)
            any |= points.values[i] != points.values[i];
        if (!any) continue;
        for (std::size_t i = begin; i < end; ++i) {
            if (!std::isnan(points.values[i])) continue;
            throw InvalidInput(
                "points: row " + std::to_string(i / points.m) + ", column " +
                std::to_string(i % points.m) +
                " is NaN; objectives must be numbers (remove the row, or use inf for "
                "a failed evaluation)");
        }
    }
}

}  // namespace pnag
