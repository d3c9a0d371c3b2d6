// Kernels on codes of architectures.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pnag::simd {

struct SpaceKernels {
    /// Does any codes[i] exceed limit[i], miss though required[i], or follow an absent slot though
    /// it does not start a stage? codes[-1] is not read.
    bool (*any_invalid)(const std::uint8_t* codes, const std::uint8_t* limit,
                        const std::uint8_t* required, const std::uint8_t* stage_start,
                        std::size_t n);

    /// Child of a and b, byte by byte: 0 where the parent that `depth_from_a` names (0xFF: a) is
    /// absent; else the code of the parent that `from_a` names if it is present, else the other's.
    void (*cross)(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* from_a,
                  const std::uint8_t* depth_from_a, std::size_t n, std::uint8_t* out);

    /// The 64 bytes of the numbers first_word + i of 8 rows of a stream (see RowStream), compared
    /// with `digit`, for i < n: a bit of below[i] says that a byte is smaller, one of equal[i] that
    /// it is equal; bit 8 r + b for byte b of row r. The first row is in the upper bits of
    /// first_word.
    void (*compare_bytes)(std::uint64_t key, std::uint64_t first_word, std::size_t n,
                          std::uint8_t digit, std::uint64_t* below, std::uint64_t* equal);

    static const SpaceKernels kPortable, kAvx2, kAvx512;  // space.cpp, compiled for each level
};

}  // namespace pnag::simd
