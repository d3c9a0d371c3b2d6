#include "pnag/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "pnag/errors.hpp"

namespace pnag {

void parallel_for(std::size_t n, std::size_t grain, const Execution& execution,
                  const RangeTask& task) {
    const int threads = execution.threads;
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
            execution.check();
            task(begin, begin + std::min(grain, n - begin));
        }
        return;
    }

    std::atomic<std::size_t> next_range{0};
    std::atomic<bool> failed{false};
    std::atomic<bool> cancelled{false};
    std::mutex error_mutex;
    std::condition_variable ended;
    std::size_t n_running = 0;
    std::exception_ptr error;
    std::size_t error_range = std::numeric_limits<std::size_t>::max();

    const auto work = [&] {
        while (!failed.load(std::memory_order_relaxed)) {
            const std::size_t range = next_range.fetch_add(1, std::memory_order_relaxed);
            if (range >= n_ranges) return;
            try {
                execution.check();
                const std::size_t begin = range * grain;
                task(begin, begin + std::min(grain, n - begin));
            } catch (const Cancelled&) {
                cancelled.store(true, std::memory_order_relaxed);
                failed.store(true, std::memory_order_relaxed);
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
                {
                    const std::lock_guard lock(error_mutex);
                    ++n_running;
                }
                workers.emplace_back([&] {
                    work();
                    const std::lock_guard lock(error_mutex);
                    --n_running;
                    ended.notify_one();
                });
            } catch (const std::system_error&) {
                const std::lock_guard lock(error_mutex);
                --n_running;
                break;  // The system gives no more threads; those that run finish the loop.
            }
        }
        work();
        std::unique_lock lock(error_mutex);
        // Only this thread may poll, so it goes on asking while it waits for the others.
        while (execution.cancellation != nullptr && n_running != 0) {
            ended.wait_for(lock, Cancellation::kInterval);
            try {
                execution.check();
            } catch (const Cancelled&) {
                cancelled.store(true, std::memory_order_relaxed);
                break;
            } catch (...) {
                error = std::current_exception();
                break;
            }
        }
    }
    // The reason to stop, if this loop was told; else whoever was told throws it.
    if (error) std::rethrow_exception(error);
    if (cancelled.load(std::memory_order_relaxed)) throw Cancelled();
}

}  // namespace pnag
