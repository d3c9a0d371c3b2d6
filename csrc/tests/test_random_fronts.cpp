// Random fronts against definitions that are written down as plainly as possible.
//
//     PNAG_RANDOM_FRONTS=100000 PNAG_RANDOM_FIRST=0 test_random_fronts
//
// Front i depends on i only; one that fails prints the line that repeats it alone. Fronts have 1 to
// 8 objectives and 0 to 3,000 points, most of them few: half have at most 6, one in a hundred more
// than 1,000. Of every front all ranks, the mask, all crowding distances, and the hypervolume and
// contributions of its first points are checked.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string>

#include "check.hpp"
#include "pareto/divide_and_conquer.hpp"
#include "pnag/pareto.hpp"
#include "pnag/random.hpp"

using namespace pnag;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::size_t kMaxPoints = 3000;
constexpr std::size_t kMaxObjectives = 8;

enum Family : std::uint64_t {
    uniform,
    integers,
    duplicated,
    constant_column,
    all_equal,
    nondominated,
    chain,
    antichain,
    extremes,
    n_families
};
constexpr const char* kFamilyNames[] = {"uniform",  "integers",  "duplicated",
                                        "constant", "all equal", "nondominated",
                                        "chain",    "antichain", "extremes"};

struct Front {
    Family family;
    std::size_t n;
    std::size_t m;
    std::vector<double> values;

    [[nodiscard]] Points view() const { return {values, n, m}; }
    [[nodiscard]] const double* row(std::size_t i) const { return values.data() + i * m; }
};

double unit(RowStream& random) {
    return std::ldexp(static_cast<double>(random.next() >> 11), -53);
}

Front make_front(std::uint64_t number) {
    RowStream random(stream_key(number, 99), 0);
    Front front{};
    front.family = static_cast<Family>(random.below(n_families));
    front.m = 1 + random.below(kMaxObjectives);
    const double largest = std::log(kMaxPoints + 1.0);
    front.n = static_cast<std::size_t>(std::exp(largest * unit(random) * std::sqrt(unit(random)))) -
              (random.below(20) == 0 ? 1 : 0);
    const std::size_t n = front.n;
    const std::size_t m = front.m;
    front.values.resize(n * m);
    const double levels = static_cast<double>(1 + random.below(random.below(2) == 0 ? 4 : 40));
    const std::size_t n_distinct = 1 + random.below(n / 2 + 1);
    std::vector<double> order(n);
    std::iota(order.begin(), order.end(), 0.0);
    for (std::size_t i = n; i > 1; --i)
        std::swap(order[i - 1], order[random.below(i)]);
    for (std::size_t i = 0; i < n; ++i) {
        double* row = front.values.data() + i * m;
        double square = 0.0;
        for (std::size_t j = 0; j < m; ++j) {
            constexpr double kExtremes[] = {-kInf,  kInf,   0.0,     -0.0,    1e308,
                                            -1e308, 5e-324, -5e-324, 2.2e-308};
            row[j] = unit(random);
            switch (front.family) {
                case integers:
                    row[j] = std::floor(row[j] * levels) * (row[j] > 0.5 ? 1.0 : -1.0);
                    break;
                case constant_column:
                    if (j == m / 2) row[j] = levels;
                    break;
                case all_equal:
                    row[j] = j > 0 ? levels : i % 2 == 0 ? 0.0 : -0.0;
                    break;
                case chain:
                    row[j] = order[i];
                    break;
                case antichain:  // the first two objectives; the others are equal
                    row[j] = j == 0 ? order[i] : j == 1 ? -order[i] : 0.5;
                    break;
                case extremes:
                    row[j] = kExtremes[random.below(std::size(kExtremes))];
                    break;
                default:
                    break;
            }
            square += row[j] * row[j];
        }
        if (front.family == nondominated) {
            for (std::size_t j = 0; j < m; ++j)
                row[j] /= std::sqrt(square);
        }
        if (front.family == duplicated && i >= n_distinct) {
            std::copy_n(front.row(random.below(n_distinct)), m, row);
        }
    }
    return front;
}

bool nowhere_above(const double* a, const double* b, std::size_t m) {
    for (std::size_t j = 0; j < m; ++j) {
        if (a[j] > b[j]) return false;
    }
    return true;
}

std::vector<std::int32_t> ranks_by_definition(const Front& front) {
    std::vector<std::size_t> order(front.n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    // A dominating point comes first lexicographically.
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::lexicographical_compare(front.row(a), front.row(a) + front.m, front.row(b),
                                            front.row(b) + front.m);
    });
    std::vector<std::int32_t> ranks(front.n, 0);
    for (std::size_t i = 0; i < front.n; ++i) {
        std::int32_t& rank = ranks[order[i]];
        const double* point = front.row(order[i]);
        for (std::size_t k = 0; k < i; ++k) {
            const double* other = front.row(order[k]);
            if (ranks[order[k]] >= rank && nowhere_above(other, point, front.m) &&
                !nowhere_above(point, other, front.m)) {
                rank = ranks[order[k]] + 1;
            }
        }
    }
    return ranks;
}

std::vector<double> crowding_by_definition(const Front& front) {
    const std::size_t n = front.n;
    if (n <= 2) return std::vector<double>(n, kInf);
    std::vector<double> total(n, 0.0);
    std::vector<std::size_t> order(n);
    for (std::size_t j = 0; j < front.m; ++j) {
        const auto at = [&](std::size_t i) { return front.row(order[i])[j]; };
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return front.row(a)[j] < front.row(b)[j];
        });
        const double low = at(0);
        const double high = at(n - 1);
        if (low == high) continue;
        // Where the range overflows, halves do not.
        const double scale = std::isinf(high - low) ? 0.5 : 1.0;
        for (std::size_t i = 1; i + 1 < n; ++i) {
            const double below = at(i - 1);
            const double above = at(i + 1);
            if (below == above) continue;
            if (std::isinf(low) || std::isinf(high)) {
                total[order[i]] += std::isinf(below) || std::isinf(above) ? 1.0 : 0.0;
            } else {
                total[order[i]] += (above * scale - below * scale) / (high * scale - low * scale);
            }
        }
        total[order[0]] = total[order[n - 1]] = kInf;
    }
    return total;
}

double volume_by_definition(std::vector<const double*> points, std::size_t m,
                            const std::vector<double>& reference);

// What box [point, reference] has beyond the boxes of `others`: theirs are cut to it.
double volume_beyond(const double* point, const std::vector<const double*>& others, std::size_t m,
                     const std::vector<double>& reference) {
    double box = 1.0;
    for (std::size_t j = 0; j < m; ++j)
        box *= reference[j] - point[j];
    std::vector<double> storage(others.size() * m);
    std::vector<const double*> cut;
    for (std::size_t i = 0; i < others.size(); ++i) {
        double* row = storage.data() + i * m;
        for (std::size_t j = 0; j < m; ++j)
            row[j] = std::max(point[j], others[i][j]);
        cut.push_back(row);
    }
    return box - volume_by_definition(std::move(cut), m, reference);
}

// The boxes one after the other, each without those after it. Boxes inside others go first, without
// which this would take 2^n steps.
double volume_by_definition(std::vector<const double*> points, std::size_t m,
                            const std::vector<double>& reference) {
    std::vector<const double*> kept;
    for (std::size_t i = 0; i < points.size(); ++i) {
        bool keep = true;
        for (std::size_t j = 0; j < m; ++j)
            keep = keep && points[i][j] < reference[j];
        for (std::size_t k = 0; k < points.size() && keep; ++k) {
            keep = k == i || !nowhere_above(points[k], points[i], m) ||
                   (k > i && nowhere_above(points[i], points[k], m));
        }
        if (keep) kept.push_back(points[i]);
    }
    double total = 0.0;
    while (!kept.empty()) {
        const double* point = kept.back();
        kept.pop_back();
        total += volume_beyond(point, kept, m, reference);
    }
    return total;
}

std::string fault_of_volumes(const Front& front) {
    constexpr std::size_t kMost[] = {0, 300, 100, 40, 20, 14, 12, 10, 9};
    const std::size_t n = std::min(front.n, kMost[front.m]);
    const std::size_t m = front.m;
    const Points points{{front.values.data(), n * m}, n, m};
    // Between the points, so that some lie beyond it and some on it.
    std::vector<double> reference(m, front.family == uniform ? 0.75 : 1.0);
    for (std::size_t j = 0; j < m; ++j) {
        if (n > 0 && (front.family == chain || front.family == antichain)) {
            reference[j] = front.row(n / 2)[j] + 1.0;
        }
        if (front.family == all_equal || front.family == constant_column) {
            reference[j] = 41.0;
        }
    }
    std::vector<const double*> rows;
    for (std::size_t i = 0; i < n; ++i)
        rows.push_back(points.row(i));
    const double expected = volume_by_definition(rows, m, reference);
    const double tolerance = 1e-11 * expected;
    if (!(std::abs(hypervolume(points, reference, 2) - expected) <= tolerance)) {
        return "hypervolume";
    }
    std::vector<double> parts(n);
    hypervolume_contributions(points, reference, parts, 2);
    for (std::size_t i = 0; i < n; ++i) {
        std::vector<const double*> others = rows;
        others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
        bool inside = true;
        for (std::size_t j = 0; j < m; ++j)
            inside = inside && rows[i][j] < reference[j];
        const double lost = inside ? volume_beyond(rows[i], others, m, reference) : 0.0;
        if (!(std::abs(parts[i] - lost) <= tolerance)) {
            return "contribution of point " + std::to_string(i);
        }
    }
    return "";
}

// What is wrong with the answers, or nothing.
std::string fault_of(const Front& front) {
    const auto expected = ranks_by_definition(front);
    const auto view = front.view();
    std::vector<std::int32_t> ranks(front.n, -1);
    non_dominated_sort(view, ranks, 2);
    if (ranks != expected) return "ranks";
    if (front.m >= 2 && front.n >= 1) {  // which other algorithms may have answered for
        sort_by_dividing(view, ranks, 2);
        if (ranks != expected) return "ranks by dividing";
    }
    std::vector<std::uint8_t> mask(front.n, 7);
    is_non_dominated(view, mask, 2);
    for (std::size_t i = 0; i < front.n; ++i) {
        if (mask[i] != (expected[i] == 0 ? 1 : 0)) return "mask";
    }
    std::vector<double> crowding(front.n, -1.0);
    crowding_distance(view, crowding, 2);
    if (crowding != crowding_by_definition(front)) return "crowding distance";
    return front.family == extremes ? "" : fault_of_volumes(front);
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

int main() {
    const std::uint64_t first = from_environment("PNAG_RANDOM_FIRST", 0);
    const std::uint64_t n_fronts = from_environment("PNAG_RANDOM_FRONTS", 100'000);
    std::uint64_t n_failed = 0;
    for (std::uint64_t i = first; i < first + n_fronts && n_failed < 10; ++i) {
        const Front front = make_front(i);
        std::string fault;
        try {
            fault = fault_of(front);
        } catch (const std::exception& error) {
            fault = error.what();
        }
        if (fault.empty()) continue;
        ++n_failed;
        std::fprintf(stderr,
                     "%s of a front differ: %s, %zu x %zu\n"
                     "    repeat: PNAG_RANDOM_FIRST=%llu PNAG_RANDOM_FRONTS=1 test_random_fronts\n",
                     fault.c_str(), kFamilyNames[front.family], front.n, front.m,
                     static_cast<unsigned long long>(i));
    }
    std::printf("%llu random fronts from number %llu, %llu wrong\n",
                static_cast<unsigned long long>(n_fronts), static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(n_failed));
    return n_failed == 0 ? 0 : 1;
}
