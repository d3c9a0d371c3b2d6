#include "pnag/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "pnag/errors.hpp"

namespace pnag {

void parallel_for(std::size_t n, std::size_t grain, int threads, const RangeTask& task) {
    if (threads < 1) {
        throw InvalidInput("threads is " + std::to_string(threads) + "; it must be at least 1");
    }
    if (n == 0) return;
    grain = std::max<std::size_t>(grain, 1);
    const std::size_t n_ranges = (n - 1) / grain + 1;
    const std::size_t n_workers =
        std::min<std::size_t>(static_cast<std::size_t>(threads), n_ranges);
    if (n_workers == 1) {
        for (std::size_t begin = 0; begin < n; begin += std::min(grain, n - begin)) {
            task(begin, begin + std::min(grain, n - begin));
        }
        return;
    }

    std::atomic<std::size_t> next_range{0};
    std::atomic<bool> failed{false};
    std::mutex error_mutex;
    std::exception_ptr error;
    std::size_t error_range = std::numeric_limits<std::size_t>::max();

    const auto work = [&] {
        while (!failed.load(std::memory_order_relaxed)) {
            const std::size_t range = next_range.fetch_add(1, std::memory_order_relaxed);
            if (range >= n_ranges) return;
            try {
                const std::size_t begin = range * grain;
                task(begin, begin + std::min(grain, n - begin));
            } catch (...) {
                const std::lock_guard lock(error_mutex);
                if (range < error_range) {
                    error_range = range;
                    error = std::current_exception();
                }
                failed.store(true, std::memory_order_relaxed);
            }
        }
    };

    {
        std::vector<std::jthread> workers;
        workers.reserve(n_workers - 1);
        for (std::size_t i = 1; i < n_workers; ++i) {
            try {
                workers.emplace_back(work);
            } catch (const std::system_error&) {
                break;  // The system gives no more threads; those that run finish the loop.
            }
        }
        work();
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace pnag
