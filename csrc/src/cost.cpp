#include "pnag/cost.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "simd/cost.hpp"
#include "simd/levels.hpp"

namespace pnag {
namespace {

constexpr std::size_t kGrain = 16384;
// 2^27 doubles are 1 GiB; real spaces need a few thousand to a few million.
constexpr std::size_t kMaxPackedDoubles = std::size_t{1} << 27;
// Entries by slot take 128 bytes a slot and context: this many stay in the first-level cache.
constexpr std::size_t kMaxPermutedSlots = 128;

// Kernels handle columns by 8, 4, 2 and 1; odd widths would end in slow single columns.
std::size_t padded(std::size_t columns) {
    return columns <= 2 ? columns : (columns + 3) / 4 * 4;
}

std::string table_context(std::size_t table, std::size_t context) {
    return "table " + std::to_string(table) + ", context " + std::to_string(context);
}

}  // namespace

CostTables::CostTables(const CostSpec& spec)
    : n_tables_(spec.n_tables),
      n_contexts_(spec.n_contexts),
      context_slot_(spec.context_slot),
      n_codes_(spec.n_codes),
      use_max_(spec.use_max) {
    if (n_tables_ == 0) throw InvalidInput("there are no tables; at least one is needed");
    if (spec.n_slots == 0) throw InvalidInput("the tables have no slots; at least one is needed");
    if (spec.n_slots > simd::kMaxLookupSlots) {
        throw InvalidInput("entries has " + std::to_string(spec.n_slots) + " slots; at most " +
                           std::to_string(simd::kMaxLookupSlots) + " are possible");
    }
    if (n_codes_.size() != spec.n_slots) {
        throw InvalidInput("n_codes has " + std::to_string(n_codes_.size()) +
                           " entries; entries has " + std::to_string(spec.n_slots) + " slots");
    }
    if (use_max_.size() != n_tables_) {
        throw InvalidInput("use_max has " + std::to_string(use_max_.size()) + " entries for " +
                           std::to_string(n_tables_) + " tables");
    }
    for (std::size_t s = 0; s < spec.n_slots; ++s) {
        if (n_codes_[s] < 2 || n_codes_[s] > 255 ||
            static_cast<std::size_t>(n_codes_[s]) > spec.max_codes) {
            throw InvalidInput("n_codes of slot " + std::to_string(s) + " is " +
                               std::to_string(n_codes_[s]) +
                               "; it must be 2 to 255 and at most the " +
                               std::to_string(spec.max_codes) + " codes that entries has");
        }
    }
    if (context_slot_ < -1 || context_slot_ >= static_cast<int>(spec.n_slots)) {
        throw InvalidInput("context_slot is " + std::to_string(context_slot_) +
                           "; it is -1 (none) or a slot, 0 to " + std::to_string(spec.n_slots - 1));
    }
    const std::size_t expected_contexts =
        context_slot_ < 0
            ? 1
            : static_cast<std::size_t>(n_codes_[static_cast<std::size_t>(context_slot_)]) - 1;
    if (n_contexts_ != expected_contexts) {
        throw InvalidInput("entries has " + std::to_string(n_contexts_) +
                           " contexts; with context_slot " + std::to_string(context_slot_) +
                           " it must have " + std::to_string(expected_contexts));
    }
    // Divided by max_codes, the one factor without a limit: the whole product could overflow.
    if (spec.entries.size() % spec.max_codes != 0 ||
        spec.entries.size() / spec.max_codes != n_tables_ * n_contexts_ * spec.n_slots ||
        spec.constants.size() != n_tables_ * n_contexts_) {
        throw InvalidInput("entries or constants have the wrong number of values");
    }

    const auto entry = [&](std::size_t t, std::size_t k, std::size_t s, std::size_t code) {
        return spec.entries[((t * n_contexts_ + k) * spec.n_slots + s) * spec.max_codes + code];
    };
    for (std::size_t t = 0; t < n_tables_; ++t) {
        for (std::size_t k = 0; k < n_contexts_; ++k) {
            if (!std::isfinite(spec.constants[t * n_contexts_ + k])) {
                throw InvalidInput("constant of " + table_context(t, k) + " is " +
                                   std::to_string(spec.constants[t * n_contexts_ + k]) +
                                   "; costs must be finite");
            }
            for (std::size_t s = 0; s < spec.n_slots; ++s) {
                for (std::size_t c = 0; c < static_cast<std::size_t>(n_codes_[s]); ++c) {
                    if (!std::isfinite(entry(t, k, s, c))) {
                        throw InvalidInput("entry of " + table_context(t, k) + ", slot " +
                                           std::to_string(s) + ", code " + std::to_string(c) +
                                           " is " + std::to_string(entry(t, k, s, c)) +
                                           "; every existing code needs a finite cost");
                    }
                }
            }
        }
    }

    const auto n_max = static_cast<std::size_t>(std::count(use_max_.begin(), use_max_.end(), true));
    sum_width_ = padded(n_tables_ - n_max);
    width_ = sum_width_ + padded(n_max);
    std::size_t next_sum = 0;
    std::size_t next_max = sum_width_;
    for (std::size_t t = 0; t < n_tables_; ++t) {
        column_of_table_.push_back(use_max_[t] ? next_max++ : next_sum++);
    }

    n_pairs_ = (spec.n_slots + 1) / 2;
    std::size_t n_cells = 0;
    for (std::size_t p = 0; p < n_pairs_; ++p) {
        const auto first = static_cast<std::size_t>(n_codes_[2 * p]);
        const auto second =
            2 * p + 1 < spec.n_slots ? static_cast<std::size_t>(n_codes_[2 * p + 1]) : 1;
        radix_.push_back(static_cast<std::uint16_t>(second));
        pair_offset_.push_back(static_cast<std::uint32_t>(n_cells));
        n_cells += first * second;
    }
    // Compared by division: the product itself could overflow.
    if (n_cells > kMaxPackedDoubles / width_ / n_contexts_) {
        throw InvalidInput(std::to_string(n_tables_) + " tables with " +
                           std::to_string(n_contexts_) + " contexts and " +
                           std::to_string(n_cells) +
                           " code pairs need more than 1 GiB; look up fewer tables at once");
    }
    context_stride_ = n_cells * width_;
    packed_.assign(n_contexts_ * context_stride_, 0.0);
    packed_constants_.assign(n_contexts_ * width_, 0.0);
    for (std::size_t t = 0; t < n_tables_; ++t) {
        const std::size_t column = column_of_table_[t];
        for (std::size_t k = 0; k < n_contexts_; ++k) {
            packed_constants_[k * width_ + column] = spec.constants[t * n_contexts_ + k];
            for (std::size_t p = 0; p < n_pairs_; ++p) {
                const bool single = 2 * p + 1 >= spec.n_slots;
                const std::size_t radix = radix_[p];
                for (std::size_t c0 = 0; c0 < static_cast<std::size_t>(n_codes_[2 * p]); ++c0) {
                    for (std::size_t c1 = 0; c1 < radix; ++c1) {
                        const double e0 = entry(t, k, 2 * p, c0);
                        double cost = e0;
                        if (!single) {
                            const double e1 = entry(t, k, 2 * p + 1, c1);
                            cost = use_max_[t] ? std::max(e0, e1) : e0 + e1;
                        }
                        packed_[k * context_stride_ + (pair_offset_[p] + c0 * radix + c1) * width_ +
                                column] = cost;
                    }
                }
            }
        }
    }

    const bool few_codes = std::all_of(n_codes_.begin(), n_codes_.end(), [](int codes) {
        return static_cast<std::size_t>(codes) <= simd::kPermutedCodes;
    });
    if (width_ == 1 && few_codes && spec.n_slots <= kMaxPermutedSlots) {
        // Neither -0.0 changes a sum nor -inf a maximum.
        slot_entries_.assign(n_contexts_ * 2 * n_pairs_ * simd::kPermutedCodes,
                             use_max_[0] ? -std::numeric_limits<double>::infinity() : -0.0);
        for (std::size_t k = 0; k < n_contexts_; ++k) {
            for (std::size_t s = 0; s < spec.n_slots; ++s) {
                for (std::size_t c = 0; c < static_cast<std::size_t>(n_codes_[s]); ++c) {
                    slot_entries_[(k * 2 * n_pairs_ + s) * simd::kPermutedCodes + c] =
                        entry(0, k, s, c);
                }
            }
        }
    }

    for (std::size_t r = 0; r < simd::kTileRows; ++r) {
        for (const int codes : n_codes_) {
            max_code_tile_.push_back(static_cast<std::uint8_t>(codes - 1));
        }
        radix_tile_.insert(radix_tile_.end(), radix_.begin(), radix_.end());
    }
}

std::optional<InvalidEntry> CostTables::find_bad_code(const std::uint8_t* archs,
                                                      std::size_t n_rows) const {
    for (std::size_t r = 0; r < n_rows; ++r) {
        for (std::size_t s = 0; s < n_slots(); ++s) {
            const int code = archs[r * n_slots() + s];
            if (code >= n_codes_[s] || (code == 0 && static_cast<int>(s) == context_slot_)) {
                return InvalidEntry{r, s, code};
            }
        }
    }
    return std::nullopt;
}

void CostTables::lookup(std::span<const std::uint8_t> archs, std::span<double> out,
                        const Execution& execution) const {
    const std::size_t n = n_slots();
    if (archs.size() % n != 0) {
        throw InvalidInput("archs has " + std::to_string(archs.size()) +
                           " codes, not a multiple of the " + std::to_string(n) +
                           " slots of the tables");
    }
    const std::size_t n_rows = archs.size() / n;
    if (out.size() != n_rows * n_tables_) throw InvalidInput("out has the wrong size");
    const auto& kernel = simd::kernels<simd::CostKernels>();
    bool in_place = width_ == n_tables_;
    for (std::size_t t = 0; t < n_tables_; ++t)
        in_place = in_place && column_of_table_[t] == t;

    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<double> scratch(in_place ? 0 : simd::kTileRows * width_);
        simd::LookupPlan plan{};
        plan.n_slots = n;
        plan.n_pairs = n_pairs_;
        plan.width = width_;
        plan.sum_width = sum_width_;
        plan.radix_tile = radix_tile_.data();
        plan.pair_offset = pair_offset_.data();
        for (std::size_t r = begin; r < end; r += simd::kTileRows) {
            const std::size_t rows = std::min(simd::kTileRows, end - r);
            const std::uint8_t* codes = archs.data() + r * n;
            bool bad = kernel.any_above(codes, max_code_tile_.data(), rows * n);
            if (context_slot_ >= 0) {
                for (std::size_t i = 0; i < rows; ++i) {
                    bad |= codes[i * n + static_cast<std::size_t>(context_slot_)] == 0;
                }
            }
            if (bad) {
                auto fault = *find_bad_code(codes, rows);
                const std::string message = "archs: row " + std::to_string(r + fault.row) +
                                            ", slot " + std::to_string(fault.slot) + " is " +
                                            std::to_string(fault.value);
                const std::string most = std::to_string(n_codes_[fault.slot] - 1);
                throw InvalidInput(
                    static_cast<int>(fault.slot) == context_slot_
                        ? message + "; this slot picks the context, codes there are 1 to " + most
                        : message + "; codes there are 0 to " + most);
            }
            double* to = in_place ? out.data() + r * n_tables_ : scratch.data();
            const bool permute = !slot_entries_.empty() && (n_rows - r - rows) * n >= 7;
            const auto in_context = [&](std::size_t context) {
                plan.entries = packed_.data() + context * context_stride_;
                plan.constants = packed_constants_.data() + context * width_;
                plan.slot_entries =
                    permute ? slot_entries_.data() + context * 2 * n_pairs_ * simd::kPermutedCodes
                            : nullptr;
            };
            if (context_slot_ < 0) {
                in_context(0);
                kernel.lookup(codes, rows, plan, to);
            } else {
                // Runs of one context share a call; sampled batches often have runs of one row.
                std::size_t i = 0;
                while (i < rows) {
                    const std::size_t at = static_cast<std::size_t>(context_slot_);
                    const std::uint8_t code = codes[i * n + at];
                    std::size_t stop = i + 1;
                    while (stop < rows && codes[stop * n + at] == code)
                        ++stop;
                    in_context(code - std::size_t{1});
                    kernel.lookup(codes + i * n, stop - i, plan, to + i * width_);
                    i = stop;
                }
            }
            if (in_place) continue;
            for (std::size_t i = 0; i < rows; ++i) {
                for (std::size_t t = 0; t < n_tables_; ++t) {
                    out[(r + i) * n_tables_ + t] = scratch[i * width_ + column_of_table_[t]];
                }
            }
        }
    });
}

}  // namespace pnag
