#include "pnag/segments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"

namespace pnag {

namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

template <typename Combine>
double folded(std::span<const double> values, double start, Combine&& combine, std::size_t& n) {
    double result = start;
    n = 0;
    for (const double value : values) {
        if (std::isnan(value)) continue;
        result = combine(result, value);
        ++n;
    }
    return result;
}

double median(std::span<const double> values, std::vector<double>& numbers) {
    numbers.clear();
    for (const double value : values) {
        if (!std::isnan(value)) numbers.push_back(value);
    }
    if (numbers.empty()) return kNothing;
    const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
    std::nth_element(numbers.begin(), middle, numbers.end());
    if (numbers.size() % 2 == 1) return *middle;
    // Halved first: the sum of two large numbers may be none.
    return 0.5 * *std::max_element(numbers.begin(), middle) + 0.5 * *middle;
}

double statistic_of(std::span<const double> values, Statistic statistic,
                    std::vector<double>& numbers) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    std::size_t n = 0;
    double result = 0.0;
    switch (statistic) {
        case Statistic::kMean:
            result = folded(values, 0.0, [](double a, double b) { return a + b; }, n);
            return n == 0 ? kNothing : result / static_cast<double>(n);
        case Statistic::kMedian:
            return median(values, numbers);
        case Statistic::kMinimum:
            result = folded(values, kInfinity, [](double a, double b) { return b < a ? b : a; }, n);
            return n == 0 ? kNothing : result;
        case Statistic::kMaximum:
            result =
                folded(values, -kInfinity, [](double a, double b) { return b > a ? b : a; }, n);
            return n == 0 ? kNothing : result;
    }
    return kNothing;
}

}  // namespace

void reduce_segments(std::span<const double> values, std::span<const std::int64_t> offsets,
                     Statistic statistic, std::span<double> out, const Execution& execution) {
    if (offsets.empty() || offsets.front() != 0 ||
        offsets.back() != static_cast<std::int64_t>(values.size()) ||
        !std::is_sorted(offsets.begin(), offsets.end())) {
        throw InvalidInput(
            "offsets must begin with 0, ascend, and end with the number of values, " +
            std::to_string(values.size()));
    }
    const std::size_t n = offsets.size() - 1;
    if (out.size() != n) throw InvalidInput("out has the wrong size");
    if (n == 0) return;
    // Ranges of about as many values, whatever the length of the segments.
    constexpr std::size_t kValues = 65536;
    const std::size_t grain = std::max<std::size_t>(1, kValues / (values.size() / n + 1));
    parallel_for(n, grain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<double> numbers;
        Pacer pacer(execution);
        for (std::size_t i = begin; i < end; ++i) {
            const auto first = static_cast<std::size_t>(offsets[i]);
            const auto size = static_cast<std::size_t>(offsets[i + 1]) - first;
            out[i] = statistic_of(values.subspan(first, size), statistic, numbers);
            pacer.spend(10 * size);
        }
    });
}

}  // namespace pnag
