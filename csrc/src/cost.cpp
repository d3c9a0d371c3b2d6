#include "pnag/cost.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "simd/cost.hpp"
#include "simd/levels.hpp"

namespace pnag {
namespace {

constexpr std::size_t kGrain = 16384;
constexpr std::size_t kSpreadGrain = 2048;
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

CodeLimits::CodeLimits(std::vector<int> n_codes, int context_slot, std::size_t n_slots,
                       std::size_t max_codes, std::size_t n_contexts)
    : n_codes_(std::move(n_codes)), context_slot_(context_slot) {
    if (n_slots == 0) throw InvalidInput("the tables have no slots; at least one is needed");
    if (n_slots > simd::kMaxLookupSlots) {
        throw InvalidInput("entries has " + std::to_string(n_slots) + " slots; at most " +
                           std::to_string(simd::kMaxLookupSlots) + " are possible");
    }
    if (n_codes_.size() != n_slots) {
        throw InvalidInput("n_codes has " + std::to_string(n_codes_.size()) +
                           " entries; entries has " + std::to_string(n_slots) + " slots");
    }
    for (std::size_t s = 0; s < n_slots; ++s) {
        if (n_codes_[s] < 2 || n_codes_[s] > 255 ||
            static_cast<std::size_t>(n_codes_[s]) > max_codes) {
            throw InvalidInput("n_codes of slot " + std::to_string(s) + " is " +
                               std::to_string(n_codes_[s]) +
                               "; it must be 2 to 255 and at most the " +
                               std::to_string(max_codes) + " codes that entries has");
        }
    }
    if (context_slot_ < -1 || context_slot_ >= static_cast<int>(n_slots)) {
        throw InvalidInput("context_slot is " + std::to_string(context_slot_) +
                           "; it is -1 (none) or a slot, 0 to " + std::to_string(n_slots - 1));
    }
    const std::size_t expected_contexts =
        context_slot_ < 0
            ? 1
            : static_cast<std::size_t>(n_codes_[static_cast<std::size_t>(context_slot_)]) - 1;
    if (n_contexts != expected_contexts) {
        throw InvalidInput("entries has " + std::to_string(n_contexts) +
                           " contexts; with context_slot " + std::to_string(context_slot_) +
                           " it must have " + std::to_string(expected_contexts));
    }
    for (std::size_t r = 0; r < simd::kTileRows; ++r) {
        for (const int codes : n_codes_)
            largest_tile_.push_back(static_cast<std::uint8_t>(codes - 1));
    }
}

std::size_t CodeLimits::count_rows(std::span<const std::uint8_t> archs) const {
    if (archs.size() % n_slots() == 0) return archs.size() / n_slots();
    throw InvalidInput("archs has " + std::to_string(archs.size()) +
                       " codes, not a multiple of the " + std::to_string(n_slots()) +
                       " slots of the tables");
}

void CodeLimits::require_codes(std::span<const std::uint8_t> archs, std::size_t first,
                               std::size_t n_rows) const {
    const std::size_t n = n_slots();
    const std::uint8_t* codes = archs.data() + first * n;
    bool bad =
        simd::kernels<simd::CostKernels>().any_above(codes, largest_tile_.data(), n_rows * n);
    if (context_slot_ >= 0) {
        for (std::size_t i = 0; i < n_rows; ++i)
            bad |= codes[i * n + static_cast<std::size_t>(context_slot_)] == 0;
    }
    if (!bad) return;
    const auto fault = *find_bad_code(codes, n_rows);
    const std::string message = "archs: row " + std::to_string(first + fault.row) + ", slot " +
                                std::to_string(fault.slot) + " is " + std::to_string(fault.value);
    const std::string most = std::to_string(n_codes_[fault.slot] - 1);
    throw InvalidInput(static_cast<int>(fault.slot) == context_slot_
                           ? message + "; this slot picks the context, codes there are 1 to " + most
                           : message + "; codes there are 0 to " + most);
}

std::optional<InvalidEntry> CodeLimits::find_bad_code(const std::uint8_t* archs,
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

CostTables::CostTables(const CostSpec& spec)
    : n_tables_(spec.n_tables),
      limits_(spec.n_codes, spec.context_slot, spec.n_slots, spec.max_codes, spec.n_contexts),
      use_max_(spec.use_max) {
    if (n_tables_ == 0) throw InvalidInput("there are no tables; at least one is needed");
    if (use_max_.size() != n_tables_) {
        throw InvalidInput("use_max has " + std::to_string(use_max_.size()) + " entries for " +
                           std::to_string(n_tables_) + " tables");
    }
    const std::size_t n_contexts = spec.n_contexts;
    // Divided by max_codes, the one factor without a limit: the whole product could overflow.
    if (spec.entries.size() % spec.max_codes != 0 ||
        spec.entries.size() / spec.max_codes != n_tables_ * n_contexts * spec.n_slots ||
        spec.constants.size() != n_tables_ * n_contexts) {
        throw InvalidInput("entries or constants have the wrong number of values");
    }

    const auto entry = [&](std::size_t t, std::size_t k, std::size_t s, std::size_t code) {
        return spec.entries[((t * n_contexts + k) * spec.n_slots + s) * spec.max_codes + code];
    };
    for (std::size_t t = 0; t < n_tables_; ++t) {
        for (std::size_t k = 0; k < n_contexts; ++k) {
            if (!std::isfinite(spec.constants[t * n_contexts + k])) {
                throw InvalidInput("constant of " + table_context(t, k) + " is " +
                                   std::to_string(spec.constants[t * n_contexts + k]) +
                                   "; costs must be finite");
            }
            for (std::size_t s = 0; s < spec.n_slots; ++s) {
                for (std::size_t c = 0; c < limits_.n_codes(s); ++c) {
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
        const auto first = limits_.n_codes(2 * p);
        const auto second = 2 * p + 1 < spec.n_slots ? limits_.n_codes(2 * p + 1) : 1;
        radix_.push_back(static_cast<std::uint16_t>(second));
        pair_offset_.push_back(static_cast<std::uint32_t>(n_cells));
        n_cells += first * second;
    }
    // Compared by division: the product itself could overflow.
    if (n_cells > kMaxPackedDoubles / width_ / n_contexts) {
        throw InvalidInput(std::to_string(n_tables_) + " tables with " +
                           std::to_string(n_contexts) + " contexts and " + std::to_string(n_cells) +
                           " code pairs need more than 1 GiB; look up fewer tables at once");
    }
    context_stride_ = n_cells * width_;
    packed_.assign(n_contexts * context_stride_, 0.0);
    packed_constants_.assign(n_contexts * width_, 0.0);
    for (std::size_t t = 0; t < n_tables_; ++t) {
        const std::size_t column = column_of_table_[t];
        for (std::size_t k = 0; k < n_contexts; ++k) {
            packed_constants_[k * width_ + column] = spec.constants[t * n_contexts + k];
            for (std::size_t p = 0; p < n_pairs_; ++p) {
                const bool single = 2 * p + 1 >= spec.n_slots;
                const std::size_t radix = radix_[p];
                for (std::size_t c0 = 0; c0 < limits_.n_codes(2 * p); ++c0) {
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

    const bool few_codes = std::all_of(spec.n_codes.begin(), spec.n_codes.end(), [](int codes) {
        return static_cast<std::size_t>(codes) <= simd::kPermutedCodes;
    });
    if (width_ == 1 && few_codes && spec.n_slots <= kMaxPermutedSlots) {
        // Neither -0.0 changes a sum nor -inf a maximum.
        slot_entries_.assign(n_contexts * 2 * n_pairs_ * simd::kPermutedCodes,
                             use_max_[0] ? -std::numeric_limits<double>::infinity() : -0.0);
        for (std::size_t k = 0; k < n_contexts; ++k) {
            for (std::size_t s = 0; s < spec.n_slots; ++s) {
                for (std::size_t c = 0; c < limits_.n_codes(s); ++c) {
                    slot_entries_[(k * 2 * n_pairs_ + s) * simd::kPermutedCodes + c] =
                        entry(0, k, s, c);
                }
            }
        }
    }

    for (std::size_t r = 0; r < simd::kTileRows; ++r) {
        radix_tile_.insert(radix_tile_.end(), radix_.begin(), radix_.end());
    }
}

void CostTables::lookup(std::span<const std::uint8_t> archs, std::span<double> out,
                        const Execution& execution) const {
    const std::size_t n = n_slots();
    const std::size_t n_rows = limits_.count_rows(archs);
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
            limits_.require_codes(archs, r, rows);
            double* to = in_place ? out.data() + r * n_tables_ : scratch.data();
            const bool permute = !slot_entries_.empty() && (n_rows - r - rows) * n >= 7;
            limits_.for_each_context(
                archs, r, rows, [&](std::size_t from, std::size_t stop, std::size_t context) {
                    plan.entries = packed_.data() + context * context_stride_;
                    plan.constants = packed_constants_.data() + context * width_;
                    plan.slot_entries = permute ? slot_entries_.data() +
                                                      context * 2 * n_pairs_ * simd::kPermutedCodes
                                                : nullptr;
                    kernel.lookup(archs.data() + from * n, stop - from, plan,
                                  to + (from - r) * width_);
                });
            if (in_place) continue;
            for (std::size_t i = 0; i < rows; ++i) {
                for (std::size_t t = 0; t < n_tables_; ++t) {
                    out[(r + i) * n_tables_ + t] = scratch[i * width_ + column_of_table_[t]];
                }
            }
        }
    });
}

CostSpread::CostSpread(const SpreadSpec& spec)
    : limits_(spec.n_codes, spec.context_slot, spec.n_slots, spec.max_codes, spec.n_contexts),
      misfit_(spec.misfit),
      width_((spec.rank + simd::kSquares - 1) / simd::kSquares * simd::kSquares) {
    if (!(misfit_ >= 0.0 && misfit_ <= std::numeric_limits<double>::max())) {
        throw InvalidInput("misfit is " + std::to_string(misfit_) +
                           "; it must be finite and not negative");
    }
    std::size_t n_cells = 0;
    for (std::size_t s = 0; s < spec.n_slots; ++s) {
        slot_offset_.push_back(static_cast<std::uint32_t>(n_cells));
        n_cells += limits_.n_codes(s);
    }
    // Compared by division: the product itself could overflow.
    if (spec.rank > kMaxPackedDoubles || width_ * spec.n_contexts > kMaxPackedDoubles / n_cells) {
        throw InvalidInput("a rank of " + std::to_string(spec.rank) + " with " +
                           std::to_string(spec.n_contexts) + " contexts and " +
                           std::to_string(n_cells) + " codes needs more than 1 GiB");
    }
    const std::size_t n_contexts = spec.n_contexts;
    const std::size_t rank = spec.rank;
    if (spec.constants.size() != n_contexts * rank ||
        (rank > 0 && spec.entries.size() % spec.max_codes != 0) ||
        spec.entries.size() / spec.max_codes != n_contexts * spec.n_slots * rank) {
        throw InvalidInput("entries or constants have the wrong number of values");
    }
    context_stride_ = n_cells * width_;
    packed_.assign(n_contexts * context_stride_, 0.0);
    constants_.assign(n_contexts * width_, 0.0);
    const auto require_finite = [](double value, std::size_t context, const std::string& of) {
        if (std::isfinite(value)) return;
        throw InvalidInput("context " + std::to_string(context) + of + " is " +
                           std::to_string(value) + "; what is known of a cost must be finite");
    };
    for (std::size_t k = 0; k < n_contexts; ++k) {
        for (std::size_t t = 0; t < rank; ++t) {
            const double value = spec.constants[k * rank + t];
            require_finite(value, k, ", constant " + std::to_string(t));
            constants_[k * width_ + t] = value;
        }
        for (std::size_t s = 0; s < spec.n_slots; ++s) {
            for (std::size_t c = 0; c < limits_.n_codes(s); ++c) {
                const std::size_t from = ((k * spec.n_slots + s) * spec.max_codes + c) * rank;
                const std::size_t to = k * context_stride_ + (slot_offset_[s] + c) * width_;
                for (std::size_t t = 0; t < rank; ++t) {
                    const double value = spec.entries[from + t];
                    if (!std::isfinite(value)) {
                        require_finite(value, k,
                                       ", slot " + std::to_string(s) + ", code " +
                                           std::to_string(c) + ", number " + std::to_string(t));
                    }
                    packed_[to + t] = value;
                }
            }
        }
    }
}

void CostSpread::lookup(std::span<const std::uint8_t> archs, std::span<const double> mean,
                        std::span<double> out, const Execution& execution) const {
    const std::size_t n = n_slots();
    const std::size_t n_rows = limits_.count_rows(archs);
    if (mean.size() != n_rows) {
        throw InvalidInput("mean has " + std::to_string(mean.size()) + " values for " +
                           std::to_string(n_rows) + " rows of archs");
    }
    if (out.size() != n_rows) throw InvalidInput("out has the wrong size");
    const auto& kernel = simd::kernels<simd::CostKernels>();
    parallel_for(n_rows, kSpreadGrain, execution, [&](std::size_t begin, std::size_t end) {
        Lines<double> sums(simd::kTileRows * width_);
        simd::LookupPlan plan{};
        plan.n_pairs = n;
        plan.width = width_;
        plan.sum_width = width_;
        plan.pair_offset = slot_offset_.data();
        for (std::size_t r = begin; r < end; r += simd::kTileRows) {
            const std::size_t rows = std::min(simd::kTileRows, end - r);
            limits_.require_codes(archs, r, rows);
            limits_.for_each_context(
                archs, r, rows, [&](std::size_t from, std::size_t stop, std::size_t context) {
                    plan.entries = packed_.data() + context * context_stride_;
                    plan.constants = constants_.data() + context * width_;
                    kernel.squared_lengths(archs.data() + from * n, stop - from, plan, sums.data(),
                                           out.data() + from);
                });
            for (std::size_t i = r; i < r + rows; ++i) {
                const double beside = misfit_ * mean[i];
                out[i] = std::sqrt(out[i] + beside * beside);
            }
        }
    });
}

}  // namespace pnag
