// Most of what a volume depends on goes either way at random, so these count and select where other
// code would branch. Sums run over groups of 8 lanes whatever the width of a register, so that
// every instruction set adds in the same order.
#include "simd/volume.hpp"

#include "simd/lanes.hpp"

namespace pnag::simd {
namespace {

void lower_limits(const double* x, const double* y, std::size_t n, double px, double py,
                  double* x_limit, double* y_limit) {
    double x_least = *x_limit;
    double y_least = *y_limit;
    std::size_t i = 0;
#if defined(__AVX512F__)
    __m512d x_most = _mm512_set1_pd(x_least);
    __m512d y_most = _mm512_set1_pd(y_least);
    const __m512d vpx = _mm512_set1_pd(px);
    const __m512d vpy = _mm512_set1_pd(py);
    for (; i + 8 <= n; i += 8) {
        const __m512d vx = _mm512_loadu_pd(x + i);
        const __m512d vy = _mm512_loadu_pd(y + i);
        x_most = _mm512_mask_min_pd(x_most, _mm512_cmp_pd_mask(vy, vpy, _CMP_LE_OQ), x_most, vx);
        y_most = _mm512_mask_min_pd(y_most, _mm512_cmp_pd_mask(vx, vpx, _CMP_LE_OQ), y_most, vy);
    }
    double lanes[16];
    _mm512_storeu_pd(lanes, x_most);
    _mm512_storeu_pd(lanes + 8, y_most);
    for (int l = 0; l < 8; ++l) {
        x_least = lanes[l] < x_least ? lanes[l] : x_least;
        y_least = lanes[8 + l] < y_least ? lanes[8 + l] : y_least;
    }
#elif defined(__AVX2__)
    const __m256d x_start = _mm256_set1_pd(x_least);
    const __m256d y_start = _mm256_set1_pd(y_least);
    __m256d x_most = x_start;
    __m256d y_most = y_start;
    const __m256d vpx = _mm256_set1_pd(px);
    const __m256d vpy = _mm256_set1_pd(py);
    for (; i + 4 <= n; i += 4) {
        const __m256d vx = _mm256_loadu_pd(x + i);
        const __m256d vy = _mm256_loadu_pd(y + i);
        x_most = _mm256_min_pd(x_most,
                               _mm256_blendv_pd(x_start, vx, _mm256_cmp_pd(vy, vpy, _CMP_LE_OQ)));
        y_most = _mm256_min_pd(y_most,
                               _mm256_blendv_pd(y_start, vy, _mm256_cmp_pd(vx, vpx, _CMP_LE_OQ)));
    }
    double lanes[8];
    _mm256_storeu_pd(lanes, x_most);
    _mm256_storeu_pd(lanes + 4, y_most);
    for (int l = 0; l < 4; ++l) {
        x_least = lanes[l] < x_least ? lanes[l] : x_least;
        y_least = lanes[4 + l] < y_least ? lanes[4 + l] : y_least;
    }
#endif
    for (; i < n; ++i) {
        x_least = y[i] <= py && x[i] < x_least ? x[i] : x_least;
        y_least = x[i] <= px && y[i] < y_least ? y[i] : y_least;
    }
    *x_limit = x_least;
    *y_limit = y_least;
}

std::size_t collect_below(const double* x, const double* y, std::size_t n, double x_limit,
                          double y_limit, std::uint32_t* found) {
    std::size_t n_found = 0;
    std::size_t i = 0;
#if defined(__AVX512F__)
    const __m512d vx = _mm512_set1_pd(x_limit);
    const __m512d vy = _mm512_set1_pd(y_limit);
    for (; i + 8 <= n; i += 8) {
        unsigned hits =
            _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(_mm512_loadu_pd(x + i), vx, _CMP_LT_OQ),
                                    _mm512_loadu_pd(y + i), vy, _CMP_LT_OQ);
        for (; hits != 0; hits &= hits - 1) {
            found[n_found++] =
                static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(hits));
        }
    }
#elif defined(__AVX2__)
    const __m256d vx = _mm256_set1_pd(x_limit);
    const __m256d vy = _mm256_set1_pd(y_limit);
    for (; i + 4 <= n; i += 4) {
        auto hits = static_cast<unsigned>(_mm256_movemask_pd(
            _mm256_and_pd(_mm256_cmp_pd(_mm256_loadu_pd(x + i), vx, _CMP_LT_OQ),
                          _mm256_cmp_pd(_mm256_loadu_pd(y + i), vy, _CMP_LT_OQ))));
        for (; hits != 0; hits &= hits - 1) {
            found[n_found++] =
                static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(hits));
        }
    }
#endif
    for (; i < n; ++i) {
        if (x[i] < x_limit && y[i] < y_limit) found[n_found++] = static_cast<std::uint32_t>(i);
    }
    return n_found;
}

inline double least_of(const Lanes& lanes) {
    double least = lanes[0];
    for (int i = 1; i < kLanes; ++i)
        least = lanes[i] < least ? lanes[i] : least;
    return least;
}

// Sum over `Groups` groups of z levels of their thickness times the area that the events leave free
// there. Events come by x; each lowers the height of the area from its first level on.
template <std::size_t Groups>
double sum_levels(const double* x, const double* height, const double* first, std::size_t n,
                  const double* thickness, double level, double left, double right, double top) {
    constexpr std::size_t kParts = Groups * kGroup / kStep;
    Lanes free[kParts];
    Lanes area[kParts];
    Lanes number[kParts];
    for (std::size_t g = 0; g < kParts; ++g) {
        fill(free[g], top);
        area[g] = Lanes{};
        for (int i = 0; i < kLanes; ++i)
            number[g][i] = level + static_cast<double>(g * kStep) + i;
    }
    const auto advance = [&](double to) {
        Lanes width;
        fill(width, to - left);
        left = to;
        for (std::size_t g = 0; g < kParts; ++g)
            area[g] += width * free[g];
    };
    for (std::size_t j = 0; j < n; ++j) {
        advance(x[j]);
        Lanes own;
        Lanes start;
        fill(own, height[j]);
        fill(start, first[j]);
        for (std::size_t g = 0; g < kParts; ++g) {
            const Lanes lower = own < free[g] ? own : free[g];
            free[g] = number[g] >= start ? lower : free[g];
        }
    }
    advance(right);
    double sums[kGroup] = {};
    for (std::size_t g = 0; g < kParts; ++g) {
        Lanes thick;
        load(thick, thickness + g * kStep);
        area[g] *= thick;
        for (int i = 0; i < kLanes; ++i)
            sums[(g * kStep + static_cast<std::size_t>(i)) % kGroup] += area[g][i];
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// Volume under `top` that the events leave free, between `left` and `right` and from `bottom` up to
// `ceiling`. Events come by z; each lowers the height from its x and its z on.
double sum_events(const double* x, const double* height, const double* z, std::size_t n,
                  double left, double bottom, double right, double ceiling, double top) {
    // Levels start at the bottom and at every event above it.
    double thickness[kMaxEvents + 1 + 4 * kGroup];
    double first[kMaxEvents];
    double level = bottom;
    std::size_t n_levels = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const bool above = z[i] > bottom;
        thickness[n_levels] = z[i] - level;
        n_levels += above ? 1 : 0;
        level = above ? z[i] : level;
        first[i] = static_cast<double>(n_levels);
    }
    thickness[n_levels++] = ceiling - level;
    for (std::size_t i = 0; i < 4 * kGroup; ++i)
        thickness[n_levels + i] = 0.0;

    std::int64_t place[kMaxEvents + kGroup];
    find_places(x, n, place);
    double by_x[3][kMaxEvents];
    for (std::size_t i = 0; i < n; ++i) {
        const auto to = static_cast<std::size_t>(place[i]);
        by_x[0][to] = x[i];
        by_x[1][to] = height[i];
        by_x[2][to] = first[i];
    }
    double volume = 0.0;
    for (std::size_t done = 0; done < n_levels;) {
        const auto add = [&](auto sum, std::size_t groups) {
            volume += sum(by_x[0], by_x[1], by_x[2], n, thickness + done, static_cast<double>(done),
                          left, right, top);
            done += groups * kGroup;
        };
        if (n_levels - done > 2 * kGroup) {
            add(sum_levels<4>, 4);
        } else if (n_levels - done > kGroup) {
            add(sum_levels<2>, 2);
        } else {
            add(sum_levels<1>, 1);
        }
    }
    return volume;
}

double free_space(const double* x, const double* y, const double* z, std::size_t n, double px,
                  double py, double pz, const double* corner) {
    // The point's free edges end at members that are not above it in the other two objectives.
    double limit[3];
    {
        Lanes vp[3];
        Lanes least[3];
        Lanes large;
        fill(large, kLarge);
        fill(vp[0], px);
        fill(vp[1], py);
        fill(vp[2], pz);
        for (int j = 0; j < 3; ++j)
            fill(least[j], corner[j]);
        for (std::size_t i = 0; i < n; i += kStep) {
            Lanes vx;
            Lanes vy;
            Lanes vz;
            load(vx, x + i);
            load(vy, y + i);
            load(vz, z + i);
            Lanes to = vy <= vp[1] ? vx : large;
            to = vz <= vp[2] ? to : large;
            least[0] = to < least[0] ? to : least[0];
            to = vx <= vp[0] ? vy : large;
            to = vz <= vp[2] ? to : large;
            least[1] = to < least[1] ? to : least[1];
            to = vx <= vp[0] ? vz : large;
            to = vy <= vp[1] ? to : large;
            least[2] = to < least[2] ? to : least[2];
        }
        for (int j = 0; j < 3; ++j)
            limit[j] = least_of(least[j]);
    }
    if (limit[0] <= px || limit[1] <= py || limit[2] <= pz) return 0.0;

    // Members that reach into what is left of its box, in order of z.
    const Row limits[3] = {row_of(limit[0]), row_of(limit[1]), row_of(limit[2])};
    double ex[kMaxEvents + kGroup];
    double ey[kMaxEvents + kGroup];
    double ez[kMaxEvents + kGroup];
    std::size_t k = 0;
    for (std::size_t i = 0; i < n; i += kGroup) {
        const Row vx = load_row(x + i);
        const Row vy = load_row(y + i);
        const Row vz = load_row(z + i);
        unsigned hits =
            bits_above(limits[0], vx) & bits_above(limits[1], vy) & bits_above(limits[2], vz);
        if (k + kGroup > kMaxEvents) {
            if (hits == 0) continue;
            return -1.0;
        }
        for (unsigned p = 0; p < kRowParts; ++p, hits >>= kLanes) {
            // Where registers are narrow, most have nothing to keep.
            if (kRowParts > 2 && (hits & ((1U << kLanes) - 1U)) == 0) continue;
            store_kept(ex + k, vx.part[p], hits);
            store_kept(ey + k, vy.part[p], hits);
            k += store_kept(ez + k, vz.part[p], hits);
        }
    }
    if (k == 0) return (limit[0] - px) * (limit[1] - py) * (limit[2] - pz);
    store_row(ex + k, row_of(0.0));  // the rest of a group
    for (std::size_t i = 0; i < k; ++i) {
        ex[i] = ex[i] < px ? px : ex[i];
        ey[i] = ey[i] < py ? 0.0 : ey[i] - py;
    }
    return sum_events(ex, ey, ez, k, px, pz, limit[0], limit[2], limit[1] - py);
}

double covered_space(const double* x, const double* y, const double* z, std::size_t n,
                     const double* corner) {
    double heights[kMaxEvents + kGroup];
    double left = corner[0];
    // The same sum with depths below the corner for heights, as negative numbers.
    for (std::size_t i = 0; i < n; ++i) {
        heights[i] = y[i] - corner[1];
        left = x[i] < left ? x[i] : left;
    }
    return 0.0 - sum_events(x, heights, z, n, left, z[0], corner[0], corner[2], 0.0);
}

std::size_t add_member(double* x, double* y, double* z, std::size_t n, double px, double py,
                       double pz) {
    const Row height = row_of(pz);
    std::size_t at = 0;
    for (std::size_t i = 0; i < n; i += kGroup) {
        const unsigned above = bits_above(load_row(z + i), height);
        at += kGroup - static_cast<std::size_t>(__builtin_popcount(above));
    }
    // A register is written after the next one is read: with the new member it may end in that.
    Lanes corner_x;
    Lanes corner_y;
    Lanes next_x;
    Lanes next_y;
    Lanes next_z;
    fill(corner_x, px);
    fill(corner_y, py);
    load(next_x, x + at);
    load(next_y, y + at);
    load(next_z, z + at);
    std::size_t to = at;
    x[to] = px;
    y[to] = py;
    z[to++] = pz;
    for (std::size_t i = at; i < n; i += kStep) {
        const Lanes own_x = next_x;
        const Lanes own_y = next_y;
        const Lanes own_z = next_z;
        load(next_x, x + i + kStep);
        load(next_y, y + i + kStep);
        load(next_z, z + i + kStep);
        const unsigned keep = bits_above(corner_x, own_x) | bits_above(corner_y, own_y);
        store_kept(x + to, own_x, keep);
        store_kept(y + to, own_y, keep);
        to += store_kept(z + to, own_z, keep);
    }
    const Row none = row_of(kLarge);
    for (std::size_t i = to; i < n + kGroup; i += kGroup) {
        store_row(x + i, none);
        store_row(y + i, none);
        store_row(z + i, none);
    }
    return to;
}

}  // namespace

constinit const VolumeKernels VolumeKernels::PNAG_LEVEL = {
    .lower_limits = simd::lower_limits,
    .collect_below = simd::collect_below,
    .covered_space = simd::covered_space,
    .free_space = simd::free_space,
    .add_member = simd::add_member,
};

}  // namespace pnag::simd
