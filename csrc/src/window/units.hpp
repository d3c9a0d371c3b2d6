// The independent parts of a space under an additive cost: runs of slots whose rows can be listed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pnag/cost.hpp"
#include "pnag/space.hpp"

namespace pnag::window {

/// Factors with more rows than this are refused.
inline constexpr std::size_t kMaxFactorRows = std::size_t{1} << 22;

/// Slots whose allowed rows can be listed independently of all others.
struct Factor {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::vector<std::uint8_t> rows;

    [[nodiscard]] std::size_t n_rows() const { return rows.size() / n_slots; }
};

/// Throws InvalidInput if one of them has more than kMaxFactorRows rows, or if `context_slot` (-1:
/// none) is not a factor of its own.
std::vector<Factor> factors_of(const Space& space, int context_slot);

/// Neighbouring factors [first, second).
using Run = std::pair<std::size_t, std::size_t>;

/// A run of factors with all combinations of their rows, cheapest first.
struct Unit {
    std::size_t first_slot = 0;
    std::size_t n_slots = 0;
    std::vector<double> costs;
    std::vector<std::uint8_t> codes;

    [[nodiscard]] std::size_t size() const { return costs.size(); }
    [[nodiscard]] double span() const { return costs.back() - costs.front(); }
    void write(std::size_t row, std::uint8_t* arch) const {
        const std::uint8_t* from = codes.data() + row * n_slots;
        if (n_slots == 4) {
            std::memcpy(arch + first_slot, from, 4);
        } else {
            std::memcpy(arch + first_slot, from, n_slots);
        }
    }
};

/// The factors and costs of one context, whose slot has one row; makes units.
struct UnitMaker {
    const std::vector<Factor>& factors;
    int context_slot;
    std::size_t context;
    std::span<const double> entries;  ///< (n_slots, max_codes)
    std::size_t max_codes;

    [[nodiscard]] std::size_t n_rows(std::size_t factor) const {
        return is_pinned(factor) ? 1 : factors[factor].n_rows();
    }
    /// Of a run, at most about 2^44: products beyond kMaxFactorRows are not multiplied further.
    [[nodiscard]] std::size_t n_rows(Run run) const;
    [[nodiscard]] std::shared_ptr<const Unit> make(Run run, double constant) const;

  private:
    [[nodiscard]] bool is_pinned(std::size_t factor) const {
        return static_cast<int>(factors[factor].first_slot) == context_slot;
    }
};

}  // namespace pnag::window
