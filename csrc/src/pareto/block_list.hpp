// Points in blocks of columns, as the dominance kernels read them.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "../simd/points.hpp"

namespace pnag {

class BlockList {
  public:
    explicit BlockList(std::size_t m) : m_(m) {}

    void reset(std::size_t m) {
        m_ = m;
        n_ = 0;
        values_.clear();
    }

    void add(const double* point) {
        // Free places hold +inf: nothing finite is above them, and they dominate nothing.
        if (n_ % simd::kBlock == 0) {
            values_.resize(values_.size() + simd::kBlock * m_,
                           std::numeric_limits<double>::infinity());
        }
        double* block = values_.data() + (n_ / simd::kBlock) * simd::kBlock * m_;
        for (std::size_t j = 0; j < m_; ++j)
            block[j * simd::kBlock + n_ % simd::kBlock] = point[j];
        ++n_;
    }

    /// Does a member dominate the point? Those before `first` may be left out.
    [[nodiscard]] bool dominates(const simd::PointKernels& kernel, const double* point,
                                 std::size_t first = 0) const {
        const std::size_t skipped = first / simd::kBlock * simd::kBlock;
        const std::size_t n = places() - skipped;
        return kernel.find_dominator(values_.data() + skipped * m_, static_cast<int>(m_), n,
                                     point) < n;
    }

    /// Does a member dominate or equal the point? For points without +inf.
    [[nodiscard]] bool covers(const simd::PointKernels& kernel, const double* point) const {
        return kernel.any_not_above(values_.data(), static_cast<int>(m_), places(), point);
    }

    [[nodiscard]] std::size_t size() const { return n_; }

  private:
    [[nodiscard]] std::size_t places() const {
        return (n_ + simd::kBlock - 1) / simd::kBlock * simd::kBlock;
    }

    std::size_t m_;
    std::size_t n_ = 0;
    std::vector<double> values_;
};

}  // namespace pnag
