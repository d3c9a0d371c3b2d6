#include "simd/cells.hpp"

#include "simd/lanes.hpp"

namespace pnag::simd {
namespace {

static_assert(kCellWidth == kGroup);

std::size_t keep_inside(const double* rows, const std::uint32_t* ids, std::size_t n,
                        const double* upper, double* out, std::uint32_t* out_ids) {
    const Row high = load_row(upper);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const Row row = load_row(rows + i * kCellWidth);
        // Written first and counted after: whether a row stays is a coin flip, not worth a branch.
        store_row(out + kept * kCellWidth, row);
        if (ids != nullptr) out_ids[kept] = ids[i];
        kept += bits_above(high, row) == (1U << kCellWidth) - 1U ? 1 : 0;
    }
    return kept;
}

std::size_t clip_cell(const double* rows, std::size_t n, const double* lower, double* upper,
                      double* out, CellSummary* summary) {
    const Row low = load_row(lower);
    Row high = load_row(upper);
    std::size_t kept = 0;
    summary->covers = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const Row row = most(load_row(rows + i * kCellWidth), low);
        const unsigned active = bits_above(row, low);
        const unsigned one = is_zero(active & (active - 1U));
        store_row(out + kept * kCellWidth, row);
        kept += one ^ 1U;
        lower_to(high, row, active & (0U - one));
        if (active == 0) {
            summary->covers = 1;
            return 0;
        }
    }
    store_row(upper, high);
    return keep_inside(out, nullptr, kept, upper, out, nullptr);
}

std::size_t clip_owned_cell(const double* rows, const std::uint32_t* ids, std::size_t n,
                            const double* lower, double* upper, double* out, std::uint32_t* out_ids,
                            CellSummary* summary) {
    constexpr std::uint32_t kNone = 0xFFFFFFFFU;
    const Row low = load_row(lower);
    Row high = load_row(upper);
    std::size_t kept = 0;
    summary->covers = 0;
    for (unsigned j = 0; j < kCellWidth; ++j)
        summary->slab[j] = kNone;
    for (std::size_t i = 0; i < n; ++i) {
        const Row row = most(load_row(rows + i * kCellWidth), low);
        const bool outside = bits_above(high, row) != (1U << kCellWidth) - 1U;
        const unsigned active = bits_above(row, low);
        const bool several = (active & (active - 1)) != 0;
        store_row(out + kept * kCellWidth, row);
        out_ids[kept] = ids[i];
        kept += (!outside & several) ? 1 : 0;
        if (outside | several) continue;
        if (active == 0) {
            summary->cover = ids[i];
            if (++summary->covers == 2) return 0;
            continue;
        }
        const auto j = static_cast<unsigned>(__builtin_ctz(active));
        double value[kCellWidth];
        store_row(value, row);
        if (summary->slab[j] == kNone || value[j] < summary->slab_at[j]) {
            if (summary->slab[j] != kNone) upper[j] = summary->slab_at[j];
            summary->slab[j] = ids[i];
            summary->slab_at[j] = value[j];
        } else {
            upper[j] = value[j];
        }
        high = load_row(upper);
    }
    return keep_inside(out, out_ids, kept, upper, out, out_ids);
}

unsigned choose_cut(const double* rows, std::size_t n, const double* lower, double* at) {
    const Row low = load_row(lower);
    LaneFlags count[kRowParts] = {};
    for (std::size_t i = 0; i < n; ++i) {
        const Row row = load_row(rows + i * kCellWidth);
        for (unsigned p = 0; p < kRowParts; ++p)
            count[p] += row.part[p] > low.part[p];
    }
    unsigned most_started = 0;
    long long least_count = 0;  // counts are negative
    for (unsigned j = 0; j < kCellWidth; ++j) {
        const long long own = count[j / kLanes][j % kLanes];
        most_started = own < least_count ? j : most_started;
        least_count = own < least_count ? own : least_count;
    }
    // Of a sample of the starts in this objective those inside the cell, at least one.
    constexpr std::size_t kSample = 20;
    const double floor = lower[most_started];
    const double* column = rows + most_started;
    double sample[kSample + kGroup] = {};
    std::size_t size = 0;
    const std::size_t step = (n + kSample - 1) / kSample;
    for (std::size_t i = 0; i < n; i += step) {
        sample[size] = column[i * kCellWidth];
        size += sample[size] > floor ? 1 : 0;
    }
    for (std::size_t i = 0; size == 0; ++i) {
        sample[0] = column[i * kCellWidth];
        size = sample[0] > floor ? 1 : 0;
    }
    std::int64_t place[kSample + kGroup];
    find_places(sample, size, place);
    *at = sample[0];
    for (std::size_t i = 0; i < size; ++i)
        *at = place[i] == static_cast<std::int64_t>(size / 2) ? sample[i] : *at;
    return most_started;
}

// Inclusion and exclusion, eight subsets at once: the lanes are the subsets of the first three
// rows, `node` holds the widths of what they and a subset of the other rows have in common.
template <unsigned M>
double union_of(const double* rows, std::size_t n, const double* upper) {
    constexpr double kAll = __builtin_inf();
    // Of each of the three rows: the subsets without it are not bound by its widths.
    constexpr double kWithout[3][kCellWidth] = {
        {kAll, 0.0, kAll, 0.0, kAll, 0.0, kAll, 0.0},
        {kAll, kAll, 0.0, 0.0, kAll, kAll, 0.0, 0.0},
        {kAll, kAll, kAll, kAll, 0.0, 0.0, 0.0, 0.0},
    };
    double width[kMaxCellRows][kCellWidth];
    const Row high = load_row(upper);
    for (std::size_t i = 0; i < n; ++i)
        store_row(width[i], high - load_row(rows + i * kCellWidth));
    for (std::size_t i = n; i < 3; ++i)
        store_row(width[i], row_of(0.0));

    constexpr std::size_t kOthers = kMaxCellRows - 3;
    Row node[1U << kOthers][M];
    const auto product = [](const Row* widths) {
        Row all = widths[0] * widths[1];
        for (unsigned j = 2; j < M; ++j)
            all = all * widths[j];
        return all;
    };
    for (unsigned j = 0; j < M; ++j) {
        const auto bound = [&](unsigned i) {
            return most(load_row(kWithout[i]), row_of(width[i][j]));
        };
        node[0][j] = least(least(bound(0), bound(1)), bound(2));
    }
    Row first = product(node[0]);
    first.part[0][0] = 0.0;  // the empty set is no subset
    Row sum = row_of(0.0) - first;
    const std::size_t n_others = n > 3 ? n - 3 : 0;
    for (std::size_t t = 1; t < std::size_t{1} << n_others; ++t) {
        const double* own = width[static_cast<std::size_t>(__builtin_ctzll(t)) + 3];
        const Row* parent = node[t & (t - 1)];
        for (unsigned j = 0; j < M; ++j)
            node[t][j] = least(parent[j], row_of(own[j]));
        const Row volume = product(node[t]);
        sum = __builtin_popcountll(t) % 2 == 1 ? sum + volume : sum - volume;
    }
    double sums[kCellWidth];
    store_row(sums, sum);
    return ((sums[0] - sums[1]) - (sums[2] - sums[3])) -
           ((sums[4] - sums[5]) - (sums[6] - sums[7]));
}

// A union in four objectives is swept along x, by rows of rising x. It is that of heights in y, one
// for each level of z, in lanes, and of w.
constexpr std::size_t kMostSteps = kMaxCellRowsInFour;

struct Steps {
    std::size_t n;
    double width[kMostSteps];
    double height[kMostSteps];
    double z[kMostSteps];               // where rows start
    std::int64_t first[kMostSteps];     // of the levels of w that they reach
    double level[kMostSteps + kGroup];  // of z, in any order
    double thickness[kMostSteps];       // of these
    double w_thickness[kMostSteps];
    std::size_t n_w;
};

// Heights only grow, and their growth is weighted with the thickness of its level at once. In
// registers one by one: compilers copy rows of several through memory.
template <std::size_t Groups>
double sweep_in_four(const Steps& steps) {
    constexpr std::size_t kParts = Groups * kRowParts;
    Lanes height[kMostSteps][kParts];
    Lanes area[kParts];
    Lanes sum[kParts];
    for (std::size_t p = 0; p < kParts; ++p) {
        area[p] = sum[p] = Lanes{};
        for (std::size_t a = 0; a < steps.n_w; ++a)
            height[a][p] = Lanes{};
    }
    for (std::size_t k = 0; k < steps.n; ++k) {
        Lanes reach[kParts];
        Lanes growth[kParts];
        for (std::size_t p = 0; p < kParts; ++p) {
            Lanes level;
            load(level, steps.level + p * kStep);
            reach[p] = level >= steps.z[k] - Lanes{} ? steps.height[k] - Lanes{} : Lanes{};
            growth[p] = Lanes{};
        }
        for (auto a = static_cast<std::size_t>(steps.first[k]); a < steps.n_w; ++a) {
            const Lanes thick = steps.w_thickness[a] - Lanes{};
            for (std::size_t p = 0; p < kParts; ++p) {
                const Lanes old = height[a][p];
                const Lanes grown = old > reach[p] ? old : reach[p];
                growth[p] += thick * (grown - old);
                height[a][p] = grown;
            }
        }
        const Lanes width = steps.width[k] - Lanes{};
        for (std::size_t p = 0; p < kParts; ++p) {
            area[p] += growth[p];
            sum[p] += width * area[p];
        }
    }
    double sums[kGroup * Groups];
    for (std::size_t p = 0; p < kParts; ++p) {
        Lanes thick;
        load(thick, steps.thickness + p * kStep);
        thick *= sum[p];
        __builtin_memcpy(sums + p * kStep, &thick, sizeof thick);
    }
    double total = 0.0;
    for (std::size_t g = 0; g < Groups; ++g) {
        const double* own = sums + g * kGroup;
        total += ((own[0] + own[1]) + (own[2] + own[3])) + ((own[4] + own[5]) + (own[6] + own[7]));
    }
    return total;
}

// From each of some levels to the next above, equal ones by index. Whole groups.
inline void find_thickness(const double* level, std::size_t n, double upper, double* thickness) {
    Row number;
    for (unsigned i = 0; i < kGroup; ++i)
        number.part[i / kLanes][i % kLanes] = i;
    for (std::size_t g = 0; g < n; g += kGroup) {
        const Row own = load_row(level + g);
        Row next = row_of(upper);
        for (std::size_t h = 0; h < n; h += kGroup) {
            for (std::size_t i = 0; i < kGroup; ++i) {
                const Lanes other = level[h + i] - Lanes{};
                const double after = static_cast<double>(h + i) - static_cast<double>(g);
                for (unsigned p = 0; p < kRowParts; ++p) {
                    const LaneFlags above =
                        (other > own.part[p]) |
                        ((other == own.part[p]) & (number.part[p] < after - Lanes{}));
                    const Lanes to = above ? other : next.part[p];
                    next.part[p] = to < next.part[p] ? to : next.part[p];
                }
            }
        }
        store_row(thickness + g, next - own);
    }
}

// Volume of the union of 1 <= n <= kMostSteps boxes [row, upper) in four objectives, by columns
// that go on with +inf. Rows come by the last objective, which is x. Of rows that are cut to a cell
// many start at its lower end: those share a level. z and w are objectives with few levels.
double union_in_four(const double (*column)[kMaxCutRows + kGroup], std::size_t n,
                     const double* upper) {
    const std::size_t padded = (n + kGroup - 1) / kGroup * kGroup;
    double lowest[3];
    std::size_t n_levels[3];
    for (std::size_t j = 0; j < 3; ++j) {
        Row low = load_row(column[j]);
        for (std::size_t g = kGroup; g < padded; g += kGroup)
            low = least(low, load_row(column[j] + g));
        lowest[j] = least_of(low);
        low = row_of(lowest[j]);
        n_levels[j] = n + 1 - padded;
        for (std::size_t g = 0; g < padded; g += kGroup) {
            const unsigned above = bits_above(load_row(column[j] + g), low);
            n_levels[j] += static_cast<std::size_t>(__builtin_popcount(above));
        }
    }
    const std::size_t y = n_levels[0] > n_levels[1] ? (n_levels[0] > n_levels[2] ? 0 : 2)
                                                    : (n_levels[1] > n_levels[2] ? 1 : 2);
    const auto work = [&](std::size_t lanes, std::size_t loop) {
        return (n_levels[lanes] + kGroup - 1) / kGroup * n_levels[loop];
    };
    std::size_t z = y == 0 ? 1 : 0;
    std::size_t w = 3 - y - z;
    if (work(w, z) < work(z, w)) {
        z = w;
        w = 3 - y - z;
    }

    Steps steps;
    steps.n = n;
    for (std::size_t g = 0; g < padded; g += kGroup) {
        const Row x = load_row(column[3] + g);
        const Row next = least(load_row(column[3] + g + 1), row_of(upper[3]));
        store_row(steps.width + g, next - x);
        store_row(steps.height + g, row_of(upper[y]) - load_row(column[y] + g));
        store_row(steps.z + g, load_row(column[z] + g));
    }
    steps.level[0] = lowest[z];
    std::size_t size = 1;
    for (std::size_t g = 0; g < padded; g += kGroup) {
        const Row row = load_row(column[z] + g);
        unsigned keep = bits_above(row, row_of(lowest[z]));
        for (unsigned p = 0; p < kRowParts; ++p, keep >>= kLanes)
            size += store_kept(steps.level + size, row.part[p], keep);
    }
    store_row(steps.level + n_levels[z], row_of(upper[z]));
    find_thickness(steps.level, n_levels[z], upper[z], steps.thickness);

    steps.n_w = n_levels[w];
    const auto shared = static_cast<std::int64_t>(n - n_levels[w]);
    find_places(column[w], n, steps.first);
    double level[kMostSteps + kGroup];
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t above = steps.first[i] - shared;
        steps.first[i] = above > 0 ? above : 0;
        level[steps.first[i]] = column[w][i];
        asm("");  // scattered stores of vectors are slower
    }
    store_row(level + n_levels[w], row_of(upper[w]));
    for (std::size_t g = 0; g < n_levels[w]; g += kGroup)
        store_row(steps.w_thickness + g, load_row(level + g + 1) - load_row(level + g));
    switch ((n_levels[z] + kGroup - 1) / kGroup) {
        case 1:
            return sweep_in_four<1>(steps);
        case 2:
            return sweep_in_four<2>(steps);
        case 3:
            return sweep_in_four<3>(steps);
        default:
            return sweep_in_four<4>(steps);
    }
}

double covered_by_raised(const double* columns, std::size_t n, const double* corner, double* upper,
                         double* rows, std::size_t* n_rows) {
    constexpr unsigned kAll = (1U << kGroup) - 1U;
    double raised[4][kMaxCutRows];
    unsigned several[kMaxCutRows / kGroup];
    Row high[4];
    for (std::size_t j = 0; j < 4; ++j)
        high[j] = row_of(upper[j]);
    unsigned all_active = kAll;
    for (std::size_t g = 0; g < n; g += kGroup) {
        unsigned active[4];
        unsigned any = 0;
        unsigned more = 0;
        for (std::size_t j = 0; j < 4; ++j) {
            const Row low = row_of(corner[j]);
            const Row row = most(load_row(columns + j * kMaxCutRows + g), low);
            store_row(raised[j] + g, row);
            active[j] = bits_above(row, low);
            more |= any & active[j];
            any |= active[j];
        }
        all_active &= any;
        several[g / kGroup] = more;
        for (std::size_t j = 0; j < 4; ++j)
            lower_to(high[j], load_row(raised[j] + g), active[j] & ~more);
    }
    // Without slabs the box shrinks; their volume is what it loses.
    double volume = 0.0;
    double after = 1.0;
    for (std::size_t j = 4; j-- > 0;) {
        const double width = upper[j] - corner[j];
        double inner = least_of(high[j]);
        inner = all_active == kAll ? inner : corner[j];
        volume = volume * (inner - corner[j]) + (upper[j] - inner) * after;
        after *= width;
        upper[j] = inner;
        high[j] = row_of(inner);
    }
    *n_rows = 0;
    if (all_active != kAll) return after;

    double inside[4][kMaxCutRows + kGroup];
    std::size_t size = 0;
    for (std::size_t g = 0; g < n; g += kGroup) {
        unsigned keep = several[g / kGroup];
        for (std::size_t j = 0; j < 4; ++j)
            keep &= bits_above(high[j], load_row(raised[j] + g));
        std::size_t kept = 0;
        for (std::size_t j = 0; j < 4; ++j) {
            const Row row = load_row(raised[j] + g);
            kept = 0;
            for (unsigned p = 0; p < kRowParts; ++p)
                kept += store_kept(inside[j] + size + kept, row.part[p], keep >> (p * kLanes));
        }
        size += kept;
    }
    // Rows come by the last objective: only those before can cover one.
    double left[4][kMaxCutRows + kGroup];
    std::size_t n_left = 0;
    for (std::size_t g = 0; g < size; g += kGroup) {
        Row own[3];
        for (std::size_t j = 0; j < 3; ++j)
            own[j] = load_row(inside[j] + g);
        const auto covered_by = [&](std::size_t i) {
            unsigned above = 0;
            for (std::size_t j = 0; j < 3; ++j)
                above |= bits_above(row_of(inside[j][i]), own[j]);
            return ~above;
        };
        unsigned covered = 0;
        for (std::size_t i = 0; i < g; ++i)
            covered |= covered_by(i);
        for (unsigned i = 0; i < kGroup; ++i)
            covered |= covered_by(g + i) & kAll << (i + 1);
        const unsigned some = size - g < kGroup ? (1U << (size - g)) - 1U : kAll;
        const unsigned keep = ~covered & some;
        for (std::size_t j = 0; j < 4; ++j) {
            const Row row = load_row(inside[j] + g);
            std::size_t to = n_left;
            for (unsigned p = 0; p < kRowParts; ++p)
                to += store_kept(left[j] + to, row.part[p], keep >> (p * kLanes));
        }
        n_left += static_cast<std::size_t>(__builtin_popcount(keep));
    }
    if (n_left == 0) return volume;
    if (n_left <= kMaxCellRowsInFour) {
        for (std::size_t j = 0; j < 4; ++j)
            store_row(left[j] + n_left, row_of(kLarge));
        return volume + union_in_four(left, n_left, upper);
    }
    for (std::size_t i = 0; i < n_left; ++i) {
        for (std::size_t j = 0; j < kCellWidth; ++j)
            rows[i * kCellWidth + j] = j < 4 ? left[j][i] : 0.0;
    }
    *n_rows = n_left;
    return volume;
}

double union_of_columns(const double* rows, std::size_t n, const double* upper) {
    double last[kMaxCellRowsInFour] = {};
    for (std::size_t i = 0; i < n; ++i)
        last[i] = rows[i * kCellWidth + 3];
    std::int64_t place[kMaxCellRowsInFour];
    find_places(last, n, place);
    double column[4][kMaxCutRows + kGroup];
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < 4; ++j)
            column[j][place[i]] = rows[i * kCellWidth + j];
    }
    for (std::size_t j = 0; j < 4; ++j)
        store_row(column[j] + n, row_of(kLarge));
    return union_in_four(column, n, upper);
}

double union_of_rows(const double* rows, std::size_t n, unsigned m, const double* upper) {
    switch (m) {
        case 1:
        case 2:
        case 3:
        case 4:
            if (n <= kMaxCellRows) return union_of<4>(rows, n, upper);
            return union_of_columns(rows, n, upper);
        case 5:
            return union_of<5>(rows, n, upper);
        case 6:
            return union_of<6>(rows, n, upper);
        case 7:
            return union_of<7>(rows, n, upper);
        default:
            return union_of<8>(rows, n, upper);
    }
}

}  // namespace

constinit const CellKernels CellKernels::PNAG_LEVEL = {
    .clip_cell = simd::clip_cell,
    .clip_owned_cell = simd::clip_owned_cell,
    .keep_inside = simd::keep_inside,
    .covered_by_raised = simd::covered_by_raised,
    .union_of_rows = simd::union_of_rows,
    .choose_cut = simd::choose_cut,
};

}  // namespace pnag::simd
