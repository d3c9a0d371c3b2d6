#include "space/stage.hpp"

#include <bit>
#include <limits>
#include <utility>

#include "pnag/errors.hpp"

namespace pnag {
namespace {

constexpr std::int64_t kMaxStageRows = std::int64_t{1} << 62;
// Stages with rows of at most this many bytes in all are unpacked into a table: 7371 rows of 4
// bytes, a stage of ofa-mbv3, fit in the first-level cache.
constexpr std::int64_t kMaxTableBytes = std::int64_t{1} << 18;

}  // namespace

std::string at_slot(std::size_t row, std::size_t slot) {
    return "row " + std::to_string(row) + ", slot " + std::to_string(slot);
}

Space::Stage::Stage(StageSpec spec, std::size_t first, const std::string& where)
    : first_slot(first), n_slots(spec.n_choices.size()), is_explicit(spec.rows.has_value()) {
    if (n_slots == 0) throw InvalidInput(where + " has no slots; it needs at least one");
    for (std::size_t s = 0; s < n_slots; ++s) {
        if (spec.n_choices[s] < 1 || spec.n_choices[s] > 254) {
            throw InvalidInput(where + ", slot " + std::to_string(s) + " has " +
                               std::to_string(spec.n_choices[s]) + " choices; a slot has 1 to 254");
        }
    }
    if (spec.min_depth < 0 || static_cast<std::size_t>(spec.min_depth) > n_slots) {
        throw InvalidInput(where + " has min_depth " + std::to_string(spec.min_depth) + "; with " +
                           std::to_string(n_slots) + " slots it is 0 to " +
                           std::to_string(n_slots));
    }
    min_depth = static_cast<std::size_t>(spec.min_depth);
    n_choices = std::move(spec.n_choices);
    if (is_explicit) {
        take_rows(std::move(*spec.rows), where);
    } else {
        count_rows(where);
    }
}

void Space::Stage::take_rows(std::vector<std::uint8_t> rows, const std::string& where) {
    if (rows.empty() || rows.size() % n_slots != 0) {
        throw InvalidInput(where + " has explicit rows of " + std::to_string(rows.size()) +
                           " codes in all; it needs at least one row of " +
                           std::to_string(n_slots));
    }
    const std::size_t n_rows = rows.size() / n_slots;
    if (n_rows >= std::numeric_limits<std::uint32_t>::max() / 4) {
        throw InvalidInput(where + " has " + std::to_string(n_rows) +
                           " explicit rows; at most 2^30 are possible");
    }
    for (std::size_t r = 0; r < n_rows; ++r) {
        for (std::size_t s = 0; s < n_slots; ++s) {
            const int code = rows[r * n_slots + s];
            if (code > n_choices[s]) {
                throw InvalidInput(where + ", explicit " + at_slot(r, s) + " is " +
                                   std::to_string(code) + "; codes are 0 to " +
                                   std::to_string(n_choices[s]));
            }
            if (s > 0 && code != 0 && rows[r * n_slots + s - 1] == 0) {
                throw InvalidInput(where + ", explicit " + at_slot(r, s) + " is " +
                                   std::to_string(code) +
                                   " after an absent slot; absent slots (0) must be the last of "
                                   "their stage");
            }
        }
    }
    count = static_cast<std::int64_t>(n_rows);
    table = std::make_shared<const std::vector<std::uint8_t>>(std::move(rows));
    build_buckets(where);
}

void Space::Stage::build_buckets(const std::string& where) {
    const auto n_rows = static_cast<std::size_t>(count);
    buckets.assign(std::bit_ceil(2 * n_rows + 1), 0);
    for (std::size_t i = 0; i < n_rows; ++i) {
        const std::uint8_t* codes = table->data() + i * n_slots;
        std::size_t b = hash(codes) & (buckets.size() - 1);
        while (buckets[b] != 0) {
            const std::size_t other = buckets[b] - 1;
            if (std::memcmp(table->data() + other * n_slots, codes, n_slots) == 0) {
                throw InvalidInput(where + ": rows " + std::to_string(other) + " and " +
                                   std::to_string(i) +
                                   " of a stage are equal; list every row once");
            }
            b = (b + 1) & (buckets.size() - 1);
        }
        buckets[b] = static_cast<std::uint32_t>(i + 1);
    }
}

void Space::Stage::count_rows(const std::string& where) {
    const std::string too_many = where + " has 2^62 or more rows; split it into several stages";
    std::int64_t of_depth = 1;
    for (std::size_t d = 0; d <= n_slots; ++d) {
        if (d > 0) {
            if (of_depth >= kMaxStageRows / n_choices[d - 1]) throw InvalidInput(too_many);
            of_depth *= n_choices[d - 1];
        }
        if (d < min_depth) continue;
        offset.push_back(count);
        count += of_depth;
        if (count >= kMaxStageRows) throw InvalidInput(too_many);
    }
}

void Space::Stage::compute_row(std::int64_t index, std::uint8_t* out) const {
    std::size_t d = n_slots;
    while (offset[d - min_depth] > index)
        --d;
    index -= offset[d - min_depth];
    std::memset(out, 0, n_slots);
    for (std::size_t s = d; s-- > 0;) {
        out[s] = static_cast<std::uint8_t>(1 + index % n_choices[s]);
        index /= n_choices[s];
    }
}

void Space::Stage::tabulate(const std::vector<Stage>& others) {
    if (is_explicit) return;
    for (const Stage& other : others) {
        if (!other.is_explicit && other.n_choices == n_choices && other.min_depth == min_depth) {
            table = other.table;
            return;
        }
    }
    if (count > kMaxTableBytes / static_cast<std::int64_t>(n_slots)) return;
    auto rows =
        std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(count) * n_slots);
    for (std::int64_t r = 0; r < count; ++r)
        write_row(r, rows->data() + static_cast<std::size_t>(r) * n_slots);
    table = std::move(rows);
}

}  // namespace pnag
