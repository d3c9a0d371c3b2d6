#include <algorithm>
#include <limits>
#include <vector>

#include "check.hpp"
#include "pnag/cost.hpp"
#include "pnag/errors.hpp"
#include "pnag/random.hpp"
#include "pnag/walk.hpp"

using namespace pnag;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Two plain stages, one that lists its rows, and a slot that picks the costs.
Space make_space() {
    std::vector<StageSpec> stages(4);
    stages[0] = {{3, 3, 3}, 1, std::nullopt};
    stages[1] = {{4, 1, 2}, 0, std::nullopt};
    stages[2] = {{2, 2}, 0, std::vector<std::uint8_t>{1, 0, 1, 1, 2, 2}};
    stages[3] = {{2}, 1, std::nullopt};
    return Space(std::move(stages));
}

struct Problem {
    Space space = make_space();
    std::vector<double> entries, constants;
    std::vector<float> curvature, linear;
    CostSpec spec;

    Problem() {
        RowStream random(stream_key(1, 1), 0);
        const auto number = [&] { return static_cast<double>(random.next() >> 40) * 0x1p-24; };
        for (const int n : space.n_choices())
            spec.n_codes.push_back(n + 1);
        const std::size_t n_slots = spec.n_codes.size();
        for (std::size_t i = 0; i < 2 * 2 * n_slots * 5; ++i)
            entries.push_back(number());
        constants.assign(4, 0.5);
        spec.n_tables = 2;
        spec.n_contexts = 2;
        spec.n_slots = n_slots;
        spec.max_codes = 5;
        spec.entries = entries;
        spec.constants = constants;
        spec.use_max = {false, true};
        spec.context_slot = static_cast<int>(n_slots) - 1;
        std::size_t n = 0;
        for (const int choices : space.n_choices())
            n += static_cast<std::size_t>(choices);
        curvature.assign(n * n, 0.0F);
        for (std::size_t i = 0; i < n; ++i) {
            linear.push_back(static_cast<float>(number()));
            for (std::size_t j = 0; j <= i; ++j) {
                curvature[i * n + j] = curvature[j * n + i] = static_cast<float>(number() - 0.5);
            }
        }
    }
};

std::vector<std::uint8_t> walk(const Problem& problem, const std::vector<std::uint8_t>& starts,
                               const std::vector<double>& limits, float threshold, float noise,
                               std::size_t n_moves, int threads) {
    const Walker walker(problem.space, problem.spec);
    const std::size_t n = starts.size() / walker.n_slots();
    const std::vector<float> thresholds(n, threshold), deviations(n, noise);
    std::vector<std::uint8_t> out(starts.size());
    walker.walk({problem.curvature, problem.linear},
                {starts, limits, thresholds, deviations, n_moves, 7}, out, threads);
    return out;
}

}  // namespace

TEST(walks_end_in_architectures_within_their_limits) {
    const Problem problem;
    const CostTables tables(problem.spec);
    const std::size_t n = 200;
    const std::size_t n_slots = problem.space.n_slots();
    std::vector<std::uint8_t> starts(n * n_slots);
    problem.space.sample_uniform(3, starts, 1);
    std::vector<double> limits(2 * n);
    tables.lookup(starts, limits, 1);
    for (double& limit : limits)
        limit += 0.05;
    const auto ends = walk(problem, starts, limits, 0.1F, 0.1F, 300, 1);
    problem.space.require_valid(ends, "ends", 1);
    std::vector<double> costs(2 * n);
    tables.lookup(ends, costs, 1);
    std::size_t moved = 0;
    for (std::size_t i = 0; i < 2 * n; ++i)
        CHECK(costs[i] <= limits[i] + 1e-12);
    for (std::size_t i = 0; i < n; ++i) {
        CHECK(ends[(i + 1) * n_slots - 1] == starts[(i + 1) * n_slots - 1]);
        moved += !std::equal(ends.begin() + static_cast<std::ptrdiff_t>(i * n_slots),
                             ends.begin() + static_cast<std::ptrdiff_t>((i + 1) * n_slots),
                             starts.begin() + static_cast<std::ptrdiff_t>(i * n_slots));
    }
    CHECK(moved > n / 2);
    CHECK(walk(problem, starts, limits, 0.1F, 0.1F, 300, 4) == ends);
    CHECK(walk(problem, starts, limits, 0.1F, 0.1F, 0, 1) == starts);
}

TEST(what_exceeds_its_limits_comes_to_exceed_them_less) {
    const Problem problem;
    const CostTables tables(problem.spec);
    const std::size_t n = 200;
    std::vector<std::uint8_t> starts(n * problem.space.n_slots());
    problem.space.sample_uniform(4, starts, 1);
    std::vector<double> before(2 * n), after(2 * n), limits(2 * n);
    tables.lookup(starts, before, 1);
    // Half of the cost, and of the largest entry: mostly out of reach.
    for (std::size_t i = 0; i < 2 * n; ++i)
        limits[i] = before[i] / 2;
    tables.lookup(walk(problem, starts, limits, 0.0F, 0.0F, 300, 1), after, 1);
    std::size_t less = 0;
    for (std::size_t i = 0; i < n; ++i) {
        CHECK(after[2 * i] <= before[2 * i] || after[2 * i + 1] < before[2 * i + 1]);
        less += after[2 * i] < before[2 * i];
    }
    CHECK(less > n * 9 / 10);
}

TEST(without_limits_the_estimate_alone_decides) {
    const Problem problem;
    const std::size_t n_slots = problem.space.n_slots();
    std::vector<std::uint8_t> starts(n_slots * 20);
    problem.space.sample_uniform(5, starts, 1);
    const std::vector<double> limits(40, kInf);
    const auto value = [&](const std::uint8_t* row) {
        std::vector<std::size_t> on;
        std::size_t first = 0;
        for (std::size_t s = 0; s < n_slots; ++s) {
            if (row[s] != 0) on.push_back(first + row[s] - 1);
            first += static_cast<std::size_t>(problem.space.n_choices()[s]);
        }
        double sum = 0.0;
        for (const std::size_t i : on) {
            sum += static_cast<double>(problem.linear[i]);
            for (const std::size_t j : on) {
                sum += static_cast<double>(problem.curvature[i * first + j]) / 2;
            }
        }
        return sum;
    };
    const auto ends = walk(problem, starts, limits, 0.0F, 0.0F, 4000, 1);
    for (std::size_t i = 0; i < 20; ++i) {
        const std::vector<std::uint8_t> end(
            ends.begin() + static_cast<std::ptrdiff_t>(i * n_slots),
            ends.begin() + static_cast<std::ptrdiff_t>((i + 1) * n_slots));
        // After so many changes none of a single decision is left that would be better, but of
        // the slot that picks the costs, which stays.
        const auto around = problem.space.neighbors(end);
        for (std::size_t j = 0; j < around.size(); j += n_slots) {
            if (around[j + n_slots - 1] != end.back()) continue;
            CHECK(value(around.data() + j) <= value(end.data()) + 1e-5);
        }
    }
}

TEST(what_does_not_fit_together_is_refused) {
    Problem problem;
    const std::vector<double> limits(2, kInf);
    std::vector<std::uint8_t> start{1, 0, 0, 0, 0, 0, 1, 0, 0};
    CHECK_THROWS(walk(problem, start, limits, 0, 0, 1, 1), InvalidInput, "slot 8 is 0");
    start = {9, 0, 0, 0, 0, 0, 1, 0, 1};
    CHECK_THROWS(walk(problem, start, limits, 0, 0, 1, 1), InvalidInput, "slot 0 is 9");
    problem.linear.pop_back();
    CHECK_THROWS(walk(problem, start, limits, 0, 0, 1, 1), InvalidInput, "linear has 21 values");
    problem.spec.n_codes[0] = 3;
    CHECK_THROWS(Walker(problem.space, problem.spec), InvalidInput, "n_codes of slot 0");
}

int main() {
    return pnag::test::run_all();
}
