// Search spaces: counting, sampling, mutation, crossover, neighbours, enumeration, validation.
//
// An architecture is a row of uint8, one entry per slot: 0 = absent, otherwise 1 + index of the
// choice. Slots belong to stages. A *plain* stage has a depth d in [min_depth, n]; its first d
// slots are present, the rest absent. An *explicit* stage lists its allowed rows.
//
// All batch functions are pure functions of their arguments; the number of threads changes only
// the time taken.
// Batches are row-major spans of size n_rows * n_slots. With s slots per row every batch function
// is O(n_rows * s).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pnag/execution.hpp"

namespace pnag {

/// What a stage may look like.
struct StageSpec {
    std::vector<int> n_choices;  ///< per slot, 1 to 254
    int min_depth = 0;           ///< smallest number of present slots; ignored with explicit rows
    /// Allowed rows, row-major (n_rows, n_choices.size()); nullopt for a plain stage.
    std::optional<std::vector<std::uint8_t>> rows;
};

/// The first fault of a batch: an entry that no architecture of the space has there.
struct InvalidEntry {
    std::size_t row = 0;
    std::size_t slot = 0;
    int value = 0;
};

class Space {
  public:
    /// Throws InvalidInput for a space that cannot exist: no stages, no slots, no or more than 254
    /// choices, a depth out of range, a stage of 2^62 or more rows, wrong or repeated explicit
    /// rows.
    explicit Space(std::vector<StageSpec> stages);
    ~Space();
    Space(Space&&) noexcept;
    Space& operator=(Space&&) noexcept;

    [[nodiscard]] std::size_t n_slots() const { return n_choices_.size(); }
    [[nodiscard]] std::size_t n_stages() const { return stage_counts_.size(); }
    [[nodiscard]] const std::vector<int>& n_choices() const { return n_choices_; }
    /// The stages as they were given.
    [[nodiscard]] std::vector<StageSpec> stages() const;
    /// Exact number of valid rows of every stage; the space has their product.
    [[nodiscard]] const std::vector<std::int64_t>& stage_counts() const { return stage_counts_; }

    /// Every architecture equally likely.
    void sample_uniform(std::uint64_t seed, std::span<std::uint8_t> out,
                        const Execution& execution) const;

    /// Depth uniform over its range, then every choice uniform; explicit stages: a uniform row.
    void sample_decisions(std::uint64_t seed, std::span<std::uint8_t> out,
                          const Execution& execution) const;

    /// Redraw every decision (depth of a stage, choice of a present slot, row of an explicit stage)
    /// uniformly with probability `rate`, so that it may stay as it was. A slot that becomes
    /// present draws a uniform choice.
    void mutate(std::span<const std::uint8_t> archs, double rate, std::uint64_t seed,
                std::span<std::uint8_t> out, const Execution& execution) const;

    /// Take every decision from either parent with probability 1/2. A slot within the child's depth
    /// that only one parent has is that parent's; explicit stages come whole from one parent.
    void crossover(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                   std::uint64_t seed, std::span<std::uint8_t> out,
                   const Execution& execution) const;

    /// All architectures one decision away, row-major, in a fixed order: stage by stage; in a plain
    /// stage other choices of each present slot, then the last slot dropped, then the next slot
    /// added with each choice; in an explicit stage every other row.
    [[nodiscard]] std::vector<std::uint8_t> neighbors(std::span<const std::uint8_t> arch) const;

    /// How many architectures `neighborhoods` writes for the rows before each row, and at the end
    /// for all; offsets has one entry more than there are rows.
    ///
    /// Neighbours are the architectures that 1 to `radius` edits make of a row. An edit chooses
    /// anew for a present slot, drops the last slot of a stage, or adds the next one with any
    /// choice, or replaces the row of an explicit stage. So two rows of a plain stage are as many
    /// edits apart as their depths differ by, and as many more as slots that both have differ.
    /// Each neighbour counts once. With samples > 0 at most that many of each row's are taken;
    /// negative: all. `own` adds the row itself.
    ///
    /// Throws InvalidInput if there are more than 2^62. O(n_stages * radius^2) for each row.
    void neighborhood_offsets(std::span<const std::uint8_t> archs, std::int64_t radius,
                              std::int64_t samples, bool own, std::span<std::int64_t> offsets,
                              const Execution& execution) const;

    /// Neighbours of valid rows, as many as the offsets say, in a fixed order: the row itself if
    /// `own`, then by distance; at distance 1 as `neighbors`. Where the offsets leave out some, all
    /// subsets of that size are equally likely, in the same order; which one depends on the seed
    /// and the row, not on its place in the batch. O(n_slots + radius^2) each.
    void neighborhoods(std::span<const std::uint8_t> archs, std::int64_t radius, bool own,
                       std::uint64_t seed, std::span<const std::int64_t> offsets,
                       std::span<std::uint8_t> out, const Execution& execution) const;

    /// One column for every slot and code 1, 2, ...: 1 where the row has that code, else 0. Codes
    /// that the space does not have, and absent slots, have no column. `out` is row-major (n_rows,
    /// sum of n_choices). It is limited by the memory that it writes.
    void one_hot(std::span<const std::uint8_t> archs, std::span<float> out,
                 const Execution& execution) const;

    /// Rows first .. first + out rows - 1 of the space in index order: the index is a mixed radix
    /// number of stage row indices, last stage fastest.
    void enumerate(std::int64_t first, std::span<std::uint8_t> out,
                   const Execution& execution) const;

    /// Throws InvalidInput unless rows first .. first + n_rows - 1 exist and have an int64 index.
    void require_range(std::int64_t first, std::size_t n_rows) const;

    /// Index of each stage row, (n_rows, n_stages): by depth, then by codes, lexicographic;
    /// explicit rows in the given order.
    void rank(std::span<const std::uint8_t> archs, std::span<std::int64_t> out,
              const Execution& execution) const;

    /// The inverse of rank.
    void unrank(std::span<const std::int64_t> indices, std::span<std::uint8_t> out,
                const Execution& execution) const;

    /// The first fault of the first invalid row, or nothing.
    [[nodiscard]] std::optional<InvalidEntry> find_invalid(std::span<const std::uint8_t> archs,
                                                           const Execution& execution) const;

    /// Throws InvalidInput that names row, slot and value if a row is invalid. `what` names the
    /// batch.
    void require_valid(std::span<const std::uint8_t> archs, const std::string& what,
                       const Execution& execution) const;

  private:
    struct Stage;
    struct DrawGroup;
    struct Ball;

    [[nodiscard]] std::size_t rows_of(std::size_t size, const char* what) const;
    template <std::size_t W>
    void sample_from_tables(std::uint64_t key, std::size_t begin, std::size_t end,
                            std::uint8_t* out) const;
    [[nodiscard]] bool is_valid_tile(const std::uint8_t* codes, std::size_t rows) const;
    [[nodiscard]] std::optional<InvalidEntry> first_fault(const std::uint8_t* row,
                                                          std::size_t row_index) const;

    std::vector<int> n_choices_;
    std::vector<std::int64_t> stage_counts_;
    std::vector<Stage> stages_;
    std::vector<DrawGroup> uniform_groups_;
    std::vector<DrawGroup> decision_groups_;
    bool has_explicit_ = false;
    // Limits of one row repeated kTileRows times, so that a block of rows is checked in one loop.
    std::vector<std::uint8_t> max_code_tile_;
    std::vector<std::uint8_t> required_tile_;
    std::vector<std::uint8_t> stage_start_tile_;
};

}  // namespace pnag
