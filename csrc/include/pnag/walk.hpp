// Short random walks on a quadratic estimate of a model, within limits on costs.
//
// A search asks an expensive model few questions; this proposes what to ask. From each start a walk
// tries changes of one or two decisions: another choice of a present slot, a layer more or less in
// a stage, another of the rows that a stage lists. The estimate of a change and its costs follow
// from running sums, O(1) for each; only a change that is made costs O(features). Changes for the
// worse are made below a threshold that falls to zero: threshold accepting (Dueck and Scheuer, J.
// Comput. Phys. 1990), which needs no logarithm, so that results are the same on every machine.
//
// Limits are kept by constrained dominance (Deb et al., IEEE TEC 2002): less excess is better than
// more whatever the estimate, and what exceeds nothing never comes to exceed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pnag/cost.hpp"
#include "pnag/execution.hpp"
#include "pnag/space.hpp"

namespace pnag {

/// The estimate x w + x H x / 2 over the codes x: features are the codes but 0 of every slot.
struct Estimate {
    std::span<const float> curvature;  ///< H, symmetric, (n_features, n_features)
    std::span<const float> linear;     ///< w, (n_features,)
};

/// Walks, one a row.
struct Walks {
    std::span<const std::uint8_t> starts;  ///< (n, n_slots), architectures
    std::span<const double> limits;        ///< (n, n_tables) on costs; inf: none
    std::span<const float> thresholds;     ///< (n,) loss that is accepted at first, on average
    std::span<const float> noise;          ///< (n,) deviation of what is added to each w
    std::size_t n_moves = 0;               ///< changes tried
    std::uint64_t seed = 0;
};

class Walker {
  public:
    /// `costs` as for CostTables of the space. Throws InvalidInput if they do not fit it.
    Walker(const Space& space, const CostSpec& costs);

    [[nodiscard]] std::size_t n_slots() const { return slots_.size(); }
    [[nodiscard]] std::size_t n_tables() const { return use_max_.size(); }
    [[nodiscard]] std::size_t n_features() const { return n_features_; }

    /// Write where each walk ends, (n, n_slots): an architecture, at the start's input resolution.
    /// Starts must be architectures; throws InvalidInput for codes that do not exist.
    void walk(const Estimate& estimate, const Walks& walks, std::span<std::uint8_t> out,
              const Execution& execution) const;

  private:
    class Row;

    struct Slot {
        std::size_t first = 0, last = 0;  ///< of its stage
        std::size_t stage = 0, min_depth = 0;
        std::size_t n_choices = 0;
        std::size_t feature = 0;  ///< of code 1
        bool fixed = false;       ///< picks the costs: stays as it is
    };

    [[nodiscard]] const double* costs(std::size_t context, std::size_t slot,
                                      std::uint8_t code) const {
        return packed_.data() + ((context * n_slots() + slot) * max_codes_ + code) * n_tables();
    }

    CodeLimits limits_;
    std::vector<Slot> slots_;
    std::vector<std::vector<std::uint8_t>> rows_;  // per stage; empty for a plain one
    std::vector<std::uint8_t> use_max_;  // not bool, which is packed: read for every change
    std::size_t n_features_ = 0, max_codes_ = 0;
    int context_slot_ = -1;
    std::vector<double> constants_;  // (context, table)
    std::vector<double> packed_;     // (context, slot, code, table)
};

}  // namespace pnag
