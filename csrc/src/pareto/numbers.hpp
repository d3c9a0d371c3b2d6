// The check for NaN that every Pareto kernel begins with.
#pragma once

#include <cstddef>
#include <span>

#include "pnag/execution.hpp"

namespace pnag {

/// Throws InvalidInput that names row and column of the first NaN in `name`, an array of m columns.
void require_numbers(std::span<const double> values, std::size_t m, const char* name,
                     const char* remedy, const Execution& execution);

}  // namespace pnag
