#include <cstring>
#include <vector>

#include "pnag/parallel.hpp"
#include "space/draws.hpp"
#include "space/stage.hpp"
#include "streams.hpp"

namespace pnag {

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
        return parallel_for(n_rows, kSpaceGrain, execution,
                            [&](std::size_t begin, std::size_t end) {
                                if (width == 1) {
                                    sample_from_tables<1>(key, begin, end, out.data());
                                } else {
                                    sample_from_tables<4>(key, begin, end, out.data());
                                }
                            });
    }
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
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
    parallel_for(n_rows, kSpaceGrain, execution, [&](std::size_t begin, std::size_t end) {
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

}  // namespace pnag
