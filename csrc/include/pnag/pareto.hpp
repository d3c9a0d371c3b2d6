// Pareto kernels for minimisation. Points are row-major, (n, m).
//
// NaN is refused with its row and column, m == 0 is refused. Infinities are ordinary values, and
// -0.0 equals 0.0. Results do not depend on the number of threads or on the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pnag/execution.hpp"

namespace pnag {

/// A batch of points; does not own them.
struct Points {
    std::span<const double> values;  ///< (n, m), row-major
    std::size_t n = 0;
    std::size_t m = 0;

    [[nodiscard]] const double* row(std::size_t i) const { return values.data() + i * m; }
};

/// Throws InvalidInput for m == 0, a size that is not n * m, and NaN.
void require_points(const Points& points, const Execution& execution = 1);

/// Front of every point: 0 for those that no other point dominates, then 1 + the largest front of a
/// dominating point. Equal points share a front. out has n entries.
///
/// m = 1: sorting. m = 2: sort and patience (binary search for the front whose last point does not
/// dominate), O(n log n); one thread plays while others sort. m = 3: the same with a staircase per
/// front, O(n log n log f) for f fronts while staircases stay short; each thread has a range of
/// fronts. m >= 4: divide and conquer, O(n log^(m-1) n): Jensen, "Reducing the run-time complexity
/// of multiobjective EAs" (IEEE TEC 2003), with the corrections of Fortin, Grenier and Parizeau
/// (GECCO 2013) and Buzdalov and Shalyto (PPSN 2014).
void non_dominated_sort(const Points& points, std::span<std::int32_t> out,
                        const Execution& execution = 1);

/// 1 for points that no other point dominates, else 0; of equal points all are kept.
///
/// A few strong points filter the batch in one pass; the rest is decided by a sweep (m <= 2), by a
/// sweep with a staircase (m = 3), or against the points kept so far in order of their sum, with
/// divide and conquer for large fronts. Kung, Luccio and Preparata, "On finding the maxima of a set
/// of vectors" (JACM 1975).
void is_non_dominated(const Points& points, std::span<std::uint8_t> out,
                      const Execution& execution = 1);

/// Crowding distance of NSGA-II (Deb et al., IEEE TEC 2002): per objective the gap between the two
/// neighbours in sorted order over the range, summed over objectives in order; the first and last
/// of an objective are infinite.
///
/// Ties are ordered by row, so of equal values the first row is the lower neighbour. An objective
/// whose values are all equal contributes 0, to its ends too. Gaps are 0 between equal infinities.
/// With an infinite range a gap counts inf / inf = 1 if it is infinite itself, else 0.
/// O(m n log n).
void crowding_distance(const Points& points, std::span<double> out, const Execution& execution = 1);

/// Volume dominated by the points and bounded by `reference`. Points that are not better than the
/// reference in every objective add nothing. -inf in a point and a reference that is not finite are
/// refused, as is a volume that a double does not hold with all its digits, or that is far below
/// 1e-300 of the box from the lowest values to the reference.
///
/// Objectives may have units of any size: where a product of some overflows or underflows, which a
/// flag of the processor tells, they are stretched by powers of two, which changes no digit.
///
/// m = 2: sweep, O(n log n). m = 3: sweep over a staircase, O(n log n) (Beume et al., IEEE TEC
/// 2009). m = 4: sweep that adds what each point alone dominates in three objectives, O(n^2) in
/// practice (after Guerreiro and Fonseca, IEEE TEC 2018). 5 <= m <= 8: divide and conquer over
/// cells, O(n^(m/2)) (Chan, FOCS 2013); for few points in m = 5 one step of WFG before. m >= 9: WFG
/// (While, Bradstreet and Barone, IEEE TEC 2012) down to m = 4; exponential in m at worst.
double hypervolume(const Points& points, std::span<const double> reference,
                   const Execution& execution = 1);

/// Volume that each point alone dominates, dominated points counting as others: 0 for dominated
/// points and for duplicates. Objectives may have units of any size, as above; a contribution that
/// is not 0 but underflows is refused. m = 2: sweep, O(n log n). m = 3: sweep over a staircase
/// whose steps know their own areas, O(n log n) in practice (after Guerreiro and Fonseca, IEEE TEC
/// 2018). 4 <= m <= 8: cells, O(n^(m/2)), for all points at once. m >= 9: for every point the
/// volume that the others cover of its box.
void hypervolume_contributions(const Points& points, std::span<const double> reference,
                               std::span<double> out, const Execution& execution = 1);

/// Points with a merit each, to be asked for the best one within upper bounds.
///
/// Of equal merits the lexicographically first costs win, of equal costs too the first row: so an
/// answer is never dominated, and a bound that is widened changes it for a larger merit or lower
/// costs only.
///
/// Rows are sorted by merit, so the answer is the first that fits. m = 1: a staircase and a binary
/// search, O(log n). m >= 2: a tree over blocks of 16 rows whose nodes know the least of each cost
/// below them; 16 children are compared at once, and what no bound admits is skipped. O(n m) for a
/// query at worst, a few blocks where merits and costs rise together. Made in O(n log n).
class BestWithin {
  public:
    /// Throws InvalidInput for costs without columns, for a number of merits that is not n, and for
    /// NaN in either.
    BestWithin(const Points& costs, std::span<const double> merit, const Execution& execution = 1);

    /// Row with the best merit among those of which no cost is above its bound, or -1, for each
    /// row of bounds. Throws InvalidInput for NaN and another number of columns.
    void find(const Points& bounds, std::span<std::int64_t> out,
              const Execution& execution = 1) const;

  private:
    std::size_t m_;
    std::vector<std::uint32_t> order_;         // rows, best first; m = 1: those on the staircase
    std::vector<double> stairs_;               // m = 1: their costs, falling
    std::vector<std::vector<double>> levels_;  // blocks of rows, of their minima, and so on
};

}  // namespace pnag
