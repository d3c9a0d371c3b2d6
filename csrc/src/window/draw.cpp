#include "window/draw.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/random.hpp"
#include "window/ends.hpp"

namespace pnag::window {
namespace {

constexpr std::uint32_t kMaxAttempts = 1U << 20;
constexpr std::size_t kLanes = 64;

// The k-th of n equally likely columns and a uniform number of 64 bits from one word; what n takes
// of the word is missing in the number, at most 2^-64 n of probability.
struct Column {
    std::size_t k;
    std::uint64_t rest;

    Column(std::uint64_t word, std::size_t n) {
        const uint128 product = static_cast<uint128>(word) * n;
        k = static_cast<std::size_t>(product >> 64);
        rest = static_cast<std::uint64_t>(product);
    }
};

}  // namespace

// Many rows at once, step by step: each step reads tables that are far larger than the caches near
// the core, so that the next step's entry is fetched for all rows while others are worked on. Every
// row has its own stream; which rows share a block changes nothing.
void draw(const Tables& tables, const Plan& plan, std::uint64_t key, std::size_t begin,
          std::size_t end, std::uint8_t* out, const Execution& execution) {
    struct Lane {
        RowStream random{0, 0};
        std::size_t row = 0;
        std::uint32_t attempts = 0;
        const Cell* cell = nullptr;
        std::size_t left = 0;  // bins still to be spread over the units
        const std::uint64_t* entry = nullptr;
        std::uint32_t first_bin = 0;
        Column column{0, 0};
        double cost = 0.0;  // of the units
        std::size_t bucket = 0;
        bool is_done = false;
    };
    const std::size_t n_slots = tables.n_slots;
    const Level& level = *plan.level;
    const Ends ends(plan.low, plan.high, tables.rounding);
    const std::size_t n_units = level.contexts[0].units.size();
    // A row's block of 2^16 numbers lasts for this many candidates, with room for rejected numbers;
    // then the row goes on in a block of another stream.
    const auto per_block = static_cast<std::uint32_t>(32768 / (2 * n_units + 2));
    std::vector<Lane> lanes(std::min(kLanes, end - begin));
    // The bin of each unit, then its row.
    std::vector<std::uint32_t> chosen(lanes.size() * std::max<std::size_t>(n_units, 1));
    std::vector<std::size_t> hits(lanes.size());
    std::vector<std::uint8_t> archs(lanes.size() * n_slots);
    std::vector<double> found(lanes.size());
    std::size_t next = begin;
    std::size_t active = 0;
    const auto start = [&](Lane& lane) {
        lane.row = next;
        lane.random = RowStream(key, next);
        lane.attempts = 0;
        ++next;
    };
    while (active < lanes.size())
        start(lanes[active++]);

    while (active > 0) {
        execution.check();
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            lane.column = Column(lane.random.next(), plan.cells.size());
            lane.cell = plan.cells.data() + lane.column.k;
            __builtin_prefetch(lane.cell);
        }
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            if (lane.column.rest >= lane.cell->share) {
                lane.cell = plan.cells.data() + lane.cell->alias;
            }
            lane.left = lane.cell->sum;
        }
        for (std::size_t i = n_units; i-- > 1;) {
            for (std::size_t l = 0; l < active; ++l) {
                Lane& lane = lanes[l];
                const BinDraws& draws = level.draws[lane.cell->context][i];
                const BinDraws::Sum sum = draws.sums[lane.left];
                lane.column = Column(lane.random.next(), sum.n_bins);
                lane.entry = draws.entries.data() + sum.offset + lane.column.k;
                lane.first_bin = sum.first_bin;
                __builtin_prefetch(lane.entry);
            }
            for (std::size_t l = 0; l < active; ++l) {
                Lane& lane = lanes[l];
                const std::uint64_t entry = *lane.entry;
                const std::uint64_t k = lane.column.rest >> 16 < entry >> 16
                                            ? static_cast<std::uint64_t>(lane.column.k)
                                            : entry & 0xFFFF;
                const std::size_t bin = lane.first_bin + static_cast<std::size_t>(k);
                chosen[l * n_units + i] = static_cast<std::uint32_t>(bin);
                lane.left -= bin;
            }
        }
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            const Context& context = level.contexts[lane.cell->context];
            const std::vector<Bins>& bins = level.grids[lane.cell->context].bins;
            std::uint32_t* const rows = chosen.data() + l * n_units;
            if (n_units > 0) rows[0] = static_cast<std::uint32_t>(lane.left);
            lane.cost = 0.0;
            for (std::size_t i = 0; i < n_units; ++i) {
                const std::uint32_t* const range = bins[i].start.data() + rows[i];
                rows[i] =
                    range[0] + static_cast<std::uint32_t>(lane.random.below(range[1] - range[0]));
                lane.cost += context.units[i]->costs[rows[i]];
            }
            if (plan.is_direct) continue;
            lane.bucket = context.tail.bucket_of(ends.first_after(lane.cost));
            __builtin_prefetch(context.tail.bucket(lane.bucket));
        }
        for (std::size_t l = 0; l < active && !plan.is_direct; ++l) {
            const Tail& tail = level.contexts[lanes[l].cell->context].tail;
            __builtin_prefetch(tail.order(*tail.bucket(lanes[l].bucket)));
        }
        std::size_t n_hits = 0;
        for (std::size_t l = 0; l < active; ++l) {
            Lane& lane = lanes[l];
            lane.is_done = false;
            const Context& context = level.contexts[lane.cell->context];
            const Tail& tail = context.tail;
            std::size_t row = lane.cell->begin;
            if (!plan.is_direct) row = tail.at_least(ends.first_after(lane.cost), lane.bucket);
            row += lane.random.below(lane.cell->most);
            if (!plan.is_direct &&
                (row >= tail.size() || tail.cost(row) > ends.last_after(lane.cost)))
                continue;
            std::uint8_t* const arch = archs.data() + n_hits * n_slots;
            for (std::size_t i = 0; i < n_units; ++i)
                context.units[i]->write(chosen[l * n_units + i], arch);
            tail.write(row, arch);
            hits[n_hits++] = l;
        }
        tables.costs.lookup({archs.data(), n_hits * n_slots}, {found.data(), n_hits}, 1);
        for (std::size_t h = 0; h < n_hits; ++h) {
            if (!(found[h] >= plan.low && found[h] <= plan.high)) continue;
            Lane& lane = lanes[hits[h]];
            std::memcpy(out + lane.row * n_slots, archs.data() + h * n_slots, n_slots);
            lane.is_done = true;
        }

        // Lanes from the last to the first, so that the last active one can take a freed place.
        for (std::size_t l = active; l-- > 0;) {
            Lane& lane = lanes[l];
            if (lane.is_done) {
                if (next < end) {
                    start(lane);
                } else {
                    lane = lanes[--active];
                }
                continue;
            }
            if (++lane.attempts == kMaxAttempts) {
                throw InvalidInput("none of 2^20 candidates costs " + number(plan.low) + " to " +
                                   number(plan.high) +
                                   ", a window that is all but empty; widen it");
            }
            if (lane.attempts % per_block == 0) {
                lane.random = RowStream(stream_key(key, lane.attempts / per_block), lane.row);
            }
        }
    }
}

}  // namespace pnag::window
