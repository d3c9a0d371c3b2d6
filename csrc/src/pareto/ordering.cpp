#include "ordering.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "pnag/parallel.hpp"

namespace pnag {
namespace {

using Entry = RowSort::Entry;

constexpr std::size_t kShort = 24;   // runs up to this length are sorted by insertion
constexpr unsigned kDigitBits = 11;  // 2048 counters of one pass fit in the first-level cache
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;

inline std::uint64_t key_of(const KeyIndex& item) {
    return item.key;
}
inline std::uint64_t key_of(const Entry& item) {
    return item.word >> 32;
}

// Says whether any keys are equal. `from` and `to` may be the same.
template <typename Item>
bool insertion_sort(const Item* from, std::size_t n, Item* to) {
    if (n == 0) return false;
    bool equal = false;
    to[0] = from[0];
    for (std::size_t i = 1; i < n; ++i) {
        const std::uint64_t key = key_of(from[i]);
        if (key_of(to[i - 1]) < key) {
            // Mostly so; and a whole item at a time, or the processor waits where one that was
            // written in halves is read soon after.
            to[i] = from[i];
            continue;
        }
        const Item item = from[i];
        std::size_t j = i;
        for (; j > 0 && key < key_of(to[j - 1]); --j)
            to[j] = to[j - 1];
        to[j] = item;
        equal |= j > 0 && key_of(to[j - 1]) == key;
    }
    return equal;
}

// Stable; scratch has room for n.
template <typename Item>
void sort_items(Item* items, std::size_t n, Item* scratch) {
    if (n <= kShort) {
        insertion_sort(items, n, items);
        return;
    }
    std::uint64_t low = key_of(items[0]);
    std::uint64_t high = low;
    for (std::size_t i = 1; i < n; ++i) {
        low = std::min(low, key_of(items[i]));
        high = std::max(high, key_of(items[i]));
    }
    const auto key_bits = static_cast<unsigned>(std::bit_width(high - low));
    if (key_bits == 0) return;
    // About as many counters as items leave runs of a few items.
    const unsigned used =
        std::min({key_bits, static_cast<unsigned>(std::bit_width(n)), kDigitBits});
    const unsigned shift = key_bits - used;
    const std::size_t n_digits = std::size_t{1} << used;
    std::array<std::uint32_t, kDigits> ends;
    std::fill_n(ends.begin(), n_digits, 0U);
    for (std::size_t i = 0; i < n; ++i)
        ++ends[(key_of(items[i]) - low) >> shift];
    std::uint32_t total = 0;
    std::uint32_t longest = 0;
    for (std::size_t d = 0; d < n_digits; ++d) {
        const std::uint32_t here = ends[d];
        longest = std::max(longest, here);
        ends[d] = total;
        total += here;
    }
    for (std::size_t i = 0; i < n; ++i)
        scratch[ends[(key_of(items[i]) - low) >> shift]++] = items[i];
    if (shift > 0 && longest <= kShort) {
        insertion_sort(scratch, n, items);
        return;
    }
    std::copy_n(scratch, n, items);
    if (shift == 0) return;
    std::size_t begin = 0;
    for (std::size_t d = 0; d < n_digits; ++d) {
        sort_items(items + begin, ends[d] - begin, scratch);
        begin = ends[d];
    }
}

}  // namespace

void sort_by_key(std::vector<KeyIndex>& items, std::vector<KeyIndex>& scratch) {
    if (scratch.size() < items.size()) scratch.resize(items.size());
    sort_items(items.data(), items.size(), scratch.data());
}

namespace {

constexpr std::size_t kPartition = 16384;  // shorter batches fit in a cache as they are
constexpr std::size_t kChunk = 65536;      // rows that one thread counts and places at a time

// Maps values to a digit and 31 bits, larger ones never to less. In long batches each digit is a
// bucket, and the 31 bits are those after it.
//
// Values spread over a few orders of magnitude fill buckets of equal width best; the keys of
// doubles, nearly their logarithms, are for the others and wherever such a width overflows.
class Prefix {
  public:
    Prefix(Column by, std::size_t n, double least, double most) : least_(least) {
        // Whole numbers up to 2^52 are exact; `most` stays below that, or half the digits would be
        // for it alone.
        constexpr double kResolution = 0x1.fffffp51;
        scale_ = kResolution / (most - least);
        linear_ = std::isfinite(scale_) && scale_ > 0.0 && spreads(by, n, least, most);
        low_ = linear_ ? 0 : order_key(least);
        const auto bits = static_cast<unsigned>(std::bit_width(position(most)));
        used_ = std::min({bits, static_cast<unsigned>(std::bit_width(n)), kDigitBits});
        shift_ = bits - used_;
        const unsigned inner = n < kPartition ? bits : shift_;
        up_ = 64 - std::max(inner, 1U);
    }

    [[nodiscard]] std::uint64_t position(double value) const {
        // Both roundings keep the order.
        if (linear_)
            return static_cast<std::uint64_t>(static_cast<std::int64_t>((value - least_) * scale_));
        return order_key(value) - low_;
    }
    [[nodiscard]] std::size_t n_digits() const { return std::size_t{1} << used_; }
    [[nodiscard]] std::size_t digit(std::uint64_t position) const { return position >> shift_; }
    [[nodiscard]] std::uint64_t word(std::uint64_t position, std::size_t row) const {
        // The last bit of the upper half is left for Ties.
        return position << up_ >> 33 << 33 | row;
    }

  private:
    // Do evenly spaced rows fall into many of as many intervals of the range?
    static bool spreads(Column by, std::size_t n, double least, double most) {
        constexpr std::size_t kSample = 64;
        constexpr unsigned kCrowd = kSample / 4;
        std::array<unsigned, kSample + 1> counts{};
        unsigned crowd = 0;
        for (std::size_t i = 0; i < kSample; ++i) {
            const double share = (by[i * n / kSample] - least) / (most - least);
            crowd = std::max(crowd, ++counts[static_cast<std::size_t>(share * kSample)]);
        }
        return crowd < kCrowd;
    }

    double least_;
    double scale_;
    bool linear_;
    std::uint64_t low_ = 0;
    unsigned used_;
    unsigned shift_;
    unsigned up_;
};

}  // namespace

// Orders entries that share their leading bits: by value, then carried number, then row.
class RowSort::Ties {
  public:
    explicit Ties(const RowSort& sort)
        : by_(sort.by_), carries_key_(sort.by_.first == sort.carried_.first) {}

    void order(Entry* run, std::size_t n) {
        keys_.resize(n);
        for (std::size_t i = 0; i < n; ++i) {
            const double value = carries_key_ ? run[i].value : by_[run[i].row()];
            keys_[i] = {order_key(value), static_cast<std::uint32_t>(i)};
        }
        sort_by_key(keys_, scratch_);
        ordered_.resize(n);
        std::uint64_t toggle = 0;
        for (std::size_t begin = 0; begin < n;) {
            std::size_t end = begin + 1;
            while (end < n && keys_[end].key == keys_[begin].key)
                ++end;
            if (end - begin > 1 && !carries_key_) order_by_value(run, begin, end);
            for (std::size_t i = begin; i < end; ++i) {
                ordered_[i] = run[keys_[i].index];
                ordered_[i].word |= toggle;
            }
            // Of neighbours that differ in value one has the last bit, so that tied() is right.
            toggle ^= std::uint64_t{1} << 32;
            begin = end;
        }
        std::copy_n(ordered_.data(), n, run);
    }

  private:
    void order_by_value(const Entry* run, std::size_t begin, std::size_t end) {
        part_.resize(end - begin);
        for (std::size_t i = begin; i < end; ++i)
            part_[i - begin] = {order_key(run[keys_[i].index].value), keys_[i].index};
        sort_by_key(part_, scratch_);
        std::copy(part_.begin(), part_.end(), keys_.begin() + static_cast<std::ptrdiff_t>(begin));
    }

    Column by_;
    bool carries_key_;
    std::vector<KeyIndex> keys_;
    std::vector<KeyIndex> part_;
    std::vector<KeyIndex> scratch_;
    std::vector<Entry> ordered_;
};

RowSort::RowSort(Column by, Column carried, std::size_t n, const Execution& execution)
    : by_(by), carried_(carried), n_(n), execution_(execution), entries_(n) {
    if (n == 0) {
        starts_.assign(2, 0);
        return;
    }
    find_range();
    n < kPartition ? fill_one_bucket() : fill_buckets();
}

void RowSort::find_range() {
    std::vector<std::pair<double, double>> ranges((n_ - 1) / kChunk + 1);
    parallel_for(n_, kChunk, execution_, [&](std::size_t begin, std::size_t end) {
        // Four of each, which do not wait for one another.
        constexpr std::size_t kOwn = 4;
        const Column by = by_;
        double least[kOwn];
        double most[kOwn];
        std::fill_n(least, kOwn, by[begin]);
        std::fill_n(most, kOwn, by[begin]);
        std::size_t i = begin;
        for (; i + kOwn <= end; i += kOwn) {
            for (std::size_t lane = 0; lane < kOwn; ++lane) {
                least[lane] = std::min(least[lane], by[i + lane]);
                most[lane] = std::max(most[lane], by[i + lane]);
            }
        }
        for (; i < end; ++i) {
            least[0] = std::min(least[0], by[i]);
            most[0] = std::max(most[0], by[i]);
        }
        ranges[begin / kChunk] = {*std::min_element(least, least + kOwn),
                                  *std::max_element(most, most + kOwn)};
    });
    least_ = ranges[0].first;
    most_ = ranges[0].second;
    for (const auto& [least, most] : ranges) {
        least_ = std::min(least_, least);
        most_ = std::max(most_, most);
    }
}

namespace {

// Replace each count by the sum of those before it; n is a multiple of 8.
void sum_before(std::int16_t* counts, std::size_t n) {
#if __has_builtin(__builtin_shufflevector)
    using Eight [[gnu::vector_size(16)]] = std::int16_t;
    constexpr Eight kZero{};
    Eight total{};  // in every lane
    for (std::size_t i = 0; i < n; i += 8) {
        Eight own;
        std::memcpy(&own, counts + i, sizeof own);
        Eight sums = own;
        sums += __builtin_shufflevector(sums, kZero, 8, 0, 1, 2, 3, 4, 5, 6);
        sums += __builtin_shufflevector(sums, kZero, 8, 8, 0, 1, 2, 3, 4, 5);
        sums += __builtin_shufflevector(sums, kZero, 8, 8, 8, 8, 0, 1, 2, 3);
        const Eight before = total + sums - own;
        std::memcpy(counts + i, &before, sizeof before);
        total += __builtin_shufflevector(sums, sums, 7, 7, 7, 7, 7, 7, 7, 7);
    }
#else  // gcc 11 and older
    std::int16_t total = 0;
    for (std::size_t i = 0; i < n; ++i)
        total = static_cast<std::int16_t>(total + std::exchange(counts[i], total));
#endif
}

}  // namespace

void RowSort::fill_one_bucket() {
    constexpr unsigned kMostBits = 13;
    static_assert(kPartition <= 32768 && std::endian::native == std::endian::little);
    const Prefix prefix(by_, n_, least_, most_);
    // Twice as many counters as rows leave few to swap.
    const unsigned bits = std::clamp(static_cast<unsigned>(std::bit_width(n_)) + 1, 3U, kMostBits);
    const unsigned shift = 64 - bits;
    const std::size_t n_digits = std::size_t{1} << bits;
    alignas(64) std::array<std::int16_t, std::size_t{1} << kMostBits> places;
    std::fill_n(places.begin(), n_digits, std::int16_t{0});
    Buffer<std::uint64_t> buffer(n_);
    std::uint64_t* words = buffer.data();
    const Column by = by_;
    for (std::size_t i = 0; i < n_; ++i) {
        words[i] = prefix.word(prefix.position(by[i]), i);
        ++places[words[i] >> shift];
    }
    std::int16_t longest = 0;
    for (std::size_t d = 0; d < n_digits; ++d)
        longest = std::max(longest, places[d]);
    longest_digit_ = static_cast<std::size_t>(longest);
    sum_before(places.data(), n_digits);
    Entry* entries = entries_.data();
    const Column carried = carried_;
    for (std::size_t i = 0; i < n_; ++i)
        entries[places[words[i] >> shift]++] = {words[i], carried[i]};
    starts_ = {0, static_cast<std::uint32_t>(n_)};
}

void RowSort::fill_buckets() {
    const Prefix prefix(by_, n_, least_, most_);
    const std::size_t n_digits = prefix.n_digits();
    const std::size_t n_chunks = (n_ - 1) / kChunk + 1;
    // Where the rows of every chunk and digit go: in order of digits, then of chunks.
    std::vector<std::uint32_t> places(n_chunks * n_digits, 0);
    parallel_for(n_, kChunk, execution_, [&](std::size_t begin, std::size_t end) {
        std::uint32_t* counts = places.data() + begin / kChunk * n_digits;
        // Copies, which no compiler has to read again after every store.
        const Prefix own = prefix;
        const Column by = by_;
        for (std::size_t i = begin; i < end; ++i)
            ++counts[own.digit(own.position(by[i]))];
    });
    starts_.assign(n_digits + 1, 0);
    std::uint32_t total = 0;
    std::uint32_t longest = 0;
    for (std::size_t d = 0; d < n_digits; ++d) {
        const std::uint32_t start = total;
        for (std::size_t place = d; place < places.size(); place += n_digits) {
            const std::uint32_t here = places[place];
            places[place] = total;
            total += here;
        }
        longest = std::max(longest, total - start);
        starts_[d + 1] = total;
    }
    longest_digit_ = longest;
    parallel_for(n_, kChunk, execution_, [&](std::size_t begin, std::size_t end) {
        std::uint32_t* place = places.data() + begin / kChunk * n_digits;
        Entry* entries = entries_.data();
        const Prefix own = prefix;
        const Column by = by_;
        const Column carried = carried_;
        for (std::size_t i = begin; i < end; ++i) {
            const std::uint64_t at = own.position(by[i]);
            entries[place[own.digit(at)]++] = {own.word(at, i), carried[i]};
        }
    });
}

void RowSort::sort_bucket(std::size_t bucket, Entry* scratch, Ties& ties) {
    Entry* first = entries_.data() + starts_[bucket];
    Entry* last = entries_.data() + starts_[bucket + 1];
    const auto n = static_cast<std::size_t>(last - first);
    if (longest_digit_ <= kShort) {
        if (!insertion_sort(first, n, first)) return;
    } else {
        sort_items(first, n, scratch);
    }
    for (;;) {
        first = std::adjacent_find(first, last, tied);
        if (first == last) return;
        Entry* end = std::find_if_not(first, last, [&](const Entry& e) { return tied(*first, e); });
        ties.order(first, static_cast<std::size_t>(end - first));
        first = end;
    }
}

void RowSort::run(const Visit& visit) {
    // Buckets near a dense place of the axis are large; their tasks are small to even that out.
    parallel_for(n_buckets(), 16, execution_, [&](std::size_t first, std::size_t last) {
        std::size_t largest = 0;
        for (std::size_t d = first; d < last && longest_digit_ > kShort; ++d)
            largest = std::max<std::size_t>(largest, starts_[d + 1] - starts_[d]);
        Buffer<Entry> scratch(largest);
        Ties ties(*this);
        for (std::size_t d = first; d < last; ++d) {
            sort_bucket(d, scratch.data(), ties);
            if (visit) visit(d);
        }
    });
}

std::vector<std::uint32_t> lexicographic_order(const Points& points, const Execution& execution) {
    const std::size_t second = points.m > 1 ? 1 : 0;
    RowSort sort(column_of(points, 0), column_of(points, second), points.n, execution);
    sort.run();
    std::vector<std::uint32_t> order(points.n);
    // Columns with few distinct values leave long runs; each is sorted by the next column.
    struct Run {
        std::size_t begin;
        std::size_t end;
        std::size_t column;
    };
    std::vector<Run> runs;
    for (std::size_t b = 0; b < sort.n_buckets(); ++b) {
        const RowSort::Bucket bucket = sort.bucket(b);
        for (std::size_t begin = 0; begin < bucket.size();) {
            std::size_t end = begin;
            do {
                order[sort.start(b) + end] = bucket[end].row();
                ++end;
            } while (end < bucket.size() && RowSort::tied(bucket[begin], bucket[end]) &&
                     bucket[begin].value == bucket[end].value);
            if (end - begin > 1 && points.m > 2)
                runs.push_back({sort.start(b) + begin, sort.start(b) + end, 2});
            begin = end;
        }
    }
    std::vector<KeyIndex> part;
    std::vector<KeyIndex> scratch;
    while (!runs.empty()) {
        const Run run = runs.back();
        runs.pop_back();
        part.resize(run.end - run.begin);
        for (std::size_t i = run.begin; i < run.end; ++i)
            part[i - run.begin] = {order_key(points.row(order[i])[run.column]), order[i]};
        sort_by_key(part, scratch);
        for (std::size_t begin = 0; begin < part.size();) {
            std::size_t end = begin;
            do {
                order[run.begin + end] = part[end].index;
                ++end;
            } while (end < part.size() && part[end].key == part[begin].key);
            if (end - begin > 1 && run.column + 1 < points.m)
                runs.push_back({run.begin + begin, run.begin + end, run.column + 1});
            begin = end;
        }
    }
    return order;
}

}  // namespace pnag
