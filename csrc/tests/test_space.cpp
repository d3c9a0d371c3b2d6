#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <set>
#include <string>

#include "check.hpp"
#include "pnag/errors.hpp"
#include "pnag/space.hpp"

using namespace pnag;

using Codes = std::vector<std::uint8_t>;

namespace {

// 21 x 4 x 5 architectures.
Space small_space() {
    std::vector<StageSpec> stages(3);
    stages[0] = {{3, 2, 2}, 1, std::nullopt};
    stages[1] = {{2, 3, 3}, 0, Codes{1, 1, 0, 1, 2, 0, 2, 2, 3, 1, 0, 0}};
    stages[2] = {{4}, 0, std::nullopt};
    return Space(std::move(stages));
}

// The shape of Once-for-All's MobileNetV3.
Space large_space() {
    std::vector<StageSpec> stages(5, StageSpec{std::vector<int>(4, 9), 2, std::nullopt});
    return Space(std::move(stages));
}

// Stages too large for a table of rows.
Space huge_space() {
    std::vector<StageSpec> stages(
        2, StageSpec{std::vector<int>{254, 254, 254, 254, 254, 254, 254}, 0, std::nullopt});
    return Space(std::move(stages));
}

// As keys of sets: compilers suspect comparisons of vectors of bytes.
std::string text(const std::uint8_t* codes, std::size_t n) {
    return {codes, codes + n};
}

std::size_t distinct_rows(const Codes& rows, std::size_t width) {
    std::set<std::string> seen;
    for (std::size_t i = 0; i < rows.size(); i += width)
        seen.insert(text(rows.data() + i, width));
    return seen.size();
}

}  // namespace

TEST(counts) {
    CHECK(small_space().stage_counts() == (std::vector<std::int64_t>{21, 4, 5}));
    CHECK(large_space().stage_counts() == std::vector<std::int64_t>(5, 7371));
    CHECK(small_space().n_slots() == 7);
}

TEST(enumeration_is_complete_valid_and_ordered) {
    const Space space = small_space();
    Codes rows(21 * 4 * 5 * 7);
    space.enumerate(0, rows, 2);
    CHECK(distinct_rows(rows, 7) == 420);
    CHECK(!space.find_invalid(rows, 1));
    CHECK((Codes(rows.begin(), rows.begin() + 14) ==
           Codes{1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1}));
    std::vector<std::int64_t> indices(420 * 3);
    space.rank(rows, indices, 1);
    for (std::int64_t i = 0; i < 420; ++i) {
        const auto at = static_cast<std::size_t>(3 * i);
        CHECK(indices[at] * 20 + indices[at + 1] * 5 + indices[at + 2] == i);
    }
    Codes again(rows.size());
    space.unrank(indices, again, 2);
    CHECK(again == rows);
    Codes part(7 * 10);
    space.enumerate(400, part, 1);
    CHECK(std::equal(part.begin(), part.end(), rows.begin() + 400 * 7));
    CHECK_THROWS(space.enumerate(411, part, 1), InvalidInput, "beyond the 420");
    CHECK_THROWS(space.enumerate(-1, part, 1), InvalidInput, "first is -1");
}

TEST(samples_are_valid_and_independent_of_threads) {
    for (const Space& space : {small_space(), large_space(), huge_space()}) {
        const std::size_t n = 40000;
        Codes one(n * space.n_slots());
        Codes two(one.size());
        space.sample_uniform(5, one, 1);
        space.sample_uniform(5, two, 3);
        CHECK(one == two);
        CHECK(!space.find_invalid(one, 2));
        space.sample_decisions(5, one, 1);
        space.sample_decisions(5, two, 3);
        CHECK(one == two);
        CHECK(!space.find_invalid(one, 2));
        std::vector<std::int64_t> indices(n * space.n_stages());
        space.rank(one, indices, 2);
        space.unrank(indices, two, 2);
        CHECK(one == two);
    }
}

TEST(uniform_samples_pass_chi_square) {
    const Space space = small_space();
    const std::size_t n = 84000;
    Codes rows(n * 7);
    space.sample_uniform(11, rows, 2);
    std::vector<std::int64_t> indices(n * 3);
    space.rank(rows, indices, 1);
    std::vector<double> counts(420, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
        counts[static_cast<std::size_t>(indices[3 * i] * 20 + indices[3 * i + 1] * 5 +
                                        indices[3 * i + 2])] += 1.0;
    }
    double chi_square = 0.0;
    for (const double count : counts)
        chi_square += (count - 200.0) * (count - 200.0) / 200.0;
    CHECK(chi_square > 320.0 && chi_square < 530.0);  // 419 degrees of freedom, 3.6 sigma
}

TEST(children_are_valid) {
    for (const Space& space : {small_space(), large_space(), huge_space()}) {
        const std::size_t n = 20000;
        Codes a(n * space.n_slots());
        Codes b(a.size());
        Codes child(a.size());
        Codes again(a.size());
        space.sample_decisions(1, a, 1);
        space.sample_decisions(2, b, 1);
        for (const double rate : {0.0, 0.1, 0.5, 1.0}) {
            space.mutate(a, rate, 3, child, 1);
            space.mutate(a, rate, 3, again, 2);
            CHECK(child == again);
            CHECK(!space.find_invalid(child, 1));
            CHECK((child == a) == (rate == 0.0));
        }
        space.crossover(a, b, 3, child, 1);
        space.crossover(a, b, 3, again, 2);
        CHECK(child == again);
        CHECK(!space.find_invalid(child, 1));
        for (std::size_t i = 0; i < child.size(); ++i) {
            CHECK(child[i] == 0 || child[i] == a[i] || child[i] == b[i]);
        }
        space.crossover(a, a, 3, child, 1);
        CHECK(child == a);
    }
    CHECK_THROWS(small_space().mutate({}, 1.5, 0, {}, 1), InvalidInput, "rate is 1.5");
}

// Rows do not depend on how many there are, so batches about the sizes of tiles and of ranges of a
// thread begin as a large one does.
TEST(numbers_of_rows_about_tiles_and_ranges) {
    for (const Space& space : {small_space(), large_space(), huge_space()}) {
        const std::size_t most = 16385;
        const std::size_t width = space.n_slots();
        const auto batch = [&](int way, std::size_t n, int threads) {
            Codes a(n * width), b(n * width), child(n * width);
            if (way == 0) {
                space.sample_uniform(5, child, threads);
                return child;
            }
            space.sample_decisions(5, a, threads);
            space.sample_decisions(6, b, threads);
            if (way == 1) return a;
            if (way == 2) space.mutate(a, 0.2, 7, child, threads);
            if (way == 3) space.crossover(a, b, 7, child, threads);
            return child;
        };
        for (int way = 0; way < 4; ++way) {
            const Codes all = batch(way, most, 1);
            for (const std::size_t n : {0UL, 1UL, 7UL, 8UL, 9UL, 63UL, 64UL, 65UL, 127UL, 128UL,
                                        129UL, 16383UL, 16384UL}) {
                for (const int threads : {1, 2}) {
                    const Codes rows = batch(way, n, threads);
                    CHECK(std::equal(rows.begin(), rows.end(), all.begin()));
                }
            }
        }
    }
}

// Rows of a stage are listed while they take up to 2^18 bytes.
TEST(stages_about_the_size_of_a_table) {
    for (const int n_choices : {15, 16, 17}) {
        const Space space({StageSpec{std::vector<int>(4, n_choices), 4, std::nullopt}});
        Codes rows(4 * 20000);
        space.enumerate(30000, rows, 1);
        bool right = true;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            std::size_t rest = 30000 + i / 4;
            for (std::size_t s = i % 4; s < 3; ++s)
                rest /= static_cast<std::size_t>(n_choices);
            right = right && rows[i] == 1 + rest % static_cast<std::size_t>(n_choices);
        }
        CHECK(right);
        std::vector<std::int64_t> indices(20000);
        space.rank(rows, indices, 1);
        CHECK(indices.front() == 30000 && indices.back() == 49999);
        space.sample_uniform(1, rows, 1);
        CHECK(!space.find_invalid(rows, 1));
    }
}

// Codes of a stage are copied by their number; what lies behind the last row is not written to.
TEST(stages_of_every_width_are_copied_whole) {
    for (std::size_t width = 1; width <= 10; ++width) {
        const Space space(
            {StageSpec{std::vector<int>(width, 2), static_cast<int>(width), std::nullopt}});
        const std::size_t n = std::size_t{1} << width;
        Codes rows(n * width + 8, 0xAB);
        space.enumerate(0, std::span(rows).first(n * width), 1);
        bool right = true;
        for (std::size_t i = 0; i < n * width; ++i)
            right = right && rows[i] == 1 + (i / width >> (width - 1 - i % width) & 1U);
        CHECK(right);
        CHECK((Codes(rows.end() - 8, rows.end()) == Codes(8, 0xAB)));
    }
}

// A search that goes on under a newer version, or is done again, must meet the same rows. The
// widest space takes more than the 64 bits of one random word for a child.
TEST(what_a_seed_gives_stays_the_same) {
    const auto digest = [](const Codes& rows) {
        unsigned long long hash = 0xCBF29CE484222325ULL;  // FNV-1a
        for (const std::uint8_t code : rows)
            hash = (hash ^ code) * 0x100000001B3ULL;
        return hash;
    };
    const Space wide(std::vector<StageSpec>(16, StageSpec{{3, 3, 3, 3, 3}, 2, std::nullopt}));
    const auto digests = [&](const Space& space) {
        const std::size_t size = 100 * space.n_slots();
        Codes a(size), b(size), mutated(size), crossed(size);
        space.sample_decisions(1, a, 1);
        space.sample_decisions(2, b, 1);
        space.mutate(a, 0.3, 3, mutated, 1);
        space.crossover(a, b, 4, crossed, 1);
        return std::array{digest(a), digest(mutated), digest(crossed)};
    };
    CHECK((digests(large_space()) ==
           std::array{0x6F7651031E54CC2BULL, 0x36D0FFE24CE77FD6ULL, 0x84CEDEDE4A5190DBULL}));
    CHECK((digests(wide) ==
           std::array{0x9F5905C83585BEE5ULL, 0xF7527C3AE1B89349ULL, 0x9F543304226B0B55ULL}));
}

TEST(neighbors_differ_by_one_decision) {
    const Space space = small_space();
    const Codes arch = {2, 1, 0, 2, 2, 3, 0};
    const Codes found = space.neighbors(arch);
    // 2 + 1 other choices, 1 drop, 2 additions; 3 other rows; 4 additions.
    CHECK(found.size() == 13 * 7);
    CHECK(distinct_rows(found, 7) == 13);
    CHECK(!space.find_invalid(found, 1));
    CHECK((Codes(found.begin(), found.begin() + 7) == Codes{1, 1, 0, 2, 2, 3, 0}));
}

namespace {

// Everything within `radius` steps of `neighbors`, by breadth first.
std::set<std::string> within(const Space& space, const Codes& arch, int radius) {
    const std::size_t n = arch.size();
    std::set<std::string> found = {text(arch.data(), n)};
    std::set<std::string> edge = found;
    for (int step = 0; step < radius; ++step) {
        std::set<std::string> next;
        for (const std::string& codes : edge) {
            const Codes near = space.neighbors(Codes(codes.begin(), codes.end()));
            for (std::size_t i = 0; i < near.size(); i += n) {
                const std::string row = text(near.data() + i, n);
                if (found.insert(row).second) next.insert(row);
            }
        }
        edge = std::move(next);
    }
    found.erase(text(arch.data(), n));
    return found;
}

Codes neighborhoods(const Space& space, const Codes& archs, std::int64_t radius,
                    std::int64_t samples, bool own, std::uint64_t seed,
                    std::vector<std::int64_t>& offsets, int threads = 1) {
    offsets.assign(archs.size() / space.n_slots() + 1, -1);
    space.neighborhood_offsets(archs, radius, samples, own, offsets, threads);
    Codes out(static_cast<std::size_t>(offsets.back()) * space.n_slots());
    space.neighborhoods(archs, radius, own, seed, offsets, out, threads);
    return out;
}

}  // namespace

TEST(neighborhoods_are_what_so_many_steps_reach) {
    std::vector<StageSpec> odd(3);
    odd[0] = {{2, 1, 3, 2}, 0, std::nullopt};
    odd[1] = {{2, 3}, 2, std::nullopt};
    odd[2] = {{1, 1, 1}, 1, std::nullopt};
    for (const Space& space : {small_space(), Space(std::move(odd))}) {
        const std::size_t n = space.n_slots();
        Codes archs(30 * n);
        space.sample_decisions(3, archs, 1);
        std::vector<std::int64_t> offsets;
        for (int radius = 1; radius <= 9; ++radius) {
            const Codes rows = neighborhoods(space, archs, radius, -1, false, 0, offsets);
            CHECK(!space.find_invalid(rows, 1));
            for (std::size_t r = 0; r < 30; ++r) {
                const Codes arch(archs.begin() + static_cast<std::ptrdiff_t>(r * n),
                                 archs.begin() + static_cast<std::ptrdiff_t>(r * n + n));
                const auto begin = rows.begin() + offsets[r] * static_cast<std::ptrdiff_t>(n);
                const auto end = rows.begin() + offsets[r + 1] * static_cast<std::ptrdiff_t>(n);
                const Codes found(begin, end);
                std::set<std::string> seen;
                for (std::size_t i = 0; i < found.size(); i += n)
                    seen.insert(text(found.data() + i, n));
                CHECK(seen.size() == found.size() / n);
                CHECK(seen == within(space, arch, radius));
                // Nearest first, at distance 1 in the order of neighbors.
                const Codes near = space.neighbors(arch);
                CHECK(std::equal(near.begin(), near.end(), found.begin()));
            }
        }
    }
}

TEST(neighborhoods_are_independent_of_threads_and_of_the_batch) {
    for (const Space& space : {small_space(), large_space(), huge_space()}) {
        const std::size_t n = space.n_slots();
        Codes archs(3000 * n);
        space.sample_uniform(3, archs, 1);
        std::copy(archs.begin(), archs.begin() + static_cast<std::ptrdiff_t>(n),
                  archs.end() - static_cast<std::ptrdiff_t>(n));
        for (const std::int64_t radius : {1, 3}) {
            std::vector<std::int64_t> offsets;
            std::vector<std::int64_t> again;
            const Codes rows = neighborhoods(space, archs, radius, 9, true, 5, offsets);
            CHECK(rows == neighborhoods(space, archs, radius, 9, true, 5, again, 4));
            CHECK(offsets == again && offsets.back() == 30'000);
            CHECK(rows != neighborhoods(space, archs, radius, 9, true, 6, again));
            CHECK(!space.find_invalid(rows, 1));
            CHECK(distinct_rows(
                      Codes(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(10 * n)), n) ==
                  10);
            CHECK(std::equal(archs.begin(), archs.begin() + static_cast<std::ptrdiff_t>(n),
                             rows.begin()));
            CHECK(std::equal(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(10 * n),
                             rows.end() - static_cast<std::ptrdiff_t>(10 * n)));
        }
    }
}

TEST(subsets_of_a_neighborhood_are_equally_likely) {
    const Space space = large_space();
    Codes arch(20, 1);
    std::vector<std::int64_t> offsets;
    const Codes all = neighborhoods(space, arch, 1, -1, false, 0, offsets);
    const auto n_all = static_cast<std::size_t>(offsets[1]);
    CHECK(n_all == 20 * 8 + 5);
    std::map<std::string, int> count;
    for (std::uint64_t seed = 0; seed < 4000; ++seed) {
        const Codes some = neighborhoods(space, arch, 1, 33, false, seed, offsets);
        CHECK(offsets[1] == 33 && distinct_rows(some, 20) == 33);
        for (std::size_t i = 0; i < some.size(); i += 20)
            ++count[text(some.data() + i, 20)];
    }
    CHECK(count.size() == n_all);
    // A fifth of 4000 with a standard deviation of 25.
    for (const auto& [codes, n] : count)
        CHECK(n > 800 - 125 && n < 800 + 125);
}

TEST(large_subsets_of_a_neighborhood) {
    const Space space = large_space();
    const Codes archs(40, 2);
    std::vector<std::int64_t> offsets;
    std::vector<std::int64_t> again;
    const Codes rows = neighborhoods(space, archs, 3, 20'000, false, 1, offsets, 3);
    CHECK(offsets == (std::vector<std::int64_t>{0, 20'000, 40'000}));
    CHECK(distinct_rows(rows, 20) == 20'000);
    CHECK(rows == neighborhoods(space, archs, 3, 20'000, false, 1, again, 1));
    CHECK(neighborhoods(space, archs, 3, 1LL << 40, false, 1, again, 1) ==
          neighborhoods(space, archs, 3, -1, false, 2, offsets, 2));
}

TEST(impossible_neighborhoods_are_refused) {
    const Space space = huge_space();
    Codes archs(14, 1);
    std::vector<std::int64_t> offsets;
    CHECK_THROWS(neighborhoods(space, archs, 0, -1, true, 0, offsets), InvalidInput, "radius is 0");
    CHECK_THROWS(neighborhoods(space, archs, 65, -1, true, 0, offsets), InvalidInput, "1 to 64");
    CHECK_THROWS(neighborhoods(space, archs, 1, 0, true, 0, offsets), InvalidInput, "samples is 0");
    CHECK_THROWS(neighborhoods(space, archs, 9, 4, true, 0, offsets), InvalidInput,
                 "row 0 of archs has more than 2^62");
    archs[3] = 0;
    CHECK_THROWS(neighborhoods(space, archs, 1, 4, true, 0, offsets), InvalidInput,
                 "row 0, slot 4");
    archs[3] = 1;
    Codes out(14 * 10);
    for (std::vector<std::int64_t> wrong :
         {std::vector<std::int64_t>{0, 11}, {1, 10}, {0}, {0, 5, 10}, {}}) {
        CHECK_THROWS(space.neighborhoods(archs, 1, true, 0, wrong, out, 1), InvalidInput,
                     "not those of neighborhood_offsets");
    }
    Codes two(28, 1);
    const std::vector<std::int64_t> falls = {0, 11, 10};
    CHECK_THROWS(space.neighborhoods(two, 1, true, 0, falls, out, 1), InvalidInput,
                 "not those of neighborhood_offsets");
    // No more than the rows themselves is no fault.
    const std::vector<std::int64_t> own = {0, 1, 2};
    Codes themselves(28);
    space.neighborhoods(two, 1, true, 0, own, themselves, 1);
    CHECK(themselves == two);
    const std::vector<std::int64_t> none = {0, 0, 10};
    CHECK_THROWS(space.neighborhoods(two, 1, true, 0, none, out, 1), InvalidInput,
                 "not those of neighborhood_offsets");
}

TEST(one_hot_by_hand) {
    const Space space = small_space();
    const Codes rows = {2, 1, 0, 2, 2, 3, 0, 3, 0, 0, 0, 0, 0, 4, 9, 0, 0, 0, 0, 0, 0};
    std::vector<float> out(3 * 19, 7.0F);
    space.one_hot(rows, out, 1);
    std::set<std::size_t> ones;
    for (std::size_t i = 0; i < out.size(); ++i) {
        CHECK(out[i] == 0.0F || out[i] == 1.0F);
        if (out[i] == 1.0F) ones.insert(i);
    }
    // Slots of 3, 2, 2, 2, 3, 3 and 4 choices; the third row has a code that there is not.
    CHECK((ones == std::set<std::size_t>{1, 3, 8, 10, 14, 19 + 2, 19 + 18}));
    std::vector<float> wrong(3 * 18);
    CHECK_THROWS(space.one_hot(rows, wrong, 1), InvalidInput, "wrong size");
}

TEST(invalid_rows_are_named) {
    const Space space = small_space();
    Codes rows(1000 * 7);
    space.sample_uniform(0, rows, 1);
    const Codes valid = rows;
    const auto fault_of = [&](std::size_t row, std::size_t slot, std::uint8_t value) {
        rows = valid;
        rows[row * 7 + slot] = value;
        const auto fault = space.find_invalid(rows, 2);
        return fault && fault->row == row && fault->slot == slot && fault->value == value;
    };
    CHECK(fault_of(999, 0, 0));  // required
    CHECK(fault_of(500, 6, 5));  // beyond the choices
    CHECK(fault_of(77, 1, 255));
    rows = valid;
    rows[7 * 3 + 1] = 0;
    rows[7 * 3 + 2] = 2;
    CHECK(space.find_invalid(rows, 1)->slot == 2);  // after an absent slot
    CHECK_THROWS(space.require_valid(rows, "archs", 1), InvalidInput, "row 3, slot 2 is 2");
    rows = valid;
    const Codes unlisted = {1, 3, 0};
    std::copy(unlisted.begin(), unlisted.end(), rows.begin() + 7 * 9 + 3);
    CHECK(space.find_invalid(rows, 1)->row == 9);
    CHECK(space.find_invalid(rows, 1)->slot == 4);
    CHECK(!space.find_invalid({}, 1));
}

TEST(impossible_spaces_are_refused) {
    const auto build = [](StageSpec stage) { return Space({std::move(stage)}); };
    CHECK_THROWS(Space({}), InvalidInput, "at least one stage");
    CHECK_THROWS(build({{}, 0, std::nullopt}), InvalidInput, "no slots");
    CHECK_THROWS(build({{0}, 0, std::nullopt}), InvalidInput, "0 choices");
    CHECK_THROWS(build({{255}, 0, std::nullopt}), InvalidInput, "255 choices");
    CHECK_THROWS(build({{2}, 2, std::nullopt}), InvalidInput, "min_depth 2");
    CHECK_THROWS(build({{2}, -1, std::nullopt}), InvalidInput, "min_depth -1");
    CHECK_THROWS(build({std::vector<int>(8, 254), 0, std::nullopt}), InvalidInput, "2^62");
    CHECK_THROWS(build({{2, 2}, 0, Codes{}}), InvalidInput, "at least one row");
    CHECK_THROWS(build({{2, 2}, 0, Codes{1, 3}}), InvalidInput, "codes are 0 to 2");
    CHECK_THROWS(build({{2, 2}, 0, Codes{0, 1}}), InvalidInput, "absent");
    CHECK_THROWS(build({{2, 2}, 0, Codes{1, 1, 2, 1, 1, 1}}), InvalidInput, "rows 0 and 2");
}

TEST(indices_of_33_and_of_63_bits) {
    // 2^112 architectures: every index of 63 bits exists.
    const Space space(std::vector<StageSpec>(8, StageSpec{{128, 128}, 2, std::nullopt}));
    const std::size_t n = 40;
    for (const std::int64_t first :
         {(std::int64_t{1} << 31) - 20, (std::int64_t{1} << 32) - 20,
          std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(n)}) {
        Codes rows(n * space.n_slots());
        space.enumerate(first, rows, 2);
        std::vector<std::int64_t> indices(n * space.n_stages());
        space.rank(rows, indices, 1);
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t index = 0;
            for (std::size_t k = 0; k < space.n_stages(); ++k)
                index = index << 14 | static_cast<std::uint64_t>(indices[i * space.n_stages() + k]);
            CHECK(index == static_cast<std::uint64_t>(first) + i);
        }
    }
}

TEST(a_space_without_a_64_bit_size_can_be_enumerated_from_its_start) {
    const Space space = huge_space();
    Codes rows(14 * 3);
    space.enumerate(0, rows, 1);
    CHECK(rows[0] == 0 && rows[14 + 7] == 1 && rows[28 + 7] == 2);
    CHECK_THROWS(space.enumerate(std::numeric_limits<std::int64_t>::max(), rows, 1), InvalidInput,
                 "2^63 or more");
}

int main() {
    return pnag::test::run_all();
}
