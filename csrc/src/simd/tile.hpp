#pragma once

#include <cstddef>

namespace pnag::simd {

/// Rows that kernels of spaces and costs take at once, and for which limits of a row are repeated.
inline constexpr std::size_t kTileRows = 64;

}  // namespace pnag::simd
