// Objectives stretched by powers of two, for volumes whose factors do not fit into a double.
//
// A product of widths overflows or underflows on the way, and depends on the order of its factors,
// where the volume itself may be an ordinary number: widths of 1e-200, 1e-200 and 1e300. Stretched,
// every product of the first widths of the whole is near a power of 2^step, in whatever order
// objectives come. Powers of two change no digit.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace pnag {

class Stretch {
  public:
    /// For points between `lowest` and `reference`, finite and below it everywhere.
    Stretch(std::span<const double> lowest, std::span<const double> reference);

    /// Rows of such points, in place. Where one scale is coarser than another values may lose
    /// digits, or become equal; the flag of underflow then stands.
    void apply(std::span<double> rows) const;

    /// The reference as stretched.
    [[nodiscard]] const std::vector<double>& reference() const { return reference_; }

    /// From here on a stretched volume keeps its digits whatever underflowed on the way to it.
    [[nodiscard]] double least_certain() const { return least_certain_; }

    /// The volume as it was. It may overflow; NaN if it is too small for all its digits.
    [[nodiscard]] double restore(double volume) const;

  private:
    struct Factors {  // two, because 2^1074 and 2^900 do not fit into one double
        double first;
        double second;
    };

    std::vector<Factors> factors_;
    std::vector<double> reference_;
    std::int64_t exponent_ = 0;  // of the product of all factors
    double least_certain_ = 0.0;
};

}  // namespace pnag
