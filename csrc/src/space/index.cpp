// Architectures by their index, and the rows of their stages by theirs.
#include <algorithm>
#include <string>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/random.hpp"
#include "space/stage.hpp"

namespace pnag {

void Space::require_range(std::int64_t first, std::size_t n_rows) const {
    uint128 total = 1;
    constexpr uint128 kUnbounded = uint128{1} << 63;
    for (const std::int64_t count : stage_counts_) {
        total = std::min(kUnbounded, total * static_cast<uint128>(count));
    }
    if (first < 0) {
        throw InvalidInput("first is " + std::to_string(first) + "; it must not be negative");
    }
    // A total of 2^63 or more cannot be passed by an int64 index, but first + n_rows could wrap.
    if (static_cast<uint128>(first) + n_rows > total) {
        const std::string size = total == kUnbounded
                                     ? std::string("2^63 or more")
                                     : std::to_string(static_cast<std::uint64_t>(total));
        throw InvalidInput("rows " + std::to_string(first) + " to " + std::to_string(first) +
                           " + " + std::to_string(n_rows) + " reach beyond the " + size +
                           " architectures that have an index");
    }
}

void Space::enumerate(std::int64_t first, std::span<std::uint8_t> out,
                      const Execution& execution) const {
    const std::size_t n_rows = rows_of(out.size(), "out");
    require_range(first, n_rows);
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        const std::size_t n_stages = stages_.size();
        std::vector<std::int64_t> digits(n_stages);
        auto index = static_cast<std::uint64_t>(first) + begin;
        for (std::size_t i = n_stages; i-- > 0;) {
            const auto count = static_cast<std::uint64_t>(stages_[i].count);
            digits[i] = static_cast<std::int64_t>(index % count);
            index /= count;
        }
        for (std::size_t r = begin; r < end; ++r) {
            std::uint8_t* row = out.data() + r * n_slots();
            for (std::size_t i = 0; i < n_stages; ++i) {
                stages_[i].write_row(digits[i], row + stages_[i].first_slot);
            }
            for (std::size_t i = n_stages; i-- > 0;) {
                if (++digits[i] < stages_[i].count) break;
                digits[i] = 0;
            }
        }
    });
}

void Space::rank(std::span<const std::uint8_t> archs, std::span<std::int64_t> out,
                 const Execution& execution) const {
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    if (out.size() != n_rows * n_stages()) throw InvalidInput("out has the wrong size");
    require_valid(archs, "archs", execution);
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        const std::uint8_t* codes = archs.data() + begin * n_slots();
        std::int64_t* index = out.data() + begin * n_stages();
        for (std::size_t r = begin; r < end; ++r) {
            for (const Stage& stage : stages_) {
                *index++ = stage.index_of(codes);
                codes += stage.n_slots;
            }
        }
    });
}

void Space::unrank(std::span<const std::int64_t> indices, std::span<std::uint8_t> out,
                   const Execution& execution) const {
    const std::size_t n_rows = rows_of(out.size(), "out");
    if (indices.size() != n_rows * n_stages()) {
        throw InvalidInput("indices has " + std::to_string(indices.size()) + " entries, not " +
                           std::to_string(n_stages()) + " for each of " + std::to_string(n_rows) +
                           " rows");
    }
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::uint8_t* codes = out.data() + begin * n_slots();
        const std::int64_t* index = indices.data() + begin * n_stages();
        for (std::size_t r = begin; r < end; ++r) {
            for (std::size_t i = 0; i < n_stages(); ++i, ++index) {
                if (*index < 0 || *index >= stage_counts_[i]) {
                    throw InvalidInput("indices: row " + std::to_string(r) + ", stage " +
                                       std::to_string(i) + " is " + std::to_string(*index) +
                                       "; the stage has rows 0 to " +
                                       std::to_string(stage_counts_[i] - 1));
                }
                stages_[i].write_row(*index, codes);
                codes += stages_[i].n_slots;
            }
        }
    });
}

}  // namespace pnag
