#include "pnag/window.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "streams.hpp"
#include "window/built_once.hpp"
#include "window/draw.hpp"
#include "window/ends.hpp"
#include "window/plan.hpp"
#include "window/tables.hpp"
#include "window/walk.hpp"

namespace pnag {
namespace {

using namespace window;

void require_threads(const Execution& execution) {
    if (execution.threads < 1) {
        throw InvalidInput("threads is " + std::to_string(execution.threads) + "; at least 1");
    }
}

}  // namespace

struct WindowSampler::State {
    Tables tables;
    std::mutex mutex;
    std::shared_ptr<const std::vector<Grid<uint128>>> count_grids;
    std::shared_ptr<const Plan> last_plan;

    State(const Space& space, const CostSpec& spec, const Execution& execution)
        : tables(space, spec, execution) {}

    std::shared_ptr<const Plan> plan(double low, double high, const Execution& execution) {
        {
            const std::lock_guard lock(mutex);
            if (last_plan && last_plan->low == low && last_plan->high == high) return last_plan;
        }
        auto made = std::make_shared<const Plan>(make_plan(tables, low, high, execution));
        const std::lock_guard lock(mutex);
        last_plan = made;
        return made;
    }
};

WindowSampler::WindowSampler(const Space& space, const CostSpec& spec, const Execution& execution)
    : state_(std::make_unique<State>(space, spec, execution)) {}
WindowSampler::~WindowSampler() = default;
WindowSampler::WindowSampler(WindowSampler&&) noexcept = default;
WindowSampler& WindowSampler::operator=(WindowSampler&&) noexcept = default;

std::size_t WindowSampler::n_slots() const {
    return state_->tables.n_slots;
}

WindowCount WindowSampler::count(double low, double high, const Execution& execution) const {
    const Tables& tables = state_->tables;
    tables.require_window(low, high);
    require_threads(execution);
    if (!(tables.n_architectures < 0x1p126)) {
        throw InvalidInput("the space has 2^126 or more architectures, too many to count exactly");
    }
    const Ends ends(low, high, tables.rounding);
    const auto grids = built_once(state_->mutex, state_->count_grids,
                                  [&] { return tables.count_grids(execution); });
    WindowCount count;
    for (std::size_t k = 0; k < grids->size(); ++k) {
        const Grid<uint128>& grid = (*grids)[k];
        for (std::size_t t = 0; t < grid.lo.size(); ++t) {
            const uint128 ways = grid.all_ways()[t];
            if (ways == 0) continue;
            const Completion found =
                complete(tables.contexts[k].tail, ends, grid.lo[t], grid.hi[t]);
            count.upper += ways * found.may();
            count.lower += ways * found.must();
            if (found.may() != found.must()) {
                count.tolerance =
                    std::max(count.tolerance, grid.hi[t] - grid.lo[t] + tables.rounding);
            }
        }
    }
    if (count.upper != count.lower &&
        count.upper - count.lower <= static_cast<uint128>(kMaxListed)) {
        uint128 inside = 0;
        walk(tables, tables.contexts, *grids, low, high, true, execution,
             [&](const std::uint8_t*) { ++inside; });
        count.lower += inside;
        count.upper = count.lower;
    }
    if (count.upper == count.lower) count.tolerance = 0.0;
    return count;
}

void WindowSampler::sample(double low, double high, std::uint64_t seed, std::span<std::uint8_t> out,
                           const Execution& execution) const {
    const Tables& tables = state_->tables;
    tables.require_window(low, high);
    require_threads(execution);
    if (out.size() % tables.n_slots != 0) throw InvalidInput("out has the wrong size");
    const std::size_t n_rows = out.size() / tables.n_slots;
    const std::shared_ptr<const Plan> plan = state_->plan(low, high, execution);
    const std::uint64_t key = stream_key(seed, kWindowStream);
    if (plan->is_listed) {
        const std::size_t n_listed = plan->listed.size() / tables.n_slots;
        parallel_for(n_rows, 4096, execution, [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                RowStream random(key, r);
                std::memcpy(out.data() + r * tables.n_slots,
                            plan->listed.data() + random.below(n_listed) * tables.n_slots,
                            tables.n_slots);
            }
        });
        return;
    }
    // Small ranges where rows are dear, so that threads and interrupts do not wait for each other.
    const std::size_t grain = plan->is_direct ? 2048 : 256;
    parallel_for(n_rows, grain, execution, [&](std::size_t begin, std::size_t end) {
        draw(tables, *plan, key, begin, end, out.data(), execution);
    });
}

}  // namespace pnag
