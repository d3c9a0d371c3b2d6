// Windows of cost: counts against enumeration; samples lie inside, and are refused only where there
// is nothing to draw.
#include <cmath>
#include <limits>

#include "pnag/cost.hpp"
#include "pnag/window.hpp"
#include "spaces.hpp"

using namespace pnag;
using namespace pnag::fuzz;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Costs of codes that do not exist may be anything.
bool all_below(const CostSpec& spec, double limit) {
    for (std::size_t i = 0; i < spec.entries.size(); ++i) {
        const auto n_codes =
            static_cast<std::size_t>(spec.n_codes[i / spec.max_codes % spec.n_slots]);
        if (i % spec.max_codes < n_codes && !(std::abs(spec.entries[i]) < limit)) return false;
    }
    return std::all_of(spec.constants.begin(), spec.constants.end(),
                       [&](double x) { return std::abs(x) < limit; });
}

// The slot must be present in every architecture, and not part of listed rows.
bool can_pick_context(const std::vector<StageSpec>& stages, int slot) {
    for (const StageSpec& stage : stages) {
        const auto n = static_cast<int>(stage.n_choices.size());
        if (slot < n) return slot < 0 || (!stage.rows && slot < stage.min_depth);
        slot -= n;
    }
    return true;
}

void check_window(const Space& space, const WindowSampler& sampler, const CostTables& tables,
                  const std::vector<double>& costs, double low, double high, std::uint64_t seed) {
    std::vector<std::uint8_t> rows(space.n_slots() * 70);
    if (!std::isfinite(low) || !std::isfinite(high) || low > high) {
        REQUIRE(refuses([&] { static_cast<void>(sampler.count(low, high, 1)); }));
        REQUIRE(refuses([&] { sampler.sample(low, high, seed, rows, 1); }));
        return;
    }
    const auto inside = [&](double cost) { return cost >= low && cost <= high; };
    const auto n = static_cast<std::size_t>(std::count_if(costs.begin(), costs.end(), inside));
    const WindowCount count = sampler.count(low, high, 1);
    REQUIRE(count.lower <= n && n <= count.upper);
    REQUIRE(refuses([&] { sampler.sample(low, high, seed, rows, 1); }) == (n == 0));
    if (n == 0) return;
    REQUIRE(!space.find_invalid(rows, 1));
    std::vector<double> found(70);
    tables.lookup(rows, found, 1);
    REQUIRE(std::all_of(found.begin(), found.end(), inside));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes in(data, size);
    const std::vector<StageSpec> stages = make_stages(in);
    if (!are_possible(stages)) return 0;
    const Space space(stages);
    const std::size_t n = size_of(space, 30'000);  // more than 16,384 are binned
    if (n == 0) return 0;

    CostSpec spec;
    spec.n_tables = 1;
    spec.n_slots = space.n_slots();
    for (const int choices : space.n_choices())
        spec.n_codes.push_back(choices + 1);
    spec.max_codes =
        static_cast<std::size_t>(*std::max_element(spec.n_codes.begin(), spec.n_codes.end()));
    spec.context_slot = static_cast<int>(in.below(2 * spec.n_slots)) % 3 - 1;
    spec.n_contexts = 1;
    if (spec.context_slot >= 0) {
        const auto slot = static_cast<std::size_t>(spec.context_slot);
        if (slot >= spec.n_slots || space.n_choices()[slot] > 8) return 0;  // more take long
        spec.n_contexts = static_cast<std::size_t>(space.n_choices()[slot]);
    }
    spec.use_max = {in.byte() == 255};
    std::vector<double> values(1 + in.below(64));
    for (double& value : values)
        value = in.number();
    std::vector<double> entries(spec.n_contexts * spec.n_slots * spec.max_codes);
    for (std::size_t i = 0; i < entries.size(); ++i)
        entries[i] = values[i * 7 % values.size()] * (1.0 + static_cast<double>(i % 3));
    if (in.byte() == 255) entries.pop_back();
    std::vector<double> constants(spec.n_contexts, in.number());
    spec.entries = entries;
    spec.constants = constants;

    const bool wrong = spec.use_max[0] || entries.size() % spec.max_codes != 0 ||
                       !can_pick_context(stages, spec.context_slot) || !all_below(spec, kInfinity);
    // Costs near the end of the range are refused as well.
    if (wrong || !all_below(spec, 1e290)) {
        REQUIRE(refuses([&] { const WindowSampler sampler(space, spec); }) || !wrong);
        return 0;
    }
    const CostTables tables(spec);
    const WindowSampler sampler(space, spec);
    std::vector<std::uint8_t> all(n * space.n_slots());
    space.enumerate(0, all, 1);
    std::vector<double> costs(n);
    tables.lookup(all, costs, 1);
    const double some = costs[in.word() % n];
    const double other = costs[in.word() % n];
    check_window(space, sampler, tables, costs, std::min(some, other), std::max(some, other),
                 in.word());
    check_window(space, sampler, tables, costs, some, some, in.word());
    check_window(space, sampler, tables, costs, in.number(), in.number(), in.word());
    return 0;
}
