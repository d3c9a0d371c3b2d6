#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "numbers.hpp"
#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/pareto.hpp"

namespace pnag {

void require_numbers(std::span<const double> values, std::size_t m, const char* name,
                     const char* remedy, const Execution& execution) {
    // One test per chunk, so that the scan runs at the speed of memory.
    constexpr std::size_t kChunk = 4096;
    constexpr std::size_t kGrain = 64 * kChunk;
    parallel_for(values.size(), kGrain, execution, [&](std::size_t from, std::size_t to) {
        for (std::size_t begin = from; begin < to; begin += kChunk) {
            const std::size_t end = std::min(to, begin + kChunk);
            // Compilers do not vectorise values[i] != values[i]. Without its sign the number above
            // those of infinity is NaN, and this sum reaches the bit of the sign.
            std::uint64_t sums = 0;
            for (std::size_t i = begin; i < end; ++i) {
                const auto bits = std::bit_cast<std::uint64_t>(values[i]);
                sums |= (bits & 0x7FFFFFFFFFFFFFFFULL) + 0x000FFFFFFFFFFFFFULL;
            }
            if (sums >> 63 == 0) continue;
            for (std::size_t i = begin; i < end; ++i) {
                if (!std::isnan(values[i])) continue;
                throw InvalidInput(std::string(name) + ": row " + std::to_string(i / m) +
                                   ", column " + std::to_string(i % m) + " is NaN; " + remedy);
            }
        }
    });
}

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
    require_numbers(points.values, points.m, "points",
                    "objectives must be numbers (remove the row, or use inf for a failed "
                    "evaluation)",
                    execution);
}

}  // namespace pnag
