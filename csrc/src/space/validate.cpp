#include <algorithm>
#include <atomic>
#include <limits>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "simd/levels.hpp"
#include "simd/space.hpp"
#include "simd/tile.hpp"
#include "space/stage.hpp"

namespace pnag {

std::optional<InvalidEntry> Space::first_fault(const std::uint8_t* row,
                                               std::size_t row_index) const {
    for (const Stage& stage : stages_) {
        const std::uint8_t* codes = row + stage.first_slot;
        for (std::size_t s = 0; s < stage.n_slots; ++s) {
            const bool missing = !stage.is_explicit && codes[s] == 0 && s < stage.min_depth;
            const bool orphan = s > 0 && codes[s] != 0 && codes[s - 1] == 0;
            if (codes[s] > stage.n_choices[s] || missing || orphan) {
                return InvalidEntry{row_index, stage.first_slot + s, codes[s]};
            }
        }
        if (stage.is_explicit && stage.find(codes) < 0) {
            // Each code is possible but the row as a whole is not listed: name the first slot at
            // which no listed row goes on.
            std::size_t longest = 0;
            for (std::int64_t i = 0; i < stage.count; ++i) {
                const std::uint8_t* listed =
                    stage.table->data() + static_cast<std::size_t>(i) * stage.n_slots;
                std::size_t same = 0;
                while (same < stage.n_slots && listed[same] == codes[same])
                    ++same;
                longest = std::max(longest, same);
            }
            return InvalidEntry{row_index, stage.first_slot + longest, codes[longest]};
        }
    }
    return std::nullopt;
}

bool Space::is_valid_tile(const std::uint8_t* codes, std::size_t rows) const {
    bool bad = simd::kernels<simd::SpaceKernels>().any_invalid(
        codes, max_code_tile_.data(), required_tile_.data(), stage_start_tile_.data(),
        rows * n_slots());
    if (bad || !has_explicit_) return !bad;
    for (const Stage& stage : stages_) {
        if (!stage.is_explicit) continue;
        for (std::size_t i = 0; i < rows; ++i)
            bad |= stage.find(codes + i * n_slots() + stage.first_slot) < 0;
    }
    return !bad;
}

std::optional<InvalidEntry> Space::find_invalid(std::span<const std::uint8_t> archs,
                                                const Execution& execution) const {
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
    std::atomic<std::size_t> first_bad{kNone};

    const auto report = [&](std::size_t row) {
        std::size_t seen = first_bad.load(std::memory_order_relaxed);
        while (row < seen && !first_bad.compare_exchange_weak(seen, row)) {
        }
    };
    parallel_for(n_rows, 4 * kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; r += simd::kTileRows) {
            if (r > first_bad.load(std::memory_order_relaxed)) return;
            const std::size_t rows = std::min(simd::kTileRows, end - r);
            const std::uint8_t* codes = archs.data() + r * n_slots();
            if (is_valid_tile(codes, rows)) continue;
            for (std::size_t i = 0; i < rows; ++i) {
                if (first_fault(codes + i * n_slots(), r + i)) {
                    report(r + i);
                    return;
                }
            }
        }
    });
    const std::size_t row = first_bad.load();
    if (row == kNone) return std::nullopt;
    return first_fault(archs.data() + row * n_slots(), row);
}

void Space::require_valid(std::span<const std::uint8_t> archs, const std::string& what,
                          const Execution& execution) const {
    const auto fault = find_invalid(archs, execution);
    if (!fault) return;
    for (const Stage& stage : stages_) {
        if (fault->slot >= stage.first_slot + stage.n_slots) continue;
        const std::size_t s = fault->slot - stage.first_slot;
        const std::string message =
            what + ": " + at_slot(fault->row, fault->slot) + " is " + std::to_string(fault->value);
        if (fault->value > stage.n_choices[s]) {
            throw InvalidInput(message + "; codes there are 1 to " +
                               std::to_string(stage.n_choices[s]) + ", or 0 for an absent slot");
        }
        if (stage.is_explicit) {
            throw InvalidInput(message + "; no allowed row of stage slots " +
                               std::to_string(stage.first_slot) + " to " +
                               std::to_string(stage.first_slot + stage.n_slots - 1) +
                               " has that after the codes before it");
        }
        if (fault->value == 0) {
            throw InvalidInput(message + " (absent); the first " + std::to_string(stage.min_depth) +
                               " slots of its stage, from slot " +
                               std::to_string(stage.first_slot) + ", must be present");
        }
        throw InvalidInput(message +
                           " after an absent slot; absent slots (0) must be the last of their "
                           "stage");
    }
}

}  // namespace pnag
