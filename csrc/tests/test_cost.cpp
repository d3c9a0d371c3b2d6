#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "pnag/cost.hpp"
#include "pnag/errors.hpp"
#include "pnag/random.hpp"

using namespace pnag;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Tables of random numbers and the arrays that a CostSpec only points to.
struct Tables {
    std::vector<int> n_codes;
    std::vector<bool> use_max;
    int context_slot = -1;
    std::size_t n_contexts = 1;
    std::size_t max_codes = 0;
    std::vector<double> entries;
    std::vector<double> constants;

    Tables(std::vector<int> codes, std::vector<bool> reduce_max, int slot)
        : n_codes(std::move(codes)), use_max(std::move(reduce_max)), context_slot(slot) {
        if (slot >= 0)
            n_contexts = static_cast<std::size_t>(n_codes[static_cast<std::size_t>(slot)]) - 1;
        max_codes = static_cast<std::size_t>(*std::max_element(n_codes.begin(), n_codes.end())) + 1;
        RowStream random(stream_key(3, 3), 0);
        const auto number = [&] {
            return std::ldexp(static_cast<double>(random.next() >> 11), -48);
        };
        for (std::size_t t = 0; t < use_max.size(); ++t) {
            for (std::size_t k = 0; k < n_contexts; ++k) {
                constants.push_back(number());
                for (const int n : n_codes) {
                    for (std::size_t c = 0; c < max_codes; ++c) {
                        entries.push_back(c < static_cast<std::size_t>(n) ? number() : kNan);
                    }
                }
            }
        }
    }

    [[nodiscard]] CostSpec spec() const {
        return {use_max.size(), n_contexts, n_codes.size(), max_codes, entries,
                constants,      use_max,    context_slot,   n_codes};
    }

    [[nodiscard]] std::vector<std::uint8_t> rows(std::size_t n) const {
        std::vector<std::uint8_t> codes;
        for (std::size_t r = 0; r < n; ++r) {
            RowStream random(9, r);
            for (std::size_t s = 0; s < n_codes.size(); ++s) {
                const bool picks = static_cast<int>(s) == context_slot;
                const auto n_here = static_cast<std::uint64_t>(n_codes[s]);
                codes.push_back(static_cast<std::uint8_t>(picks ? 1 + random.below(n_here - 1)
                                                                : random.below(n_here)));
            }
        }
        return codes;
    }

    // The documented order of operations, one by one.
    [[nodiscard]] double cost(const std::uint8_t* row, std::size_t table) const {
        const std::size_t n = n_codes.size();
        const std::size_t context =
            context_slot < 0 ? 0 : row[static_cast<std::size_t>(context_slot)] - std::size_t{1};
        const auto entry = [&](std::size_t s) {
            return entries[((table * n_contexts + context) * n + s) * max_codes + row[s]];
        };
        double total = constants[table * n_contexts + context];
        for (std::size_t s = 0; s < n; s += 2) {
            const double first = entry(s);
            if (use_max[table]) {
                total = std::max(total, s + 1 < n ? std::max(first, entry(s + 1)) : first);
            } else {
                total += s + 1 < n ? first + entry(s + 1) : first;
            }
        }
        return total;
    }
};

}  // namespace

TEST(costs_follow_the_documented_order_of_operations) {
    const auto check = [](const std::vector<bool>& use_max, std::size_t n_slots, int context_slot) {
        std::vector<int> n_codes;
        for (std::size_t s = 0; s < n_slots; ++s)
            n_codes.push_back(2 + static_cast<int>(s * 5 % 9));
        const std::size_t n_tables = use_max.size();
        const Tables tables(n_codes, use_max, context_slot);
        const CostTables costs(tables.spec());
        const std::size_t n = 203;
        const auto rows = tables.rows(n);
        std::vector<double> out(n * n_tables);
        costs.lookup(rows, out, 2);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t t = 0; t < n_tables; ++t)
                CHECK(out[r * n_tables + t] == tables.cost(rows.data() + r * n_slots, t));
        }
    };
    // Every number of columns that is reduced in a way of its own, and its neighbours.
    for (const std::size_t n_tables : {1UL, 2UL, 3UL, 4UL, 5UL, 8UL, 9UL, 15UL, 16UL, 17UL, 29UL}) {
        std::vector<bool> some_max;
        for (std::size_t t = 0; t < n_tables; ++t)
            some_max.push_back(t % 3 == 1);
        for (const std::size_t n_slots : {1UL, 2UL, 7UL, 20UL, 33UL}) {
            for (const int context_slot : {-1, 0, static_cast<int>(n_slots) - 1}) {
                check(some_max, n_slots, context_slot);
                check(std::vector<bool>(n_tables, false), n_slots, context_slot);
                check(std::vector<bool>(n_tables, true), n_slots, context_slot);
            }
        }
    }
}

// Rows go through in tiles of 64, and to threads in ranges of 16384.
TEST(numbers_of_rows_about_tiles_and_ranges) {
    for (const std::size_t n_tables : {1UL, 4UL, 16UL}) {
        const Tables tables(std::vector<int>(9, 6), std::vector<bool>(n_tables), -1);
        const CostTables costs(tables.spec());
        for (const std::size_t n :
             {0UL, 1UL, 63UL, 64UL, 65UL, 127UL, 128UL, 129UL, 16383UL, 16384UL, 16385UL}) {
            const auto rows = tables.rows(n);
            for (const int threads : {1, 2}) {
                std::vector<double> out(n * n_tables);
                costs.lookup(rows, out, threads);
                bool same = true;
                for (std::size_t i = 0; i < out.size(); ++i) {
                    same =
                        same && out[i] == tables.cost(rows.data() + i / n_tables * 9, i % n_tables);
                }
                CHECK(same);
            }
        }
    }
}

TEST(wide_spaces) {
    const Tables tables(std::vector<int>(700, 3), {false}, -1);
    const CostTables costs(tables.spec());
    const auto rows = tables.rows(70);
    std::vector<double> out(70);
    costs.lookup(rows, out, 1);
    for (std::size_t r = 0; r < 70; ++r)
        CHECK(out[r] == tables.cost(rows.data() + r * 700, 0));
}

TEST(widest_space) {
    const Tables tables(std::vector<int>(16384, 2), {false}, -1);
    const CostTables costs(tables.spec());
    const auto rows = tables.rows(3);
    std::vector<double> out(3);
    costs.lookup(rows, out, 1);
    CHECK(out[2] == tables.cost(rows.data() + 2 * 16384, 0));
    const Tables wider(std::vector<int>(16385, 2), {false}, -1);
    CHECK_THROWS(CostTables{wider.spec()}, InvalidInput, "at most 16384");
}

TEST(largest_codes) {
    const Tables tables({255, 255, 255}, {false}, -1);
    const CostTables costs(tables.spec());
    const std::vector<std::uint8_t> row = {254, 254, 254};
    std::vector<double> out(1);
    costs.lookup(row, out, 1);
    CHECK(out[0] == tables.cost(row.data(), 0));
}

// One table is looked up by permutations of 16 entries where the machine has them.
TEST(one_table_of_few_codes) {
    for (const int most_codes : {2, 8, 16, 17}) {
        for (const std::size_t n_slots : {1UL, 6UL, 8UL, 9UL, 20UL, 128UL, 129UL}) {
            for (const bool use_max : {false, true}) {
                for (const int context_slot : {-1, static_cast<int>(n_slots) / 2}) {
                    std::vector<int> n_codes(n_slots, most_codes);
                    if (n_slots > 6) n_codes[4] = 2;
                    const Tables tables(n_codes, {use_max}, context_slot);
                    const CostTables costs(tables.spec());
                    auto rows = tables.rows(200);
                    // Whole tiles of one context as well.
                    for (std::size_t r = 0; context_slot >= 0 && r < 128; ++r)
                        rows[r * n_slots + n_slots / 2] =
                            static_cast<std::uint8_t>(n_codes[n_slots / 2] - 1);
                    std::vector<double> out(200);
                    costs.lookup(rows, out, 1);
                    for (std::size_t r = 0; r < 200; ++r)
                        CHECK(out[r] == tables.cost(rows.data() + r * n_slots, 0));
                }
            }
        }
    }
}

TEST(negative_zeros_stay) {
    for (const bool use_max : {false, true}) {
        Tables tables({2, 2, 2}, {use_max}, -1);
        std::fill(tables.entries.begin(), tables.entries.end(), -0.0);
        tables.constants[0] = -0.0;
        std::vector<double> out(100);
        CostTables(tables.spec()).lookup(tables.rows(100), out, 1);
        CHECK(std::all_of(out.begin(), out.end(), [](double cost) { return std::signbit(cost); }));
    }
}

TEST(unknown_codes_are_named) {
    const Tables tables({3, 4, 3}, {false}, 0);
    const CostTables costs(tables.spec());
    auto rows = tables.rows(1000);
    std::vector<double> out(1000);
    rows[3 * 700 + 1] = 4;
    CHECK_THROWS(costs.lookup(rows, out, 2), InvalidInput,
                 "row 700, slot 1 is 4; codes there are 0 to 3");
    rows[3 * 650] = 0;
    CHECK_THROWS(costs.lookup(rows, out, 2), InvalidInput, "row 650, slot 0 is 0; this slot picks");
}

TEST(wrong_tables_are_refused) {
    const Tables good({3, 4, 3}, {false, true}, -1);
    {
        Tables bad = good;
        bad.entries[2] = std::numeric_limits<double>::infinity();
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput,
                     "entry of table 0, context 0, slot 0, code 2 is inf");
    }
    {
        Tables bad = good;
        bad.constants[1] = kNan;
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput, "constant of table 1");
    }
    {
        Tables bad = good;
        bad.use_max.pop_back();
        CostSpec spec = bad.spec();
        spec.n_tables = 2;
        CHECK_THROWS(CostTables{spec}, InvalidInput, "use_max has 1");
    }
    {
        Tables bad = good;
        bad.context_slot = 1;
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput, "must have 3");
        bad.context_slot = 3;
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput, "context_slot is 3");
    }
    {
        Tables bad = good;
        bad.n_codes[1] = 1;
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput, "n_codes of slot 1 is 1");
        bad.n_codes[1] = 6;
        CHECK_THROWS(CostTables(bad.spec()), InvalidInput, "n_codes of slot 1 is 6");
    }
}

TEST(sizes_that_do_not_fit_are_refused) {
    // 2^27 code pairs and more, from a few MiB of entries.
    const Tables wide(std::vector<int>(4200, 255), {false}, -1);
    CHECK_THROWS(CostTables(wide.spec()), InvalidInput, "more than 1 GiB");
    // In 64 bits, four slots of 2^62 + 5 codes have as many entries as four of 5.
    const Tables good({4, 4, 4, 4}, {false}, -1);
    CostSpec spec = good.spec();
    spec.max_codes += std::size_t{1} << 62;
    CHECK_THROWS(CostTables{spec}, InvalidInput, "wrong number of values");
}

namespace {

// Vectors of random numbers and the arrays that a SpreadSpec only points to.
struct Spread {
    std::vector<int> n_codes;
    int context_slot;
    std::size_t rank;
    std::size_t n_contexts = 1;
    std::size_t max_codes = 0;
    double misfit = 0.25;
    std::vector<double> entries;
    std::vector<double> constants;

    Spread(std::vector<int> codes, int slot, std::size_t numbers)
        : n_codes(std::move(codes)), context_slot(slot), rank(numbers) {
        if (slot >= 0)
            n_contexts = static_cast<std::size_t>(n_codes[static_cast<std::size_t>(slot)]) - 1;
        max_codes = static_cast<std::size_t>(*std::max_element(n_codes.begin(), n_codes.end())) + 1;
        RowStream random(stream_key(5, 5), 0);
        const auto number = [&] {
            return std::ldexp(static_cast<double>(random.next() >> 11), -52) - 1.0;
        };
        for (std::size_t i = 0; i < n_contexts * rank; ++i)
            constants.push_back(number());
        for (std::size_t i = 0; i < n_contexts * n_codes.size() * max_codes; ++i) {
            const auto n = static_cast<std::size_t>(n_codes[i / max_codes % n_codes.size()]);
            for (std::size_t t = 0; t < rank; ++t)
                entries.push_back(i % max_codes < n ? number() : kNan);
        }
    }

    [[nodiscard]] SpreadSpec spec() const {
        return {n_contexts, n_codes.size(), max_codes,    rank,   entries,
                constants,  misfit,         context_slot, n_codes};
    }

    // The documented order of operations, one by one.
    [[nodiscard]] double deviation(const std::uint8_t* row, double mean) const {
        const std::size_t context =
            context_slot < 0 ? 0 : row[static_cast<std::size_t>(context_slot)] - std::size_t{1};
        double squares[8] = {};
        for (std::size_t t = 0; t < rank; ++t) {
            double sum = constants[context * rank + t];
            for (std::size_t s = 0; s < n_codes.size(); ++s)
                sum += entries[((context * n_codes.size() + s) * max_codes + row[s]) * rank + t];
            squares[t % 8] += sum * sum;
        }
        const double even = (squares[0] + squares[4]) + (squares[2] + squares[6]);
        const double odd = (squares[1] + squares[5]) + (squares[3] + squares[7]);
        return std::sqrt((even + odd) + misfit * mean * (misfit * mean));
    }
};

}  // namespace

TEST(spreads_follow_the_documented_order_of_operations) {
    for (const std::size_t rank : {0UL, 1UL, 7UL, 8UL, 9UL, 16UL, 31UL, 40UL, 64UL, 70UL}) {
        for (const std::size_t n_slots : {1UL, 2UL, 7UL, 20UL}) {
            std::vector<int> n_codes;
            for (std::size_t s = 0; s < n_slots; ++s)
                n_codes.push_back(2 + static_cast<int>(s * 5 % 9));
            for (const int context_slot : {-1, 0, static_cast<int>(n_slots) - 1}) {
                const Spread numbers(n_codes, context_slot, rank);
                const CostSpread spread(numbers.spec());
                CHECK(spread.n_slots() == n_slots);
                const auto rows = Tables(n_codes, {false}, context_slot).rows(203);
                std::vector<double> mean(203);
                for (std::size_t r = 0; r < 203; ++r)
                    mean[r] = static_cast<double>(r) / 7.0;
                std::vector<double> out(203);
                spread.lookup(rows, mean, out, 2);
                for (std::size_t r = 0; r < 203; ++r)
                    CHECK(out[r] == numbers.deviation(rows.data() + r * n_slots, mean[r]));
            }
        }
    }
}

TEST(spreads_of_many_rows_and_wide_spaces) {
    for (const std::size_t n_slots : {9UL, 300UL}) {
        const Spread numbers(std::vector<int>(n_slots, 6), -1, 12);
        const CostSpread spread(numbers.spec());
        for (const std::size_t n : {0UL, 1UL, 64UL, 65UL, 2047UL, 2048UL, 2049UL, 4100UL}) {
            const auto rows = Tables(numbers.n_codes, {false}, -1).rows(n);
            const std::vector<double> mean(n, 2.0);
            for (const int threads : {1, 3}) {
                std::vector<double> out(n);
                spread.lookup(rows, mean, out, threads);
                bool same = true;
                for (std::size_t r = 0; r < n; ++r)
                    same = same && out[r] == numbers.deviation(rows.data() + r * n_slots, 2.0);
                CHECK(same);
            }
        }
    }
}

TEST(wrong_spreads_are_refused) {
    const Spread good({3, 4, 3}, -1, 5);
    const auto refused = [&](const auto& change, const char* message) {
        Spread bad = good;
        change(bad);
        CHECK_THROWS(CostSpread(bad.spec()), InvalidInput, message);
    };
    refused([](Spread& s) { s.misfit = -0.1; }, "misfit is -0.1");
    refused([](Spread& s) { s.misfit = kNan; }, "misfit is nan");
    refused([](Spread& s) { s.misfit = std::numeric_limits<double>::infinity(); }, "misfit is inf");
    refused([](Spread& s) { s.constants[3] = kNan; }, "context 0, constant 3 is nan");
    // Slot 1, code 2, number 4.
    refused([](Spread& s) { s.entries[(5 + 2) * 5 + 4] = kNan; },
            "context 0, slot 1, code 2, number 4 is nan");
    refused([](Spread& s) { s.constants.pop_back(); }, "wrong number of values");
    refused([](Spread& s) { s.entries.pop_back(); }, "wrong number of values");
    refused([](Spread& s) { s.entries.resize(s.entries.size() - 5); }, "wrong number of values");
    refused([](Spread& s) { s.n_codes[1] = 6; }, "n_codes of slot 1 is 6");
    refused([](Spread& s) { s.context_slot = 1; }, "must have 3");
    refused([](Spread& s) { s.rank = std::size_t{1} << 61; }, "more than 1 GiB");
    refused([](Spread& s) { s.rank = std::size_t{1} << 24; }, "more than 1 GiB");
    refused([](Spread& s) { s.rank = ~std::size_t{0}; }, "more than 1 GiB");
    SpreadSpec wide = good.spec();
    wide.max_codes += std::size_t{1} << 62;
    CHECK_THROWS(CostSpread{wide}, InvalidInput, "wrong number of values");

    const CostSpread spread(good.spec());
    const std::vector<std::uint8_t> rows = {0, 0, 0, 2, 4, 2};
    std::vector<double> out(2);
    CHECK_THROWS(spread.lookup(rows, out, out, 1), InvalidInput, "row 1, slot 1 is 4");
    CHECK_THROWS(spread.lookup(rows, std::vector<double>(3), out, 1), InvalidInput,
                 "mean has 3 values for 2 rows");
    CHECK_THROWS(spread.lookup(rows, out, std::span(out).first(1), 1), InvalidInput,
                 "out has the wrong size");
    CHECK_THROWS(spread.lookup(std::span(rows).first(5), out, out, 1), InvalidInput,
                 "5 codes, not a multiple of the 3");
}

TEST(spreads_without_end) {
    Spread numbers({2, 2}, -1, 2);
    std::fill(numbers.entries.begin(), numbers.entries.end(), 1e200);
    const CostSpread spread(numbers.spec());
    std::vector<double> out(1);
    const std::vector<std::uint8_t> row = {1, 1};
    spread.lookup(row, std::vector<double>{1.0}, out, 1);
    CHECK(out[0] == std::numeric_limits<double>::infinity());
}

int main() {
    return pnag::test::run_all();
}
