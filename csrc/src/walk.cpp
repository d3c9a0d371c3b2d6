#include "pnag/walk.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/random.hpp"
#include "streams.hpp"

namespace pnag {
namespace {

constexpr std::size_t kGrain = 16;
// A threshold is 3 t u^2 for uniform u, t on average: most are small, as in annealing.
constexpr double kSpread = 3.0;
// A sum of four uniform numbers has a variance of 1/3.
constexpr double kRoot3 = 1.7320508075688772;
// What a limit of zero is compared by; costs over this are numbers.
constexpr double kTiny = 1e-150;

double uniform(RowStream& random) {
    return static_cast<double>(random.next() >> 11) * 0x1p-53;
}

// A nearly Gaussian number of deviation 1, from arithmetic alone.
double deviate(RowStream& random) {
    const std::uint64_t word = random.next();
    const std::uint64_t sum =
        (word & 0xFFFF) + ((word >> 16) & 0xFFFF) + ((word >> 32) & 0xFFFF) + (word >> 48);
    return (static_cast<double>(sum) * 0x1p-16 - 2.0) * kRoot3;
}

void require_size(std::size_t found, std::size_t wanted, const char* name) {
    if (found != wanted) {
        throw InvalidInput(std::string(name) + " has " + std::to_string(found) +
                           " values; it must have " + std::to_string(wanted));
    }
}

}  // namespace

Walker::Walker(const Space& space, const CostSpec& costs)
    : limits_(costs.n_codes, costs.context_slot, costs.n_slots, costs.max_codes, costs.n_contexts),
      use_max_(costs.use_max.begin(), costs.use_max.end()),
      max_codes_(costs.max_codes),
      context_slot_(costs.context_slot) {
    const CostTables checked(costs);  // throws for what does not fit together
    const std::vector<int>& n_choices = space.n_choices();
    require_size(costs.n_codes.size(), n_choices.size(), "n_codes");
    for (const StageSpec& stage : space.stages()) {
        const std::size_t first = slots_.size();
        for (std::size_t i = 0; i < stage.n_choices.size(); ++i) {
            const auto choices = static_cast<std::size_t>(stage.n_choices[i]);
            const std::size_t s = slots_.size();
            if (static_cast<std::size_t>(costs.n_codes[s]) != choices + 1) {
                throw InvalidInput("n_codes of slot " + std::to_string(s) + " is " +
                                   std::to_string(costs.n_codes[s]) + "; the space has " +
                                   std::to_string(choices + 1));
            }
            slots_.push_back({first, first + stage.n_choices.size() - 1, rows_.size(),
                              static_cast<std::size_t>(stage.min_depth), choices, n_features_,
                              static_cast<int>(s) == context_slot_});
            n_features_ += choices;
        }
        rows_.push_back(stage.rows.value_or(std::vector<std::uint8_t>{}));
    }
    const std::size_t n_contexts = costs.n_contexts;
    packed_.assign(n_contexts * n_slots() * max_codes_ * n_tables(), 0.0);
    constants_.assign(n_contexts * n_tables(), 0.0);
    for (std::size_t t = 0; t < n_tables(); ++t) {
        for (std::size_t k = 0; k < n_contexts; ++k) {
            constants_[k * n_tables() + t] = costs.constants[t * n_contexts + k];
            for (std::size_t i = 0; i < n_slots() * max_codes_; ++i) {
                packed_[(k * n_slots() * max_codes_ + i) * n_tables() + t] =
                    costs.entries[(t * n_contexts + k) * n_slots() * max_codes_ + i];
            }
        }
    }
}

// One walk. Feature n_features stands for an absent slot: it adds nothing.
class Walker::Row {
  public:
    Row(const Walker& walker, const std::vector<float>& curvature)
        : walker_(walker),
          width_(walker.n_features() + 1),
          curvature_(curvature),
          slope_(width_),
          left_(walker.n_tables()),
          scale_(walker.n_tables()),
          limit_(walker.n_tables()),
          change_(walker.n_tables()) {}

    void walk(std::span<std::uint8_t> codes, std::span<const float> linear, const double* limits,
              double threshold, double noise, std::size_t n_moves, RowStream random) {
        start(codes, linear, limits, noise, random);
        for (std::size_t move = 0; move < n_moves; ++move) {
            if (!propose(random)) continue;
            const double rest = static_cast<double>(n_moves - move) / static_cast<double>(n_moves);
            const double u = uniform(random);
            const bool good = -gain() <= kSpread * threshold * rest * rest * u * u;
            if (allowed(good)) make();
        }
    }

  private:
    struct Change {
        std::size_t slot = 0;
        std::uint8_t code = 0;
        std::size_t from = 0, to = 0;  // features
    };

    [[nodiscard]] const float* curvature(std::size_t feature) const {
        return curvature_.data() + feature * width_;
    }

    [[nodiscard]] std::size_t feature(std::size_t slot, std::uint8_t code) const {
        return code == 0 ? width_ - 1 : walker_.slots_[slot].feature + code - 1;
    }

    void start(std::span<std::uint8_t> codes, std::span<const float> linear, const double* limits,
               double noise, RowStream& random) {
        codes_ = codes;
        const int slot = walker_.context_slot_;
        context_ =
            slot < 0 ? 0 : static_cast<std::size_t>(codes[static_cast<std::size_t>(slot)] - 1);
        slope_.assign(width_, 0.0F);
        std::copy(linear.begin(), linear.end(), slope_.begin());
        if (noise > 0) {
            for (std::size_t f = 0; f + 1 < width_; ++f) {
                slope_[f] += static_cast<float>(noise * deviate(random));
            }
        }
        const std::size_t n_tables = walker_.n_tables();
        for (std::size_t t = 0; t < n_tables; ++t) {
            limit_[t] = limits[t];
            scale_[t] = std::max(std::abs(limits[t]), kTiny);
            left_[t] = walker_.use_max_[t] != 0
                           ? 0.0
                           : limits[t] - walker_.constants_[context_ * n_tables + t];
        }
        for (std::size_t s = 0; s < codes.size(); ++s) {
            const float* row = curvature(feature(s, codes[s]));
            for (std::size_t f = 0; f < width_; ++f)
                slope_[f] += row[f];
            const double* cost = walker_.costs(context_, s, codes[s]);
            for (std::size_t t = 0; t < n_tables; ++t)
                left_[t] -= used(t, cost[t]);
        }
        excess_ = 0.0;
        for (std::size_t t = 0; t < n_tables; ++t)
            excess_ += over(t, left_[t]);
    }

    // What a slot takes of what is left: of a maximum, what exceeds the limit by itself.
    [[nodiscard]] double used(std::size_t table, double cost) const {
        if (walker_.use_max_[table] == 0) return cost;
        return cost > limit_[table] ? cost - limit_[table] : 0.0;
    }

    [[nodiscard]] double over(std::size_t table, double left) const {
        return left < 0 ? -left / scale_[table] : 0.0;
    }

    // Fill changes_; false where nothing was found.
    bool propose(RowStream& random) {
        n_changes_ = 0;
        const std::uint64_t word = random.next();
        const std::size_t n_decisions = 1 + (word >> 63);
        std::size_t resized = walker_.rows_.size();  // stage whose depth the first one changes
        for (std::size_t i = 0; i < n_decisions; ++i) {
            const auto s = static_cast<std::size_t>(random.below(codes_.size()));
            const Slot& slot = walker_.slots_[s];
            if (slot.fixed) return false;
            const std::vector<std::uint8_t>& rows = walker_.rows_[slot.stage];
            for (std::size_t j = 0; j < n_changes_; ++j) {
                const std::size_t other = changes_[j].slot;
                if (other == s || (!rows.empty() && walker_.slots_[other].stage == slot.stage)) {
                    return false;
                }
            }
            if (!rows.empty()) {
                const std::size_t n = slot.last - slot.first + 1;
                const auto row = static_cast<std::size_t>(random.below(rows.size() / n));
                for (std::size_t j = 0; j < n; ++j) {
                    if (rows[row * n + j] != codes_[slot.first + j]) {
                        add(slot.first + j, rows[row * n + j]);
                    }
                }
                continue;
            }
            const std::uint8_t code = codes_[s];
            const bool ends = code != 0 && (s == slot.last || codes_[s + 1] == 0);
            const bool drops = ends && s - slot.first >= slot.min_depth &&
                               (slot.n_choices == 1 || random.below(3) == 0);
            const bool adds = code == 0 && (s == slot.first || codes_[s - 1] != 0);
            if ((code == 0 && !adds) || (code != 0 && !drops && slot.n_choices == 1)) return false;
            if (drops || adds) {
                if (resized == slot.stage) return false;
                resized = slot.stage;
            }
            if (drops) {
                add(s, 0);
                continue;
            }
            auto next =
                static_cast<std::uint8_t>(1 + random.below(slot.n_choices - (code == 0 ? 0 : 1)));
            if (code != 0 && next >= code) ++next;
            add(s, next);
        }
        return n_changes_ > 0;
    }

    void add(std::size_t slot, std::uint8_t code) {
        if (n_changes_ == changes_.size()) changes_.emplace_back();
        changes_[n_changes_++] = {slot, code, feature(slot, codes_[slot]), feature(slot, code)};
    }

    // What the changes add to the estimate.
    [[nodiscard]] double gain() const {
        double sum = 0.0;
        for (std::size_t i = 0; i < n_changes_; ++i) {
            const auto [slot, code, from, to] = changes_[i];
            const float* to_row = curvature(to);
            const float* from_row = curvature(from);
            sum += static_cast<double>(slope_[to] - slope_[from]);
            sum += 0.5 * static_cast<double>(to_row[to] + from_row[from]) -
                   static_cast<double>(from_row[to]);
            for (std::size_t j = 0; j < i; ++j) {
                const Change& other = changes_[j];
                sum += static_cast<double>(to_row[other.to] - to_row[other.from]) -
                       static_cast<double>(from_row[other.to] - from_row[other.from]);
            }
        }
        return sum;
    }

    // Whether the changes may be made; `good`: as far as the estimate goes.
    bool allowed(bool good) {
        if (!good && excess_ == 0) return false;
        const std::size_t n_tables = walker_.n_tables();
        std::fill(change_.begin(), change_.end(), 0.0);
        for (std::size_t i = 0; i < n_changes_; ++i) {
            const std::size_t s = changes_[i].slot;
            const double* after = walker_.costs(context_, s, changes_[i].code);
            const double* before = walker_.costs(context_, s, codes_[s]);
            for (std::size_t t = 0; t < n_tables; ++t) {
                change_[t] += used(t, after[t]) - used(t, before[t]);
            }
        }
        if (excess_ == 0) {
            for (std::size_t t = 0; t < n_tables; ++t) {
                if (change_[t] > 0 && !(change_[t] <= left_[t])) return false;
            }
            return true;
        }
        double excess = 0.0;
        for (std::size_t t = 0; t < n_tables; ++t)
            excess += over(t, left_[t] - change_[t]);
        if (excess > excess_ || (excess == excess_ && !good)) return false;
        excess_ = excess;
        return true;
    }

    void make() {
        for (std::size_t t = 0; t < change_.size(); ++t)
            left_[t] -= change_[t];
        for (std::size_t i = 0; i < n_changes_; ++i) {
            const auto [slot, code, from, to] = changes_[i];
            const float* to_row = curvature(to);
            const float* from_row = curvature(from);
            for (std::size_t f = 0; f < width_; ++f)
                slope_[f] += to_row[f] - from_row[f];
            codes_[slot] = code;
        }
    }

    const Walker& walker_;
    std::size_t width_;
    const std::vector<float>& curvature_;  // with a row and a column of zeros at the end
    std::span<std::uint8_t> codes_;
    std::size_t context_ = 0;
    std::vector<float> slope_;                  // of the estimate, for every feature
    std::vector<double> left_, scale_, limit_;  // of every table
    std::vector<double> change_;                // of what is left, by the changes
    double excess_ = 0.0;
    std::vector<Change> changes_;
    std::size_t n_changes_ = 0;
};

void Walker::walk(const Estimate& estimate, const Walks& walks, std::span<std::uint8_t> out,
                  const Execution& execution) const {
    const std::size_t n = walks.thresholds.size();
    require_size(estimate.linear.size(), n_features_, "linear");
    require_size(estimate.curvature.size(), n_features_ * n_features_, "curvature");
    require_size(walks.starts.size(), n * n_slots(), "starts");
    require_size(walks.limits.size(), n * n_tables(), "limits");
    require_size(walks.noise.size(), n, "noise");
    require_size(out.size(), n * n_slots(), "out");
    const std::size_t width = n_features_ + 1;
    std::vector<float> curvature(width * width);
    for (std::size_t f = 0; f < n_features_; ++f) {
        std::copy_n(estimate.curvature.data() + f * n_features_, n_features_,
                    curvature.data() + f * width);
    }
    std::copy(walks.starts.begin(), walks.starts.end(), out.begin());
    const std::uint64_t key = stream_key(walks.seed, kWalkStream);
    parallel_for(n, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        Row row(*this, curvature);
        for (std::size_t i = begin; i < end; ++i) {
            limits_.require_codes(walks.starts, i, 1);
            row.walk(out.subspan(i * n_slots(), n_slots()), estimate.linear,
                     walks.limits.data() + i * n_tables(), static_cast<double>(walks.thresholds[i]),
                     static_cast<double>(walks.noise[i]), walks.n_moves, RowStream(key, i));
        }
    });
}

}  // namespace pnag
