#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "check.hpp"
#include "pnag/errors.hpp"
#include "pnag/random.hpp"
#include "pnag/window.hpp"
#include "window/tail.hpp"
#include "window/units.hpp"

using namespace pnag;

namespace {

struct Problem {
    Space space;
    std::vector<int> n_codes;
    std::vector<double> entries;
    std::vector<double> constants;
    int context_slot = -1;
    std::size_t max_codes = 0;

    Problem(std::vector<StageSpec> stages, int slot, double step) : space(std::move(stages)) {
        context_slot = slot;
        for (const int n : space.n_choices())
            n_codes.push_back(n + 1);
        max_codes = static_cast<std::size_t>(*std::max_element(n_codes.begin(), n_codes.end()));
        const std::size_t n_contexts =
            slot < 0 ? 1 : static_cast<std::size_t>(n_codes[static_cast<std::size_t>(slot)]) - 1;
        RowStream random(stream_key(4, 4), 0);
        // Multiples of `step`, or any number.
        const auto cost = [&] {
            const double value = std::ldexp(static_cast<double>(random.next() >> 11), -50);
            return step > 0.0 ? step * std::floor(value / 0.05) : value;
        };
        for (std::size_t k = 0; k < n_contexts; ++k) {
            constants.push_back(cost());
            for (std::size_t i = 0; i < n_codes.size() * max_codes; ++i)
                entries.push_back(cost());
        }
    }

    [[nodiscard]] CostSpec spec() const {
        return {1,         constants.size(), n_codes.size(), max_codes, entries,
                constants, {false},          context_slot,   n_codes};
    }

    [[nodiscard]] std::size_t size() const {
        std::size_t n = 1;
        for (const std::int64_t count : space.stage_counts())
            n *= static_cast<std::size_t>(count);
        return n;
    }
};

StageSpec plain(std::vector<int> n_choices, int min_depth) {
    return {std::move(n_choices), min_depth, std::nullopt};
}

std::vector<StageSpec> mixed() {
    StageSpec listed = plain({2, 3}, 0);
    listed.rows = std::vector<std::uint8_t>{1, 0, 2, 1, 2, 3, 1, 1};
    return {plain({3, 2, 2}, 1), listed, plain({4, 4, 4, 4, 4}, 2), plain({3}, 1), plain({4}, 0)};
}

void check_against_enumeration(const Problem& problem) {
    const std::size_t n = problem.size();
    const std::size_t n_slots = problem.space.n_slots();
    std::vector<std::uint8_t> all(n * n_slots);
    problem.space.enumerate(0, all, 2);
    std::vector<double> costs(n);
    CostTables(problem.spec()).lookup(all, costs, 2);
    std::vector<double> sorted = costs;
    std::sort(sorted.begin(), sorted.end());
    const WindowSampler sampler(problem.space, problem.spec());
    for (const auto& [first, last] : std::vector<std::pair<double, double>>{
             {0.0, 1.0}, {0.0, 0.001}, {0.4, 0.401}, {0.3, 0.9}, {0.999, 1.0}, {0.5, 0.5}}) {
        const double low = sorted[static_cast<std::size_t>(first * static_cast<double>(n - 1))];
        const double high = sorted[static_cast<std::size_t>(last * static_cast<double>(n - 1))];
        const auto inside = static_cast<std::size_t>(std::count_if(
            costs.begin(), costs.end(), [&](double c) { return c >= low && c <= high; }));
        const WindowCount count = sampler.count(low, high, 2);
        CHECK(count.lower == inside && count.upper == inside);
        const std::size_t n_rows = 3001;
        std::vector<std::uint8_t> rows(n_rows * n_slots);
        sampler.sample(low, high, 5, rows, 1);
        problem.space.require_valid(rows, "rows", 1);
        std::vector<double> found(n_rows);
        CostTables(problem.spec()).lookup(rows, found, 1);
        CHECK(std::all_of(found.begin(), found.end(),
                          [&](double c) { return c >= low && c <= high; }));
        std::vector<std::uint8_t> again(rows.size());
        sampler.sample(low, high, 5, again, 3);
        CHECK(rows == again);
        // Small windows are hit everywhere.
        if (inside > 100) continue;
        std::map<std::string, std::size_t> seen;
        for (std::size_t r = 0; r < n_rows; ++r)
            ++seen[std::string(rows.begin() + static_cast<std::ptrdiff_t>(r * n_slots),
                               rows.begin() + static_cast<std::ptrdiff_t>((r + 1) * n_slots))];
        if (inside <= 20) CHECK(seen.size() == inside);
    }
}

}  // namespace

TEST(one_two_and_many_units_against_enumeration) {
    check_against_enumeration(Problem({plain({3, 2, 2}, 1), plain({4}, 0)}, -1, 0.0));
    check_against_enumeration(Problem(mixed(), -1, 0.0));
    check_against_enumeration(Problem(mixed(), 10, 0.0));
    check_against_enumeration(Problem(mixed(), 10, 1.0));
    // Units of 8^4 rows and more: binned, and small enough to enumerate.
    check_against_enumeration(
        Problem({plain({30, 30}, 0), plain({25, 8}, 2), plain({3}, 1)}, -1, 0.0));
}

// Rows are drawn 64 side by side and do not depend on how many there are.
TEST(windows_of_rows_about_the_lanes) {
    const Problem problem(mixed(), -1, 0.0);
    const std::size_t width = problem.space.n_slots();
    std::vector<std::uint8_t> some(5000 * width);
    problem.space.sample_uniform(1, some, 1);
    std::vector<double> costs(5000);
    CostTables(problem.spec()).lookup(some, costs, 1);
    std::sort(costs.begin(), costs.end());
    const WindowSampler sampler(problem.space, problem.spec());
    for (const auto& [low, high] : {std::pair{1000, 4000}, {2000, 2010}}) {
        const double least = costs[static_cast<std::size_t>(low)];
        const double most = costs[static_cast<std::size_t>(high)];
        std::vector<std::uint8_t> all(300 * width);
        sampler.sample(least, most, 5, all, 1);
        for (const std::size_t n : {0UL, 1UL, 63UL, 64UL, 65UL, 127UL, 128UL, 129UL}) {
            std::vector<std::uint8_t> rows(n * width);
            sampler.sample(least, most, 5, rows, 1);
            CHECK(std::equal(rows.begin(), rows.end(), all.begin()));
        }
    }
}

TEST(subnormal_costs_are_not_integers) {
    Problem problem(mixed(), -1, 1.0);
    for (double& cost : problem.entries)
        cost *= 0x1p-1070;
    problem.constants[0] *= 0x1p-1070;
    check_against_enumeration(problem);
}

TEST(three_units_are_binned) {
    const Problem problem({plain({100, 99}, 1), plain({100, 99}, 0), plain({90, 99}, 2)}, -1, 0.0);
    const WindowSampler sampler(problem.space, problem.spec());
    const std::size_t n_rows = 5000;
    std::vector<std::uint8_t> rows(n_rows * 6);
    std::vector<double> costs(n_rows);
    problem.space.sample_uniform(1, rows, 1);
    const CostTables tables(problem.spec());
    tables.lookup(rows, costs, 1);
    std::sort(costs.begin(), costs.end());
    for (const double width : {1.0, 0.1, 1e-3, 1e-5, 1e-7}) {
        const double low = costs[2500];
        const double high = low + width * (costs.back() - costs.front());
        const WindowCount count = sampler.count(low, high, 1);
        CHECK(count.lower <= count.upper);
        CHECK(count.upper > 0);
        sampler.sample(low, high, 3, rows, 2);
        problem.space.require_valid(rows, "rows", 1);
        std::vector<double> found(n_rows);
        tables.lookup(rows, found, 1);
        CHECK(std::all_of(found.begin(), found.end(),
                          [&](double c) { return c >= low && c <= high; }));
    }
}

TEST(windows_that_hold_nothing_or_are_none) {
    const Problem problem(mixed(), 10, 1.0);
    const WindowSampler sampler(problem.space, problem.spec());
    std::vector<std::uint8_t> rows(12 * 10);
    const double inf = std::numeric_limits<double>::infinity();
    CHECK_THROWS(sampler.sample(-5.0, -1.0, 0, rows, 1), InvalidInput, "costs reach from");
    CHECK_THROWS(sampler.sample(1e9, 2e9, 0, rows, 1), InvalidInput, "no architecture costs");
    CHECK_THROWS(sampler.sample(900.25, 900.75, 0, rows, 1), InvalidInput, "nearest");
    CHECK_THROWS(sampler.sample(2.0, 1.0, 0, rows, 1), InvalidInput, "must not be above");
    CHECK_THROWS(sampler.sample(-inf, 1.0, 0, rows, 1), InvalidInput, "finite");
    CHECK_THROWS(sampler.sample(0.0, std::nan(""), 0, rows, 1), InvalidInput, "finite");
    CHECK(sampler.count(900.25, 900.75, 1).upper == 0);
    CHECK(sampler.count(-5.0, -1.0, 1).upper == 0);
}

TEST(tables_and_spaces_without_windows_are_refused) {
    const Problem problem(mixed(), -1, 0.0);
    {
        CostSpec spec = problem.spec();
        spec.use_max = {true};
        CHECK_THROWS(WindowSampler(problem.space, spec), InvalidInput, "maximum");
    }
    {
        CostSpec spec = problem.spec();
        spec.n_codes[0] = 3;
        CHECK_THROWS(WindowSampler(problem.space, spec), InvalidInput, "codes for slot 0");
    }
    {
        Problem huge({plain({200, 200, 200, 200}, 0)}, -1, 0.0);
        CHECK_THROWS(WindowSampler(huge.space, huge.spec()), InvalidInput, "split it");
    }
    {
        // The same slots, all required, are as many units as needed.
        const Problem flat({plain({200, 200, 200, 200}, 4), plain({200, 200, 200, 200}, 4)}, -1,
                           0.0);
        const WindowSampler sampler(flat.space, flat.spec());
        std::vector<std::uint8_t> rows(8 * 100);
        sampler.sample(flat.constants[0], 64.0, 1, rows, 1);
        flat.space.require_valid(rows, "rows", 1);
    }
    {
        Problem absent(mixed(), 11, 0.0);
        CHECK_THROWS(WindowSampler(absent.space, absent.spec()), InvalidInput, "may be absent");
    }
}

// A sampler keeps what it planned for its last window: one end in common is not the same window.
TEST(windows_one_after_another_are_those_of_fresh_samplers) {
    const Problem problem(mixed(), -1, 0.0);
    const std::size_t n_slots = problem.space.n_slots();
    std::vector<std::uint8_t> rows(200 * n_slots);
    std::vector<std::uint8_t> expected(rows.size());
    problem.space.sample_uniform(1, rows, 1);
    std::vector<double> costs(200);
    CostTables(problem.spec()).lookup(rows, costs, 1);
    std::sort(costs.begin(), costs.end());
    const WindowSampler sampler(problem.space, problem.spec());
    for (const auto& [low, high] : std::vector<std::pair<double, double>>{{costs[20], costs[100]},
                                                                          {costs[90], costs[100]},
                                                                          {costs[90], costs[180]},
                                                                          {costs[90], costs[180]},
                                                                          {costs[5], costs[180]}}) {
        sampler.sample(low, high, 7, rows, 1);
        WindowSampler(problem.space, problem.spec()).sample(low, high, 7, expected, 1);
        CHECK(rows == expected);
        CostTables(problem.spec()).lookup(rows, costs, 1);
        CHECK(*std::min_element(costs.begin(), costs.end()) >= low);
        CHECK(*std::max_element(costs.begin(), costs.end()) <= high);
    }
}

// One in 10^10 of the range of some 10^19 architectures: rows of two units together, sorted by
// cost, find them. Among those of one unit they are so rare that the search would give up.
TEST(narrow_windows_are_drawn_from_two_units) {
    const Problem problem(std::vector<StageSpec>(5, plain({9, 9, 9, 9}, 2)), -1, 0.0);
    const WindowSampler sampler(problem.space, problem.spec());
    constexpr std::size_t kRows = 300;
    const std::size_t n_slots = problem.space.n_slots();
    std::vector<std::uint8_t> rows(kRows * n_slots);
    // About the middle of all costs.
    std::vector<double> costs(kRows);
    problem.space.sample_uniform(1, rows, 1);
    CostTables(problem.spec()).lookup(rows, costs, 1);
    const auto [least, most] = std::minmax_element(costs.begin(), costs.end());
    const double low = 0.5 * (*least + *most);
    const double high = low + 1e-10 * (*most - *least);
    sampler.sample(low, high, 1, rows, 1);
    CostTables(problem.spec()).lookup(rows, costs, 1);
    CHECK(std::all_of(costs.begin(), costs.end(),
                      [&](double cost) { return cost >= low && cost <= high; }));
}

// Costs are rising multiples of a power of two, so that sums are exact; codes tell the row.
std::shared_ptr<const window::Unit> make_unit(std::size_t n, std::size_t first_slot,
                                              std::uint64_t n_levels, std::uint64_t seed) {
    auto unit = std::make_shared<window::Unit>();
    unit->first_slot = first_slot;
    unit->n_slots = 4;
    RowStream random(stream_key(seed, n), n_levels);
    for (std::size_t i = 0; i < n; ++i)
        unit->costs.push_back(static_cast<double>(random.below(n_levels)) / 1024.0);
    std::sort(unit->costs.begin(), unit->costs.end());
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t digit = 0, rest = i; digit < 4; ++digit, rest /= 100)
            unit->codes.push_back(static_cast<std::uint8_t>(rest % 100));
    }
    return unit;
}

std::size_t row_of(const std::uint8_t* codes) {
    return codes[0] + 100UL * codes[1] + 10000UL * codes[2] + 1000000UL * codes[3];
}

TEST(rows_of_a_tail_are_sorted_and_found) {
    for (const std::size_t n : {1UL, 2UL, 7UL, 64UL, 5000UL}) {
        for (const std::size_t n_partner : {0UL, 1UL, 2UL, 33UL}) {
            for (const std::uint64_t n_levels : {1UL, 4UL, 1000000UL}) {
                const auto unit = make_unit(n, 0, n_levels, 1);
                const auto partner = n_partner == 0 ? nullptr : make_unit(n_partner, 4, 50, 2);
                const window::Tail tail(unit, partner, 2);
                std::vector<double> expected;
                for (std::size_t p = 0; p < std::max<std::size_t>(n_partner, 1); ++p) {
                    for (const double cost : unit->costs)
                        expected.push_back(cost + (partner ? partner->costs[p] : 0.0));
                }
                std::sort(expected.begin(), expected.end());
                CHECK(tail.size() == expected.size());
                std::vector<bool> seen(expected.size(), false);
                bool right = true;
                for (std::size_t i = 0; i < expected.size(); ++i) {
                    std::uint8_t arch[8] = {};
                    tail.write(i, arch);
                    const std::size_t row = row_of(arch);
                    const std::size_t other = row_of(arch + 4);
                    const double cost = unit->costs[row] + (partner ? partner->costs[other] : 0.0);
                    right = right && tail.cost(i) == expected[i] && cost == expected[i] &&
                            !seen[other * n + row];
                    seen[other * n + row] = true;
                }
                CHECK(right);
                for (std::size_t i = 0; i < expected.size(); i += 1 + expected.size() / 50) {
                    for (const double step : {-0x1p-12, 0.0, 0x1p-12}) {
                        const double cost = expected[i] + step;
                        const auto least = std::lower_bound(expected.begin(), expected.end(), cost);
                        const auto most = std::upper_bound(expected.begin(), expected.end(), cost);
                        CHECK(tail.at_least(cost) ==
                              static_cast<std::size_t>(least - expected.begin()));
                        CHECK(tail.beyond(cost) ==
                              static_cast<std::size_t>(most - expected.begin()));
                    }
                }
                CHECK(tail.at_least(-1.0) == 0);
                CHECK(tail.beyond(1e9) == expected.size());
            }
        }
    }
}

// Draws are uniform only if no window holds more rows than this says.
TEST(crowding_bounds_every_window) {
    for (const std::size_t n : {1UL, 2UL, 1024UL, 1025UL, 5000UL}) {
        for (const std::uint64_t n_levels : {1UL, 30UL, 1000000UL}) {
            const auto unit = make_unit(n, 0, n_levels, 3);
            const window::Tail tail(unit, nullptr, 1);
            for (const double width : {0.0, 1.0 / 64.0, 100.0, 1e9}) {
                const window::Crowding crowding(tail, width, 2);
                // Rows in the window that starts at each.
                std::vector<std::size_t> rows(n);
                for (std::size_t i = 0; i < n; ++i)
                    rows[i] = tail.beyond(tail.cost(i) + width) - i;
                const std::size_t block = (n - 1) / 1024 + 1;
                for (std::size_t begin = 0; begin < n; begin += 1 + n / 40) {
                    for (std::size_t end = begin; end <= n; end += 1 + n / 40) {
                        if (begin == end) {
                            CHECK(crowding.most(begin, end) == 0);
                            continue;
                        }
                        // It looks at whole blocks; a window holds no more rows than are asked for.
                        const std::size_t first = begin / block * block;
                        const std::size_t last = std::min(n, (end + block - 1) / block * block);
                        const std::size_t most =
                            *std::max_element(rows.begin() + static_cast<std::ptrdiff_t>(first),
                                              rows.begin() + static_cast<std::ptrdiff_t>(last));
                        CHECK(crowding.most(begin, end) == std::min(end - begin, most));
                    }
                }
            }
        }
    }
}

int main() {
    return pnag::test::run_all();
}
