// The exact part of a windowed draw: rows sorted by cost, so that those which complete the rest of
// an architecture to a cost in the window are neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pnag/execution.hpp"
#include "window/units.hpp"

namespace pnag::window {

/// All rows of a unit, or all pairs of rows of two units.
///
/// Pairs are sorted by buckets of cost, two pairs each on average, and within the buckets:
/// O(pairs) time, 6 bytes a pair. A search is O(1) where costs are spread evenly, and never more
/// than O(log pairs).
class Tail {
  public:
    Tail() = default;
    Tail(std::shared_ptr<const Unit> unit, std::shared_ptr<const Unit> partner,
         const Execution& execution);

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] double cost(std::size_t row) const {
        if (order_.empty()) return unit_->costs[row];
        const std::uint32_t pair = order_[row];
        return partner_->costs[pair >> shift_] + unit_->costs[pair & mask_];
    }
    void write(std::size_t row, std::uint8_t* arch) const {
        if (order_.empty()) return unit_->write(row, arch);
        const std::uint32_t pair = order_[row];
        partner_->write(pair >> shift_, arch);
        unit_->write(pair & mask_, arch);
    }

    [[nodiscard]] std::size_t bucket_of(double cost) const {
        // Rising with the cost, which is all that a search needs.
        const double bucket = (cost - origin_) * scale_;
        if (!(bucket > 0.0)) return 0;
        return bucket < last_bucket_ ? static_cast<std::size_t>(bucket)
                                     : static_cast<std::size_t>(last_bucket_);
    }
    [[nodiscard]] const std::uint32_t* bucket(std::size_t b) const { return start_.data() + b; }
    [[nodiscard]] const std::uint32_t* order(std::size_t row) const {
        return order_.data() + (order_.empty() ? 0 : row);
    }

    /// The first row that costs `least` or more, and the first that costs more than `most`.
    [[nodiscard]] std::size_t at_least(double least) const {
        return at_least(least, bucket_of(least));
    }
    [[nodiscard]] std::size_t at_least(double least, std::size_t b) const {
        return search(b, [&](double cost) { return cost < least; });
    }
    [[nodiscard]] std::size_t beyond(double most) const {
        return search(bucket_of(most), [&](double cost) { return cost <= most; });
    }

  private:
    template <typename IsBefore>
    [[nodiscard]] std::size_t search(std::size_t b, const IsBefore& is_before) const {
        std::size_t first = start_[b];
        std::size_t last = start_[b + 1];
        while (first < last) {
            const std::size_t middle = first + (last - first) / 2;
            if (is_before(cost(middle))) {
                first = middle + 1;
            } else {
                last = middle;
            }
        }
        return first;
    }
    void sort_pairs(const Execution& execution);

    std::shared_ptr<const Unit> unit_;
    std::shared_ptr<const Unit> partner_;  // null: rows are those of unit_
    std::size_t size_ = 0;
    unsigned shift_ = 0;
    std::uint32_t mask_ = 0;
    std::vector<std::uint32_t> order_;
    std::vector<std::uint32_t> start_;  // first row of each bucket
    double origin_ = 0.0;
    double scale_ = 0.0;
    double last_bucket_ = 0.0;
};

/// How many rows of a tail fit in a window of one width, wherever it is put.
class Crowding {
  public:
    Crowding(const Tail& tail, double width, const Execution& execution);

    /// Not less than the number of rows in any such window that starts at a row in [begin, end).
    [[nodiscard]] std::size_t most(std::size_t begin, std::size_t end) const;

  private:
    std::size_t block_;
    std::vector<std::uint32_t> most_;  // of the windows that start in each block of rows
};

}  // namespace pnag::window
