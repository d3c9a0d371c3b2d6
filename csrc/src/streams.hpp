// What streams of random numbers are for: streams that share a seed must not share numbers.
#pragma once

#include <cstdint>

namespace pnag {

inline constexpr std::uint64_t kUniformStream = 1;
inline constexpr std::uint64_t kDecisionStream = 2;
inline constexpr std::uint64_t kMutateStream = 3;
inline constexpr std::uint64_t kCrossoverStream = 4;
inline constexpr std::uint64_t kWindowStream = 5;
inline constexpr std::uint64_t kWalkStream = 6;
inline constexpr std::uint64_t kNeighborStream = 7;

}  // namespace pnag
