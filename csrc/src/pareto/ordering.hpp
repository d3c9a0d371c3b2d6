// Sorting of points by coordinates, as the Pareto kernels need it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "buffer.hpp"
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

/// Sort by key, stable.
///
/// Counting by the leading bits that tell n keys apart, then each run that shares them again, short
/// ones by insertion. O(n) for spread keys; never more than O(n) for each of 13 levels of bits.
void sort_by_key(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch);

/// Evenly spaced numbers, such as an objective of a batch.
struct Column {
    const double* first;
    std::size_t stride;

    double operator[](std::size_t i) const { return first[i * stride]; }
};

inline Column column_of(const Points& points, std::size_t j) {
    // No points may have no address, to which nothing can be added.
    return {points.values.data() + (points.n > 0 ? j : 0), points.m};
}

/// Rows of a batch sorted by one column, equal ones by the column that they carry, the rest by row.
///
/// What moves is 16 bytes: 32 bits of the key, the row and the carried number, so that nobody who
/// reads rows in order has to look for them all over memory. Long batches go into buckets by their
/// leading bits first; each then fits in a cache. O(n) for spread values. The few rows whose 32
/// bits agree though their values differ are compared in full.
class RowSort {
  public:
    struct Entry {
        std::uint64_t word;  // leading bits of the key, then the row
        double value;        // of the row, in the carried column

        [[nodiscard]] std::uint32_t row() const { return static_cast<std::uint32_t>(word); }
    };
    using Bucket = std::span<const Entry>;

    /// May be called for several buckets at a time, in any order.
    using Visit = std::function<void(std::size_t bucket)>;

    RowSort(Column by, Column carried, std::size_t n, const Execution& execution);

    /// Sort all buckets and call `visit` on each that is sorted.
    void run(const Visit& visit = nullptr);

    /// Values of every bucket are smaller than those of the next; some have no rows.
    [[nodiscard]] std::size_t n_buckets() const { return starts_.size() - 1; }
    [[nodiscard]] std::size_t start(std::size_t bucket) const { return starts_[bucket]; }
    [[nodiscard]] Bucket bucket(std::size_t i) const {
        return {entries_.data() + starts_[i], starts_[i + 1] - starts_[i]};
    }
    [[nodiscard]] Bucket entries() const { return {entries_.data(), n_}; }

    /// Do two neighbours in a bucket agree in the column that they are sorted by?
    static bool tied(const Entry& a, const Entry& b) { return (a.word ^ b.word) >> 32 == 0; }

    [[nodiscard]] double least() const { return least_; }
    [[nodiscard]] double most() const { return most_; }

  private:
    class Ties;

    void find_range();
    void fill_one_bucket();
    void fill_buckets();
    void sort_bucket(std::size_t bucket, Entry* scratch, Ties& ties);

    Column by_;
    Column carried_;
    std::size_t n_;
    Execution execution_;
    double least_ = 0.0;
    double most_ = 0.0;
    Buffer<Entry> entries_;
    std::size_t longest_digit_ = 0;
    std::vector<std::uint32_t> starts_;
};

/// Rows in lexicographic order, equal rows by index.
std::vector<std::uint32_t> lexicographic_order(const Points& points,
                                               const Execution& execution = 1);

inline bool equal_rows(const double* a, const double* b, std::size_t m) {
    for (std::size_t j = 0; j < m; ++j) {
        if (a[j] != b[j]) return false;
    }
    return true;
}

}  // namespace pnag
