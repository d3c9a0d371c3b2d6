#include <array>
#include <set>

#include "check.hpp"
#include "pnag/random.hpp"

using namespace pnag;

TEST(known_values_of_splitmix64) {
    // First outputs of SplitMix64 from state 0, as in the reference implementation.
    RowStream stream(0, 0);
    CHECK(stream.next() == 0xE220A8397B1DCDAFULL);
    CHECK(stream.next() == 0x6E789E6AA1B965F4ULL);
    CHECK(stream.next() == 0x06C45D188009454FULL);
}

TEST(rows_have_numbers_of_their_own) {
    std::set<std::uint64_t> seen;
    for (std::uint64_t row = 0; row < 200; ++row) {
        RowStream stream(stream_key(7, 1), row);
        for (int i = 0; i < 50; ++i)
            seen.insert(stream.next());
    }
    CHECK(seen.size() == 200 * 50);
    CHECK(stream_key(7, 1) != stream_key(7, 2));
    CHECK(stream_key(7, 1) != stream_key(8, 1));
}

TEST(bounded_draws_are_uniform) {
    for (const std::uint64_t bound : {1ULL, 2ULL, 3ULL, 10ULL, 100ULL}) {
        std::array<int, 100> counts{};
        const int n = 100000;
        for (std::uint64_t row = 0; row < static_cast<std::uint64_t>(n); ++row) {
            RowStream stream(stream_key(1, bound), row);
            ++counts[stream.below(bound)];
        }
        const double expected = static_cast<double>(n) / static_cast<double>(bound);
        double chi_square = 0.0;
        for (std::uint64_t i = 0; i < 100; ++i) {
            if (i >= bound) {
                CHECK(counts[i] == 0);
                continue;
            }
            const double gap = counts[i] - expected;
            chi_square += gap * gap / expected;
        }
        // Mean bound - 1; 99 degrees of freedom exceed 160 once in 10^4.
        CHECK(chi_square < 1.6 * static_cast<double>(bound) + 15.0);
    }
}

TEST(a_bound_that_rejects_half_of_all_words) {
    // 2^63 + 1: nearly every second word is drawn again; values stay in range.
    const std::uint64_t bound = (1ULL << 63) + 1;
    int high = 0;
    for (std::uint64_t row = 0; row < 1000; ++row) {
        RowStream stream(3, row);
        const std::uint64_t value = stream.below(bound);
        CHECK(value < bound);
        high += value >= bound / 2 ? 1 : 0;
    }
    CHECK(high > 400 && high < 600);
}

int main() {
    return pnag::test::run_all();
}
