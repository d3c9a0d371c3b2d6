// The rows of one stage by their index, and back. What it takes per row is inline: it is the
// innermost step of sampling, mutation, enumeration and validation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "pnag/random.hpp"
#include "pnag/space.hpp"

namespace pnag {

/// Rows that a thread takes at once; whole tiles.
inline constexpr std::size_t kSpaceGrain = 16384;

/// "row 3, slot 7".
std::string at_slot(std::size_t row, std::size_t slot);

struct Space::Stage {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::size_t min_depth = 0;
    std::int64_t count = 0;
    bool is_explicit = false;
    std::vector<int> n_choices;
    // offset[d - min_depth]: rows of smaller depth.
    std::vector<std::int64_t> offset;
    // All rows in index order, if small or explicit. Equal stages share one table, for the cache.
    std::shared_ptr<const std::vector<std::uint8_t>> table;
    // Open addressing over the explicit rows: index + 1, 0 = free.
    std::vector<std::uint32_t> buckets;

    /// Throws InvalidInput, whose text begins with `where`, for a stage that cannot exist.
    Stage(StageSpec spec, std::size_t first, const std::string& where);

    /// List the rows of a plain stage if they are few; `others` may have done so.
    void tabulate(const std::vector<Stage>& others);

    [[nodiscard]] std::size_t n_depths() const { return n_slots - min_depth + 1; }

    /// Number of present slots of a valid row: absent slots are a suffix.
    [[nodiscard]] std::size_t depth_of(const std::uint8_t* codes) const {
        std::size_t depth = 0;
        while (depth < n_slots && codes[depth] != 0)
            ++depth;
        return depth;
    }

    /// Index of an explicit row, or -1.
    [[nodiscard]] std::int64_t find(const std::uint8_t* codes) const {
        const std::uint8_t* const rows = table->data();
        const std::size_t mask = buckets.size() - 1;
        for (std::size_t b = hash(codes) & mask; buckets[b] != 0; b = (b + 1) & mask) {
            const std::size_t i = buckets[b] - 1;
            if (std::memcmp(rows + i * n_slots, codes, n_slots) == 0) {
                return static_cast<std::int64_t>(i);
            }
        }
        return -1;
    }

    void write_row(std::int64_t index, std::uint8_t* out) const {
        if (table) {
            copy_codes(out, table->data() + static_cast<std::size_t>(index) * n_slots, n_slots);
            return;
        }
        compute_row(index, out);
    }

    /// Index of a valid row.
    [[nodiscard]] std::int64_t index_of(const std::uint8_t* codes) const {
        if (is_explicit) return find(codes);
        const std::size_t d = depth_of(codes);
        std::int64_t index = 0;
        for (std::size_t s = 0; s < d; ++s)
            index = index * n_choices[s] + (codes[s] - 1);
        return offset[d - min_depth] + index;
    }

  private:
    void take_rows(std::vector<std::uint8_t> rows, const std::string& where);
    void count_rows(const std::string& where);
    void build_buckets(const std::string& where);
    void compute_row(std::int64_t index, std::uint8_t* out) const;

    [[nodiscard]] std::uint64_t hash(const std::uint8_t* codes) const {
        const std::size_t n = n_slots;
        std::uint64_t h = n;
        for (std::size_t i = 0; i < n; i += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, codes + i, std::min<std::size_t>(8, n - i));
            h = mix64(h + word * kWeylStep);
        }
        return h;
    }

    // Stages are short and of constant length: a branch by size is cheaper than a call of memcpy.
    static void copy_codes(std::uint8_t* to, const std::uint8_t* from, std::size_t n) {
        switch (n) {
            case 1:
                *to = *from;
                return;
            case 2:
                std::memcpy(to, from, 2);
                return;
            case 3:
                std::memcpy(to, from, 3);
                return;
            case 4:
                std::memcpy(to, from, 4);
                return;
            case 5:
                std::memcpy(to, from, 5);
                return;
            case 6:
                std::memcpy(to, from, 6);
                return;
            case 8:
                std::memcpy(to, from, 8);
                return;
            default:
                std::memcpy(to, from, n);
                return;
        }
    }
};

}  // namespace pnag
