#include "ordering.hpp"

#include <algorithm>
#include <array>

#include "pnag/parallel.hpp"

namespace pnag {
namespace {

constexpr std::size_t kSmall = 192;   // below this, comparison sorting is faster
constexpr std::size_t kLongRun = 24;  // runs up to this length are sorted by insertion
constexpr unsigned kDigitBits = 11;   // 2048 counters of one pass fit in the first-level cache
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;

inline bool before(const KeyIndex& a, const KeyIndex& b) {
    return a.key != b.key ? a.key < b.key : a.index < b.index;
}

inline void insertion_sort(KeyIndex* items, std::size_t n) {
    for (std::size_t i = 1; i < n; ++i) {
        const KeyIndex item = items[i];
        std::size_t j = i;
        for (; j > 0 && item.key < items[j - 1].key; --j)
            items[j] = items[j - 1];
        items[j] = item;
    }
}

void sort_by_passes(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch) {
    const std::size_t n = items.size();
    if (n < 2) return;
    if (n <= kLongRun) {
        insertion_sort(items.data(), n);
        return;
    }
    if (n <= kSmall) {
        std::sort(items.begin(), items.end(), before);
        return;
    }
    std::uint64_t low = items[0].key;
    std::uint64_t high = low;
    for (const KeyIndex& item : items) {
        low = std::min(low, item.key);
        high = std::max(high, item.key);
    }
    const auto key_bits = static_cast<unsigned>(std::bit_width(high - low));
    if (key_bits == 0) return;
    // Two bits more than n has: keys spread over a few binades still fall into short runs.
    const auto wanted = static_cast<unsigned>(std::bit_width(n)) + 2;
    const unsigned passes =
        std::min((std::min(wanted, key_bits) + kDigitBits - 1) / kDigitBits, 3U);
    const unsigned used = std::min(key_bits, passes * kDigitBits);
    const unsigned shift = key_bits - used;

    std::array<std::array<std::uint32_t, kDigits>, 3> counts{};
    for (const KeyIndex& item : items) {
        std::uint64_t prefix = (item.key - low) >> shift;
        for (unsigned p = 0; p < passes; ++p) {
            ++counts[p][prefix & (kDigits - 1)];
            prefix >>= kDigitBits;
        }
    }
    scratch.resize(n);
    for (unsigned p = 0; p < passes; ++p) {
        std::uint32_t total = 0;
        for (std::uint32_t& count : counts[p]) {
            const std::uint32_t here = count;
            count = total;
            total += here;
        }
        const unsigned digit_shift = shift + p * kDigitBits;
        for (const KeyIndex& item : items) {
            const std::size_t digit = ((item.key - low) >> digit_shift) & (kDigits - 1);
            scratch[counts[p][digit]++] = item;
        }
        items.swap(scratch);
    }
    if (shift == 0) return;
    std::size_t begin = 0;
    while (begin < n) {
        const std::uint64_t prefix = (items[begin].key - low) >> shift;
        std::size_t end = begin + 1;
        while (end < n && (items[end].key - low) >> shift == prefix)
            ++end;
        if (end - begin > kLongRun) {
            std::sort(items.begin() + static_cast<std::ptrdiff_t>(begin),
                      items.begin() + static_cast<std::ptrdiff_t>(end), before);
        } else if (end - begin > 1) {
            insertion_sort(items.data() + begin, end - begin);
        }
        begin = end;
    }
}

// Long batches first go into up to 2^kDigitBits buckets by leading bits, each of which then fits in
// a cache.
constexpr std::size_t kPartition = 16384;
constexpr std::size_t kChunk = 65536;  // items that one thread counts and places at a time

void sort_within_cache(KeyIndex* items, std::size_t n, KeyIndex* scratch) {
    if (n <= kLongRun) return insertion_sort(items, n);
    if (n <= kSmall) return std::sort(items, items + n, before);
    std::uint64_t low = items[0].key;
    std::uint64_t high = low;
    for (std::size_t i = 1; i < n; ++i) {
        low = std::min(low, items[i].key);
        high = std::max(high, items[i].key);
    }
    const auto key_bits = static_cast<unsigned>(std::bit_width(high - low));
    if (key_bits == 0) return;
    // One pass with about as many counters as items leaves runs of a few items.
    const unsigned used =
        std::min({key_bits, static_cast<unsigned>(std::bit_width(n)), kDigitBits});
    const unsigned shift = key_bits - used;
    std::array<std::uint32_t, kDigits> counts;
    std::fill_n(counts.begin(), std::size_t{1} << used, 0U);
    for (std::size_t i = 0; i < n; ++i)
        ++counts[(items[i].key - low) >> shift];
    std::uint32_t total = 0;
    for (std::size_t d = 0; d < std::size_t{1} << used; ++d) {
        const std::uint32_t here = counts[d];
        counts[d] = total;
        total += here;
    }
    for (std::size_t i = 0; i < n; ++i)
        scratch[counts[(items[i].key - low) >> shift]++] = items[i];
    std::copy_n(scratch, n, items);
    if (shift == 0) return;
    std::size_t begin = 0;
    for (std::size_t d = 0; d < std::size_t{1} << used; ++d) {
        const std::size_t end = counts[d];
        if (end - begin > kLongRun) {
            std::sort(items + begin, items + end, before);
        } else if (end - begin > 1) {
            insertion_sort(items + begin, end - begin);
        }
        begin = end;
    }
}

void sort_by_buckets(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch,
                     const Execution& execution) {
    const std::size_t n = items.size();
    const std::size_t n_chunks = (n - 1) / kChunk + 1;
    std::vector<std::uint64_t> lows(n_chunks);
    std::vector<std::uint64_t> highs(n_chunks);
    parallel_for(n, kChunk, execution, [&](std::size_t begin, std::size_t end) {
        std::uint64_t low = items[begin].key;
        std::uint64_t high = low;
        for (std::size_t i = begin; i < end; ++i) {
            low = std::min(low, items[i].key);
            high = std::max(high, items[i].key);
        }
        lows[begin / kChunk] = low;
        highs[begin / kChunk] = high;
    });
    const std::uint64_t low = *std::min_element(lows.begin(), lows.end());
    const std::uint64_t high = *std::max_element(highs.begin(), highs.end());
    const auto key_bits = static_cast<unsigned>(std::bit_width(high - low));
    if (key_bits == 0) return;
    const unsigned used = std::min(key_bits, kDigitBits);
    const unsigned shift = key_bits - used;
    // Where the items of every chunk and bucket go: in order of buckets, then of chunks.
    std::vector<std::array<std::uint32_t, kDigits>> places(n_chunks);
    parallel_for(n, kChunk, execution, [&](std::size_t begin, std::size_t end) {
        auto& counts = places[begin / kChunk];
        counts.fill(0);
        for (std::size_t i = begin; i < end; ++i)
            ++counts[(items[i].key - low) >> shift];
    });
    std::array<std::uint32_t, kDigits + 1> starts;
    std::uint32_t total = 0;
    for (std::size_t d = 0; d < kDigits; ++d) {
        starts[d] = total;
        for (auto& counts : places) {
            const std::uint32_t here = counts[d];
            counts[d] = total;
            total += here;
        }
    }
    starts[kDigits] = total;
    scratch.resize(n);
    parallel_for(n, kChunk, execution, [&](std::size_t begin, std::size_t end) {
        auto& place = places[begin / kChunk];
        for (std::size_t i = begin; i < end; ++i)
            scratch[place[(items[i].key - low) >> shift]++] = items[i];
    });
    items.swap(scratch);
    if (shift == 0) return;
    // Buckets near a dense place of the axis are large; their tasks are small to even that out.
    parallel_for(kDigits, 16, execution, [&](std::size_t first, std::size_t last) {
        for (std::size_t d = first; d < last; ++d) {
            sort_within_cache(items.data() + starts[d], starts[d + 1] - starts[d],
                              scratch.data() + starts[d]);
        }
    });
}

}  // namespace

void sort_by_key(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch,
                 const Execution& execution) {
    if (items.size() >= kPartition) return sort_by_buckets(items, scratch, execution);
    sort_by_passes(items, scratch);
}

std::vector<std::uint32_t> column_order(const Points& points, std::size_t column,
                                        const Execution& execution) {
    std::vector<KeyIndex> items(points.n);
    std::vector<KeyIndex> scratch;
    for (std::size_t i = 0; i < points.n; ++i) {
        items[i] = {order_key(points.values[i * points.m + column]), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(items, scratch, execution);
    std::vector<std::uint32_t> order(points.n);
    for (std::size_t i = 0; i < points.n; ++i)
        order[i] = items[i].index;
    return order;
}

std::vector<std::uint32_t> lexicographic_order(const Points& points, const Execution& execution) {
    std::vector<KeyIndex> items(points.n);
    std::vector<KeyIndex> scratch;
    for (std::size_t i = 0; i < points.n; ++i) {
        items[i] = {order_key(points.values[i * points.m]), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(items, scratch, execution);
    // Columns with few distinct values leave long runs; each is sorted by the next column.
    struct Run {
        std::size_t begin;
        std::size_t end;
        std::size_t column;
    };
    std::vector<Run> runs;
    const auto find_runs = [&](std::size_t begin, std::size_t end, std::size_t column) {
        if (column == points.m) return;
        while (begin < end) {
            std::size_t stop = begin + 1;
            while (stop < end && items[stop].key == items[begin].key)
                ++stop;
            if (stop - begin > 1) runs.push_back({begin, stop, column});
            begin = stop;
        }
    };
    find_runs(0, points.n, 1);
    std::vector<KeyIndex> part;
    while (!runs.empty()) {
        const Run run = runs.back();
        runs.pop_back();
        part.assign(items.begin() + static_cast<std::ptrdiff_t>(run.begin),
                    items.begin() + static_cast<std::ptrdiff_t>(run.end));
        for (KeyIndex& item : part) {
            item.key = order_key(points.values[item.index * points.m + run.column]);
        }
        sort_by_key(part, scratch, execution);
        std::copy(part.begin(), part.end(), items.begin() + static_cast<std::ptrdiff_t>(run.begin));
        find_runs(run.begin, run.end, run.column + 1);
    }
    std::vector<std::uint32_t> order(points.n);
    for (std::size_t i = 0; i < points.n; ++i)
        order[i] = items[i].index;
    return order;
}

}  // namespace pnag
