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
