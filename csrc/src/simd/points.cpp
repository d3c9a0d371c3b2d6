#include "simd/points.hpp"

#include "simd/lanes.hpp"

namespace pnag::simd {
namespace {

// One comparison per column, all ANDed, for Q queries at once as far as all of them look. M is a
// constant so that the columns stay in registers.
template <int M, int Q>
void max_ranks_below_of(const std::int32_t* const* columns, const std::int32_t* rank,
                        const std::size_t* n, const std::int32_t* queries, std::int32_t* best) {
    const std::int32_t* column[M];
    for (int c = 0; c < M; ++c)
        column[c] = columns[c];
#if defined(__AVX512F__)
    std::size_t begin = 0;
    __m512i limit[Q][M];
    __m512i most[Q];
    for (int q = 0; q < Q; ++q) {
        most[q] = _mm512_set1_epi32(-1);
        for (int c = 0; c < M; ++c)
            limit[q][c] = _mm512_set1_epi32(queries[q * M + c]);
    }
    for (; begin + 16 <= n[0]; begin += 16) {
        __m512i value[M];
        for (int c = 0; c < M; ++c)
            value[c] = _mm512_loadu_si512(column[c] + begin);
        const __m512i ranks = _mm512_loadu_si512(rank + begin);
        for (int q = 0; q < Q; ++q) {
            __mmask16 below = _mm512_cmplt_epi32_mask(value[0], limit[q][0]);
            for (int c = 1; c < M; ++c)
                below = _mm512_mask_cmplt_epi32_mask(below, value[c], limit[q][c]);
            most[q] = _mm512_mask_max_epi32(most[q], below, most[q], ranks);
        }
    }
    for (int q = 0; q < Q; ++q) {
        for (std::size_t i = begin; i < n[q]; i += 16) {
            const std::size_t left = n[q] - i;
            const auto inside = static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1U);
            __mmask16 below = inside;
            for (int c = 0; c < M; ++c) {
                below = _mm512_mask_cmplt_epi32_mask(
                    below, _mm512_maskz_loadu_epi32(inside, column[c] + i), limit[q][c]);
            }
            most[q] = _mm512_mask_max_epi32(most[q], below, most[q],
                                            _mm512_maskz_loadu_epi32(inside, rank + i));
        }
        std::int32_t lanes[16];
        _mm512_storeu_si512(lanes, most[q]);
        std::int32_t largest = -1;
        for (int l = 0; l < 16; ++l)
            largest = largest < lanes[l] ? lanes[l] : largest;
        best[q] = largest;
    }
#else
#if defined(__AVX2__)
    const __m256i none = _mm256_set1_epi32(-1);
    __m256i limit[Q][M];
    __m256i most[Q];
    for (int q = 0; q < Q; ++q) {
        most[q] = none;
        for (int c = 0; c < M; ++c)
            limit[q][c] = _mm256_set1_epi32(queries[q * M + c]);
    }
    const auto load = [](const std::int32_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    };
    const auto look = [&](int q, const __m256i* value, __m256i ranks) {
        __m256i below = _mm256_cmpgt_epi32(limit[q][0], value[0]);
        for (int c = 1; c < M; ++c)
            below = _mm256_and_si256(below, _mm256_cmpgt_epi32(limit[q][c], value[c]));
        most[q] = _mm256_max_epi32(most[q], _mm256_blendv_epi8(none, ranks, below));
    };
    __m256i value[M];
    std::size_t begin = 0;
    for (; begin + 8 <= n[0]; begin += 8) {
        for (int c = 0; c < M; ++c)
            value[c] = load(column[c] + begin);
        const __m256i ranks = load(rank + begin);
        for (int q = 0; q < Q; ++q)
            look(q, value, ranks);
    }
#endif
    for (int q = 0; q < Q; ++q) {
        std::size_t i = 0;
        std::int32_t largest = -1;
#if defined(__AVX2__)
        for (i = begin; i + 8 <= n[q]; i += 8) {
            for (int c = 0; c < M; ++c)
                value[c] = load(column[c] + i);
            look(q, value, load(rank + i));
        }
        std::int32_t lanes[8];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), most[q]);
        for (int l = 0; l < 8; ++l)
            largest = largest < lanes[l] ? lanes[l] : largest;
#endif
        for (; i < n[q]; ++i) {
            bool below = true;
            for (int c = 0; c < M; ++c)
                below = below & (column[c][i] < queries[q * M + c]);
            const std::int32_t candidate = below ? rank[i] : -1;
            largest = largest < candidate ? candidate : largest;
        }
        best[q] = largest;
    }
#endif
}

std::int32_t max_rank_below_any(const std::int32_t* const* columns, int n_columns,
                                const std::int32_t* rank, std::size_t n,
                                const std::int32_t* query) {
    constexpr std::size_t kChunk = 64;
    std::int32_t best = -1;
    for (std::size_t begin = 0; begin < n; begin += kChunk) {
        const std::size_t size = n - begin < kChunk ? n - begin : kChunk;
        std::int32_t below[kChunk];
        for (std::size_t i = 0; i < size; ++i)
            below[i] = -1;
        for (int c = 0; c < n_columns; ++c) {
            const std::int32_t* column = columns[c] + begin;
            const std::int32_t q = query[c];
            for (std::size_t i = 0; i < size; ++i)
                below[i] &= column[i] < q ? -1 : 0;
        }
        for (std::size_t i = 0; i < size; ++i) {
            const std::int32_t candidate = below[i] != 0 ? rank[begin + i] : -1;
            best = best < candidate ? candidate : best;
        }
    }
    return best;
}

template <int M>
void max_ranks_below_of(const std::int32_t* const* columns, const std::int32_t* rank,
                        std::size_t n_queries, const std::size_t* n, const std::int32_t* queries,
                        std::int32_t* best) {
    constexpr int kQueries = kLanes / 2;  // as many as registers hold
    std::size_t q = 0;
    for (; q + kQueries <= n_queries; q += kQueries)
        max_ranks_below_of<M, kQueries>(columns, rank, n + q, queries + q * M, best + q);
    for (; q < n_queries; ++q)
        max_ranks_below_of<M, 1>(columns, rank, n + q, queries + q * M, best + q);
}

void max_ranks_below(const std::int32_t* const* columns, int n_columns, const std::int32_t* rank,
                     std::size_t n_queries, const std::size_t* n, const std::int32_t* queries,
                     std::int32_t* best) {
    switch (n_columns) {
        case 1:
            return max_ranks_below_of<1>(columns, rank, n_queries, n, queries, best);
        case 2:
            return max_ranks_below_of<2>(columns, rank, n_queries, n, queries, best);
        case 3:
            return max_ranks_below_of<3>(columns, rank, n_queries, n, queries, best);
        case 4:
            return max_ranks_below_of<4>(columns, rank, n_queries, n, queries, best);
        case 5:
            return max_ranks_below_of<5>(columns, rank, n_queries, n, queries, best);
        case 6:
            return max_ranks_below_of<6>(columns, rank, n_queries, n, queries, best);
        case 7:
            return max_ranks_below_of<7>(columns, rank, n_queries, n, queries, best);
        default:
            for (std::size_t q = 0; q < n_queries; ++q) {
                const std::int32_t* query = queries + q * static_cast<std::size_t>(n_columns);
                best[q] = max_rank_below_any(columns, n_columns, rank, n[q], query);
            }
    }
}

// Bit i: point i of the block is nowhere above the query.
inline unsigned not_above(const double* block, int n_columns, const double* query) {
#if defined(__AVX512F__)
    __mmask8 low = 0xFF;
    __mmask8 high = 0xFF;
    for (int c = 0; c < n_columns; ++c) {
        const __m512d limit = _mm512_set1_pd(query[c]);
        low = _mm512_mask_cmp_pd_mask(low, _mm512_loadu_pd(block), limit, _CMP_LE_OQ);
        high = _mm512_mask_cmp_pd_mask(high, _mm512_loadu_pd(block + 8), limit, _CMP_LE_OQ);
        block += kBlock;
    }
    return static_cast<unsigned>(low) | static_cast<unsigned>(high) << 8;
#elif defined(__AVX2__)
    unsigned found = 0;
    for (unsigned part = 0; part < kBlock; part += 8) {
        __m256d low = _mm256_castsi256_pd(_mm256_set1_epi64x(-1));
        __m256d high = low;
        const double* column = block + part;
        for (int c = 0; c < n_columns; ++c) {
            const __m256d limit = _mm256_set1_pd(query[c]);
            low = _mm256_and_pd(low, _mm256_cmp_pd(_mm256_loadu_pd(column), limit, _CMP_LE_OQ));
            high =
                _mm256_and_pd(high, _mm256_cmp_pd(_mm256_loadu_pd(column + 4), limit, _CMP_LE_OQ));
            column += kBlock;
        }
        found |= static_cast<unsigned>(_mm256_movemask_pd(low)) << part;
        found |= static_cast<unsigned>(_mm256_movemask_pd(high)) << (part + 4);
    }
    return found;
#else
    unsigned found = 0;
    for (unsigned i = 0; i < kBlock; ++i) {
        int c = 0;
        while (c < n_columns && block[static_cast<unsigned>(c) * kBlock + i] <= query[c])
            ++c;
        found |= c == n_columns ? 1U << i : 0U;
    }
    return found;
#endif
}

std::size_t find_dominator(const double* blocks, int n_columns, std::size_t n,
                           const double* query) {
    const std::size_t stride = kBlock * static_cast<std::size_t>(n_columns);
    for (std::size_t begin = 0; begin < n; begin += kBlock, blocks += stride) {
        unsigned found = not_above(blocks, n_columns, query);
        // Rare from here on: nowhere above, so it dominates unless it is equal.
        for (; found != 0; found &= found - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctz(found));
            for (int c = 0; c < n_columns; ++c) {
                if (blocks[static_cast<std::size_t>(c) * kBlock + i] < query[c]) return begin + i;
            }
        }
    }
    return n;
}

bool any_not_above(const double* blocks, int n_columns, std::size_t n, const double* query) {
    const std::size_t stride = kBlock * static_cast<std::size_t>(n_columns);
    for (std::size_t begin = 0; begin < n; begin += kBlock, blocks += stride) {
        if (not_above(blocks, n_columns, query) != 0) return true;
    }
    return false;
}

std::size_t find_first_within(const double* const* levels, int n_levels, int n_columns,
                              const double* query) {
    const std::size_t stride = kBlock * static_cast<std::size_t>(n_columns);
    unsigned left[kMaxLevels];  // of the block on the way down at each level: children to visit
    int level = n_levels - 1;
    std::size_t block = 0;
    left[level] = not_above(levels[level], n_columns, query);
    for (;;) {
        if (left[level] == 0) {
            if (++level == n_levels) return static_cast<std::size_t>(-1);
            block /= kBlock;
            continue;
        }
        const std::size_t child =
            block * kBlock + static_cast<std::size_t>(__builtin_ctz(left[level]));
        if (level == 0) return child;
        left[level] &= left[level] - 1;
        block = child;
        --level;
        left[level] = not_above(levels[level] + block * stride, n_columns, query);
    }
}

}  // namespace

constinit const PointKernels PointKernels::PNAG_LEVEL = {
    .max_ranks_below = simd::max_ranks_below,
    .find_dominator = simd::find_dominator,
    .any_not_above = simd::any_not_above,
    .find_first_within = simd::find_first_within,
    .find_places = simd::find_places,
};

}  // namespace pnag::simd
