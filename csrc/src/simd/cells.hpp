// Kernels on cells, the boxes that a volume in four objectives and more is cut into.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pnag::simd {

/// Doubles in a row of the cell kernels: up to 8 objectives, the rest padding that is 0 in rows and
/// lower corners and 1 in upper corners.
inline constexpr unsigned kCellWidth = 8;

/// Most rows that union_of_rows takes in more than four objectives, and in up to four.
inline constexpr std::size_t kMaxCellRows = 8;
inline constexpr std::size_t kMaxCellRowsInFour = 32;

/// Columns of covered_by_raised are so long.
inline constexpr std::size_t kMaxCutRows = 128;

/// What clip_cell found besides the rows it kept.
struct CellSummary {
    std::uint32_t covers;            // rows that cover the whole cell; counting stops early
    std::uint32_t cover;             // the id of one that does
    std::uint32_t slab[kCellWidth];  // by objective, the id of the lowest slab, or 2^32 - 1
    double slab_at[kCellWidth];      // where it starts
};

struct CellKernels {
    /// Cut orthants [row, inf) to the cell [lower, upper) and keep those whose cut starts inside
    /// the cell in two objectives or more; returns how many. `out` has room for n + 1. A *slab*
    /// starts inside the cell in one objective only: every one lowers `upper` to its start. A row
    /// that covers the cell ends the call with covers = 1.
    std::size_t (*clip_cell)(const double* rows, std::size_t n, const double* lower, double* upper,
                             double* out, CellSummary* summary);

    /// The same for rows with ids, except that the first slab of an objective goes to the summary
    /// and `upper` is lowered to the second, and that the second row that covers the cell ends the
    /// call with covers = 2.
    std::size_t (*clip_owned_cell)(const double* rows, const std::uint32_t* ids, std::size_t n,
                                   const double* lower, double* upper, double* out,
                                   std::uint32_t* out_ids, CellSummary* summary);

    /// Keep the rows that start below `upper` in every objective; returns how many. Ids go along
    /// unless they are null. `out` has room for n + 1, and may be `rows`.
    std::size_t (*keep_inside)(const double* rows, const std::uint32_t* ids, std::size_t n,
                               const double* upper, double* out, std::uint32_t* out_ids);

    /// Volume that n < kMaxCutRows orthants cover of the box from `corner` to `upper` in four
    /// objectives; or, if too many reach into it for this kernel, of all but the box up to what
    /// `upper` is lowered to, and into `rows` the n_rows parts that are left of the orthants in it.
    /// Orthants come by rising last objective, as columns that are kMaxCutRows apart and go on with
    /// +inf.
    double (*covered_by_raised)(const double* columns, std::size_t n, const double* corner,
                                double* upper, double* rows, std::size_t* n_rows);

    /// Volume of the union of n boxes [row, upper) in m <= 8 objectives.
    double (*union_of_rows)(const double* rows, std::size_t n, unsigned m, const double* upper);

    /// The objective in which most rows start above `lower`, and about the median of these starts.
    unsigned (*choose_cut)(const double* rows, std::size_t n, const double* lower, double* at);

    static const CellKernels kPortable, kAvx2, kAvx512;  // cells.cpp, compiled for each level
};

}  // namespace pnag::simd
