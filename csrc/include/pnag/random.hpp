// Counter-based random numbers: row r of a batch owns its own block of a stream that depends on
// nothing but the seed, so results never depend on how rows are spread over threads.
//
// Generator: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
// OOPSLA 2014, with Stafford's mix 13). Row r uses the counters [r * 2^16, (r + 1) * 2^16): blocks
// of two rows never overlap for fewer than 2^48 rows.
//
// Bounded draws: Lemire, "Fast random integer generation in an interval" (ACM TOMACS 2019), and for
// several draws from one word Brackett-Rozinsky and Lemire, "Batched ranged random integer
// generation" (2024). Both reject, so every draw is exactly uniform.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pnag {

__extension__ using uint128 = unsigned __int128;

inline constexpr std::uint64_t kWeylStep = 0x9E3779B97F4A7C15ULL;

inline constexpr std::uint64_t mix64(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

/// Key of a stream. `purpose` keeps apart streams that share a seed, so that, say, sampling and
/// mutating with the same seed are not correlated.
inline constexpr std::uint64_t stream_key(std::uint64_t seed, std::uint64_t purpose) {
    return mix64(mix64(seed + kWeylStep) + purpose * 0xD1B54A32D192ED03ULL);
}

/// The random numbers of one row.
class RowStream {
  public:
    RowStream(std::uint64_t key, std::uint64_t row) : state_(key + (row << 16) * kWeylStep) {}

    std::uint64_t next() {
        state_ += kWeylStep;
        return mix64(state_);
    }

    /// Uniform in [0, bound); bound >= 1.
    std::uint64_t below(std::uint64_t bound) {
        uint128 product = static_cast<uint128>(next()) * bound;
        auto low = static_cast<std::uint64_t>(product);
        if (low < bound) [[unlikely]] {
            const std::uint64_t threshold = (0 - bound) % bound;
            while (low < threshold) {
                product = static_cast<uint128>(next()) * bound;
                low = static_cast<std::uint64_t>(product);
            }
        }
        return static_cast<std::uint64_t>(product >> 64);
    }

  private:
    std::uint64_t state_;
};

}  // namespace pnag
