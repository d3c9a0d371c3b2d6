#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "check.hpp"
#include "pareto/cells.hpp"
#include "pareto/divide_and_conquer.hpp"
#include "pareto/ordering.hpp"
#include "pareto/sweep.hpp"
#include "pnag/errors.hpp"
#include "pnag/float_flags.hpp"
#include "pnag/pareto.hpp"
#include "pnag/random.hpp"
#include "simd/levels.hpp"
#include "simd/points.hpp"

using namespace pnag;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Batch {
    std::vector<double> values;
    std::size_t n;
    std::size_t m;

    [[nodiscard]] Points view() const { return {values, n, m}; }
    [[nodiscard]] double at(std::size_t i, std::size_t j) const { return values[i * m + j]; }
};

enum class Shape { uniform, coarse, sphere, chain, equal, constant_column, extremes };

Batch make(Shape shape, std::size_t n, std::size_t m, std::uint64_t seed) {
    Batch batch{std::vector<double>(n * m), n, m};
    for (std::size_t i = 0; i < n; ++i) {
        RowStream random(stream_key(seed, 77), i);
        double square = 0.0;
        for (std::size_t j = 0; j < m; ++j) {
            double& value = batch.values[i * m + j];
            value = std::ldexp(static_cast<double>(random.next() >> 11), -53);
            if (shape == Shape::coarse) value = std::floor(value * 4.0);
            if (shape == Shape::chain) value = static_cast<double>(i * 7919 % n);
            if (shape == Shape::equal) value = 2.0;
            if (shape == Shape::constant_column && j == m / 2) value = -1.0;
            if (shape == Shape::extremes) {
                const double choices[] = {-kInf, kInf, 0.0, -0.0, 1e308, -1e308, 5e-324};
                value = choices[random.below(7)];
            }
            square += value * value;
        }
        if (shape == Shape::sphere) {
            for (std::size_t j = 0; j < m; ++j)
                batch.values[i * m + j] /= std::sqrt(square);
        }
    }
    return batch;
}

constexpr Shape kShapes[] = {Shape::uniform, Shape::coarse,   Shape::sphere,         Shape::chain,
                             Shape::equal,   Shape::extremes, Shape::constant_column};

std::vector<std::int32_t> brute_force_ranks(const Batch& batch) {
    std::vector<std::int32_t> ranks(batch.n, 0);
    for (const std::uint32_t i : lexicographic_order(batch.view())) {
        for (std::size_t k = 0; k < batch.n; ++k) {
            bool not_above = true;
            bool below = false;
            for (std::size_t j = 0; j < batch.m; ++j) {
                not_above = not_above && batch.at(k, j) <= batch.at(i, j);
                below = below || batch.at(k, j) < batch.at(i, j);
            }
            if (not_above && below) ranks[i] = std::max(ranks[i], ranks[k] + 1);
        }
    }
    return ranks;
}

std::vector<std::int32_t> ranks_of(const Batch& batch, int threads = 1) {
    std::vector<std::int32_t> ranks(batch.n);
    non_dominated_sort(batch.view(), ranks, threads);
    return ranks;
}

std::vector<double> contributions_of(const Batch& batch, const std::vector<double>& reference) {
    std::vector<double> out(batch.n);
    hypervolume_contributions(batch.view(), reference, out);
    return out;
}

}  // namespace

TEST(keys_order_as_doubles_do) {
    const double rising[] = {-kInf, -1e308, -1.0, -5e-324, 0.0, 5e-324, 1.0, 1e308, kInf};
    for (std::size_t i = 1; i < std::size(rising); ++i) {
        CHECK(order_key(rising[i - 1]) < order_key(rising[i]));
    }
    CHECK(order_key(-0.0) == order_key(0.0));
}

TEST(sorting_by_key_is_stable) {
    // Up to 24 items are sorted by insertion.
    for (const std::size_t n : {2UL, 23UL, 24UL, 25UL, 150UL, 1000UL, 70000UL}) {
        for (const unsigned shift : {0U, 20U, 40U, 60U, 63U}) {
            std::vector<KeyIndex> items(n);
            std::vector<KeyIndex> scratch;
            RowStream random(5, n);
            for (std::size_t i = 0; i < n; ++i) {
                items[i] = {random.next() >> shift, static_cast<std::uint32_t>(i)};
            }
            // Far outliers make the leading bits useless.
            items[0].key = ~std::uint64_t{0};
            sort_by_key(items, scratch);
            bool sorted = true;
            for (std::size_t i = 1; i < n; ++i) {
                sorted = sorted &&
                         (items[i - 1].key < items[i].key || (items[i - 1].key == items[i].key &&
                                                              items[i - 1].index < items[i].index));
            }
            CHECK(sorted);
        }
    }
}

TEST(rows_are_sorted_by_value_then_carried_value_then_row) {
    const auto value = [](int family, std::size_t i, RowStream& random) {
        const double share = std::ldexp(static_cast<double>(random.next() >> 11), -53);
        switch (family) {
            case 0:  // even
                return 3.0 * share - 1.0;
            case 1:  // few values
                return std::floor(10.0 * share);
            case 2:  // all orders of magnitude, either sign
                return std::ldexp(share - 0.5, static_cast<int>(random.below(2000)) - 1000);
            case 3:  // even, with failures
                return i % 5 == 0 ? kInf : share;
            case 4:  // leading bits that tell nothing
                return i == 0 ? 0.0 : 1.0 + 0x1p-52 * std::floor(1000.0 * share);
            case 5:  // both zeros, subnormals and overflow of the range
                return std::array{0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308}[random.below(6)];
            default:
                return 7.0;
        }
    };
    for (int family = 0; family <= 6; ++family) {
        for (const std::size_t n :
             {1UL, 2UL, 23UL, 24UL, 25UL, 1000UL, 16383UL, 16384UL, 150000UL}) {
            Batch batch{std::vector<double>(2 * n), n, 2};
            for (std::size_t i = 0; i < n; ++i) {
                RowStream random(stream_key(n, 5), i);
                batch.values[2 * i] = value(family, i, random);
                batch.values[2 * i + 1] = std::floor(8.0 * value(0, i, random));
            }
            for (const std::size_t carried : {0UL, 1UL}) {
                for (const int threads : {1, 3}) {
                    RowSort sort(column_of(batch.view(), 0), column_of(batch.view(), carried), n,
                                 threads);
                    sort.run();
                    bool right = true;
                    const RowSort::Entry* last = nullptr;
                    for (std::size_t b = 0; b < sort.n_buckets(); ++b) {
                        for (const RowSort::Entry& entry : sort.bucket(b)) {
                            right = right && entry.value == batch.at(entry.row(), carried);
                            if (last != nullptr) {
                                const double x = batch.at(last->row(), 0);
                                const double next_x = batch.at(entry.row(), 0);
                                right = right && (x < next_x ||
                                                  (x == next_x && (last->value < entry.value ||
                                                                   (last->value == entry.value &&
                                                                    last->row() < entry.row()))));
                                if (&entry != sort.bucket(b).data())
                                    right = right && RowSort::tied(*last, entry) == (x == next_x);
                            }
                            last = &entry;
                        }
                    }
                    CHECK(right);
                }
            }
        }
    }
}

TEST(stages_of_a_sweep_match_division) {
    for (const Shape shape : kShapes) {
        const Batch batch = make(shape, 40000, 3, 3);
        std::vector<std::int32_t> divided(batch.n);
        sort_by_dividing(batch.view(), divided, 2);
        for (const int threads : {1, 2, 4}) {
            std::vector<std::int32_t> swept(batch.n);
            if (sort_by_sweeping(batch.view(), swept, threads)) CHECK(swept == divided);
        }
    }
}

TEST(fronts_match_brute_force) {
    for (const Shape shape : kShapes) {
        for (const std::size_t m : {1UL, 2UL, 3UL, 4UL, 5UL, 7UL}) {
            for (const std::size_t n : {1UL, 2UL, 3UL, 17UL, 64UL, 500UL, 1100UL}) {
                const Batch batch = make(shape, n, m, n * 10 + m);
                const auto expected = brute_force_ranks(batch);
                CHECK(ranks_of(batch) == expected);
                CHECK(ranks_of(batch, 3) == expected);
                if (m >= 2) {
                    std::vector<std::int32_t> divided(n);
                    sort_by_dividing(batch.view(), divided, 2);
                    CHECK(divided == expected);
                }
                std::vector<std::uint8_t> mask(n, 7);
                is_non_dominated(batch.view(), mask, 2);
                bool same = true;
                for (std::size_t i = 0; i < n; ++i)
                    same = same && mask[i] == (expected[i] == 0);
                CHECK(same);
            }
        }
    }
}

// Sets of up to 512 and pairs of sets of up to 2^20 pairs are not divided.
TEST(divided_sets_match_brute_force) {
    for (const Shape shape : {Shape::uniform, Shape::coarse}) {
        for (const std::size_t n : {511UL, 512UL, 513UL, 2047UL, 2048UL, 2049UL, 4500UL}) {
            for (const std::size_t m : {4UL, 5UL}) {
                const Batch batch = make(shape, n, m, n + m);
                std::vector<std::int32_t> divided(n);
                sort_by_dividing(batch.view(), divided, 1);
                CHECK(divided == brute_force_ranks(batch));
            }
        }
    }
}

// Sizes straddle the blocks of every instruction set, numbers of queries the batches.
TEST(ranks_below_with_every_instruction_set) {
    constexpr std::size_t kMost = 70;
    RowStream random(6, 0);
    const auto number = [&] { return static_cast<std::int32_t>(random.below(40)); };
    for (int n_columns = 1; n_columns <= 9; ++n_columns) {
        const auto m = static_cast<std::size_t>(n_columns);
        std::vector<std::vector<std::int32_t>> columns(m + 1);
        for (auto& column : columns) {
            for (std::size_t i = 0; i < kMost; ++i)
                column.push_back(number());
        }
        std::vector<const std::int32_t*> pointers;
        for (const auto& column : columns)
            pointers.push_back(column.data());
        const std::int32_t* rank = pointers[m];
        for (std::size_t first = 0; first < 40; ++first) {
            for (std::size_t n_queries = 1; n_queries <= 9; ++n_queries) {
                std::vector<std::size_t> n;
                std::vector<std::int32_t> queries, expected;
                for (std::size_t q = 0; q < n_queries; ++q) {
                    n.push_back(std::min(kMost, q == 0 ? first : n.back() + random.below(12)));
                    for (std::size_t c = 0; c < m; ++c)
                        queries.push_back(20 + number() / 2);
                    expected.push_back(-1);
                    for (std::size_t i = 0; i < n[q]; ++i) {
                        bool below = true;
                        for (std::size_t c = 0; c < m; ++c)
                            below = below && columns[c][i] < queries[q * m + c];
                        if (below) expected[q] = std::max(expected[q], rank[i]);
                    }
                }
                for (const simd::Level level : simd::usable_levels()) {
                    std::vector<std::int32_t> best(n_queries);
                    simd::kernels<simd::PointKernels>(level).max_ranks_below(
                        pointers.data(), n_columns, rank, n_queries, n.data(), queries.data(),
                        best.data());
                    CHECK(best == expected);
                }
            }
        }
    }
}

TEST(crowding_by_hand) {
    const Batch batch{{0, 4, 1, 3, 2, 1, 4, 0}, 4, 2};
    std::vector<double> out(4);
    crowding_distance(batch.view(), out);
    CHECK((out == std::vector<double>{kInf, 1.25, 1.5, kInf}));
    const Batch constant{{5, 0, 5, 1, 5, 2}, 3, 2};
    out.resize(3);
    crowding_distance(constant.view(), out);
    CHECK((out == std::vector<double>{kInf, 1.0, kInf}));
    const Batch infinite{{-kInf, 0, 1, kInf, kInf}, 5, 1};
    out.resize(5);
    crowding_distance(infinite.view(), out);
    CHECK((out == std::vector<double>{kInf, 1.0, 1.0, 1.0, kInf}));
    const Batch wide{{-1e308, 0, 1e308}, 3, 1};
    out.resize(3);
    crowding_distance(wide.view(), out);
    CHECK(out[1] == 1.0);
}

// Sizes straddle those at which sorts of rows, masks and divided sets change their way.
TEST(ways_agree_where_they_change) {
    for (const Shape shape : {Shape::uniform, Shape::coarse, Shape::constant_column}) {
        for (const std::size_t n : {511UL, 512UL, 513UL, 1023UL, 1024UL, 1025UL, 4095UL, 4096UL,
                                    4097UL, 16383UL, 16384UL, 16385UL, 65535UL, 65537UL}) {
            for (const std::size_t m : {2UL, 3UL, 4UL}) {
                if (m == 4 && n > 16385) continue;
                const Batch batch = make(shape, n, m, n + m);
                std::vector<std::int32_t> divided(n);
                sort_by_dividing(batch.view(), divided, 1);
                CHECK(ranks_of(batch) == divided);
                CHECK(ranks_of(batch, 2) == divided);
                std::vector<std::uint8_t> mask(n);
                is_non_dominated(batch.view(), mask);
                bool same = true;
                for (std::size_t i = 0; i < n; ++i)
                    same = same && mask[i] == (divided[i] == 0);
                CHECK(same);

                std::vector<double> expected(n, 0.0);
                std::vector<std::size_t> order(n);
                for (std::size_t j = 0; j < m; ++j) {
                    std::iota(order.begin(), order.end(), std::size_t{0});
                    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
                        return batch.at(a, j) < batch.at(b, j);
                    });
                    const auto value = [&](std::size_t place) { return batch.at(order[place], j); };
                    const double range = value(n - 1) - value(0);
                    if (range == 0.0) continue;
                    for (std::size_t k = 1; k + 1 < n; ++k)
                        expected[order[k]] += (value(k + 1) - value(k - 1)) / range;
                    expected[order[0]] = expected[order[n - 1]] = kInf;
                }
                std::vector<double> distance(n);
                crowding_distance(batch.view(), distance);
                CHECK(distance == expected);
            }
        }
    }
}

TEST(hypervolume_by_hand) {
    CHECK(hypervolume(Batch{{1, 3, 2, 1}, 2, 2}.view(), std::vector<double>{4, 4}) == 7.0);
    CHECK(hypervolume(Batch{{1, 3, 5, 1}, 2, 2}.view(), std::vector<double>{4, 4}) == 3.0);
    CHECK(hypervolume(Batch{{1, kInf}, 1, 2}.view(), std::vector<double>{4, 4}) == 0.0);
    CHECK(hypervolume(Batch{{}, 0, 3}.view(), std::vector<double>{4, 4, 4}) == 0.0);
    for (std::size_t m = 1; m <= 7; ++m) {
        // Boxes that reach 1 in all objectives but one, where they reach 2: 1 + m unit cubes.
        Batch batch{std::vector<double>(m * m, 1.0), m, m};
        for (std::size_t i = 0; i < m; ++i)
            batch.values[i * m + i] = 0.0;
        const std::vector<double> reference(m, 2.0);
        const double expected = m == 1 ? 2.0 : 1.0 + static_cast<double>(m);
        CHECK(std::abs(hypervolume(batch.view(), reference) - expected) < 1e-12);
        for (const double part : contributions_of(batch, reference)) {
            CHECK(std::abs(part - (m == 1 ? 2.0 : 1.0)) < 1e-12);
        }
    }
}

TEST(hypervolume_matches_inclusion_and_exclusion) {
    for (const Shape shape : {Shape::uniform, Shape::coarse, Shape::sphere}) {
        for (std::size_t m = 1; m <= 6; ++m) {
            const Batch batch = make(shape, 10, m, m);
            const std::vector<double> reference(m, 2.5);
            double expected = 0.0;
            for (unsigned subset = 1; subset < 1024; ++subset) {
                double box = -1.0;
                for (unsigned i = 0; i < 10; ++i)
                    box *= (subset >> i & 1U) != 0 ? -1.0 : 1.0;
                for (std::size_t j = 0; j < m; ++j) {
                    double corner = -kInf;
                    for (std::size_t i = 0; i < 10; ++i) {
                        if ((subset >> i & 1U) != 0) corner = std::max(corner, batch.at(i, j));
                    }
                    box *= std::max(0.0, reference[j] - corner);
                }
                expected += box;
            }
            CHECK(std::abs(hypervolume(batch.view(), reference) - expected) < 1e-9 * expected);
        }
    }
}

// Sweeps and cuts have little in common with cells; sizes straddle those at which ways change.
TEST(sweeps_and_cuts_agree_with_cells) {
    for (const Shape shape : {Shape::uniform, Shape::coarse, Shape::sphere, Shape::chain,
                              Shape::equal, Shape::constant_column}) {
        for (const std::size_t m : {2UL, 3UL, 4UL, 5UL}) {
            for (const std::size_t n :
                 {7UL, 8UL, 9UL, 16UL, 17UL, 64UL, 127UL, 128UL, 129UL, 500UL}) {
                const Batch batch = make(shape, n, m, n + m);
                const double most = *std::max_element(batch.values.begin(), batch.values.end());
                const std::vector<double> reference(m, most + 0.1);
                std::vector<std::size_t> rows(n);
                std::iota(rows.begin(), rows.end(), std::size_t{0});
                const double swept = hypervolume(batch.view(), reference);
                const double cut = volume_by_cells(batch.view(), rows, reference, 1);
                CHECK(std::abs(swept - cut) <= 1e-12 * cut);
            }
        }
    }
}

TEST(a_point_that_sees_many_others) {
    // None of the first n covers another in the first three objectives, and the last point lies
    // below them all: more than the vectorised sum takes.
    for (const std::size_t n : {100UL, 130UL, 400UL}) {
        const Batch front = make(Shape::sphere, n, 3, n);
        Batch batch{{0.4, 0.01, 0.02, 0.8, 0.001, 0.001, 0.001, 0.9}, n + 2, 4};
        for (std::size_t i = 0; i < n; ++i) {
            const double point[] = {front.at(i, 0), front.at(i, 1), front.at(i, 2),
                                    0.001 * static_cast<double>(i)};
            batch.values.insert(batch.values.end(), std::begin(point), std::end(point));
        }
        const std::vector<double> reference(4, 1.1);
        std::vector<std::size_t> rows(batch.n);
        std::iota(rows.begin(), rows.end(), std::size_t{0});
        const double swept = hypervolume(batch.view(), reference);
        const double cut = volume_by_cells(batch.view(), rows, reference, 1);
        CHECK(std::abs(swept - cut) <= 1e-12 * cut);
    }
}

TEST(a_cut_that_leaves_as_many_as_a_sweep_takes) {
    // The last point lies below all others in the first four objectives, and none of these covers
    // another in them; or, with whole sixteenths, some do and many start at the same place.
    for (const bool ties : {false, true}) {
        for (const std::size_t n : {1UL, 7UL, 8UL, 9UL, 16UL, 17UL, 24UL, 25UL, 32UL, 33UL, 60UL}) {
            const Batch front = make(Shape::sphere, n, 4, n);
            Batch batch{{0.001, 0.001, 0.001, 0.001, 0.9}, n + 1, 5};
            for (std::size_t i = 0; i < n; ++i) {
                for (std::size_t j = 0; j < 4; ++j) {
                    const double value = front.at(i, j);
                    batch.values.push_back(ties ? std::ceil(16.0 * value) / 16.0 : value);
                }
                batch.values.push_back(0.01 * static_cast<double>(i));
            }
            const std::vector<double> reference(5, 1.1);
            std::vector<std::size_t> rows(batch.n);
            std::iota(rows.begin(), rows.end(), std::size_t{0});
            const double swept = hypervolume(batch.view(), reference);
            const double cut = volume_by_cells(batch.view(), rows, reference, 1);
            CHECK(std::abs(swept - cut) <= 1e-12 * cut);
        }
    }
}

TEST(contributions_are_what_is_lost) {
    for (const Shape shape : {Shape::uniform, Shape::coarse, Shape::sphere, Shape::equal}) {
        for (const std::size_t m : {1UL, 2UL, 3UL, 4UL, 5UL, 6UL, 8UL, 9UL, 10UL}) {
            for (const std::size_t n : {1UL, 2UL, 12UL, 40UL}) {
                if (m > 6 && n > 12) continue;
                const Batch batch = make(shape, n, m, 100 + m);
                const std::vector<double> reference(m, 2.5);
                const double whole = hypervolume(batch.view(), reference);
                const auto parts = contributions_of(batch, reference);
                for (std::size_t i = 0; i < n; ++i) {
                    Batch rest = batch;
                    rest.values.erase(rest.values.begin() + static_cast<std::ptrdiff_t>(i * m),
                                      rest.values.begin() + static_cast<std::ptrdiff_t>(i * m + m));
                    --rest.n;
                    const double lost = whole - hypervolume(rest.view(), reference);
                    CHECK(std::abs(parts[i] - lost) <= 1e-9 * std::max(whole, 1.0));
                }
            }
        }
    }
}

// Objectives times 2^shifts, a row of which is given.
Batch shifted(const Batch& batch, const std::vector<int>& shifts) {
    Batch result = batch;
    for (std::size_t i = 0; i < batch.n; ++i) {
        for (std::size_t j = 0; j < batch.m; ++j)
            result.values[i * batch.m + j] = std::ldexp(batch.at(i, j), shifts[j]);
    }
    return result;
}

// Products of widths overflow or underflow on the way in some orders of the objectives, and in all
// orders in some kernels: not one digit may come of it.
TEST(volumes_do_not_depend_on_units) {
    for (std::size_t m = 1; m <= 11; ++m) {
        for (const std::size_t n : {1UL, 2UL, 9UL, 30UL, 200UL}) {
            if ((n > 30 && m > 4) || (n > 9 && m > 8)) continue;
            for (std::uint64_t seed = 0; seed < 8; ++seed) {
                const Batch batch = make(seed % 2 == 0 ? Shape::sphere : Shape::coarse, n, m, seed);
                RowStream random(stream_key(seed, m), n);
                std::vector<int> shifts(m);
                int sum = 0;
                for (std::size_t j = 0; j + 1 < m; ++j) {
                    shifts[j] = static_cast<int>(random.below(1601)) - 800;
                    // The last one brings the sum back to near 0.
                    if (std::abs(sum + shifts[j]) > 800) shifts[j] = -shifts[j];
                    sum += shifts[j];
                }
                shifts[m - 1] = static_cast<int>(random.below(101)) - 50 - sum;
                sum += shifts[m - 1];
                std::rotate(shifts.begin(), shifts.begin() + static_cast<long>(seed % m),
                            shifts.end());
                const Batch far = shifted(batch, shifts);
                const std::vector<double> reference(m, 3.0);
                std::vector<double> corner(m);
                for (std::size_t j = 0; j < m; ++j)
                    corner[j] = std::ldexp(3.0, shifts[j]);
                const double volume = hypervolume(batch.view(), reference);
                CHECK(hypervolume(far.view(), corner, 2) == std::ldexp(volume, sum));
                auto parts = contributions_of(batch, reference);
                for (double& part : parts)
                    part = std::ldexp(part, sum);
                CHECK(contributions_of(far, corner) == parts);
            }
        }
    }
}

TEST(volumes_do_not_depend_on_the_order_of_objectives) {
    const double widths[] = {1e-200, 1e-200, 1e300, 1e100, 1e-99};
    for (std::size_t m = 3; m <= 5; ++m) {
        std::vector<std::size_t> order(m);
        std::iota(order.begin(), order.end(), std::size_t{0});
        do {
            std::vector<double> reference(m);
            for (std::size_t j = 0; j < m; ++j)
                reference[j] = widths[order[j]];
            const Batch one{std::vector<double>(m, 0.0), 1, m};
            const double expected[] = {1e-100, 1.0, 1e-99};
            const double right = expected[m - 3];
            CHECK(std::abs(hypervolume(one.view(), reference) - right) <= 1e-15 * right);
            CHECK(std::abs(contributions_of(one, reference)[0] - right) <= 1e-15 * right);
            // Three quarters of it, a half by either point, if the first two widths are halved.
            Batch two{std::vector<double>(2 * m, 0.0), 2, m};
            for (std::size_t j = 0; j < m; ++j) {
                if (order[j] < 2) two.values[order[j] * m + j] = reference[j] / 2;
            }
            CHECK(std::abs(hypervolume(two.view(), reference) - 0.75 * right) <= 1e-15 * right);
            for (const double part : contributions_of(two, reference))
                CHECK(std::abs(part - 0.25 * right) <= 1e-15 * right);
        } while (std::next_permutation(order.begin(), order.end()));
    }
}

TEST(a_width_beyond_the_largest_double_is_measured) {
    const Batch wide{{-1.5e308, 0.0, 0.0}, 1, 3};
    const std::vector<double> reference{1.5e308, 1e-300, 2.0};
    CHECK(std::abs(hypervolume(wide.view(), reference) - 6e8) <= 1e-6);
    CHECK(std::abs(contributions_of(wide, reference)[0] - 6e8) <= 1e-6);
}

TEST(small_numbers_keep_their_digits) {
    // Subnormal widths: exact, and so are products with powers of two.
    const double least = std::numeric_limits<double>::denorm_min();
    CHECK(hypervolume(Batch{{0.0}, 1, 1}.view(), std::vector<double>{least}) == least);
    const Batch origin{{0.0, 0.0}, 1, 2};
    const std::vector<double> small{3 * least, 0x1p1000};
    CHECK(hypervolume(origin.view(), small) == std::ldexp(3.0, -74));
    CHECK(contributions_of(origin, small)[0] == std::ldexp(3.0, -74));
    CHECK(hypervolume(origin.view(), std::vector<double>{4 * least, 0.25}) == least);
    CHECK_THROWS(hypervolume(origin.view(), std::vector<double>{least, 0.5}), InvalidInput,
                 "underflows a double");
    CHECK_THROWS(hypervolume(origin.view(), std::vector<double>{3 * least, 0.5}), InvalidInput,
                 "underflows a double");
    CHECK_THROWS(contributions_of(origin, std::vector<double>{1e-200, 1e-200}), InvalidInput,
                 "row 0 underflows a double");
    const std::vector<double> large{1e200, 1e200};
    CHECK_THROWS(hypervolume(origin.view(), large), InvalidInput, "hypervolume overflows");
    CHECK_THROWS(contributions_of(origin, large), InvalidInput, "row 0 overflows a double");
}

TEST(a_contribution_far_below_the_others_is_measured_by_itself) {
    // The middle point alone covers a square of 1e-150, beside boxes of 1e150 and more.
    for (std::size_t m = 2; m <= 10; ++m) {
        Batch batch{{}, 3, m};
        const double rows[3][2] = {{-1e150, 1e-150}, {0.0, 0.0}, {1e-150, -1e150}};
        for (const auto& row : rows) {
            batch.values.insert(batch.values.end(), {row[0], row[1]});
            for (std::size_t j = 2; j < m; ++j)
                batch.values.push_back(j % 2 == 0 ? 0.0 : 1.0 - 0x1p-53);
        }
        std::vector<double> reference{1.0, 1.0};
        for (std::size_t j = 2; j < m; ++j)
            reference.push_back(j % 2 == 0 ? 0x1p53 : 1.0);
        const double rest = m % 2 == 1 ? 0x1p53 : 1.0;
        const double part = contributions_of(batch, reference)[1];
        CHECK(std::abs(part - 1e-300 * rest) <= 1e-15 * 1e-300 * rest);
    }
    // Covered, or there twice, it is 0.
    const Batch covered{{-1e200, 1e-200, 0, 0, 1e-200, -1e200, 0, 0, 1e-201, 1e-201}, 5, 2};
    CHECK(contributions_of(covered, {1e-100, 1e-100})[1] == 0.0);
    CHECK(contributions_of(covered, {1e-100, 1e-100})[4] == 0.0);
    const Batch lone{{-1e200, 1e-200, 0, 0, 1e-200, -1e200}, 3, 2};
    CHECK_THROWS(contributions_of(lone, {1e-100, 1e-100}), InvalidInput,
                 "row 1 underflows a double");
}

TEST(volumes_too_small_beside_their_box_are_refused) {
    Batch spread{{}, 4, 4};
    for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j)
            spread.values.push_back(i == j ? -1e300 : -1e-290);
    }
    CHECK_THROWS(hypervolume(spread.view(), std::vector<double>(4, 0.0)), InvalidInput,
                 "too small beside the box");
    // 1e-300 of the box is not too small.
    const Batch arms{{-1e100, -1e-200, -1e-200, -1e100}, 2, 2};
    const double volume = hypervolume(arms.view(), std::vector<double>(2, 0.0));
    CHECK(std::abs(volume - 2e-100) <= 1e-114);
}

TEST(flags_of_the_caller_stay_as_they_were) {
    const Batch origin{{0.0, 0.0, 0.0}, 1, 3};
    const std::vector<double> corner{1e-200, 1e-200, 1e300};
    for (const unsigned flags : {0U, float_flags::kOverflow, float_flags::kUnderflow}) {
        float_flags::write(flags);
        static_cast<void>(hypervolume(origin.view(), corner));
        static_cast<void>(contributions_of(origin, corner));
        CHECK(float_flags::read() == flags);
    }
    float_flags::write(0);
}

TEST(hostile_input_is_refused) {
    std::vector<std::int32_t> ranks(2);
    std::vector<std::uint8_t> mask(2);
    std::vector<double> out(2);
    const Batch nan{{0, 1, std::nan(""), 2}, 2, 2};
    CHECK_THROWS(non_dominated_sort(nan.view(), ranks, 1), InvalidInput, "row 1, column 0 is NaN");
    CHECK_THROWS(is_non_dominated(nan.view(), mask, 1), InvalidInput, "row 1, column 0 is NaN");
    CHECK_THROWS(crowding_distance(nan.view(), out), InvalidInput, "row 1, column 0 is NaN");
    const Batch empty{{}, 0, 0};
    CHECK_THROWS(non_dominated_sort(empty.view(), {}, 1), InvalidInput, "no columns");
    const Batch good{{0, 1, 1, 0}, 2, 2};
    CHECK_THROWS(non_dominated_sort(good.view(), ranks, 0), InvalidInput, "threads is 0");
    CHECK_THROWS(is_non_dominated(good.view(), mask, 0), InvalidInput, "threads is 0");
    CHECK_THROWS(hypervolume(good.view(), std::vector<double>{1}), InvalidInput, "1 entries");
    CHECK_THROWS(hypervolume(good.view(), std::vector<double>{1, kInf}), InvalidInput, "entry 1");
    const Batch low{{0, -kInf}, 1, 2};
    CHECK_THROWS(hypervolume(low.view(), std::vector<double>{1, 1}), InvalidInput,
                 "row 0, column 1 is -inf");
    const Batch wide{{-1e300, -1e300}, 1, 2};
    CHECK_THROWS(hypervolume(wide.view(), std::vector<double>{0, 0}), InvalidInput, "overflows");
}

TEST(only_nan_is_nan) {
    // The NaN next to infinity, quiet ones, the last one, and all of them with a sign.
    for (const std::uint64_t bits : {0x7FF0000000000001ULL, 0x7FF7FFFFFFFFFFFFULL,
                                     0x7FF8000000000000ULL, 0x7FFFFFFFFFFFFFFFULL}) {
        for (const std::uint64_t sign : {std::uint64_t{0}, std::uint64_t{1} << 63}) {
            for (std::size_t i = 0; i < 33; ++i) {
                Batch batch{std::vector<double>(33, i % 2 == 0 ? kInf : -kInf), 11, 3};
                batch.values[(i + 1) % 33] = -std::numeric_limits<double>::max();
                require_points(batch.view());
                batch.values[i] = std::bit_cast<double>(bits | sign);
                const std::string where =
                    "row " + std::to_string(i / 3) + ", column " + std::to_string(i % 3) + " is";
                CHECK_THROWS(require_points(batch.view()), InvalidInput, where);
            }
        }
    }
}

// Refused before a single value is read, so that nothing of that size must exist.
TEST(sizes_that_do_not_fit_are_refused) {
    const double value = 0.0;
    const std::size_t n = std::size_t{1} << 31;
    const Points many{{&value, n}, n, 1};
    CHECK_THROWS(require_points(many), InvalidInput, "at most 2^31 - 1");
    CHECK_THROWS(non_dominated_sort(many, {}), InvalidInput, "2147483648 rows");
    CHECK_THROWS(is_non_dominated(many, {}), InvalidInput, "2147483648 rows");
    CHECK_THROWS(crowding_distance(many, {}), InvalidInput, "2147483648 rows");
    CHECK_THROWS(hypervolume(many, std::vector<double>{1.0}), InvalidInput, "2147483648 rows");
    // 2^63 * 2 is 0 in 64 bits.
    const Points wrapped{{}, std::size_t{1} << 63, 2};
    CHECK_THROWS(require_points(wrapped), InvalidInput, "has 0 values");
}

namespace {

// By definition: the largest merit that fits, then the lexicographically first costs, then the row.
std::int64_t best_within_by_definition(const Batch& costs, const std::vector<double>& merit,
                                       const double* bounds) {
    std::int64_t best = -1;
    for (std::size_t i = 0; i < costs.n; ++i) {
        const double* row = costs.view().row(i);
        bool fits = true;
        for (std::size_t j = 0; j < costs.m; ++j)
            fits = fits && row[j] <= bounds[j];
        if (!fits) continue;
        if (best >= 0) {
            const auto b = static_cast<std::size_t>(best);
            const double* other = costs.view().row(b);
            if (merit[i] < merit[b]) continue;
            if (merit[i] == merit[b] &&
                !std::lexicographical_compare(row, row + costs.m, other, other + costs.m)) {
                continue;
            }
        }
        best = static_cast<std::int64_t>(i);
    }
    return best;
}

void check_best_within(const Batch& costs, const std::vector<double>& merit, const Batch& bounds) {
    const BestWithin within(costs.view(), merit, 2);
    std::vector<std::int64_t> found(bounds.n);
    within.find(bounds.view(), found, 2);
    bool same = true;
    for (std::size_t i = 0; i < bounds.n; ++i) {
        same = same &&
               found[i] == best_within_by_definition(costs, merit, &bounds.values[i * bounds.m]);
    }
    CHECK(same);
}

}  // namespace

TEST(best_within_by_hand) {
    const Batch costs{{1, 4, 2, 2, 4, 1, 2, 2, 3, 1, kInf, 0}, 6, 2};
    // Rows 1 and 3 are equal, 2 and 4 in merit only.
    const BestWithin within(costs.view(), std::vector<double>{1, 2, 3, 2, 3, 9});
    const std::vector<double> bounds{1, 4, 0.5, 9, 2, 2, 9, 9, kInf, 9, -kInf, kInf};
    std::vector<std::int64_t> found(6);
    within.find({bounds, 6, 2}, found);
    CHECK(found == std::vector<std::int64_t>{0, -1, 1, 4, 5, -1});
    const BestWithin one({costs.values, 12, 1},
                         std::vector<double>{0, 1, 2, 2, 2, 2, 2, 2, 2, 3, 9, -1});
    const std::vector<double> each{-1, 0, 1, 2, 3, 4, kInf};
    found.resize(7);
    one.find({each, 7, 1}, found);
    CHECK(found == std::vector<std::int64_t>{-1, 11, 9, 9, 9, 9, 10});
}

TEST(best_within_matches_the_definition) {
    for (const Shape shape : {Shape::uniform, Shape::coarse, Shape::sphere, Shape::chain,
                              Shape::equal, Shape::constant_column, Shape::extremes}) {
        for (std::size_t m = 1; m <= 9; m += m < 5 ? 1 : 4) {
            // Blocks of 16, and of 16 of these, full and about to be.
            for (const std::size_t n : {0UL, 1UL, 15UL, 16UL, 17UL, 255UL, 256UL, 257UL, 700UL}) {
                const Batch costs = make(shape, n, m, 1);
                // Merits that rise with the costs, that are their own, and that are all one.
                std::vector<double> sums(n);
                for (std::size_t i = 0; i < n; ++i)
                    sums[i] = std::clamp(costs.at(i, 0), -9.0, 9.0) +
                              std::clamp(costs.at(i, m - 1), -9.0, 9.0);
                for (const std::vector<double>& merit :
                     {sums, make(shape, n, 1, 2).values, std::vector<double>(n, -0.0)}) {
                    Batch bounds = make(shape, 90, m, 3);
                    // Some open, some exactly those of a row.
                    for (std::size_t i = 0; i < 30; ++i)
                        bounds.values[i * m + i % m] = kInf;
                    for (std::size_t i = 30; i < 60 && n > 0; ++i)
                        std::copy_n(&costs.values[i % n * m], m, &bounds.values[i * m]);
                    check_best_within(costs, merit, bounds);
                }
            }
        }
    }
    const Batch costs = make(Shape::uniform, 5000, 3, 4);
    check_best_within(costs, make(Shape::uniform, 5000, 1, 5).values,
                      make(Shape::uniform, 1100, 3, 6));
}

TEST(first_within_with_every_instruction_set) {
    const Batch costs = make(Shape::coarse, 16, 3, 1);
    std::vector<double> block(48);
    for (std::size_t i = 0; i < 16; ++i) {
        for (std::size_t j = 0; j < 3; ++j)
            block[j * 16 + i] = costs.at(i, j);
    }
    const double* levels[] = {block.data()};
    const Batch queries = make(Shape::coarse, 50, 3, 2);
    for (const simd::Level level : simd::usable_levels()) {
        const auto& kernel = simd::kernels<simd::PointKernels>(level);
        for (std::size_t q = 0; q < 50; ++q) {
            const double* query = queries.view().row(q);
            std::size_t first = 0;
            while (first < 16 &&
                   !(costs.at(first, 0) <= query[0] && costs.at(first, 1) <= query[1] &&
                     costs.at(first, 2) <= query[2]))
                ++first;
            const std::size_t found = kernel.find_first_within(levels, 1, 3, query);
            CHECK(found == (first < 16 ? first : static_cast<std::size_t>(-1)));
        }
    }
}

TEST(wrong_questions_for_the_best_are_refused) {
    const Batch good{{0, 1, 1, 0}, 2, 2};
    const std::vector<double> merit{1, 2};
    const Batch nan{{0, 1, std::nan(""), 2}, 2, 2};
    const Batch empty{{}, 0, 0};
    std::vector<std::int64_t> found(2);
    const BestWithin within(good.view(), merit);
    CHECK_THROWS(BestWithin(nan.view(), merit), InvalidInput, "costs: row 1, column 0 is NaN");
    CHECK_THROWS(BestWithin(good.view(), std::vector<double>{1, std::nan("")}), InvalidInput,
                 "merit: row 1, column 0 is NaN");
    CHECK_THROWS(BestWithin(good.view(), std::vector<double>{1}), InvalidInput,
                 "merit has 1 values for 2 rows");
    CHECK_THROWS(BestWithin(empty.view(), {}), InvalidInput, "costs has no columns");
    CHECK_THROWS(BestWithin({good.values, std::size_t{1} << 63, 2}, merit), InvalidInput,
                 "costs has 4 values");
    CHECK_THROWS(within.find(nan.view(), found), InvalidInput, "bounds: row 1, column 0 is NaN");
    CHECK_THROWS(within.find({good.values, 4, 1}, found), InvalidInput, "bounds has 1 columns");
    CHECK_THROWS(within.find(good.view(), {}), InvalidInput, "out has the wrong size");
    CHECK_THROWS(within.find(good.view(), found, 0), InvalidInput, "threads is 0");
    within.find({{}, 0, 2}, {});
}

TEST(threads_change_no_bit) {
    for (const std::size_t m : {2UL, 4UL, 5UL}) {
        const std::size_t n = m == 2 ? 200000 : 300;
        const Batch batch = make(Shape::uniform, n, m, 7);
        const Points points = batch.view();
        const std::vector<double> reference(m, 1.1);
        std::vector<double> one(n);
        std::vector<double> four(n);
        hypervolume_contributions(points, reference, one, 1);
        hypervolume_contributions(points, reference, four, 4);
        CHECK(one == four);
        CHECK(hypervolume(points, reference, 1) == hypervolume(points, reference, 4));
        std::vector<std::int32_t> ranks(n);
        std::vector<std::int32_t> again(n);
        non_dominated_sort(points, ranks, 1);
        non_dominated_sort(points, again, 4);
        CHECK(ranks == again);
        crowding_distance(points, one, 1);
        crowding_distance(points, four, 4);
        CHECK(one == four);
    }
}

int main() {
    return pnag::test::run_all();
}
