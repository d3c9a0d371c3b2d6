// Spaces and batches of architectures: refused or accepted as by definition; what is accepted can
// be ranked, varied and enumerated.
#include <algorithm>

#include "spaces.hpp"

using namespace pnag;
using namespace pnag::fuzz;

namespace {

using Codes = std::vector<std::uint8_t>;

// The same neighbours by their index, in ranges of any length, as one by one.
void check_neighborhoods(const Space& space, const Codes& rows) {
    const std::size_t width = space.n_slots();
    const std::size_t n = rows.size() / width;
    std::vector<std::int64_t> offsets(n + 1);
    for (const std::int64_t samples : {-1, 3}) {
        if (refuses([&] { space.neighborhood_offsets(rows, 1, samples, true, offsets, 1); }))
            return;
        if (offsets[n] > 20'000) continue;
        Codes found(static_cast<std::size_t>(offsets[n]) * width);
        space.neighborhoods(rows, 1, true, n, offsets, found, 1);
        REQUIRE(!space.find_invalid(found, 1));
        for (std::size_t r = 0; r < n; ++r) {
            const auto at = [&](std::int64_t i) {
                return found.begin() + static_cast<std::ptrdiff_t>(width) * i;
            };
            const auto own = rows.begin() + static_cast<std::ptrdiff_t>(width * r);
            REQUIRE(std::equal(at(offsets[r]), at(offsets[r] + 1), own));
            const Codes near = space.neighbors({rows.data() + r * width, width});
            const std::int64_t size = offsets[r + 1] - offsets[r] - 1;
            if (samples < 0) {
                REQUIRE(size * static_cast<std::int64_t>(width) ==
                        static_cast<std::int64_t>(near.size()));
                REQUIRE(std::equal(near.begin(), near.end(), at(offsets[r] + 1)));
            } else {
                REQUIRE(size ==
                        std::min<std::int64_t>(3, static_cast<std::int64_t>(near.size() / width)));
            }
        }
    }
    // Two edits: refused where there are too many, valid otherwise.
    if (n == 0 || refuses([&] { space.neighborhood_offsets(rows, 2, 50, false, offsets, 1); }))
        return;
    Codes found(static_cast<std::size_t>(offsets[n]) * width);
    space.neighborhoods(rows, 2, false, n, offsets, found, 1);
    REQUIRE(!space.find_invalid(found, 1));
}

void check_batch(const Space& space, const std::vector<StageSpec>& stages, const Codes& rows) {
    const std::size_t width = space.n_slots();
    std::size_t bad = 0;
    while (bad * width < rows.size() && is_valid_row(stages, rows.data() + bad * width))
        ++bad;
    const bool valid = bad * width == rows.size();
    const auto fault = space.find_invalid(rows, 1);
    REQUIRE(fault.has_value() == !valid);
    if (fault) {
        REQUIRE(fault->row == bad && fault->slot < width);
        REQUIRE(rows[fault->row * width + fault->slot] == fault->value);
    }
    std::vector<std::int64_t> indices(rows.size() / width * space.n_stages());
    REQUIRE(refuses([&] { space.rank(rows, indices, 1); }) == !valid);
    Codes other(rows.size());
    REQUIRE(refuses([&] { space.mutate(rows, 0.3, rows.size(), other, 1); }) == !valid);
    if (!valid) return;
    REQUIRE(!space.find_invalid(other, 1));
    Codes child(rows.size());
    space.crossover(rows, other, 1, child, 1);
    REQUIRE(!space.find_invalid(child, 1));
    space.unrank(indices, child, 1);
    REQUIRE(child == rows);
    check_neighborhoods(space, rows);
    if (rows.empty()) return;
    const Codes near = space.neighbors({rows.data(), width});
    REQUIRE(near.size() % width == 0 && !space.find_invalid(near, 1));
    for (std::size_t r = 0; r < near.size(); r += width) {
        REQUIRE(!std::equal(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(width),
                            near.begin() + static_cast<std::ptrdiff_t>(r)));
    }
}

void check_enumeration(const Space& space, std::size_t n) {
    Codes rows(n * space.n_slots());
    space.enumerate(0, rows, 1);
    REQUIRE(!space.find_invalid(rows, 1));
    std::vector<std::int64_t> indices(n * space.n_stages());
    space.rank(rows, indices, 1);
    // Ranks that count up are all different.
    for (std::size_t i = 0; i < n; ++i) {
        std::size_t index = 0;
        for (std::size_t k = 0; k < space.n_stages(); ++k) {
            index = index * static_cast<std::size_t>(space.stage_counts()[k]) +
                    static_cast<std::size_t>(indices[i * space.n_stages() + k]);
        }
        REQUIRE(index == i);
    }
    Codes one(space.n_slots());
    REQUIRE(refuses([&] { space.enumerate(static_cast<std::int64_t>(n), one, 1); }));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes in(data, size);
    const std::vector<StageSpec> stages = make_stages(in);
    if (!are_possible(stages)) {
        REQUIRE(refuses([&] { const Space space(stages); }));
        return 0;
    }
    const Space space(stages);
    Codes rows(space.n_slots() * 100);
    space.sample_uniform(in.word(), rows, 1);
    check_batch(space, stages, rows);
    space.sample_decisions(in.word(), rows, 1);
    check_batch(space, stages, rows);
    // Valid rows with some of their codes replaced.
    rows.resize(space.n_slots() * in.below(100));
    while (in.size() > 0 && !rows.empty())
        rows[(in.byte() * std::size_t{256} + in.byte()) % rows.size()] = in.byte() % 6;
    check_batch(space, stages, rows);
    if (const std::size_t n = size_of(space, 2000)) check_enumeration(space, n);
    std::vector<std::int64_t> indices(space.n_stages());
    bool exist = true;
    for (std::size_t k = 0; k < indices.size(); ++k) {
        indices[k] = static_cast<std::int64_t>(in.word());
        exist = exist && indices[k] >= 0 && indices[k] < space.stage_counts()[k];
    }
    Codes one(space.n_slots());
    REQUIRE(refuses([&] { space.unrank(indices, one, 1); }) == !exist);
    return 0;
}
