#include <cstring>
#include <string>
#include <vector>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "pnag/space.hpp"

namespace pnag {

void Space::one_hot(std::span<const std::uint8_t> archs, std::span<float> out,
                    const Execution& execution) const {
    const std::size_t n_rows = rows_of(archs.size(), "archs");
    const std::size_t n = n_slots();
    // Column of code 0 of every slot, had it one.
    std::vector<std::size_t> before(n);
    std::size_t width = 0;
    for (std::size_t s = 0; s < n; ++s) {
        before[s] = width;
        width += static_cast<std::size_t>(n_choices_[s]);
    }
    if (out.size() != n_rows * width) throw InvalidInput("out has the wrong size");
    constexpr std::size_t kGrain = 4096;
    parallel_for(n_rows, kGrain, execution, [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; ++r) {
            const std::uint8_t* row = archs.data() + r * n;
            float* columns = out.data() + r * width;
            std::memset(columns, 0, width * sizeof(float));
            for (std::size_t s = 0; s < n; ++s) {
                const int code = row[s];
                if (code != 0 && code <= n_choices_[s])
                    columns[before[s] + static_cast<std::size_t>(code) - 1] = 1.0F;
            }
        }
    });
}

}  // namespace pnag
