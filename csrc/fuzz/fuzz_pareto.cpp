// Points: refused or accepted as by definition; ranks, mask, hypervolume and the best within bounds
// of what is accepted against the plainest code.
#include <algorithm>
#include <cmath>

#include "bytes.hpp"
#include "pnag/pareto.hpp"

using namespace pnag;
using namespace pnag::fuzz;

namespace {

bool dominates(const double* a, const double* b, std::size_t m) {
    bool below = false;
    for (std::size_t j = 0; j < m; ++j) {
        if (a[j] > b[j]) return false;
        below = below || a[j] < b[j];
    }
    return below;
}

// By peeling; quadratic for each front.
std::vector<std::int32_t> ranks_by_definition(const Points& points) {
    std::vector<std::int32_t> ranks(points.n, -1);
    std::size_t left = points.n;
    for (std::int32_t front = 0; left > 0; ++front) {
        for (std::size_t i = 0; i < points.n; ++i) {
            if (ranks[i] >= 0) continue;
            bool free = true;
            for (std::size_t k = 0; k < points.n && free; ++k) {
                free = (ranks[k] >= 0 && ranks[k] < front) ||
                       !dominates(points.row(k), points.row(i), points.m);
            }
            if (!free) continue;
            ranks[i] = front;
            --left;
        }
    }
    return ranks;
}

// The largest merit that fits, then the lexicographically first costs, then the first row.
std::int64_t best_by_definition(const Points& costs, const std::vector<double>& merit,
                                const double* bounds) {
    std::int64_t best = -1;
    for (std::size_t i = 0; i < costs.n; ++i) {
        const double* row = costs.row(i);
        bool fits = true;
        for (std::size_t j = 0; j < costs.m; ++j)
            fits = fits && row[j] <= bounds[j];
        if (!fits) continue;
        const double* other = costs.row(best < 0 ? i : static_cast<std::size_t>(best));
        const double held = merit[best < 0 ? i : static_cast<std::size_t>(best)];
        if (best < 0 || merit[i] > held ||
            (merit[i] == held &&
             std::lexicographical_compare(row, row + costs.m, other, other + costs.m))) {
            best = static_cast<std::int64_t>(i);
        }
    }
    return best;
}

// Of points with coordinates 0, 1 and 2 below a reference of 3s, by counting unit cells.
double cells_above(const Points& points, std::size_t skipped) {
    double total = 0.0;
    std::vector<double> cell(points.m, 0.0);
    for (;;) {
        bool covered = false;
        for (std::size_t i = 0; i < points.n && !covered; ++i) {
            covered = i != skipped;
            for (std::size_t j = 0; j < points.m && covered; ++j)
                covered = points.row(i)[j] <= cell[j];
        }
        total += covered ? 1.0 : 0.0;
        std::size_t j = 0;
        while (j < points.m && ++cell[j] == 3.0)
            cell[j++] = 0.0;
        if (j == points.m) return total;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes in(data, size);
    const std::size_t m = in.below(11);
    const std::size_t n = in.below(48);
    const bool on_grid = in.below(2) == 0;
    std::vector<double> values(n * m);
    for (double& value : values)
        value = on_grid ? static_cast<double>(in.below(4)) : in.number();
    const Points points{values, n, m};
    const bool wrong =
        m == 0 || std::any_of(values.begin(), values.end(), [](double x) { return std::isnan(x); });
    std::vector<std::int32_t> ranks(n);
    std::vector<std::uint8_t> mask(n);
    std::vector<double> crowding(n);
    REQUIRE(refuses([&] { non_dominated_sort(points, ranks); }) == wrong);
    REQUIRE(refuses([&] { is_non_dominated(points, mask); }) == wrong);
    REQUIRE(refuses([&] { crowding_distance(points, crowding); }) == wrong);
    std::vector<double> merit(n);
    for (double& value : merit)
        value = on_grid ? static_cast<double>(in.below(4)) : in.number();
    std::vector<std::int64_t> best(n);
    const bool wrong_merit =
        std::any_of(merit.begin(), merit.end(), [](double x) { return std::isnan(x); });
    // Bounds of which many are those of another row.
    std::vector<double> bounds(values);
    if (in.below(2) == 1) std::reverse(bounds.begin(), bounds.end());
    REQUIRE(refuses([&] { BestWithin(points, merit).find({bounds, n, m}, best); }) ==
            (wrong || wrong_merit));
    if (wrong) return 0;
    for (std::size_t i = 0; i < n && !wrong_merit; ++i)
        REQUIRE(best[i] == best_by_definition(points, merit, bounds.data() + i * m));
    REQUIRE(ranks == ranks_by_definition(points));
    for (std::size_t i = 0; i < n; ++i) {
        REQUIRE(mask[i] == (ranks[i] == 0 ? 1 : 0));
        REQUIRE(crowding[i] >= 0.0);
    }
    std::vector<double> parts(n);
    if (!on_grid || m > 6) {
        std::vector<double> reference(m);
        for (double& value : reference)
            value = in.number();
        // Values of any size: what does not fit into a double is refused. An answer is the same for
        // objectives in reverse order, save for rounding.
        std::vector<double> turned(values.rbegin(), values.rend());
        std::reverse(reference.begin(), reference.end());
        double other = 0.0;
        const bool refused = refuses([&] { other = hypervolume({turned, n, m}, reference); });
        std::reverse(reference.begin(), reference.end());
        static_cast<void>(refuses([&] {
            const double volume = hypervolume(points, reference);
            REQUIRE(volume >= 0.0);
            REQUIRE(refused || std::abs(volume - other) <= 1e-9 * volume);
            hypervolume_contributions(points, reference, parts);
            REQUIRE(std::all_of(parts.begin(), parts.end(), [](double x) { return x >= 0.0; }));
            // Rounding is in proportion to the box of a point, which is no more than the whole.
            REQUIRE(std::all_of(parts.begin(), parts.end(),
                                [&](double x) { return x <= volume * (1.0 + 1e-9); }));
        }));
        return 0;
    }
    const std::vector<double> reference(m, 3.0);
    const double whole = cells_above(points, n);
    REQUIRE(hypervolume(points, reference) == whole);
    hypervolume_contributions(points, reference, parts);
    if (n == 0) return 0;
    const std::size_t i = in.below(n);
    REQUIRE(parts[i] == whole - cells_above(points, i));
    return 0;
}
