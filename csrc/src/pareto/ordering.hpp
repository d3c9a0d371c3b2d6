// Sorting of points by coordinates, as the Pareto kernels need it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pnag/pareto.hpp"

namespace pnag {

/// Unsigned integer that orders as the double does; -0.0 and 0.0 get one key. Not for NaN.
inline std::uint64_t order_key(double value) {
    // Adding 0.0 turns -0.0 into 0.0 and changes nothing else.
    const auto bits = std::bit_cast<std::uint64_t>(value + 0.0);
    const auto sign = static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> 63);
    return bits ^ (sign | 0x8000000000000000ULL);
}

struct KeyIndex {
    std::uint64_t key;
    std::uint32_t index;
};

/// Sort by key, equal keys by index; `items` must come in with rising indices.
///
/// Radix passes over the leading bits that tell n items apart, then insertion within runs that
/// share them; long batches go into buckets that fit in a cache first. O(n) for spread keys, O(n
/// log n) at worst.
void sort_by_key(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch,
                 const Execution& execution = 1);

/// Rows in lexicographic order, equal rows by index.
std::vector<std::uint32_t> lexicographic_order(const Points& points,
                                               const Execution& execution = 1);

/// Rows ordered by one column, equal values by index.
std::vector<std::uint32_t> column_order(const Points& points, std::size_t column,
                                        const Execution& execution = 1);

inline bool equal_rows(const double* a, const double* b, std::size_t m) {
    for (std::size_t j = 0; j < m; ++j) {
        if (a[j] != b[j]) return false;
    }
    return true;
}

}  // namespace pnag
