#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "../simd/levels.hpp"
#include "../simd/points.hpp"
#include "numbers.hpp"
#include "ordering.hpp"
#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/pareto.hpp"

namespace pnag {
namespace {

constexpr std::size_t kGrain = 512;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Throws InvalidInput unless `points` is a matrix of numbers.
void require_matrix(const Points& points, const char* name, const char* remedy,
                    const Execution& execution) {
    if (points.m == 0)
        throw InvalidInput(std::string(name) + " has no columns; at least one cost is needed");
    if (points.values.size() / points.m != points.n || points.values.size() % points.m != 0) {
        throw InvalidInput(std::string(name) + " has " + std::to_string(points.values.size()) +
                           " values, not " + std::to_string(points.n) + " rows of " +
                           std::to_string(points.m));
    }
    require_numbers(points.values, points.m, name, remedy, execution);
}

std::vector<double> empty_blocks(std::size_t n, std::size_t m) {
    return std::vector<double>((n + simd::kBlock - 1) / simd::kBlock * simd::kBlock * m, kInfinity);
}

}  // namespace

BestWithin::BestWithin(const Points& costs, std::span<const double> merit,
                       const Execution& execution)
    : m_(costs.m) {
    require_matrix(costs, "costs", "leave the row out, or give it inf", execution);
    require_numbers(merit, 1, "merit", "leave the row out", execution);
    const std::size_t n = costs.n;
    if (merit.size() != n) {
        throw InvalidInput("merit has " + std::to_string(merit.size()) + " values for " +
                           std::to_string(n) + " rows of costs");
    }
    std::vector<double> keys(n * (m_ + 1));
    for (std::size_t i = 0; i < n; ++i) {
        keys[i * (m_ + 1)] = -merit[i];
        std::copy_n(costs.row(i), m_, &keys[i * (m_ + 1) + 1]);
    }
    // Refuses more rows than 32 bits number.
    const Points sorted{keys, n, m_ + 1};
    require_points(sorted, execution);
    order_ = lexicographic_order(sorted, execution);
    if (m_ == 1) {
        // What is neither better nor cheaper than a row before it is never an answer.
        std::erase_if(order_, [&](std::uint32_t i) {
            const double cost = costs.values[i];
            const bool step = stairs_.empty() || cost < stairs_.back();
            if (step) stairs_.push_back(cost);
            return !step;
        });
        return;
    }
    levels_.push_back(empty_blocks(n, m_));
    for (std::size_t i = 0; i < n; ++i) {
        double* block = levels_[0].data() + i / simd::kBlock * simd::kBlock * m_;
        for (std::size_t j = 0; j < m_; ++j)
            block[j * simd::kBlock + i % simd::kBlock] = costs.row(order_[i])[j];
    }
    while (levels_.back().size() > simd::kBlock * m_) {
        const std::size_t n_blocks = levels_.back().size() / (simd::kBlock * m_);
        std::vector<double> minima = empty_blocks(n_blocks, m_);
        const double* values = levels_.back().data();
        for (std::size_t b = 0; b < n_blocks; ++b) {
            double* block = minima.data() + b / simd::kBlock * simd::kBlock * m_;
            for (std::size_t j = 0; j < m_; ++j, values += simd::kBlock) {
                block[j * simd::kBlock + b % simd::kBlock] =
                    *std::min_element(values, values + simd::kBlock);
            }
        }
        levels_.push_back(std::move(minima));
    }
}

void BestWithin::find(const Points& bounds, std::span<std::int64_t> out,
                      const Execution& execution) const {
    require_matrix(bounds, "bounds", "inf leaves a cost open", execution);
    if (bounds.m != m_) {
        throw InvalidInput("bounds has " + std::to_string(bounds.m) +
                           " columns; it must have one for each of the " + std::to_string(m_) +
                           " costs");
    }
    if (out.size() != bounds.n) throw InvalidInput("out has the wrong size");
    const auto& kernel = simd::kernels<simd::PointKernels>();
    const double* levels[simd::kMaxLevels] = {};
    for (std::size_t l = 0; l < levels_.size(); ++l)
        levels[l] = levels_[l].data();
    parallel_for(bounds.n, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        Pacer pacer(execution);
        for (std::size_t i = begin; i < end; ++i) {
            pacer.spend(20 + order_.size() / simd::kBlock);
            std::size_t place = order_.size();
            if (m_ == 1) {
                const auto step = std::partition_point(
                    stairs_.begin(), stairs_.end(),
                    [bound = bounds.values[i]](double cost) { return cost > bound; });
                place = static_cast<std::size_t>(step - stairs_.begin());
            } else if (!order_.empty()) {
                place = kernel.find_first_within(levels, static_cast<int>(levels_.size()),
                                                 static_cast<int>(m_), bounds.row(i));
            }
            out[i] = place < order_.size() ? std::int64_t{order_[place]} : -1;
        }
    });
}

}  // namespace pnag
