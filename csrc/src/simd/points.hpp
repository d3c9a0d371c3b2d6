// Kernels that compare points and put them in order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pnag::simd {

/// Points per block of find_dominator.
inline constexpr std::size_t kBlock = 16;

/// Levels of blocks that hold 2^32 points.
inline constexpr int kMaxLevels = 8;

struct PointKernels {
    /// For every query q: best[q] is the largest rank[i] over i < n[q] with column[c][i] <
    /// queries[q * n_columns + c] in every column, or -1. n does not fall from query to query.
    void (*max_ranks_below)(const std::int32_t* const* columns, int n_columns,
                            const std::int32_t* rank, std::size_t n_queries, const std::size_t* n,
                            const std::int32_t* queries, std::int32_t* best);

    /// The first i < n whose columns are all <= query and one <, or n. Columns are blocks:
    /// blocks[(i / kBlock * n_columns + c) * kBlock + i % kBlock]; n is a multiple of kBlock.
    std::size_t (*find_dominator)(const double* blocks, int n_columns, std::size_t n,
                                  const double* query);

    /// Is there an i < n whose columns are all <= query? Blocks as for find_dominator.
    bool (*any_not_above)(const double* blocks, int n_columns, std::size_t n, const double* query);

    /// The first row whose columns are all <= query, or -1 converted. Blocks as for find_dominator:
    /// levels[0] holds the rows, and place i of levels[l + 1] the minima of block i of levels[l].
    /// The last level is one block. Free places hold +inf.
    std::size_t (*find_first_within)(const double* const* levels, int n_levels, int n_columns,
                                     const double* query);

    /// Place of every value in rising order, equal values by index, O(n^2). Both arrays have room
    /// for whole groups of 8.
    void (*find_places)(const double* values, std::size_t n, std::int64_t* place);

    static const PointKernels kPortable, kAvx2, kAvx512;  // points.cpp, compiled for each level
};

}  // namespace pnag::simd
