#include "pnag/space.hpp"

#include <string>
#include <utility>

#include "pnag/errors.hpp"
#include "simd/tile.hpp"
#include "space/draws.hpp"
#include "space/stage.hpp"

namespace pnag {

Space::Space(std::vector<StageSpec> specs) {
    if (specs.empty()) throw InvalidInput("a space needs at least one stage");
    for (std::size_t i = 0; i < specs.size(); ++i) {
        Stage stage(std::move(specs[i]), n_choices_.size(), "stage " + std::to_string(i));
        stage.tabulate(stages_);
        n_choices_.insert(n_choices_.end(), stage.n_choices.begin(), stage.n_choices.end());
        stage_counts_.push_back(stage.count);
        has_explicit_ = has_explicit_ || stage.is_explicit;
        stages_.push_back(std::move(stage));
    }

    std::vector<std::uint64_t> uniform_bounds;
    std::vector<std::uint64_t> decision_bounds;
    for (const Stage& stage : stages_) {
        uniform_bounds.push_back(static_cast<std::uint64_t>(stage.count));
        if (stage.is_explicit) {
            decision_bounds.push_back(static_cast<std::uint64_t>(stage.count));
            continue;
        }
        decision_bounds.push_back(stage.n_depths());
        for (const int choices : stage.n_choices) {
            decision_bounds.push_back(static_cast<std::uint64_t>(choices));
        }
    }
    uniform_groups_ = DrawGroup::pack(uniform_bounds);
    decision_groups_ = DrawGroup::pack(decision_bounds);

    for (std::size_t r = 0; r < simd::kTileRows; ++r) {
        for (const Stage& stage : stages_) {
            for (std::size_t s = 0; s < stage.n_slots; ++s) {
                max_code_tile_.push_back(static_cast<std::uint8_t>(stage.n_choices[s]));
                required_tile_.push_back(!stage.is_explicit && s < stage.min_depth ? 1 : 0);
                stage_start_tile_.push_back(stage.is_explicit || s == 0 ? 1 : 0);
            }
        }
    }
}

Space::~Space() = default;
Space::Space(Space&&) noexcept = default;
Space& Space::operator=(Space&&) noexcept = default;

std::vector<StageSpec> Space::stages() const {
    std::vector<StageSpec> specs;
    for (const Stage& stage : stages_) {
        StageSpec spec{stage.n_choices, static_cast<int>(stage.min_depth), std::nullopt};
        if (stage.is_explicit) spec.rows = *stage.table;
        specs.push_back(std::move(spec));
    }
    return specs;
}

std::size_t Space::rows_of(std::size_t size, const char* what) const {
    if (size % n_slots() != 0) {
        throw InvalidInput(std::string(what) + " has " + std::to_string(size) +
                           " codes, not a multiple of the " + std::to_string(n_slots()) +
                           " slots of the space");
    }
    return size / n_slots();
}

}  // namespace pnag
