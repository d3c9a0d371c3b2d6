// Prints a digest of what every kernel answers to fixed questions: the same lines on every machine,
// for every instruction set and compiler. `make aarch64` compares two machines.
#include <cmath>
#include <cstdio>

#include "pnag/cost.hpp"
#include "pnag/depthwise.hpp"
#include "pnag/pareto.hpp"
#include "pnag/random.hpp"
#include "pnag/segments.hpp"
#include "pnag/space.hpp"
#include "pnag/window.hpp"

using namespace pnag;

namespace {

// FNV-1a.
template <typename T>
std::uint64_t digest(const std::vector<T>& values) {
    std::uint64_t hash = 0xCBF29CE484222325ULL;
    const auto* const bytes = reinterpret_cast<const unsigned char*>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(T); ++i)
        hash = (hash ^ bytes[i]) * 0x100000001B3ULL;
    return hash;
}

template <typename T>
void print(const char* kernel, std::size_t m, const std::vector<T>& values) {
    std::printf("%-14s %zu %016llx\n", kernel, m, static_cast<unsigned long long>(digest(values)));
}

// In [0, 1) for levels = 0, or that many distinct values; on request of unit length.
std::vector<double> numbers(std::size_t n, std::size_t m, int levels, bool on_sphere) {
    std::vector<double> values(n * m);
    for (std::size_t i = 0; i < n; ++i) {
        RowStream random(stream_key(n, m), i);
        double square = 0.0;
        for (std::size_t j = 0; j < m; ++j) {
            double& value = values[i * m + j];
            value = std::ldexp(static_cast<double>(random.next() >> 11), -53);
            if (levels > 0) value = std::floor(value * levels) / levels;
            square += value * value;
        }
        for (std::size_t j = 0; j < m && on_sphere; ++j)
            values[i * m + j] /= std::sqrt(square);
    }
    return values;
}

void print_pareto() {
    for (std::size_t m = 1; m <= 9; ++m) {
        for (const int levels : {0, 6}) {
            const std::size_t n = 3000;
            const auto values = numbers(n, m, levels, false);
            const Points points{values, n, m};
            std::vector<std::int32_t> ranks(n);
            non_dominated_sort(points, ranks);
            print("sort", m, ranks);
            std::vector<std::uint8_t> mask(n);
            is_non_dominated(points, mask);
            print("mask", m, mask);
            std::vector<double> crowding(n);
            crowding_distance(points, crowding);
            print("crowding", m, crowding);
        }
        const std::size_t n = m < 5 ? 1000 : m < 7 ? 100 : 30;
        const auto values = numbers(n, m, 0, true);
        const Points points{values, n, m};
        const std::vector<double> reference(m, 1.1);
        print("hypervolume", m, std::vector<double>{hypervolume(points, reference)});
        std::vector<double> parts(n);
        hypervolume_contributions(points, reference, parts);
        print("contributions", m, parts);
        const auto merit = numbers(n, 1, 0, false);
        std::vector<std::int64_t> best(n);
        BestWithin(points, merit).find(points, best);
        print("best within", m, best);
    }
}

void print_space() {
    const Space space(std::vector<StageSpec>(5, StageSpec{{9, 9, 9, 9}, 2, std::nullopt}));
    const std::size_t n = 2000;
    std::vector<std::uint8_t> rows(n * space.n_slots());
    std::vector<std::uint8_t> others(rows.size());
    std::vector<std::uint8_t> children(rows.size());
    space.sample_uniform(1, rows, 1);
    print("sample", 0, rows);
    space.sample_decisions(1, others, 1);
    print("sample", 1, others);
    space.crossover(rows, others, 1, children, 1);
    print("crossover", 0, children);
    space.mutate(rows, 0.2, 1, children, 1);
    print("mutate", 0, children);

    std::vector<std::int64_t> offsets(n + 1);
    space.neighborhood_offsets(rows, 2, 5, true, offsets, 1);
    std::vector<std::uint8_t> near(static_cast<std::size_t>(offsets[n]) * space.n_slots());
    space.neighborhoods(rows, 2, true, 1, offsets, near, 1);
    print("neighbors", 2, near);
    std::vector<double> around(n);
    for (const Statistic statistic : {Statistic::kMean, Statistic::kMedian}) {
        reduce_segments(numbers(near.size() / space.n_slots(), 1, 0, false), offsets, statistic,
                        around, 1);
        print("segments", static_cast<std::size_t>(statistic), around);
    }

    for (const std::size_t n_tables : {1U, 2U, 7U}) {
        const auto entries = numbers(n_tables * space.n_slots(), 10, 0, false);
        const std::vector<double> constants(n_tables, 0.25);
        CostSpec spec{n_tables,
                      1,
                      20,
                      10,
                      entries,
                      constants,
                      std::vector<bool>(n_tables),
                      -1,
                      std::vector<int>(20, 10)};
        if (n_tables > 1) spec.use_max[1] = true;
        std::vector<double> costs(n * n_tables);
        CostTables(spec).lookup(rows, costs, 1);
        print("lookup", n_tables, costs);
        const SpreadSpec vectors{
            1, 20, 10, n_tables, entries, constants, 0.125, -1, std::vector<int>(20, 10)};
        const std::vector<double> mean(costs.begin(), costs.begin() + n);
        std::vector<double> deviations(n);
        CostSpread(vectors).lookup(rows, mean, deviations, 1);
        print("spread", n_tables, deviations);
        if (n_tables > 1) continue;
        const WindowSampler sampler(space, spec);
        for (const double width : {1.0, 1e-3}) {
            sampler.sample(costs[0], costs[0] + width, 1, others, 1);
            print("window", 0, others);
            const WindowCount count = sampler.count(costs[0], costs[0] + width, 1);
            print("count", 0, std::vector<uint128>{count.lower, count.upper});
        }
    }
}

void print_depthwise() {
    for (const std::size_t kernel : {3UL, 5UL, 7UL}) {
        const DepthwiseShape shape{2, 9, 11, 37, kernel, 1};
        const auto values = numbers(2, 9 * 11 * 37, 0, false);
        const std::vector<float> images(values.begin(), values.end());
        std::vector<float> sums(shape.channels * kernel * kernel);
        depthwise_weight_gradient(images, images, shape, sums, 1);
        print("depthwise", kernel, sums);
    }
}

}  // namespace

int main() {
    print_pareto();
    print_space();
    print_depthwise();
    return 0;
}
