// Registers of doubles: part of a topic's kernels, which are compiled once for each level. In an
// unnamed namespace, so that the linker cannot take one level's code for another's, and without
// templates of the standard library for the same reason.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pnag::simd {
namespace {

// Doubles in a register; wider groups would be split and spilled.
#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif

typedef double Lanes __attribute__((vector_size(8 * kLanes)));
typedef long long LaneFlags __attribute__((vector_size(8 * kLanes)));

constexpr std::size_t kStep = static_cast<std::size_t>(kLanes);
constexpr std::size_t kGroup = 8;
constexpr double kLarge = __builtin_inf();

inline void load(Lanes& lanes, const double* from) {
    __builtin_memcpy(&lanes, from, sizeof lanes);
}

inline void fill(Lanes& lanes, double value) {
    lanes = value - Lanes{};
}

// Doubles that kernels take at once whatever the level, in registers. Compilers keep vectors that
// are wider than a register in memory.
constexpr unsigned kRowParts = kGroup / static_cast<unsigned>(kLanes);

struct Row {
    Lanes part[kRowParts];
};

inline Row load_row(const double* from) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        __builtin_memcpy(&row.part[p], from + p * kLanes, sizeof row.part[p]);
    return row;
}

inline void store_row(double* to, const Row& row) {
    for (unsigned p = 0; p < kRowParts; ++p)
        __builtin_memcpy(to + p * kLanes, &row.part[p], sizeof row.part[p]);
}

inline Row row_of(double value) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = value - Lanes{};
    return row;
}

inline Row operator-(const Row& a, const Row& b) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = a.part[p] - b.part[p];
    return row;
}

inline Row operator+(const Row& a, const Row& b) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = a.part[p] + b.part[p];
    return row;
}

inline Row operator*(const Row& a, const Row& b) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = a.part[p] * b.part[p];
    return row;
}

inline Row most(const Row& a, const Row& b) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = a.part[p] > b.part[p] ? a.part[p] : b.part[p];
    return row;
}

inline Row least(const Row& a, const Row& b) {
    Row row;
    for (unsigned p = 0; p < kRowParts; ++p)
        row.part[p] = a.part[p] < b.part[p] ? a.part[p] : b.part[p];
    return row;
}

// Bit j: a[j] > b[j].
inline unsigned bits_above(const Lanes& a, const Lanes& b) {
#if defined(__AVX512F__)
    return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
#elif defined(__AVX2__)
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)));
#elif defined(__SSE2__)
    return static_cast<unsigned>(_mm_movemask_pd(_mm_cmpgt_pd(a, b)));
#else
    unsigned bits = 0;
    for (int j = 0; j < kLanes; ++j)
        bits |= (a[j] > b[j] ? 1U : 0U) << j;
    return bits;
#endif
}

inline unsigned bits_above(const Row& a, const Row& b) {
    unsigned bits = 0;
    for (unsigned p = 0; p < kRowParts; ++p)
        bits |= bits_above(a.part[p], b.part[p]) << (p * kLanes);
    return bits;
}

// Lower high[j] to row[j] for the bits j.
inline void lower_to(Row& high, const Row& row, unsigned bits) {
#if defined(__AVX512F__)
    high.part[0] =
        _mm512_mask_min_pd(high.part[0], static_cast<__mmask8>(bits), high.part[0], row.part[0]);
#else
    for (unsigned p = 0; p < kRowParts; ++p) {
        LaneFlags bit;
        for (int i = 0; i < kLanes; ++i)
            bit[i] = 1LL << (static_cast<int>(p) * kLanes + i);
        const Lanes none = __builtin_inf() - Lanes{};
        const Lanes to = (bit & static_cast<long long>(bits)) != 0 ? row.part[p] : none;
        high.part[p] = to < high.part[p] ? to : high.part[p];
    }
#endif
}

// 1 for 0, else 0; in arithmetic, because compilers turn a comparison into a branch as they like.
inline unsigned is_zero(unsigned small) {
    return (small - 1U) >> 31;
}

inline double least_of(const Row& row) {
    double lanes[kGroup];
    store_row(lanes, row);
    for (unsigned width = kGroup / 2; width > 0; width /= 2) {
        for (unsigned i = 0; i < width; ++i)
            lanes[i] = lanes[i + width] < lanes[i] ? lanes[i + width] : lanes[i];
    }
    return lanes[0];
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// By the lanes to keep: halves of lanes, those to keep first.
struct KeptHalves {
    alignas(32) std::int32_t of[16][8] = {};

    constexpr KeptHalves() {
        for (int keep = 0; keep < 16; ++keep) {
            int to = 0;
            for (int lane = 0; lane < 4; ++lane) {
                if ((keep >> lane & 1) == 0) continue;
                of[keep][to++] = 2 * lane;
                of[keep][to++] = 2 * lane + 1;
            }
        }
    }
};
constexpr KeptHalves kKeptHalves;
#endif

// Write the lanes whose bits are set side by side, and anything to the rest of a register; returns
// how many they are.
inline std::size_t store_kept(double* to, const Lanes& lanes, unsigned bits) {
#if defined(__AVX512F__)
    _mm512_storeu_pd(to, _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), lanes));
    return static_cast<std::size_t>(__builtin_popcount(bits & 0xFFU));
#elif defined(__AVX2__)
    const auto* order = reinterpret_cast<const __m256i*>(kKeptHalves.of[bits & 15U]);
    const __m256 halves = _mm256_castpd_ps(lanes);
    const __m256 kept = _mm256_permutevar8x32_ps(halves, _mm256_load_si256(order));
    _mm256_storeu_pd(to, _mm256_castps_pd(kept));
    return static_cast<std::size_t>(__builtin_popcount(bits & 15U));
#else
    to[0] = (bits & 1U) != 0 ? lanes[0] : lanes[1];
    to[1] = lanes[1];
    return (bits & 1U) + (bits >> 1 & 1U);
#endif
}

inline void find_places(const double* values, std::size_t n, std::int64_t* place) {
    // A place is the number of values below, and of equal ones before.
    Lanes number;
    for (int i = 0; i < kLanes; ++i)
        number[i] = i;
    for (std::size_t begin = 0; begin < n; begin += kStep) {
        Lanes own;
        load(own, values + begin);
        LaneFlags count = {};
        Lanes other;
        for (std::size_t j = 0; j < begin; ++j) {
            fill(other, values[j]);
            count += other <= own;
        }
        const std::size_t stop = begin + kStep < n ? begin + kStep : n;
        for (std::size_t j = begin; j < stop; ++j) {
            fill(other, values[j]);
            Lanes at;
            fill(at, static_cast<double>(j - begin));
            count += (other < own) | ((other == own) & (number > at));
        }
        for (std::size_t j = stop; j < n; ++j) {
            fill(other, values[j]);
            count += other < own;
        }
        count = -count;
        __builtin_memcpy(place + begin, &count, sizeof count);
    }
}

}  // namespace
}  // namespace pnag::simd
