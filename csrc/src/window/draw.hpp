// Uniform draws by a plan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pnag/execution.hpp"
#include "window/plan.hpp"

namespace pnag::window {

/// Rows [begin, end) of `out`. Throws InvalidInput if 2^20 candidates for one row all lay outside.
void draw(const Tables& tables, const Plan& plan, std::uint64_t key, std::size_t begin,
          std::size_t end, std::uint8_t* out, const Execution& execution);

}  // namespace pnag::window
