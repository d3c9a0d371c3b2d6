#include "ordering.hpp"

#include <algorithm>
#include <array>

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

}  // namespace

void sort_by_key(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch) {
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

std::vector<std::uint32_t> column_order(const Points& points, std::size_t column) {
    std::vector<KeyIndex> items(points.n);
    std::vector<KeyIndex> scratch;
    for (std::size_t i = 0; i < points.n; ++i) {
        items[i] = {order_key(points.values[i * points.m + column]), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(items, scratch);
    std::vector<std::uint32_t> order(points.n);
    for (std::size_t i = 0; i < points.n; ++i)
        order[i] = items[i].index;
    return order;
}

std::vector<std::uint32_t> lexicographic_order(const Points& points) {
    std::vector<KeyIndex> items(points.n);
    std::vector<KeyIndex> scratch;
    for (std::size_t i = 0; i < points.n; ++i) {
        items[i] = {order_key(points.values[i * points.m]), static_cast<std::uint32_t>(i)};
    }
    sort_by_key(items, scratch);
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
        sort_by_key(part, scratch);
        std::copy(part.begin(), part.end(), items.begin() + static_cast<std::ptrdiff_t>(run.begin));
        find_runs(run.begin, run.end, run.column + 1);
    }
    std::vector<std::uint32_t> order(points.n);
    for (std::size_t i = 0; i < points.n; ++i)
        order[i] = items[i].index;
    return order;
}

}  // namespace pnag
