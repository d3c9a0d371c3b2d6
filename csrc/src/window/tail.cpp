#include "window/tail.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "pnag/parallel.hpp"

namespace pnag::window {
namespace {

constexpr std::size_t kPairsPerBucket = 2;

}  // namespace

Tail::Tail(std::shared_ptr<const Unit> unit, std::shared_ptr<const Unit> partner,
           const Execution& execution)
    : unit_(std::move(unit)), partner_(std::move(partner)) {
    size_ = unit_->size();
    origin_ = unit_->costs.front();
    double last = unit_->costs.back();
    if (partner_) {
        size_ *= partner_->size();
        origin_ += partner_->costs.front();
        last += partner_->costs.back();
        shift_ = static_cast<unsigned>(std::bit_width(unit_->size() - 1));
        mask_ = (std::uint32_t{1} << shift_) - 1;
    }
    const std::size_t n_buckets = size_ / kPairsPerBucket + 1;
    start_.assign(n_buckets + 1, 0);
    last_bucket_ = static_cast<double>(n_buckets - 1);
    const double scale = static_cast<double>(n_buckets) / (last - origin_);
    scale_ = scale < 1e300 ? scale : 0.0;
    if (partner_) {
        sort_pairs(execution);
        return;
    }
    for (const double cost : unit_->costs)
        ++start_[bucket_of(cost) + 1];
    for (std::size_t b = 0; b < n_buckets; ++b)
        start_[b + 1] += start_[b];
}

void Tail::sort_pairs(const Execution& execution) {
    struct Pair {
        double cost;
        std::uint32_t pair;
    };
    // Threads take parts of the buckets; what is written of a part at once stays in a cache.
    constexpr std::size_t kParts = 32;
    constexpr std::size_t kBucketsAtOnce = 4096;
    // Few pairs share a bucket, as a rule: each is put in its place among those before it.
    constexpr std::uint32_t kMaxInserted = 64;
    const std::vector<double>& costs = unit_->costs;
    const std::size_t n_buckets = start_.size() - 1;
    const std::size_t part = (n_buckets - 1) / kParts + 1;
    // For each row of the partner the first row of the unit that falls in bucket `b` or beyond.
    const auto cursors_at = [&](std::size_t b) {
        std::vector<std::size_t> cursors;
        for (const double more : partner_->costs) {
            const auto row = std::partition_point(costs.begin(), costs.end(), [&](double cost) {
                return bucket_of(more + cost) < b;
            });
            cursors.push_back(static_cast<std::size_t>(row - costs.begin()));
        }
        return cursors;
    };
    // Calls visit(bucket, cost, pair) for the pairs from the cursors up to bucket `end`.
    const auto each_pair = [&](std::vector<std::size_t>& cursors, std::size_t end,
                               const auto& visit) {
        for (std::size_t p = 0; p < cursors.size(); ++p) {
            const double more = partner_->costs[p];
            std::size_t row = cursors[p];
            for (; row < costs.size(); ++row) {
                const double cost = more + costs[row];
                const std::size_t b = bucket_of(cost);
                if (b >= end) break;
                visit(b, cost,
                      static_cast<std::uint32_t>(p << shift_) | static_cast<std::uint32_t>(row));
            }
            cursors[p] = row;
        }
    };
    parallel_for(n_buckets, part, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::size_t> cursors = cursors_at(begin);
        each_pair(cursors, end, [&](std::size_t b, double, std::uint32_t) { ++start_[b + 1]; });
    });
    for (std::size_t b = 0; b < n_buckets; ++b)
        start_[b + 1] += start_[b];
    std::vector<std::uint32_t> order(size_);
    parallel_for(n_buckets, part, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::size_t> cursors = cursors_at(begin);
        std::vector<Pair> sorted;
        std::vector<std::uint32_t> filled;
        for (std::size_t at = begin; at < end; at += kBucketsAtOnce) {
            const std::size_t stop = std::min(end, at + kBucketsAtOnce);
            const std::uint32_t first = start_[at];
            sorted.resize(start_[stop] - first);
            filled.assign(stop - at, 0);
            each_pair(cursors, stop, [&](std::size_t b, double cost, std::uint32_t pair) {
                Pair* const bucket = sorted.data() + (start_[b] - first);
                std::uint32_t place = filled[b - at]++;
                if (start_[b + 1] - start_[b] <= kMaxInserted) {
                    for (; place > 0 && bucket[place - 1].cost > cost; --place)
                        bucket[place] = bucket[place - 1];
                }
                bucket[place] = {cost, pair};
            });
            for (std::size_t b = at; b < stop; ++b) {
                if (start_[b + 1] - start_[b] <= kMaxInserted) continue;
                std::sort(sorted.data() + (start_[b] - first),
                          sorted.data() + (start_[b + 1] - first),
                          [](const Pair& x, const Pair& y) {
                              return x.cost != y.cost ? x.cost < y.cost : x.pair < y.pair;
                          });
            }
            for (std::size_t i = 0; i < sorted.size(); ++i)
                order[first + i] = sorted[i].pair;
        }
    });
    order_ = std::move(order);
}

Crowding::Crowding(const Tail& tail, double width, const Execution& execution) {
    constexpr std::size_t kBlocks = 1024;
    const std::size_t n = tail.size();
    block_ = (n - 1) / kBlocks + 1;
    most_.assign((n - 1) / block_ + 1, 0);
    parallel_for(most_.size(), 16, execution, [&](std::size_t first, std::size_t last) {
        for (std::size_t k = first; k < last; ++k) {
            // Only a window with more rows than any before it needs a second look.
            std::size_t most = 0;
            for (std::size_t i = k * block_; i < std::min(n, (k + 1) * block_); ++i) {
                const double limit = tail.cost(i) + width;
                while (i + most < n && tail.cost(i + most) <= limit)
                    ++most;
            }
            most_[k] = static_cast<std::uint32_t>(most);
        }
    });
}

std::size_t Crowding::most(std::size_t begin, std::size_t end) const {
    if (begin >= end) return 0;
    const auto first = most_.begin() + static_cast<std::ptrdiff_t>(begin / block_);
    const auto last = most_.begin() + static_cast<std::ptrdiff_t>((end - 1) / block_ + 1);
    return std::min<std::size_t>(end - begin, *std::max_element(first, last));
}

}  // namespace pnag::window
