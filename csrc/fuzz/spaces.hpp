// Search spaces from bytes, and what they are by definition.
#pragma once

#include <algorithm>
#include <set>

#include "bytes.hpp"
#include "pnag/space.hpp"

namespace pnag::fuzz {

/// Up to 4 stages of up to 4 slots, a few of them impossible.
inline std::vector<StageSpec> make_stages(Bytes& in) {
    std::vector<StageSpec> stages(in.below(5));
    for (StageSpec& stage : stages) {
        stage.n_choices.resize(in.below(5));
        for (int& n : stage.n_choices) {
            const std::uint8_t value = in.byte();
            n = value < 240 ? 1 + value % 4 : (value - 240) * 20;  // 0 to 300
        }
        stage.min_depth = static_cast<int>(in.below(7)) - 1;
        if (in.below(3) != 0) continue;
        stage.rows = in.bytes(in.below(8) * stage.n_choices.size() + (in.below(32) == 1 ? 1 : 0));
        for (std::uint8_t& code : *stage.rows)
            code = code < 250 ? code % 4 : code;
    }
    return stages;
}

inline bool absent_are_last(std::span<const std::uint8_t> codes) {
    return std::is_sorted(codes.begin(), codes.end(),
                          [](int a, int b) { return (a != 0) > (b != 0); });
}

inline bool is_valid_stage_row(const StageSpec& stage, std::span<const std::uint8_t> codes) {
    const std::size_t n = stage.n_choices.size();
    if (stage.rows) {
        for (std::size_t r = 0; r < stage.rows->size(); r += n) {
            if (std::equal(codes.begin(), codes.end(), stage.rows->data() + r)) return true;
        }
        return false;
    }
    for (std::size_t s = 0; s < n; ++s) {
        if (codes[s] > stage.n_choices[s]) return false;
    }
    const auto depth = std::count_if(codes.begin(), codes.end(), [](int c) { return c != 0; });
    return absent_are_last(codes) && depth >= stage.min_depth;
}

inline bool is_valid_row(const std::vector<StageSpec>& stages, const std::uint8_t* row) {
    for (const StageSpec& stage : stages) {
        if (!is_valid_stage_row(stage, {row, stage.n_choices.size()})) return false;
        row += stage.n_choices.size();
    }
    return true;
}

/// Stages are too small here for the limit of 2^62 rows.
inline bool are_possible(const std::vector<StageSpec>& stages) {
    for (const StageSpec& stage : stages) {
        const std::size_t n = stage.n_choices.size();
        if (n == 0 || stage.min_depth < 0 || stage.min_depth > static_cast<int>(n)) return false;
        for (const int choices : stage.n_choices) {
            if (choices < 1 || choices > 254) return false;
        }
        if (!stage.rows) continue;
        if (stage.rows->empty() || stage.rows->size() % n != 0) return false;
        std::set<std::vector<std::uint8_t>> seen;
        for (auto row = stage.rows->begin(); row != stage.rows->end();
             row += static_cast<std::ptrdiff_t>(n)) {
            const std::vector<std::uint8_t> codes(row, row + static_cast<std::ptrdiff_t>(n));
            for (std::size_t s = 0; s < n; ++s) {
                if (codes[s] > stage.n_choices[s]) return false;
            }
            if (!absent_are_last(codes) || !seen.insert(codes).second) return false;
        }
    }
    return !stages.empty();
}

/// All architectures, or 0 if there are more than `most`.
inline std::size_t size_of(const Space& space, std::size_t most) {
    std::size_t n = 1;
    for (const std::int64_t count : space.stage_counts()) {
        if (static_cast<std::size_t>(count) > most / n) return 0;
        n *= static_cast<std::size_t>(count);
    }
    return n;
}

}  // namespace pnag::fuzz
