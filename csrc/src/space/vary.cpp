// Children of architectures: mutation, crossover, neighbours.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "simd/levels.hpp"
#include "simd/space.hpp"
#include "simd/tile.hpp"
#include "space/draws.hpp"
#include "space/stage.hpp"
#include "streams.hpp"

namespace pnag {

namespace {

// Numbers of a row's stream by their place in it: as RowStream, whose next() gives them in turn.
inline std::uint64_t number_at(std::uint64_t key, std::uint64_t row, std::uint64_t place) {
    return mix64(key + ((row << 16) + place + 1) * kWeylStep);
}

}  // namespace

// Every decision is selected by one byte of random numbers, compared with the first base-256 digit
// of the rate; where they are equal a further number is compared with the other digits, so that the
// probability is exact to 2^-64. Each decision is redrawn in all rows of a block that selected it,
// each with a number of its own: nothing waits for another draw, and the one branch that nothing
// predicts, the end of a loop, is shared by 64 rows.
void Space::mutate(std::span<const std::uint8_t> archs, double rate, std::uint64_t seed,
                   std::span<std::uint8_t> out, const Execution& execution) const {
    if (!(rate >= 0.0 && rate <= 1.0)) {
        throw InvalidInput("rate is " + std::to_string(rate) + "; it is a probability, 0 to 1");
    }
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    if (out.size() != archs.size()) throw InvalidInput("out and archs differ in size");

    // A slot's own draw must look at the parent's depth and never at slots that the draw of the
    // depth has just filled, so slots come first.
    struct SlotDecision {
        std::size_t slot;
        std::uint64_t n_choices;
    };
    struct StageDecision {
        const Stage* stage;
        std::uint64_t key;
        // Row of an explicit stage; or depth, then codes for the slots that may appear.
        std::vector<DrawGroup> groups;
        std::size_t n_draws;
    };
    const std::uint64_t select_key = stream_key(seed, kMutateStream);
    const std::uint64_t tie_key = stream_key(select_key, 1);
    const std::uint64_t code_key = stream_key(select_key, 2);
    const std::uint64_t retry_key = stream_key(select_key, 3);
    std::vector<SlotDecision> slot_decisions;
    std::vector<StageDecision> stage_decisions;
    std::size_t most_draws = 0;
    for (const Stage& stage : stages_) {
        std::vector<std::uint64_t> bounds;
        if (stage.is_explicit) {
            bounds.push_back(static_cast<std::uint64_t>(stage.count));
        } else {
            for (std::size_t s = 0; s < stage.n_slots; ++s) {
                slot_decisions.push_back(
                    {stage.first_slot + s, static_cast<std::uint64_t>(stage.n_choices[s])});
            }
            if (stage.n_depths() == 1) continue;
            bounds.push_back(stage.n_depths());
            for (std::size_t s = stage.min_depth; s < stage.n_slots; ++s)
                bounds.push_back(static_cast<std::uint64_t>(stage.n_choices[s]));
        }
        most_draws = std::max(most_draws, bounds.size());
        stage_decisions.push_back({&stage, stream_key(select_key, 4 + stage_decisions.size()),
                                   DrawGroup::pack(bounds), bounds.size()});
    }
    const std::size_t n_slot_decisions = slot_decisions.size();
    const std::size_t n_decisions = n_slot_decisions + stage_decisions.size();
    const bool all = rate >= 1.0;
    const std::uint64_t digits = all ? 0 : static_cast<std::uint64_t>(rate * 0x1p64);
    const auto first_digit = static_cast<std::uint8_t>(digits >> 56);
    const std::uint64_t other_digits = digits << 8;
    const auto& kernel = simd::kernels<simd::SpaceKernels>();

    const std::size_t n = n_slots();
    // Redraw one decision in the rows of a block that `chosen` names.
    const auto redraw_codes = [&](const SlotDecision& decision, std::size_t d, std::uint64_t chosen,
                                  std::size_t first, std::uint8_t* tile) {
        const std::uint64_t n_choices = decision.n_choices;
        for (; chosen != 0; chosen &= chosen - 1) {
            const auto r = static_cast<std::size_t>(std::countr_zero(chosen));
            const uint128 product =
                static_cast<uint128>(number_at(code_key, first + r, d)) * n_choices;
            auto drawn = static_cast<std::uint64_t>(product >> 64);
            const auto low = static_cast<std::uint64_t>(product);
            // As RowStream::below: exactly uniform draws reject some.
            if (low < n_choices && low < (0 - n_choices) % n_choices) [[unlikely]] {
                drawn = RowStream(stream_key(retry_key, d), first + r).below(n_choices);
            }
            std::uint8_t& own = tile[r * n + decision.slot];
            // Without a branch: nothing predicts which slots are absent.
            own = static_cast<std::uint8_t>((1 + drawn) & (0 - std::uint64_t{own != 0}));
        }
    };
    // Apart, so that the loop above, which is the busier one, keeps its values in registers.
    const auto redraw_stages = [&](const StageDecision& decision, std::uint64_t chosen,
                                   std::size_t first, std::uint8_t* tile,
                                   std::uint64_t* draws) __attribute__((noinline)) {
        const Stage& stage = *decision.stage;
        for (; chosen != 0; chosen &= chosen - 1) {
            const auto r = static_cast<std::size_t>(std::countr_zero(chosen));
            RowStream random(decision.key, first + r);
            std::uint64_t* drawn = draws;
            for (const DrawGroup& group : decision.groups) {
                group.draw(random, drawn);
                drawn += group.bounds.size();
            }
            std::uint8_t* codes = tile + r * n + stage.first_slot;
            if (stage.is_explicit) {
                stage.write_row(static_cast<std::int64_t>(draws[0]), codes);
                continue;
            }
            const std::size_t depth = stage.min_depth + draws[0];
            for (std::size_t s = stage.min_depth; s < stage.n_slots; ++s) {
                const std::uint64_t own = codes[s];
                const std::uint64_t appears = 0 - std::uint64_t{own == 0};
                const std::uint64_t present = 0 - std::uint64_t{s < depth};
                const std::uint64_t fresh = 1 + draws[1 + s - stage.min_depth];
                codes[s] = static_cast<std::uint8_t>((own | (fresh & appears)) & present);
            }
        }
    };

    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        constexpr std::size_t kRows = simd::kTileRows;
        constexpr std::size_t kBatch = 64;
        static_assert(kRows == 64 && kSpaceGrain % kRows == 0);
        std::uint64_t selected[kBatch];  // rows, by decision
        std::uint64_t ties[kBatch];
        std::vector<std::uint64_t> draws(most_draws);
        for (std::size_t first = begin; first < end; first += kRows) {
            const std::size_t rows = std::min(kRows, end - first);
            std::uint8_t* const tile = out.data() + first * n;
            const std::uint8_t* const parents = archs.data() + first * n;
            // Here and not before: a large batch is read from memory once.
            if (!is_valid_tile(parents, rows)) require_valid(archs, "archs", 1);
            std::memcpy(tile, parents, rows * n);
            const std::uint64_t here = ~std::uint64_t{0} >> (kRows - rows);
            for (std::size_t base = 0; base < n_decisions; base += kBatch) {
                const std::size_t n_here = std::min(kBatch, n_decisions - base);
                if (all) {
                    std::fill_n(selected, n_here, here);
                } else {
                    // The number of 8 rows and a decision has a byte for each row.
                    kernel.compare_bytes(select_key, (first / 8 << 16) + base, n_here, first_digit,
                                         selected, ties);
                    for (std::size_t i = 0; i < n_here; ++i) {
                        for (std::uint64_t tied = ties[i]; tied != 0; tied &= tied - 1) {
                            const auto r = static_cast<std::uint64_t>(std::countr_zero(tied));
                            if (number_at(tie_key, first + r, base + i) < other_digits)
                                selected[i] |= std::uint64_t{1} << r;
                        }
                        selected[i] &= here;
                    }
                }
                for (std::size_t d = base; d < base + n_here; ++d) {
                    if (d < n_slot_decisions) {
                        redraw_codes(slot_decisions[d], d, selected[d - base], first, tile);
                    } else {
                        redraw_stages(stage_decisions[d - n_slot_decisions], selected[d - base],
                                      first, tile, draws.data());
                    }
                }
            }
        }
    });
}

namespace {

// 0xFF in every byte whose bit is set.
constexpr std::array<std::uint64_t, 256> kBytesOfBits = [] {
    std::array<std::uint64_t, 256> bytes{};
    for (unsigned bits = 0; bits < 256; ++bits) {
        for (unsigned i = 0; i < 8; ++i) {
            if ((bits >> i & 1U) != 0) bytes[bits] |= std::uint64_t{0xFF} << (8 * i);
        }
    }
    return bytes;
}();
static_assert(std::endian::native == std::endian::little,
              "bytes of a word are codes of slots, the first in the lowest byte");

// Stages that share a table from their bits to the bytes of their slots.
struct StageBits {
    std::size_t first_slot = 0;
    std::size_t n_stages = 0;
    std::size_t n_words = 0;           // of 8 bytes, that hold the slots of these stages
    std::vector<std::uint64_t> bytes;  // (2^n_stages, n_words)
};

}  // namespace

// One bit per slot and one per stage, drawn for a row at once and widened to bytes; then all bytes
// of a block of rows are crossed in one loop. Bytes that a row's masks write beyond its end belong
// to the next row, which is written later, or to the padding.
void Space::crossover(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                      std::uint64_t seed, std::span<std::uint8_t> out,
                      const Execution& execution) const {
    const std::size_t n_rows = rows_of(a.size(), "a");
    if (b.size() != a.size()) {
        throw InvalidInput("a has " + std::to_string(n_rows) + " rows and b has " +
                           std::to_string(rows_of(b.size(), "b")) + "; parents come in pairs");
    }
    if (out.size() != a.size()) throw InvalidInput("out and a differ in size");
    require_valid(a, "a", execution);
    require_valid(b, "b", execution);

    constexpr std::size_t kMostStages = 6;
    const std::size_t n = n_slots();
    std::vector<StageBits> parts;
    // 0xFF where the whole stage comes from one parent.
    std::vector<std::uint8_t> whole_tile;
    for (std::size_t i = 0; i < stages_.size(); i += kMostStages) {
        StageBits part;
        part.first_slot = stages_[i].first_slot;
        part.n_stages = std::min(kMostStages, stages_.size() - i);
        const Stage& last = stages_[i + part.n_stages - 1];
        part.n_words = (last.first_slot + last.n_slots - part.first_slot + 7) / 8;
        part.bytes.assign((std::size_t{1} << part.n_stages) * part.n_words, 0);
        for (std::size_t bits = 0; bits >> part.n_stages == 0; ++bits) {
            auto* to = reinterpret_cast<std::uint8_t*>(part.bytes.data() + bits * part.n_words);
            for (std::size_t k = 0; k < part.n_stages; ++k) {
                const Stage& stage = stages_[i + k];
                std::memset(to + stage.first_slot - part.first_slot,
                            (bits >> k & 1U) != 0 ? 0xFF : 0, stage.n_slots);
            }
        }
        parts.push_back(std::move(part));
    }
    for (std::size_t r = 0; has_explicit_ && r < simd::kTileRows; ++r) {
        for (const Stage& stage : stages_)
            whole_tile.insert(whole_tile.end(), stage.n_slots, stage.is_explicit ? 0xFF : 0);
    }
    const auto& kernel = simd::kernels<simd::SpaceKernels>();
    const std::uint64_t key = stream_key(seed, kCrossoverStream);
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
        constexpr std::size_t kRows = simd::kTileRows;
        std::vector<std::uint8_t> from_a(kRows * n + 8);
        std::vector<std::uint8_t> depth_from_a(kRows * n + 8);
        for (std::size_t first = begin; first < end; first += kRows) {
            const std::size_t rows = std::min(kRows, end - first);
            for (std::size_t r = 0; r < rows; ++r) {
                RowStream random(key, first + r);
                std::uint64_t word = random.next();
                std::size_t left = 64;
                const auto take = [&](std::size_t n_bits) {
                    if (left < n_bits) {
                        word = random.next();
                        left = 64;
                    }
                    const std::uint64_t bits = word & ((std::uint64_t{1} << n_bits) - 1);
                    word >>= n_bits;
                    left -= n_bits;
                    return bits;
                };
                for (std::size_t s = 0; s < n; s += 8)
                    std::memcpy(from_a.data() + r * n + s, &kBytesOfBits[take(8)], 8);
                for (const StageBits& part : parts) {
                    std::memcpy(depth_from_a.data() + r * n + part.first_slot,
                                part.bytes.data() + take(part.n_stages) * part.n_words,
                                8 * part.n_words);
                }
            }
            if (has_explicit_) {
                for (std::size_t i = 0; i < rows * n; ++i) {
                    from_a[i] = static_cast<std::uint8_t>((from_a[i] & ~whole_tile[i]) |
                                                          (depth_from_a[i] & whole_tile[i]));
                }
            }
            kernel.cross(a.data() + first * n, b.data() + first * n, from_a.data(),
                         depth_from_a.data(), rows * n, out.data() + first * n);
        }
    });
}

std::vector<std::uint8_t> Space::neighbors(std::span<const std::uint8_t> arch) const {
    if (arch.size() != n_slots()) {
        throw InvalidInput("arch has " + std::to_string(arch.size()) + " codes; the space has " +
                           std::to_string(n_slots()) + " slots");
    }
    require_valid(arch, "arch", 1);
    std::vector<std::uint8_t> found;
    const auto add = [&](const Stage& stage, const std::uint8_t* codes) {
        const std::size_t at = found.size();
        found.insert(found.end(), arch.begin(), arch.end());
        std::memcpy(found.data() + at + stage.first_slot, codes, stage.n_slots);
    };
    for (const Stage& stage : stages_) {
        const std::uint8_t* own = arch.data() + stage.first_slot;
        if (stage.is_explicit) {
            const std::int64_t own_index = stage.find(own);
            for (std::int64_t i = 0; i < stage.count; ++i) {
                if (i == own_index) continue;
                add(stage, stage.table->data() + static_cast<std::size_t>(i) * stage.n_slots);
            }
            continue;
        }
        const std::size_t depth = stage.depth_of(own);
        std::vector<std::uint8_t> codes(own, own + stage.n_slots);
        for (std::size_t s = 0; s < depth; ++s) {
            for (int code = 1; code <= stage.n_choices[s]; ++code) {
                if (code == own[s]) continue;
                codes[s] = static_cast<std::uint8_t>(code);
                add(stage, codes.data());
            }
            codes[s] = own[s];
        }
        if (depth > stage.min_depth) {
            codes[depth - 1] = 0;
            add(stage, codes.data());
            codes[depth - 1] = own[depth - 1];
        }
        if (depth < stage.n_slots) {
            for (int code = 1; code <= stage.n_choices[depth]; ++code) {
                codes[depth] = static_cast<std::uint8_t>(code);
                add(stage, codes.data());
            }
        }
    }
    return found;
}

}  // namespace pnag
