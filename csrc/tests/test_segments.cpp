#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "check.hpp"
#include "pnag/errors.hpp"
#include "pnag/random.hpp"
#include "pnag/segments.hpp"

using namespace pnag;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::array kAll = {Statistic::kMean, Statistic::kMedian, Statistic::kMinimum,
                             Statistic::kMaximum};

std::vector<double> reduced(const std::vector<double>& values,
                            const std::vector<std::int64_t>& offsets, Statistic statistic,
                            int threads = 1) {
    std::vector<double> out(offsets.size() - 1, -99.0);
    reduce_segments(values, offsets, statistic, out, threads);
    return out;
}

}  // namespace

TEST(statistics_by_hand) {
    const std::vector<double> values = {3, 1, 8, 5, 2, kNaN, 4, 4, kNaN};
    const std::vector<std::int64_t> offsets = {0, 3, 7, 8};
    CHECK_THROWS(reduced(values, offsets, Statistic::kMean), InvalidInput, "offsets must begin");
    const std::vector<std::int64_t> whole = {0, 3, 7, 8, 9, 9};
    const std::array<std::array<double, 3>, 4> expected = {
        {{4.0, 11.0 / 3, 4.0}, {3.0, 4.0, 4.0}, {1.0, 2.0, 4.0}, {8.0, 5.0, 4.0}}};
    for (std::size_t k = 0; k < 4; ++k) {
        const auto found = reduced(values, whole, kAll[k]);
        CHECK((std::array{found[0], found[1], found[2]} == expected[k]));
        // Nothing but what is no number, and nothing at all.
        CHECK(std::isnan(found[3]) && std::isnan(found[4]));
    }
    CHECK(reduced({1, 2, 10, 4}, {0, 4}, Statistic::kMedian)[0] == 3.0);
    CHECK(reduced({1e308, 1.5e308}, {0, 2}, Statistic::kMedian)[0] == 1.25e308);
    CHECK(reduced({}, {0}, Statistic::kMean).empty());
}

TEST(statistics_do_not_depend_on_threads) {
    std::vector<double> values;
    std::vector<std::int64_t> offsets = {0};
    for (std::uint64_t i = 0; i < 20'000; ++i) {
        RowStream random(stream_key(1, 2), i);
        const std::uint64_t n = random.below(20);
        for (std::uint64_t j = 0; j < n; ++j)
            values.push_back(std::ldexp(static_cast<double>(random.next() >> 11), -53));
        offsets.push_back(static_cast<std::int64_t>(values.size()));
    }
    for (const Statistic statistic : {Statistic::kMean, Statistic::kMedian}) {
        const auto one = reduced(values, offsets, statistic, 1);
        const auto four = reduced(values, offsets, statistic, 4);
        for (std::size_t i = 0; i < one.size(); ++i)
            CHECK(one[i] == four[i] || (std::isnan(one[i]) && std::isnan(four[i])));
    }
}

TEST(wrong_offsets_are_refused) {
    const std::vector<double> values = {1, 2, 3};
    for (const std::vector<std::int64_t>& wrong :
         {std::vector<std::int64_t>{1, 3}, {0, 2}, {0, 2, 1, 3}, {0, 4}, {-1, 3}, {0, -1, 3}}) {
        CHECK_THROWS(reduced(values, wrong, Statistic::kMinimum), InvalidInput,
                     "end with the number of values, 3");
    }
    std::vector<double> out(2);
    const std::vector<std::int64_t> offsets = {0, 3};
    CHECK_THROWS(reduce_segments(values, offsets, Statistic::kMean, out, 1), InvalidInput,
                 "wrong size");
}

int main() {
    return pnag::test::run_all();
}
