// Kernels that look up costs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/tile.hpp"

namespace pnag::simd {

/// What the lookup kernel needs of a CostTables; plain pointers, owned by the caller.
struct LookupPlan {
    std::size_t n_slots;
    std::size_t n_pairs;
    std::size_t width;                 // doubles per code pair
    std::size_t sum_width;             // the first of them are summed, the others reduced with max
    const std::uint16_t* radix_tile;   // radix of each pair, repeated for kTileRows rows
    const std::uint32_t* pair_offset;  // code pairs before each pair
    const double* entries;             // of the context
    const double* constants;           // of the context, (width,)
    // Entries by slot, (2 n_pairs, 16), of the context, or null. Then the width is 1, and 7 bytes
    // behind the last row may be read; a last pair of one slot is filled with what changes no sum.
    const double* slot_entries;
};

/// Codes that a permutation of two of the widest registers tells apart.
inline constexpr std::size_t kPermutedCodes = 16;

/// The lookup kernel keeps the code pairs of at least one row on its stack.
inline constexpr std::size_t kMaxLookupSlots = 16384;

/// Squares are added in this many sums.
inline constexpr std::size_t kSquares = 8;

struct CostKernels {
    /// Is any codes[i] > limit[i]?
    bool (*any_above)(const std::uint8_t* codes, const std::uint8_t* limit, std::size_t n);

    /// Costs of n_rows <= kTileRows rows in one context; out is (n_rows, width).
    void (*lookup)(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan,
                   double* out);

    /// |v|^2 of n_rows <= kTileRows rows in one context, v the sum of `width` numbers for the
    /// constant and for each code; by groups of kSquares as CostSpread says. The plan has slots for
    /// pairs and no maxima; the width is whole groups. `sums` has room for (n_rows, width).
    void (*squared_lengths)(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan,
                            double* sums, double* out);

    static const CostKernels kPortable, kAvx2, kAvx512;  // cost.cpp, compiled for each level
};

}  // namespace pnag::simd
