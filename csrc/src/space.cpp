#include "pnag/space.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/random.hpp"
#include "simd/kernels.hpp"

namespace pnag {
namespace {

constexpr std::int64_t kMaxStageRows = std::int64_t{1} << 62;
// Stages with rows of at most this many bytes in all are unpacked into a table: 7371 rows of 4
// bytes, a stage of ofa-mbv3, fit in the first-level cache.
constexpr std::int64_t kMaxTableBytes = std::int64_t{1} << 18;
constexpr std::size_t kGrain = 16384;

// Streams that share a seed must not share numbers.
constexpr std::uint64_t kUniformStream = 1;
constexpr std::uint64_t kDecisionStream = 2;
constexpr std::uint64_t kMutateStream = 3;
constexpr std::uint64_t kCrossoverStream = 4;

// Stages are short and of constant length: a branch by size is cheaper than a call of memcpy.
inline void copy_codes(std::uint8_t* to, const std::uint8_t* from, std::size_t n) {
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

// Number of present slots of a valid stage row: absent slots are a suffix.
inline std::size_t depth_of(const std::uint8_t* codes, std::size_t n) {
    std::size_t depth = 0;
    while (depth < n && codes[depth] != 0)
        ++depth;
    return depth;
}

std::string at_slot(std::size_t row, std::size_t slot) {
    return "row " + std::to_string(row) + ", slot " + std::to_string(slot);
}

}  // namespace

struct Space::Stage {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::size_t min_depth = 0;
    std::int64_t count = 0;
    bool is_explicit = false;
    std::vector<int> n_choices;
    // offset[d - min_depth]: rows of smaller depth; choices_below[d]: rows of exactly depth d.
    std::vector<std::int64_t> offset;
    std::vector<std::int64_t> rows_of_depth;
    // All rows in index order, if small or explicit. Equal stages share one table, for the cache.
    std::shared_ptr<const std::vector<std::uint8_t>> table;
    // Open addressing over the explicit rows: index + 1, 0 = free.
    std::vector<std::uint32_t> buckets;

    [[nodiscard]] std::size_t n_depths() const { return n_slots - min_depth + 1; }

    [[nodiscard]] static std::uint64_t hash(const std::uint8_t* codes, std::size_t n) {
        std::uint64_t h = n;
        for (std::size_t i = 0; i < n; i += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, codes + i, std::min<std::size_t>(8, n - i));
            h = mix64(h + word * kWeylStep);
        }
        return h;
    }

    void build_buckets() {
        const auto n_rows = static_cast<std::size_t>(count);
        buckets.assign(std::bit_ceil(2 * n_rows + 1), 0);
        for (std::size_t i = 0; i < n_rows; ++i) {
            const std::uint8_t* codes = table->data() + i * n_slots;
            std::size_t b = hash(codes, n_slots) & (buckets.size() - 1);
            while (buckets[b] != 0) {
                const std::size_t other = buckets[b] - 1;
                if (std::memcmp(table->data() + other * n_slots, codes, n_slots) == 0) {
                    throw InvalidInput("rows " + std::to_string(other) + " and " +
                                       std::to_string(i) +
                                       " of a stage are equal; list every row once");
                }
                b = (b + 1) & (buckets.size() - 1);
            }
            buckets[b] = static_cast<std::uint32_t>(i + 1);
        }
    }

    // Index of an explicit row, or -1.
    [[nodiscard]] std::int64_t find(const std::uint8_t* codes) const {
        std::size_t b = hash(codes, n_slots) & (buckets.size() - 1);
        while (buckets[b] != 0) {
            const std::size_t i = buckets[b] - 1;
            if (std::memcmp(table->data() + i * n_slots, codes, n_slots) == 0) {
                return static_cast<std::int64_t>(i);
            }
            b = (b + 1) & (buckets.size() - 1);
        }
        return -1;
    }

    void write_row(std::int64_t index, std::uint8_t* out) const {
        if (table) {
            copy_codes(out, table->data() + static_cast<std::size_t>(index) * n_slots, n_slots);
            return;
        }
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

    // Index of a valid row.
    [[nodiscard]] std::int64_t index_of(const std::uint8_t* codes) const {
        if (is_explicit) return find(codes);
        const std::size_t d = depth_of(codes, n_slots);
        std::int64_t index = 0;
        for (std::size_t s = 0; s < d; ++s)
            index = index * n_choices[s] + (codes[s] - 1);
        return offset[d - min_depth] + index;
    }
};

// Bounded draws that share one random word. The words whose last low half is below `threshold`
// = 2^64 mod product of the bounds are rejected, which leaves every tuple equally likely.
struct Space::DrawGroup {
    std::vector<std::uint64_t> bounds;
    std::uint64_t threshold = 0;

    // With products up to 2^56 fewer than one word in 256 is drawn again.
    static std::vector<DrawGroup> pack(const std::vector<std::uint64_t>& bounds) {
        constexpr std::uint64_t kMaxProduct = std::uint64_t{1} << 56;
        std::vector<DrawGroup> groups;
        std::uint64_t product = 1;
        for (const std::uint64_t bound : bounds) {
            if (groups.empty() || bound > kMaxProduct / product) {
                groups.emplace_back();
                product = 1;
            }
            product *= bound;
            groups.back().bounds.push_back(bound);
            groups.back().threshold = (0 - product) % product;
        }
        return groups;
    }

    void draw(RowStream& random, std::uint64_t* out) const {
        std::uint64_t low = 0;
        do {
            low = random.next();
            for (std::size_t i = 0; i < bounds.size(); ++i) {
                const uint128 product = static_cast<uint128>(low) * bounds[i];
                out[i] = static_cast<std::uint64_t>(product >> 64);
                low = static_cast<std::uint64_t>(product);
            }
        } while (low < threshold);
    }
};

Space::Space(std::vector<StageSpec> specs) {
    if (specs.empty()) throw InvalidInput("a space needs at least one stage");
    for (std::size_t i = 0; i < specs.size(); ++i) {
        StageSpec& spec = specs[i];
        const std::string where = "stage " + std::to_string(i);
        const std::size_t n = spec.n_choices.size();
        if (n == 0) throw InvalidInput(where + " has no slots; it needs at least one");
        for (std::size_t s = 0; s < n; ++s) {
            if (spec.n_choices[s] < 1 || spec.n_choices[s] > 254) {
                throw InvalidInput(where + ", slot " + std::to_string(s) + " has " +
                                   std::to_string(spec.n_choices[s]) +
                                   " choices; a slot has 1 to 254");
            }
        }
        if (spec.min_depth < 0 || static_cast<std::size_t>(spec.min_depth) > n) {
            throw InvalidInput(where + " has min_depth " + std::to_string(spec.min_depth) +
                               "; with " + std::to_string(n) + " slots it is 0 to " +
                               std::to_string(n));
        }
        Stage stage;
        stage.first_slot = n_choices_.size();
        stage.n_slots = n;
        stage.min_depth = static_cast<std::size_t>(spec.min_depth);
        stage.n_choices = spec.n_choices;
        n_choices_.insert(n_choices_.end(), spec.n_choices.begin(), spec.n_choices.end());

        if (spec.rows) {
            stage.is_explicit = true;
            const auto& rows = *spec.rows;
            if (rows.empty() || rows.size() % n != 0) {
                throw InvalidInput(where + " has explicit rows of " + std::to_string(rows.size()) +
                                   " codes in all; it needs at least one row of " +
                                   std::to_string(n));
            }
            const std::size_t n_rows = rows.size() / n;
            if (n_rows >= std::numeric_limits<std::uint32_t>::max() / 4) {
                throw InvalidInput(where + " has " + std::to_string(n_rows) +
                                   " explicit rows; at most 2^30 are possible");
            }
            for (std::size_t r = 0; r < n_rows; ++r) {
                for (std::size_t s = 0; s < n; ++s) {
                    const int code = rows[r * n + s];
                    if (code > spec.n_choices[s]) {
                        throw InvalidInput(where + ", explicit " + at_slot(r, s) + " is " +
                                           std::to_string(code) + "; codes are 0 to " +
                                           std::to_string(spec.n_choices[s]));
                    }
                    if (s > 0 && code != 0 && rows[r * n + s - 1] == 0) {
                        throw InvalidInput(where + ", explicit " + at_slot(r, s) + " is " +
                                           std::to_string(code) +
                                           " after an absent slot; absent slots (0) must be the "
                                           "last of their stage");
                    }
                }
            }
            stage.count = static_cast<std::int64_t>(n_rows);
            stage.table = std::make_shared<const std::vector<std::uint8_t>>(std::move(*spec.rows));
            try {
                stage.build_buckets();
            } catch (const InvalidInput& error) {
                throw InvalidInput(where + ": " + error.what());
            }
            has_explicit_ = true;
        } else {
            std::int64_t of_depth = 1;
            for (std::size_t d = 0; d <= n; ++d) {
                if (d > 0) {
                    if (of_depth >= kMaxStageRows / spec.n_choices[d - 1]) {
                        throw InvalidInput(where +
                                           " has 2^62 or more rows; split it into several stages");
                    }
                    of_depth *= spec.n_choices[d - 1];
                }
                if (d < stage.min_depth) continue;
                stage.offset.push_back(stage.count);
                stage.rows_of_depth.push_back(of_depth);
                stage.count += of_depth;
                if (stage.count >= kMaxStageRows) {
                    throw InvalidInput(where +
                                       " has 2^62 or more rows; split it into several stages");
                }
            }
            for (const Stage& other : stages_) {
                if (!other.is_explicit && other.n_choices == stage.n_choices &&
                    other.min_depth == stage.min_depth) {
                    stage.table = other.table;
                }
            }
            if (!stage.table &&
                stage.count <= kMaxTableBytes / static_cast<std::int64_t>(stage.n_slots)) {
                auto table = std::make_shared<std::vector<std::uint8_t>>(
                    static_cast<std::size_t>(stage.count) * n);
                for (std::int64_t r = 0; r < stage.count; ++r) {
                    stage.write_row(r, table->data() + static_cast<std::size_t>(r) * n);
                }
                stage.table = std::move(table);
            }
        }
        stage_counts_.push_back(stage.count);
        stages_.push_back(std::move(stage));
    }

    std::vector<std::uint64_t> uniform_bounds;
    std::vector<std::uint64_t> decision_bounds;
    for (const Stage& stage : stages_) {
        uniform_bounds.push_back(static_cast<std::uint64_t>(stage.count));
        if (stage.is_explicit) {
            decision_bounds.push_back(static_cast<std::uint64_t>(stage.count));
            continue;
        }
        decision_bounds.push_back(stage.n_depths());
        for (const int choices : stage.n_choices) {
            decision_bounds.push_back(static_cast<std::uint64_t>(choices));
        }
    }
    uniform_groups_ = DrawGroup::pack(uniform_bounds);
    decision_groups_ = DrawGroup::pack(decision_bounds);

    for (std::size_t r = 0; r < simd::kTileRows; ++r) {
        for (const Stage& stage : stages_) {
            for (std::size_t s = 0; s < stage.n_slots; ++s) {
                max_code_tile_.push_back(static_cast<std::uint8_t>(stage.n_choices[s]));
                required_tile_.push_back(!stage.is_explicit && s < stage.min_depth ? 1 : 0);
                stage_start_tile_.push_back(stage.is_explicit || s == 0 ? 1 : 0);
            }
        }
    }
}

Space::~Space() = default;
Space::Space(Space&&) noexcept = default;
Space& Space::operator=(Space&&) noexcept = default;

std::vector<StageSpec> Space::stages() const {
    std::vector<StageSpec> specs;
    for (const Stage& stage : stages_) {
        StageSpec spec{stage.n_choices, static_cast<int>(stage.min_depth), std::nullopt};
        if (stage.is_explicit) spec.rows = *stage.table;
        specs.push_back(std::move(spec));
    }
    return specs;
}

std::size_t Space::rows_of(std::size_t size, const char* what) const {
    if (size % n_slots() != 0) {
        throw InvalidInput(std::string(what) + " has " + std::to_string(size) +
                           " codes, not a multiple of the " + std::to_string(n_slots()) +
                           " slots of the space");
    }
    return size / n_slots();
}

// Rows of stages that all have a table of rows of W codes: everything that the inner loop reads is
// in local arrays, and copies have a constant size. The same draws as the general case.
template <std::size_t W>
void Space::sample_from_tables(std::uint64_t key, std::size_t begin, std::size_t end,
                               std::uint8_t* out) const {
    struct Source {
        std::uint64_t bound;
        const std::uint8_t* rows;
    };
    struct Group {
        std::size_t n;
        std::uint64_t threshold;
    };
    std::vector<Source> sources;
    std::vector<Group> groups;
    for (const Stage& stage : stages_) {
        sources.push_back({static_cast<std::uint64_t>(stage.count), stage.table->data()});
    }
    for (const DrawGroup& group : uniform_groups_) {
        groups.push_back({group.bounds.size(), group.threshold});
    }
    const Source* const first_source = sources.data();
    const Group* const first_group = groups.data();
    const Group* const last_group = first_group + groups.size();
    std::uint8_t* row = out + begin * n_slots();
    for (std::size_t r = begin; r < end; ++r) {
        RowStream random(key, r);
        const Source* source = first_source;
        for (const Group* group = first_group; group != last_group; ++group) {
            const std::size_t n = group->n;
            std::uint64_t low = 0;
            do {
                low = random.next();
                for (std::size_t i = 0; i < n; ++i) {
                    const uint128 product = static_cast<uint128>(low) * source[i].bound;
                    low = static_cast<std::uint64_t>(product);
                    const auto index = static_cast<std::size_t>(product >> 64);
                    std::memcpy(row + i * W, source[i].rows + index * W, W);
                }
            } while (low < group->threshold);
            source += n;
            row += n * W;
        }
    }
}

void Space::sample_uniform(std::uint64_t seed, std::span<std::uint8_t> out,
                           const Execution& execution) const {
    const std::size_t n_rows = rows_of(out.size(), "out");
    const std::uint64_t key = stream_key(seed, kUniformStream);
    const std::size_t width = stages_[0].n_slots;
    bool same_width = true;
    for (const Stage& stage : stages_) {
        same_width = same_width && stage.n_slots == width && stage.table != nullptr;
    }
    if (same_width && (width == 1 || width == 4)) {
        return parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
            if (width == 1) {
                sample_from_tables<1>(key, begin, end, out.data());
            } else {
                sample_from_tables<4>(key, begin, end, out.data());
            }
        });
    }
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint64_t> indices(stages_.size());
        std::uint8_t* row = out.data() + begin * n_slots();
        for (std::size_t r = begin; r < end; ++r) {
            RowStream random(key, r);
            std::uint64_t* drawn = indices.data();
            for (const DrawGroup& group : uniform_groups_) {
                group.draw(random, drawn);
                drawn += group.bounds.size();
            }
            for (std::size_t i = 0; i < stages_.size(); ++i) {
                stages_[i].write_row(static_cast<std::int64_t>(indices[i]), row);
                row += stages_[i].n_slots;
            }
        }
    });
}

void Space::sample_decisions(std::uint64_t seed, std::span<std::uint8_t> out,
                             const Execution& execution) const {
    const std::size_t n_rows = rows_of(out.size(), "out");
    const std::uint64_t key = stream_key(seed, kDecisionStream);
    std::size_t n_draws = 0;
    for (const DrawGroup& group : decision_groups_)
        n_draws += group.bounds.size();
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint64_t> draws(n_draws);
        std::uint8_t* row = out.data() + begin * n_slots();
        for (std::size_t r = begin; r < end; ++r) {
            RowStream random(key, r);
            std::uint64_t* drawn = draws.data();
            for (const DrawGroup& group : decision_groups_) {
                group.draw(random, drawn);
                drawn += group.bounds.size();
            }
            const std::uint64_t* next = draws.data();
            for (const Stage& stage : stages_) {
                if (stage.is_explicit) {
                    stage.write_row(static_cast<std::int64_t>(*next++), row);
                } else {
                    const std::size_t depth = stage.min_depth + *next++;
                    for (std::size_t s = 0; s < stage.n_slots; ++s) {
                        row[s] = s < depth ? static_cast<std::uint8_t>(1 + next[s]) : 0;
                    }
                    next += stage.n_slots;
                }
                row += stage.n_slots;
            }
        }
    });
}

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
    const simd::Kernels& kernel = simd::kernels();

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
    const auto redraw_stages = [&](const StageDecision& decision, std::uint64_t chosen,
                                   std::size_t first, std::uint8_t* tile, std::uint64_t* draws) {
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

    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        constexpr std::size_t kRows = simd::kTileRows;
        constexpr std::size_t kBatch = 64;
        static_assert(kRows == 64 && kGrain % kRows == 0);
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
    const simd::Kernels& kernel = simd::kernels();
    const std::uint64_t key = stream_key(seed, kCrossoverStream);
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
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
        const std::size_t depth = depth_of(own, stage.n_slots);
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
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
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
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
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
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
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
    bool bad = simd::kernels().any_invalid(codes, max_code_tile_.data(), required_tile_.data(),
                                           stage_start_tile_.data(), rows * n_slots());
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
    parallel_for(n_rows, 4 * kGrain, execution, [&](std::size_t begin, std::size_t end) {
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
