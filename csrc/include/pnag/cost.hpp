// Batched lookup of additive (and max-reduced) costs over several tables at once, and of how far
// such sums may be wrong.
//
// Order of operations, part of the contract: slots are taken in pairs (0, 1), (2, 3), ...; with an
// odd number of slots the last pair is the last slot alone. The cost of an architecture is
//     ((constant + (e0 + e1)) + (e2 + e3)) + ...
// in double precision without fused operations. So a table gives the same bits alone, stacked with
// others, on any number of threads and with any instruction set. With max in place of + the order
// does not matter.
//
// Method: the entries of two slots are added once, when the tables are built, so a row costs half
// as many loads as it has slots; entries of several tables lie side by side, so that further tables
// are wider loads. O(rows * slots / 2 * tables) loads; memory tables * contexts * sum of
// n_codes[2p] * n_codes[2p + 1] doubles. With AVX-512 a single table of up to 16 codes a slot is
// looked up by permutations of registers instead, 8 rows at a time: no loads that depend on codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "pnag/execution.hpp"
#include "pnag/space.hpp"

namespace pnag {

/// The parts of CostTables, as arrays.
struct CostSpec {
    std::size_t n_tables = 0;
    std::size_t n_contexts = 0;
    std::size_t n_slots = 0;
    std::size_t max_codes = 0;
    std::span<const double> entries;    ///< (n_tables, n_contexts, n_slots, max_codes)
    std::span<const double> constants;  ///< (n_tables, n_contexts)
    std::vector<bool> use_max;          ///< per table
    int context_slot = -1;              ///< slot whose choice picks the context; -1: one context
    std::vector<int> n_codes;           ///< per slot: 1 + number of choices
};

/// For vectors that start a cache line: a wide load that crosses into the next takes twice as long.
template <typename T>
struct LineAllocator {
    using value_type = T;
    static constexpr std::align_val_t kLine{64};
    LineAllocator() = default;
    template <typename U>
    LineAllocator(const LineAllocator<U>& /*other*/) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
    void deallocate(T* data, std::size_t /*n*/) { ::operator delete(data, kLine); }
    bool operator==(const LineAllocator&) const = default;
};

template <typename T>
using Lines = std::vector<T, LineAllocator<T>>;

/// Which codes rows may have.
class CodeLimits {
  public:
    /// Throws InvalidInput for codes, a context slot or numbers that do not fit together.
    CodeLimits(std::vector<int> n_codes, int context_slot, std::size_t n_slots,
               std::size_t max_codes, std::size_t n_contexts);

    [[nodiscard]] std::size_t n_slots() const { return n_codes_.size(); }
    [[nodiscard]] std::size_t n_codes(std::size_t slot) const {
        return static_cast<std::size_t>(n_codes_[slot]);
    }

    /// Throws InvalidInput unless `archs` is whole rows.
    [[nodiscard]] std::size_t count_rows(std::span<const std::uint8_t> archs) const;

    /// Throws InvalidInput that names row, slot and value of the first code that does not exist in
    /// rows [first, first + n_rows), at most simd::kTileRows of them.
    void require_codes(std::span<const std::uint8_t> archs, std::size_t first,
                       std::size_t n_rows) const;

    /// Call task(begin, end, context) for runs of rows, at most simd::kTileRows of them, that share
    /// a context. Sampled batches often have runs of one row.
    template <typename Task>
    void for_each_context(std::span<const std::uint8_t> archs, std::size_t first,
                          std::size_t n_rows, const Task& task) const {
        if (context_slot_ < 0) return task(first, first + n_rows, std::size_t{0});
        const auto code = [&](std::size_t row) {
            return archs[row * n_slots() + static_cast<std::size_t>(context_slot_)];
        };
        for (std::size_t begin = first; begin < first + n_rows;) {
            std::size_t end = begin + 1;
            while (end < first + n_rows && code(end) == code(begin))
                ++end;
            task(begin, end, code(begin) - std::size_t{1});
            begin = end;
        }
    }

  private:
    [[nodiscard]] std::optional<InvalidEntry> find_bad_code(const std::uint8_t* archs,
                                                            std::size_t n_rows) const;

    std::vector<int> n_codes_;
    int context_slot_;
    Lines<std::uint8_t> largest_tile_;  // the largest code of each slot, for a tile of rows
};

class CostTables {
  public:
    /// Throws InvalidInput for shapes that do not fit together and for entries that are not finite
    /// though their code exists.
    explicit CostTables(const CostSpec& spec);

    [[nodiscard]] std::size_t n_slots() const { return limits_.n_slots(); }
    [[nodiscard]] std::size_t n_tables() const { return n_tables_; }

    /// Write (n_rows, n_tables) costs. Throws InvalidInput that names row, slot and value of the
    /// first code that does not exist.
    void lookup(std::span<const std::uint8_t> archs, std::span<double> out,
                const Execution& execution) const;

  private:
    std::size_t n_tables_ = 0;
    CodeLimits limits_;
    std::vector<bool> use_max_;
    std::size_t n_pairs_ = 0;
    std::size_t width_ = 0;  // tables padded to the width of the kernels: sums first, then maxima
    std::size_t sum_width_ = 0;
    std::vector<std::size_t> column_of_table_;
    std::vector<std::uint32_t> pair_offset_;  // first entry of each pair within a context
    std::vector<std::uint16_t> radix_;        // codes of the second slot of each pair
    Lines<std::uint16_t> radix_tile_;         // the same for a block of rows
    std::size_t context_stride_ = 0;          // doubles per context
    Lines<double> packed_;                    // (context, pair, code pair, width)
    std::vector<double> packed_constants_;    // (context, width)
    Lines<double> slot_entries_;              // one table of few codes: (context, slot, 16)
};

/// The parts of a CostSpread, as arrays.
struct SpreadSpec {
    std::size_t n_contexts = 0;
    std::size_t n_slots = 0;
    std::size_t max_codes = 0;
    std::size_t rank = 0;
    std::span<const double> entries;    ///< (n_contexts, n_slots, max_codes, rank)
    std::span<const double> constants;  ///< (n_contexts, rank)
    double misfit = 0.0;
    int context_slot = -1;
    std::vector<int> n_codes;
};

/// Standard deviations of a cost whose entries are known up to a Gaussian.
///
/// Its covariance is root * root^T, so an entry has a vector of `rank` numbers, an architecture has
/// their sum v = constant + e0 + e1 + ..., slot by slot, and the deviation is
///     sqrt(|v|^2 + (misfit * mean)^2).
/// |v|^2 adds the squares of components 8 apart in rising order, then the eight sums by halves: i
/// to i + 4, i to i + 2, i to i + 1. In double precision without fused operations: the same bits on
/// any number of threads and with any instruction set. Overflows to inf, and to NaN where
/// infinities of both signs meet. O(rows * slots * rank); the numbers of one context stay in the
/// caches.
class CostSpread {
  public:
    /// Throws InvalidInput for shapes that do not fit together, for numbers of existing codes that
    /// are not finite, and for a misfit that is negative or not finite.
    explicit CostSpread(const SpreadSpec& spec);

    [[nodiscard]] std::size_t n_slots() const { return limits_.n_slots(); }

    /// Write a deviation for each row from its mean cost. Throws as CostTables::lookup does.
    void lookup(std::span<const std::uint8_t> archs, std::span<const double> mean,
                std::span<double> out, const Execution& execution) const;

  private:
    CodeLimits limits_;
    double misfit_;
    std::size_t width_;                       // the rank, padded with zeros to whole groups of 8
    std::vector<std::uint32_t> slot_offset_;  // codes before each slot
    std::size_t context_stride_ = 0;          // doubles per context
    Lines<double> packed_;                    // (context, slot, code, width)
    Lines<double> constants_;                 // (context, width)
};

}  // namespace pnag
