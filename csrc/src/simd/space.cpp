#include "simd/space.hpp"

#include "simd/lanes.hpp"

namespace pnag::simd {
namespace {

bool any_invalid(const std::uint8_t* codes, const std::uint8_t* limit, const std::uint8_t* required,
                 const std::uint8_t* stage_start, std::size_t n) {
    if (n == 0) return false;
    std::uint8_t bad = codes[0] > limit[0] || (codes[0] == 0 && required[0] != 0) ? 1 : 0;
    for (std::size_t i = 1; i < n; ++i) {
        const std::uint8_t above = codes[i] > limit[i] ? 1 : 0;
        const std::uint8_t absent = codes[i] == 0 ? 1 : 0;
        const std::uint8_t orphan = codes[i - 1] == 0 ? 1 : 0;
        bad |= static_cast<std::uint8_t>(above | (absent & required[i]) |
                                         ((absent ^ 1) & orphan & (stage_start[i] ^ 1)));
    }
    return bad != 0;
}

void cross(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* from_a,
           const std::uint8_t* depth_from_a, std::size_t n, std::uint8_t* out) {
    for (std::size_t i = 0; i < n; ++i) {
        const auto first = static_cast<std::uint8_t>((a[i] & from_a[i]) | (b[i] & ~from_a[i]));
        // Where the preferred parent is absent only the other can have a code.
        const auto either = static_cast<std::uint8_t>(a[i] | b[i]);
        const auto code = first != 0 ? first : either;
        const auto of_depth =
            static_cast<std::uint8_t>((a[i] & depth_from_a[i]) | (b[i] & ~depth_from_a[i]));
        out[i] = of_depth != 0 ? code : std::uint8_t{0};
    }
}

#if !defined(__AVX512BW__)
// The high bit of each byte of `flags`, gathered into the low 8 bits: byte i becomes bit i.
inline std::uint64_t gather_high_bits(std::uint64_t flags) {
    return ((flags >> 7) & 0x0101010101010101ULL) * 0x0102040810204080ULL >> 56;
}
#endif

void compare_bytes(std::uint64_t key, std::uint64_t first_word, std::size_t n, std::uint8_t digit,
                   std::uint64_t* below, std::uint64_t* equal) {
    // As RowStream in random.hpp, which is not included: its functions may be templates one day.
    constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15ULL;
    const auto mix = [](auto& x) {
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
        x = x ^ (x >> 31);
    };
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t start = key + (first_word + i + 1) * kWeyl;
        constexpr std::uint64_t kRow = kWeyl << 16;
#if defined(__AVX512BW__)
        typedef unsigned long long Words __attribute__((vector_size(64)));
        Words x = start + kRow * Words{0, 1, 2, 3, 4, 5, 6, 7};
        mix(x);
        const auto bytes = reinterpret_cast<__m512i>(x);
        const __m512i digits = _mm512_set1_epi8(static_cast<char>(digit));
        below[i] = _mm512_cmplt_epu8_mask(bytes, digits);
        equal[i] = _mm512_cmpeq_epu8_mask(bytes, digits);
#else
        constexpr std::uint64_t kLow7 = 0x7F7F7F7F7F7F7F7FULL;
        const std::uint64_t t = digit * 0x0101010101010101ULL;
        std::uint64_t all_below = 0;
        std::uint64_t all_equal = 0;
        for (unsigned row = 0; row < 8; ++row) {
            std::uint64_t x = start + row * kRow;
            mix(x);
            // Bit 7 of each byte: the low 7 bits of x are at least those of t; no borrow leaves a
            // byte.
            const std::uint64_t at_least = (x | ~kLow7) - (t & kLow7);
            const std::uint64_t less = (~x & t) | (~(x ^ t) & ~at_least);
            const std::uint64_t differ = (((x ^ t) & kLow7) + kLow7) | (x ^ t);
            all_below |= gather_high_bits(less) << (8 * row);
            all_equal |= gather_high_bits(~differ) << (8 * row);
        }
        below[i] = all_below;
        equal[i] = all_equal;
#endif
    }
}

}  // namespace

constinit const SpaceKernels SpaceKernels::PNAG_LEVEL = {
    .any_invalid = simd::any_invalid,
    .cross = simd::cross,
    .compare_bytes = simd::compare_bytes,
};

}  // namespace pnag::simd
