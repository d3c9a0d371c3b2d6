#include "simd/cost.hpp"

#include "simd/lanes.hpp"

namespace pnag::simd {
namespace {

bool any_above(const std::uint8_t* codes, const std::uint8_t* limit, std::size_t n) {
    std::uint8_t bad = 0;
    for (std::size_t i = 0; i < n; ++i)
        bad |= codes[i] > limit[i] ? 1 : 0;
    return bad != 0;
}

// Index of every code pair; with an odd number of slots the last pair has one code and radix 1.
inline void pair_indices(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan,
                         std::uint16_t* index) {
    const std::size_t n_pairs = plan.n_pairs;
    if (plan.n_slots % 2 == 0) {
        const std::size_t n = n_rows * n_pairs;
        for (std::size_t i = 0; i < n; ++i) {
            index[i] =
                static_cast<std::uint16_t>(archs[2 * i] * plan.radix_tile[i] + archs[2 * i + 1]);
        }
        return;
    }
    for (std::size_t r = 0; r < n_rows; ++r) {
        const std::uint8_t* row = archs + r * plan.n_slots;
        std::uint16_t* row_index = index + r * n_pairs;
        for (std::size_t p = 0; p + 1 < n_pairs; ++p) {
            row_index[p] =
                static_cast<std::uint16_t>(row[2 * p] * plan.radix_tile[p] + row[2 * p + 1]);
        }
        row_index[n_pairs - 1] = row[plan.n_slots - 1];
    }
}

// W doubles that are added and compared at once, and the same anywhere in memory: compilers may
// copy an array by halves, and a load that waits for two stores takes as long as ten others.
template <int W>
struct LanesOf {
    typedef double Type __attribute__((vector_size(8 * W)));
    typedef double InMemory __attribute__((vector_size(8 * W), aligned(8), may_alias));
};
template <>
struct LanesOf<1> {
    using Type = double;
    using InMemory = double;
};

// Reduce C groups of W columns from `column` on, of R rows at once: independent chains hide the
// latency of the additions. Width is the number of columns where the compiler knows it, else 0: a
// multiplication per load takes longer than the load.
template <int R, int C, int W, bool Max, std::size_t Width, typename Index>
inline void reduce_rows(const Index* index, const LookupPlan& plan, std::size_t column,
                        double* out) {
    using Group = typename LanesOf<W>::Type;
    using InMemory = typename LanesOf<W>::InMemory;
    const auto load = [](const double* from, int c) {
        return static_cast<Group>(reinterpret_cast<const InMemory*>(from)[c]);
    };
    Group sum[R][C];
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c)
            sum[r][c] = load(plan.constants + column, c);
    }
    const std::size_t n_pairs = plan.n_pairs;
    const std::size_t width = Width == 0 ? plan.width : Width;
    const double* entries = plan.entries + column;
    for (std::size_t p = 0; p < n_pairs; ++p) {
        const double* pair = entries + plan.pair_offset[p] * width;
        __asm__("" : "+r"(pair));  // else compilers add its two parts again for every row
        for (int r = 0; r < R; ++r) {
            const double* cells = pair + index[static_cast<std::size_t>(r) * n_pairs + p] * width;
            for (int c = 0; c < C; ++c) {
                const Group cell = load(cells, c);
                if constexpr (Max) {
                    sum[r][c] = sum[r][c] < cell ? cell : sum[r][c];
                } else {
                    sum[r][c] += cell;
                }
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        double* to = out + static_cast<std::size_t>(r) * width + column;
        for (int c = 0; c < C; ++c)
            reinterpret_cast<InMemory*>(to)[c] = sum[r][c];
    }
}

// Reduce the columns [begin, end), Columns at once while there are as many, then half as many.
template <int Columns, bool Max, std::size_t Width, typename Index>
inline void reduce_range(const Index* index, std::size_t n_rows, const LookupPlan& plan,
                         std::size_t begin, std::size_t end, double* out) {
    if constexpr (Width == 0 || Columns <= Width) {
        constexpr int W = Columns < kLanes ? Columns : kLanes;
        constexpr int C = Columns / W;
        constexpr int R = C == 1 ? 4 : C < 8 ? 2 : 1;
        for (; begin + Columns <= end; begin += Columns) {
            std::size_t r = 0;
            for (; r + R <= n_rows; r += R) {
                reduce_rows<R, C, W, Max, Width>(index + r * plan.n_pairs, plan, begin,
                                                 out + r * plan.width);
            }
            for (; R > 1 && r < n_rows; ++r) {
                reduce_rows<1, C, W, Max, Width>(index + r * plan.n_pairs, plan, begin,
                                                 out + r * plan.width);
            }
        }
    }
    if constexpr (Columns > 1)
        reduce_range<Columns / 2, Max, Width>(index, n_rows, plan, begin, end, out);
}

template <std::size_t Width>
inline void reduce(const std::uint16_t* index, std::size_t n_rows, const LookupPlan& plan,
                   double* out) {
    reduce_range<16, false, Width>(index, n_rows, plan, 0, plan.sum_width, out);
    reduce_range<16, true, Width>(index, n_rows, plan, plan.sum_width, plan.width, out);
}

#if defined(__AVX512F__)
// kTileRows rows at a width of 1: a permutation of the 16 entries of a slot looks up 8 rows at
// once, and no load waits for a code. Permutations ignore all bits of an index but the lowest four,
// so a word of 8 codes is shifted from slot to slot.
template <bool Max>
inline void permute_entries(const std::uint8_t* archs, const LookupPlan& plan, double* out) {
    constexpr std::size_t R = 4;
    const auto join = [](__m512d a, __m512d b) {
        if constexpr (Max) {
            return a < b ? b : a;
        } else {
            return a + b;
        }
    };
    const std::size_t n = plan.n_slots;
    for (std::size_t first = 0; first < kTileRows; first += 8 * R) {
        __m512d sum[R];
        for (std::size_t r = 0; r < R; ++r)
            sum[r] = _mm512_set1_pd(*plan.constants);
        const double* entries = plan.slot_entries;
        for (std::size_t p = 0; p < plan.n_pairs;) {
            __m512i codes[R];  // of slots 2 p and on of 8 rows
            for (std::size_t r = 0; r < R; ++r) {
                const auto word = [&](std::size_t row) {
                    long long bytes;
                    __builtin_memcpy(&bytes, archs + (first + 8 * r + row) * n + 2 * p, 8);
                    return bytes;
                };
                codes[r] = _mm512_set_epi64(word(7), word(6), word(5), word(4), word(3), word(2),
                                            word(1), word(0));
            }
            do {
                const __m512d a = _mm512_loadu_pd(entries);
                const __m512d a_more = _mm512_loadu_pd(entries + 8);
                const __m512d b = _mm512_loadu_pd(entries + 16);
                const __m512d b_more = _mm512_loadu_pd(entries + 24);
                for (std::size_t r = 0; r < R; ++r) {
                    sum[r] = join(sum[r], join(_mm512_permutex2var_pd(a, codes[r], a_more),
                                               _mm512_permutex2var_pd(b, codes[r] >> 8, b_more)));
                    codes[r] >>= 16;
                }
                entries += 32;
            } while (++p % 4 != 0 && p < plan.n_pairs);
        }
        for (std::size_t r = 0; r < R; ++r)
            _mm512_storeu_pd(out + first + 8 * r, sum[r]);
    }
}
#endif

void lookup(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan, double* out) {
#if defined(__AVX512F__)
    if (plan.slot_entries != nullptr && n_rows == kTileRows) {
        if (plan.sum_width == 0) return permute_entries<true>(archs, plan, out);
        return permute_entries<false>(archs, plan, out);
    }
#endif
    // 128 pairs hold every space of up to 256 slots; wider ones are done row by row.
    constexpr std::size_t kIndices = 128 * kTileRows;
    static_assert(2 * kIndices >= kMaxLookupSlots);
    std::uint16_t index[kIndices];
    std::size_t block = kTileRows;
    while (block > 1 && block * plan.n_pairs > kIndices)
        block /= 2;
    for (std::size_t r = 0; r < n_rows; r += block) {
        const std::size_t rows = n_rows - r < block ? n_rows - r : block;
        pair_indices(archs + r * plan.n_slots, rows, plan, index);
        double* to = out + r * plan.width;
        switch (plan.width) {
            case 1:
                reduce<1>(index, rows, plan, to);
                break;
            case 2:
                reduce<2>(index, rows, plan, to);
                break;
            case 4:
                reduce<4>(index, rows, plan, to);
                break;
            case 8:
                reduce<8>(index, rows, plan, to);
                break;
            case 16:
                reduce<16>(index, rows, plan, to);
                break;
            default:
                reduce<0>(index, rows, plan, to);
        }
    }
}

void squared_lengths(const std::uint8_t* archs, std::size_t n_rows, const LookupPlan& plan,
                     double* sums, double* out) {
    static_assert(kSquares == kGroup);
    reduce_range<4 * kLanes, false, 0>(archs, n_rows, plan, 0, plan.width, sums);
    for (std::size_t r = 0; r < n_rows; ++r) {
        Row squares = row_of(0.0);
        for (std::size_t c = 0; c < plan.width; c += kGroup) {
            const Row part = load_row(sums + r * plan.width + c);
            squares = squares + part * part;
        }
        double lanes[kGroup];
        store_row(lanes, squares);
        for (unsigned half = kGroup / 2; half > 0; half /= 2) {
            for (unsigned i = 0; i < half; ++i)
                lanes[i] += lanes[i + half];
        }
        out[r] = lanes[0];
    }
}

}  // namespace

constinit const CostKernels CostKernels::PNAG_LEVEL = {
    .any_above = simd::any_above,
    .lookup = simd::lookup,
    .squared_lengths = simd::squared_lengths,
};

}  // namespace pnag::simd
