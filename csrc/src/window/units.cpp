#include "window/units.hpp"

#include <algorithm>
#include <string>

#include "pnag/errors.hpp"

namespace pnag::window {

std::vector<Factor> factors_of(const Space& space, int context_slot) {
    std::vector<Factor> factors;
    std::size_t at = 0;
    const std::vector<StageSpec> stages = space.stages();
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const StageSpec& stage = stages[i];
        const std::size_t n = stage.n_choices.size();
        const std::size_t n_required = stage.rows ? 0 : static_cast<std::size_t>(stage.min_depth);
        if (context_slot >= static_cast<int>(at + n_required) &&
            context_slot < static_cast<int>(at + n)) {
            throw InvalidInput("slot " + std::to_string(context_slot) +
                               " picks the context but may be absent or is part of listed rows; "
                               "windows need it present on its own");
        }
        if (stage.rows) {
            factors.push_back({at, n, *stage.rows});
        }
        for (std::size_t s = 0; s < n_required; ++s) {
            Factor factor{at + s, 1, {}};
            for (int code = 1; code <= stage.n_choices[s]; ++code)
                factor.rows.push_back(static_cast<std::uint8_t>(code));
            factors.push_back(std::move(factor));
        }
        if (!stage.rows && n_required < n) {
            Factor factor{at + n_required, n - n_required, {}};
            std::vector<std::uint8_t> row(factor.n_slots, 0);
            std::size_t n_rows = 0;
            for (std::size_t depth = 0; depth <= factor.n_slots; ++depth) {
                // An odometer over the choices of the first `depth` slots.
                std::fill(row.begin(), row.end(), 0);
                std::fill_n(row.begin(), depth, 1);
                for (bool more = true; more;) {
                    if (++n_rows > kMaxFactorRows) {
                        throw InvalidInput("stage " + std::to_string(i) +
                                           " has more than 2^22 combinations of optional slots, "
                                           "too many for windows; split it into several stages");
                    }
                    factor.rows.insert(factor.rows.end(), row.begin(), row.end());
                    more = false;
                    for (std::size_t s = depth; s-- > 0;) {
                        if (row[s] < stage.n_choices[n_required + s]) {
                            ++row[s];
                            more = true;
                            break;
                        }
                        row[s] = 1;
                    }
                }
            }
            factors.push_back(std::move(factor));
        }
        if (factors.back().n_rows() > kMaxFactorRows) {
            throw InvalidInput("stage " + std::to_string(i) +
                               " lists more than 2^22 rows, too many for windows");
        }
        at += n;
    }
    return factors;
}

std::size_t UnitMaker::n_rows(Run run) const {
    std::size_t n = 1;
    for (std::size_t f = run.first; f < run.second; ++f)
        n = std::min(n, kMaxFactorRows) * n_rows(f);
    return n;
}

std::shared_ptr<const Unit> UnitMaker::make(Run run, double constant) const {
    auto unit = std::make_shared<Unit>();
    unit->first_slot = factors[run.first].first_slot;
    std::vector<std::uint8_t> rows;
    std::size_t n = 1;
    for (std::size_t f = run.first; f < run.second; ++f) {
        const Factor& factor = factors[f];
        const std::size_t more = n_rows(f);
        const std::size_t width = unit->n_slots + factor.n_slots;
        std::vector<std::uint8_t> product;
        product.reserve(n * more * width);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t q = 0; q < more; ++q) {
                const std::uint8_t* left = rows.data() + r * unit->n_slots;
                const std::uint8_t* right =
                    factor.rows.data() + (is_pinned(f) ? context : q) * factor.n_slots;
                product.insert(product.end(), left, left + unit->n_slots);
                product.insert(product.end(), right, right + factor.n_slots);
            }
        }
        rows = std::move(product);
        n *= more;
        unit->n_slots = width;
    }
    std::vector<std::pair<double, std::uint32_t>> order(n);
    for (std::size_t r = 0; r < n; ++r) {
        double cost = 0.0;
        for (std::size_t s = 0; s < unit->n_slots; ++s)
            cost += entries[(unit->first_slot + s) * max_codes + rows[r * unit->n_slots + s]];
        order[r] = {cost + constant, static_cast<std::uint32_t>(r)};
    }
    std::sort(order.begin(), order.end());
    unit->costs.reserve(n);
    unit->codes.reserve(rows.size());
    for (const auto& [cost, row] : order) {
        const std::uint8_t* codes = rows.data() + row * unit->n_slots;
        unit->costs.push_back(cost);
        unit->codes.insert(unit->codes.end(), codes, codes + unit->n_slots);
    }
    return unit;
}

}  // namespace pnag::window
