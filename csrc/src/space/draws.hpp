// Several bounded draws from one random word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pnag/random.hpp"
#include "pnag/space.hpp"

namespace pnag {

/// Bounded draws that share one random word. The words whose last low half is below `threshold`
/// = 2^64 mod product of the bounds are rejected, which leaves every tuple equally likely.
struct Space::DrawGroup {
    std::vector<std::uint64_t> bounds;
    std::uint64_t threshold = 0;

    // With products up to 2^56 fewer than one word in 256 is drawn again.
    static std::vector<DrawGroup> pack(const std::vector<std::uint64_t>& bounds) {
        constexpr std::uint64_t kMaxProduct = std::uint64_t{1} << 56;
        std::vector<DrawGroup> groups;
        std::uint64_t product = 1;
        for (const std::uint64_t bound : bounds) {
            if (groups.empty() || bound > kMaxProduct / product) {
                groups.emplace_back();
                product = 1;
            }
            product *= bound;
            groups.back().bounds.push_back(bound);
            groups.back().threshold = (0 - product) % product;
        }
        return groups;
    }

    void draw(RowStream& random, std::uint64_t* out) const {
        std::uint64_t low = 0;
        do {
            low = random.next();
            for (std::size_t i = 0; i < bounds.size(); ++i) {
                const uint128 product = static_cast<uint128>(low) * bounds[i];
                out[i] = static_cast<std::uint64_t>(product >> 64);
                low = static_cast<std::uint64_t>(product);
            }
        } while (low < threshold);
    }
};

}  // namespace pnag
