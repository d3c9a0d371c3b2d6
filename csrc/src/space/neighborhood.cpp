// Everything within a few edits of architectures, by its index in a fixed order.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "space/stage.hpp"
#include "streams.hpp"

namespace pnag {

namespace {

// Neighbours that have an index; a larger neighbourhood is refused.
constexpr std::uint64_t kMostNeighbors = std::uint64_t{1} << 62;

// Sums and products that stay at this bound once they reach it.
constexpr std::uint64_t kSaturated = std::uint64_t{1} << 63;

std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
    return a >= kSaturated - b ? kSaturated : a + b;
}

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
    const uint128 product = static_cast<uint128>(a) * b;
    return product >= kSaturated ? kSaturated : static_cast<std::uint64_t>(product);
}

// Quotient and what is left of `index`; most divisors are 1.
std::uint64_t divide(std::uint64_t& index, std::uint64_t by) {
    if (by == 1) {
        const std::uint64_t whole = index;
        index = 0;
        return whole;
    }
    const std::uint64_t whole = index / by;
    index -= whole * by;
    return whole;
}

}  // namespace

// Stages vary independently, and within a stage the rows at a distance are counted by its depth
// alone, so the k-th neighbour is found without those before it: first its distance, then the share
// of every stage in that, last stage first, then the row of each stage that changes.
struct Space::Ball {
    struct Shells {
        const Stage* stage = nullptr;
        // Choices of the first s slots with j of them changed: codes[s * (radius + 1) + j].
        std::vector<std::uint64_t> codes;
        // Rows at distance j of a row of depth d: rows[(d - min_depth) * (radius + 1) + j];
        // explicit stages have one line.
        std::vector<std::uint64_t> rows;
    };

    Ball(const std::vector<Stage>& stages, std::size_t largest) : radius(largest) {
        for (const Stage& stage : stages)
            shells.push_back(shells_of(stage));
    }

    // Distances 0 to radius.
    [[nodiscard]] std::size_t width() const { return radius + 1; }
    [[nodiscard]] std::size_t n_counts() const { return (shells.size() + 1) * width(); }

    // counts[i * width + j]: choices of the first i stages at distance j of `arch` together.
    // Returns how many architectures are at a distance of 1 to radius.
    std::uint64_t count(const std::uint8_t* arch, std::uint64_t* counts) const {
        const std::size_t w = width();
        std::fill_n(counts, w, 0);
        counts[0] = 1;
        for (std::size_t i = 0; i < shells.size(); ++i) {
            const std::uint64_t* before = counts + i * w;
            std::uint64_t* after = counts + (i + 1) * w;
            const std::uint64_t* rows = line(shells[i], arch);
            for (std::size_t j = 0; j < w; ++j) {
                std::uint64_t sum = before[j];
                for (std::size_t c = 1; c <= j; ++c) {
                    if (rows[c] != 0 && before[j - c] != 0)
                        sum = plus(sum, times(rows[c], before[j - c]));
                }
                after[j] = sum;
            }
        }
        std::uint64_t all = 0;
        for (std::size_t j = 1; j < w; ++j)
            all = plus(all, counts[shells.size() * w + j]);
        return all;
    }

    // Turn `row`, a copy of the architecture that was counted, into its neighbour `index`.
    void write(std::uint64_t index, const std::uint64_t* counts, std::uint8_t* row) const {
        const std::size_t w = width();
        std::size_t distance = 1;
        for (; index >= counts[shells.size() * w + distance]; ++distance)
            index -= counts[shells.size() * w + distance];
        for (std::size_t i = shells.size(); distance > 0; --i) {
            const std::uint64_t* before = counts + (i - 1) * w;
            const Shells& shell = shells[i - 1];
            std::uint64_t others = before[distance];
            if (index < others) continue;
            const std::uint64_t* rows = line(shell, row);
            std::size_t own = 0;
            std::uint64_t block = others;
            while (index >= block) {
                index -= block;
                ++own;
                others = before[distance - own];
                block = others == 0 ? 0 : rows[own] * others;
            }
            const std::uint64_t which = divide(index, others);
            write_stage(shell, own, which, row + shell.stage->first_slot);
            distance -= own;
        }
    }

    // Turn copies of `arch`, as many as there are neighbours at distance 1, into these, in order:
    // most are one byte apart from it, and need no index.
    static void write_nearest(const std::vector<Stage>& stages, const std::uint8_t* arch,
                              std::size_t n, std::uint8_t* row) {
        for (const Stage& stage : stages) {
            const std::uint8_t* own = arch + stage.first_slot;
            std::uint8_t* codes = row + stage.first_slot;
            if (stage.is_explicit) {
                const std::int64_t index = stage.find(own);
                for (std::int64_t i = 0; i < stage.count; ++i) {
                    if (i == index) continue;
                    stage.write_row(i, codes);
                    codes += n;
                }
                row = codes - stage.first_slot;
                continue;
            }
            const std::size_t depth = stage.depth_of(own);
            for (std::size_t s = 0; s < depth; ++s) {
                // Two loops, for their ends are all that has to be predicted.
                for (int code = 1; code < own[s]; ++code, codes += n)
                    codes[s] = static_cast<std::uint8_t>(code);
                for (int code = own[s] + 1; code <= stage.n_choices[s]; ++code, codes += n)
                    codes[s] = static_cast<std::uint8_t>(code);
            }
            if (depth > stage.min_depth) {
                codes[depth - 1] = 0;
                codes += n;
            }
            for (int code = 1; depth < stage.n_slots && code <= stage.n_choices[depth]; ++code) {
                codes[depth] = static_cast<std::uint8_t>(code);
                codes += n;
            }
            row = codes - stage.first_slot;
        }
    }

    const std::uint64_t* line(const Shells& shell, const std::uint8_t* row) const {
        const Stage& stage = *shell.stage;
        if (stage.is_explicit || stage.n_depths() == 1) return shell.rows.data();
        const std::size_t depth = stage.depth_of(row + stage.first_slot);
        return shell.rows.data() + (depth - stage.min_depth) * width();
    }

    std::size_t radius;
    std::vector<Shells> shells;

  private:
    [[nodiscard]] Shells shells_of(const Stage& stage) const {
        Shells found;
        found.stage = &stage;
        if (stage.is_explicit) {
            found.rows.assign(width(), 0);
            found.rows[0] = 1;
            if (radius > 0) found.rows[1] = static_cast<std::uint64_t>(stage.count) - 1;
            return found;
        }
        const std::size_t w = width();
        found.codes.assign((stage.n_slots + 1) * w, 0);
        found.codes[0] = 1;
        for (std::size_t s = 0; s < stage.n_slots; ++s) {
            const std::uint64_t* before = found.codes.data() + s * w;
            std::uint64_t* after = found.codes.data() + (s + 1) * w;
            const auto others = static_cast<std::uint64_t>(stage.n_choices[s] - 1);
            after[0] = 1;
            for (std::size_t j = 1; j < w; ++j)
                after[j] = plus(before[j], times(others, before[j - 1]));
        }
        found.rows.assign(stage.n_depths() * w, 0);
        for (std::size_t depth = stage.min_depth; depth <= stage.n_slots; ++depth) {
            for (std::size_t j = 0; j < w; ++j) {
                std::uint64_t& sum = found.rows[(depth - stage.min_depth) * w + j];
                for_depths(stage, depth, j, [&](std::size_t other) {
                    sum = plus(sum, of_depth(found, depth, other, j));
                    return true;
                });
            }
        }
        return found;
    }

    // Rows of depth `other` at distance j of a row of depth `depth`.
    std::uint64_t of_depth(const Shells& shell, std::size_t depth, std::size_t other,
                           std::size_t j) const {
        const std::size_t steps = other > depth ? other - depth : depth - other;
        const std::size_t shared = std::min(depth, other);
        std::uint64_t rows = shell.codes[shared * width() + j - steps];
        for (std::size_t s = depth; s < other; ++s)
            rows = times(rows, static_cast<std::uint64_t>(shell.stage->n_choices[s]));
        return rows;
    }

    // Depths that are at most j steps away, the nearest first, shallower before deeper, until
    // `visit` returns false.
    template <typename Visit>
    static void for_depths(const Stage& stage, std::size_t depth, std::size_t j, Visit&& visit) {
        if (!visit(depth)) return;
        for (std::size_t step = 1; step <= j; ++step) {
            const bool down = depth >= stage.min_depth + step;
            const bool up = depth + step <= stage.n_slots;
            if (!down && !up) return;
            if (down && !visit(depth - step)) return;
            if (up && !visit(depth + step)) return;
        }
    }

    // Change the codes of one stage, by index among the rows at distance `changes` >= 1 of them.
    void write_stage(const Shells& shell, std::size_t changes, std::uint64_t index,
                     std::uint8_t* codes) const {
        const Stage& stage = *shell.stage;
        if (stage.is_explicit) {
            const auto own = static_cast<std::uint64_t>(stage.find(codes));
            stage.write_row(static_cast<std::int64_t>(index + (index >= own ? 1 : 0)), codes);
            return;
        }
        const std::size_t depth = stage.depth_of(codes);
        std::size_t target = depth;
        for_depths(stage, depth, changes, [&](std::size_t other) {
            const std::uint64_t rows = of_depth(shell, depth, other, changes);
            if (index < rows) {
                target = other;
                return false;
            }
            index -= rows;
            return true;
        });
        for (std::size_t s = target; s < depth; ++s)
            codes[s] = 0;
        const std::size_t steps = target > depth ? target - depth : depth - target;
        // As everywhere below, the last slot is the slowest, and the new code slower than what is
        // chosen before it.
        std::uint64_t block = shell.codes[std::min(depth, target) * width() + changes - steps];
        for (std::size_t s = depth; s + 1 < target; ++s)
            block *= static_cast<std::uint64_t>(stage.n_choices[s]);
        for (std::size_t s = target; s-- > depth;) {
            codes[s] = static_cast<std::uint8_t>(1 + divide(index, block));
            if (s > depth) block /= static_cast<std::uint64_t>(stage.n_choices[s - 1]);
        }
        const std::size_t w = width();
        std::size_t left = changes - steps;
        for (std::size_t s = std::min(depth, target); left > 0; --s) {
            const std::uint64_t* before = shell.codes.data() + (s - 1) * w;
            if (index < before[left]) continue;
            index -= before[left];
            const std::uint64_t other = 1 + divide(index, before[left - 1]);
            codes[s - 1] = static_cast<std::uint8_t>(other + (other >= codes[s - 1] ? 1 : 0));
            --left;
        }
    }
};

namespace {

// Distinct numbers below `n`, all sets equally likely, ascending: Floyd's algorithm (Bentley and
// Floyd, "Programming pearls: a sample of brilliance", CACM 1987), whose set is a table of open
// addresses.
class Subset {
  public:
    void draw(std::uint64_t n, std::size_t size, RowStream random, std::uint64_t* out,
              Pacer& pacer) {
        table_.assign(std::bit_ceil(2 * size + 1), 0);
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t last = n - size + i;
            const std::uint64_t drawn = random.below(last + 1);
            out[i] = insert(drawn) ? drawn : last;
            if (out[i] != drawn) insert(last);
            pacer.spend(20);
        }
        std::sort(out, out + size);
    }

  private:
    // False if it is there already. Entries are 1 + number, 0 is free.
    bool insert(std::uint64_t number) {
        const std::size_t mask = table_.size() - 1;
        std::size_t at = mix64(number + kWeylStep) & mask;
        for (; table_[at] != 0; at = (at + 1) & mask) {
            if (table_[at] == number + 1) return false;
        }
        table_[at] = number + 1;
        return true;
    }

    std::vector<std::uint64_t> table_;
};

// Copies of a row, one after the other.
void repeat(const std::uint8_t* row, std::size_t n, std::size_t copies, std::uint8_t* out) {
    if (copies == 0) return;
    std::memcpy(out, row, n);
    for (std::size_t done = 1; done < copies; done *= 2)
        std::memcpy(out + done * n, out, std::min(done, copies - done) * n);
}

std::uint64_t hash_of(const std::uint8_t* codes, std::size_t n) {
    std::uint64_t hash = n;
    for (std::size_t i = 0; i < n; i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, codes + i, std::min<std::size_t>(8, n - i));
        hash = mix64(hash + word * kWeylStep);
    }
    return hash;
}

constexpr const char* kOtherOffsets = "offsets are not those of neighborhood_offsets";

// Neighbours that a thread writes at once.
constexpr std::size_t kNeighborGrain = 8192;

// Tables grow with its square, and neighbourhoods so fast that nobody asks for more.
constexpr std::int64_t kLargestRadius = 64;

std::size_t radius_of(std::int64_t radius, std::size_t n_slots) {
    if (radius < 1 || radius > kLargestRadius) {
        throw InvalidInput("radius is " + std::to_string(radius) + "; it must be 1 to " +
                           std::to_string(kLargestRadius));
    }
    // No architecture is further away.
    return std::min(static_cast<std::size_t>(radius), n_slots);
}

}  // namespace

void Space::neighborhood_offsets(std::span<const std::uint8_t> archs, std::int64_t radius,
                                 std::int64_t samples, bool own, std::span<std::int64_t> offsets,
                                 const Execution& execution) const {
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    if (offsets.size() != n_rows + 1) throw InvalidInput("offsets has the wrong size");
    if (samples == 0) throw InvalidInput("samples is 0; it must be at least 1");
    const Ball ball(stages_, radius_of(radius, n_slots()));
    require_valid(archs, "archs", execution);
    parallel_for(n_rows, kNeighborGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint64_t> counts(ball.n_counts());
        Pacer pacer(execution);
        for (std::size_t r = begin; r < end; ++r) {
            const std::uint64_t all = ball.count(archs.data() + r * n_slots(), counts.data());
            std::uint64_t taken = all;
            if (samples > 0) taken = std::min(taken, static_cast<std::uint64_t>(samples));
            if (all > kMostNeighbors) {
                throw InvalidInput("radius is " + std::to_string(radius) + ", within which row " +
                                   std::to_string(r) +
                                   " of archs has more than 2^62 neighbours; it must be smaller");
            }
            offsets[r + 1] = static_cast<std::int64_t>(taken) + (own ? 1 : 0);
            pacer.spend(ball.n_counts() * ball.width());
        }
    });
    offsets[0] = 0;
    for (std::size_t r = 0; r < n_rows; ++r) {
        if (offsets[r + 1] > std::numeric_limits<std::int64_t>::max() / 2 - offsets[r]) {
            throw InvalidInput("radius is " + std::to_string(radius) + ", within which " +
                               std::to_string(n_rows) +
                               " architectures have more than 2^62 neighbours together; it must be "
                               "smaller");
        }
        offsets[r + 1] += offsets[r];
    }
}

void Space::neighborhoods(std::span<const std::uint8_t> archs, std::int64_t radius, bool own,
                          std::uint64_t seed, std::span<const std::int64_t> offsets,
                          std::span<std::uint8_t> out, const Execution& execution) const {
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    const std::size_t n_out = rows_of(out.size(), "out");
    const std::size_t n = n_slots();
    if (offsets.size() != n_rows + 1 || offsets[0] != 0 ||
        offsets[n_rows] != static_cast<std::int64_t>(n_out) ||
        !std::is_sorted(offsets.begin(), offsets.end())) {
        throw InvalidInput(kOtherOffsets);
    }
    const Ball ball(stages_, radius_of(radius, n));
    require_valid(archs, "archs", execution);
    const std::uint64_t key = stream_key(seed, kNeighborStream);
    const std::size_t n_own = own ? 1 : 0;
    const auto n_chosen = [&](std::size_t r) {
        const auto size = static_cast<std::size_t>(offsets[r + 1] - offsets[r]);
        if (size < n_own) throw InvalidInput(kOtherOffsets);
        return size - n_own;
    };
    // By the codes and not by the place in the batch: an architecture has one neighbourhood.
    const auto stream_of = [&](std::size_t r) {
        return RowStream(stream_key(key, hash_of(archs.data() + r * n, n)), 0);
    };

    // Subsets that several ranges need a part of.
    std::map<std::size_t, std::vector<std::uint64_t>> large;
    {
        std::vector<std::uint64_t> counts(ball.n_counts());
        Subset subset;
        Pacer pacer(execution);
        for (std::size_t r = 0; r < n_rows; ++r) {
            const std::size_t size = n_chosen(r);
            if (size <= kNeighborGrain) continue;
            const std::uint64_t all = ball.count(archs.data() + r * n, counts.data());
            if (size >= all) continue;
            large[r].resize(size);
            subset.draw(all, size, stream_of(r), large[r].data(), pacer);
        }
    }
    // Ranges of neighbours, not of architectures: one may have millions.
    parallel_for(n_out, kNeighborGrain, execution, [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint64_t> counts(ball.n_counts());
        std::vector<std::uint64_t> few;
        Subset subset;
        Pacer pacer(execution);
        const auto above =
            std::upper_bound(offsets.begin(), offsets.end(), static_cast<std::int64_t>(begin));
        auto r = static_cast<std::size_t>(above - offsets.begin()) - 1;
        for (std::size_t at = begin; at < end; ++r) {
            const std::size_t size = n_chosen(r);
            const std::uint8_t* arch = archs.data() + r * n;
            const std::uint64_t all = ball.count(arch, counts.data());
            if (size > all) throw InvalidInput(kOtherOffsets);
            const std::uint64_t* chosen = nullptr;
            if (size < all && size > kNeighborGrain) {
                chosen = large.at(r).data();
            } else if (size < all) {
                few.resize(size);
                subset.draw(all, size, stream_of(r), few.data(), pacer);
                chosen = few.data();
            }
            const auto first = static_cast<std::size_t>(offsets[r]) + n_own;
            const std::size_t last = std::min(static_cast<std::size_t>(offsets[r + 1]), end);
            if (ball.radius == 1 && size == all && at + n_own == first &&
                last == static_cast<std::size_t>(offsets[r + 1])) {
                std::uint8_t* rows = out.data() + at * n;
                repeat(arch, n, last - at, rows);
                Ball::write_nearest(stages_, arch, n, rows + n_own * n);
                pacer.spend(5 * (last - at));
                at = last;
                continue;
            }
            for (; at < last; ++at) {
                std::uint8_t* row = out.data() + at * n;
                std::memcpy(row, arch, n);
                if (at < first) continue;
                ball.write(size < all ? chosen[at - first] : at - first, counts.data(), row);
                pacer.spend(50);
            }
            pacer.spend(ball.n_counts() * ball.width());
        }
    });
}

}  // namespace pnag
