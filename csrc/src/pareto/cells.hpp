// Volumes of unions of orthants by divide and conquer over cells.
//
// Chan, "Klee's measure problem made easy" (FOCS 2013): cut a cell in two at the median of the
// orthants' starts in one objective; in each half drop the orthants that leave it or no longer
// matter, and take those that start inside it in one objective only, the *slabs*, off the cell.
// O(n^(m/2)) for m objectives. Leaves of a few orthants are solved by inclusion and exclusion.
// Contributions follow the same cuts for all points at once: a part of a cell that two orthants
// cover is dropped, and in a part that one covers only the volume free of the others is left to
// find.
//
// Cells are cut the same way for any number of threads, and sums are taken in the order of cells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pnag/execution.hpp"
#include "pnag/pareto.hpp"

namespace pnag {

inline constexpr std::size_t kMaxCellObjectives = 8;

/// Volume of the union of [row, reference) over `rows`, which are better than the reference
/// everywhere and finite; m <= kMaxCellObjectives.
double volume_by_cells(const Points& points, std::span<const std::size_t> rows,
                       std::span<const double> reference, const Execution& execution);

/// The same of all points, n <= simd::kMaxCutRows and m = 5, by one step of WFG (While, Bradstreet
/// and Barone, IEEE TEC 2012): what each point adds to those that are smaller in the last
/// objective. Their boxes are cut to its own, which leaves few, and measured in four objectives by
/// a vectorised sweep over levels, O(k^3) for k of them, or by cells.
double volume_by_cuts(const Points& points, std::span<const double> reference,
                      const Execution& execution);

/// Volume that each of `rows` alone covers, to out[row].
void contributions_by_cells(const Points& points, std::span<const std::size_t> rows,
                            std::span<const double> reference, std::span<double> out,
                            const Execution& execution);

}  // namespace pnag
