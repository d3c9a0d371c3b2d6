// The loops that gain from wider instruction sets, behind one table of function pointers per set.
//
// One source, kernels.inc, is compiled once per set. It includes no standard-library templates, so
// that the linker cannot keep a copy with wide instructions for everyone. All of it is integer
// arithmetic, comparisons and plain sums in a fixed order: every set gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pnag/depthwise_shape.hpp"

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

/// Rows for which tiles are repeated.
inline constexpr std::size_t kTileRows = 64;

/// Codes that a permutation of two of the widest registers tells apart.
inline constexpr std::size_t kPermutedCodes = 16;

/// The lookup kernel keeps the code pairs of at least one row on its stack.
inline constexpr std::size_t kMaxLookupSlots = 16384;

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

/// Most points that covered_space takes and that free_space can see from one point. Quadratic work
/// on so few is vectorised and has no branches to guess.
inline constexpr std::size_t kMaxEvents = 128;

/// Places behind the last member that add_member may write to.
inline constexpr std::size_t kMemberRoom = 24;

struct Kernels {
    const char* name;

    /// Is any codes[i] > limit[i]?
    bool (*any_above)(const std::uint8_t* codes, const std::uint8_t* limit, std::size_t n);

    /// Does any codes[i] exceed limit[i], miss though required[i], or follow an absent slot though
    /// it does not start a stage? codes[-1] is not read.
    bool (*any_invalid)(const std::uint8_t* codes, const std::uint8_t* limit,
                        const std::uint8_t* required, const std::uint8_t* stage_start,
                        std::size_t n);

    /// Costs of n_rows <= kTileRows rows in one context; out is (n_rows, width).
    void (*lookup)(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan,
                   double* out);

    /// Child of a and b, byte by byte: 0 where the parent that `depth_from_a` names (0xFF: a) is
    /// absent; else the code of the parent that `from_a` names if it is present, else the other's.
    void (*cross)(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* from_a,
                  const std::uint8_t* depth_from_a, std::size_t n, std::uint8_t* out);

    /// The 64 bytes of the numbers first_word + i of 8 rows of a stream (see RowStream), compared
    /// with `digit`, for i < n: a bit of below[i] says that a byte is smaller, one of equal[i] that
    /// it is equal; bit 8 r + b for byte b of row r. The first row is in the upper bits of
    /// first_word.
    void (*compare_bytes)(std::uint64_t key, std::uint64_t first_word, std::size_t n,
                          std::uint8_t digit, std::uint64_t* below, std::uint64_t* equal);

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

    /// Lower `x_limit` to the least x[i] with y[i] <= py, and `y_limit` to the least y[i] with
    /// x[i] <= px.
    void (*lower_limits)(const double* x, const double* y, std::size_t n, double px, double py,
                         double* x_limit, double* y_limit);

    /// Write the i < n with x[i] < x_limit and y[i] < y_limit, rising; returns how many.
    std::size_t (*collect_below)(const double* x, const double* y, std::size_t n, double x_limit,
                                 double y_limit, std::uint32_t* found);

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

    /// Place of every value in rising order, equal values by index, O(n^2). Both arrays have room
    /// for whole groups of 8.
    void (*find_places)(const double* values, std::size_t n, std::int64_t* place);

    /// The objective in which most rows start above `lower`, and about the median of these starts.
    unsigned (*choose_cut)(const double* rows, std::size_t n, const double* lower, double* at);

    /// Volume of the union of boxes [point, corner), 1 <= n <= kMaxEvents. Points come by rising z;
    /// arrays have room for whole groups of 8.
    double (*covered_space)(const double* x, const double* y, const double* z, std::size_t n,
                            const double* corner);

    /// Volume of the box from p = (px, py, pz) to `corner` that no [member, inf) covers, or -1 if
    /// too many members reach into it for this kernel. Members come by rising z; their arrays go on
    /// with +inf to a multiple of 8.
    double (*free_space)(const double* x, const double* y, const double* z, std::size_t n,
                         double px, double py, double pz, const double* corner);

    /// Insert (px, py, pz) into such members and drop those it covers; returns how many are left.
    /// There is room for kMemberRoom more.
    std::size_t (*add_member)(double* x, double* y, double* z, std::size_t n, double px, double py,
                              double pz);

    /// Channels [begin, end) of depthwise_weight_gradient; see pnag/depthwise.hpp.
    void (*depthwise_weight_gradient)(const float* images, const float* gradient,
                                      const DepthwiseShape& shape, std::size_t begin,
                                      std::size_t end, float* out);
};

/// Points per block of find_dominator.
inline constexpr std::size_t kBlock = 16;

/// The kernels for this machine: the widest set it has, or the one that PNAG_SIMD names (portable,
/// avx2, avx512, neon). Throws InvalidInput if PNAG_SIMD names an unknown set or one the machine
/// lacks.
const Kernels& kernels();

/// What every machine of the architecture has; called "neon" on aarch64.
extern const Kernels kPortable;
#ifdef PNAG_HAVE_AVX2
extern const Kernels kAvx2;
#endif
#ifdef PNAG_HAVE_AVX512
extern const Kernels kAvx512;
#endif

}  // namespace pnag::simd
