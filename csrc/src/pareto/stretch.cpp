#include "stretch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pnag {
namespace {

// Exponent of the stretched whole: far enough from 1024 for sums and for powers of two that the
// objectives round up to.
constexpr int kWhole = 900;

// Smallest double, and a margin for what many operations may lose.
constexpr int kLeast = -1074;
constexpr int kMargin = 100;

// upper - lower = width * 2^exponent, width in [1/2, 1).
double split_width(double lower, double upper, int* exponent) {
    const double width = upper - lower;
    if (std::isfinite(width)) return std::frexp(width, exponent);
    const double half = std::frexp(upper / 2 - lower / 2, exponent);
    ++*exponent;
    return half;
}

double scale_by(double value, std::int64_t exponent) {
    constexpr std::int64_t kFar = 5000;
    return std::ldexp(value, static_cast<int>(std::clamp(exponent, -kFar, kFar)));
}

}  // namespace

Stretch::Stretch(std::span<const double> lowest, std::span<const double> reference)
    : reference_(reference.begin(), reference.end()) {
    const auto m = static_cast<int>(reference.size());
    const int step = kWhole / m;
    double product = 1.0;  // of the widths so far, less a power of 2^step: in [1/2, 1]
    for (std::size_t j = 0; j < reference.size(); ++j) {
        int exponent = 0;
        int carry = 0;
        product = std::frexp(product * split_width(lowest[j], reference[j], &exponent), &carry);
        const int shift = step - exponent - carry;
        const Factors factors{std::ldexp(1.0, shift / 2), std::ldexp(1.0, shift - shift / 2)};
        factors_.push_back(factors);
        reference_[j] = reference_[j] * factors.first * factors.second;
        exponent_ += shift;
    }
    // What is lost is at most the least double, times the widths of the other objectives.
    least_certain_ = scale_by(1.0, kLeast + kMargin + (m - 1) * step);
}

void Stretch::apply(std::span<double> rows) const {
    const std::size_t m = factors_.size();
    for (std::size_t i = 0; i < rows.size(); i += m) {
        for (std::size_t j = 0; j < m; ++j)
            rows[i + j] = rows[i + j] * factors_[j].first * factors_[j].second;
    }
}

double Stretch::restore(double volume) const {
    const double restored = scale_by(volume, -exponent_);
    if (std::isinf(restored) || scale_by(restored, exponent_) == volume) return restored;
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace pnag
