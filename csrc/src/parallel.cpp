#include "pnag/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "pnag/errors.hpp"
#include "pnag/float_flags.hpp"

namespace pnag {

namespace {

// What a thread may look at before it knows that the loop it was started for is still there: on a
// busy machine the loop may end first, and does not wait for threads that never began.
struct Crew {
    std::mutex mutex;
    std::condition_variable ended;
    std::size_t n_running = 0;
    unsigned float_flags = 0;  // of the threads that ended
    bool closed = false;
};

// Threads that were started and have not begun, in all loops: each waits for its first time slice,
// and calls in quick succession must not pile up more of them than this.
constexpr int kMaxWaiting = 64;
std::atomic<int> waiting{0};

// Starts a thread that calls `work` unless the crew is closed by then; false if there is none.
template <typename Work>
bool start_worker(const std::shared_ptr<Crew>& crew, const Work& work) {
    if (waiting.fetch_add(1, std::memory_order_relaxed) < kMaxWaiting) {
        try {
            std::thread([crew, &work] {
                waiting.fetch_sub(1, std::memory_order_relaxed);
                {
                    const std::lock_guard lock(crew->mutex);
                    if (crew->closed) return;
                    ++crew->n_running;
                }
                float_flags::write(0);  // some systems hand those of the starting thread on
                work();
                const std::lock_guard lock(crew->mutex);
                crew->float_flags |= float_flags::read();
                --crew->n_running;
                crew->ended.notify_one();
            }).detach();
            return true;
        } catch (const std::exception&) {
            // The system gives no more threads, or no memory for one; those that run finish the
            // loop. Nothing may leave it before them: they work on what this call holds.
        }
    }
    waiting.fetch_sub(1, std::memory_order_relaxed);
    return false;
}

}  // namespace

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

    const auto crew = std::make_shared<Crew>();
    for (std::size_t i = 1; i < n_workers && start_worker(crew, work); ++i) {
    }
    work();
    {
        std::unique_lock lock(crew->mutex);
        crew->closed = true;
        // Only this thread may poll, so it goes on asking while it waits for the others.
        bool asks = execution.cancellation != nullptr;
        while (crew->n_running != 0) {
            if (!asks) {
                crew->ended.wait(lock);
                continue;
            }
            crew->ended.wait_for(lock, Cancellation::kInterval);
            try {
                execution.check();
            } catch (const Cancelled&) {
                cancelled.store(true, std::memory_order_relaxed);
                asks = false;
            } catch (...) {
                const std::lock_guard error_lock(error_mutex);
                error = std::current_exception();
                asks = false;
            }
        }
    }
    if (crew->float_flags != 0) float_flags::write(float_flags::read() | crew->float_flags);
    // The reason to stop, if this loop was told; else whoever was told throws it.
    if (error) std::rethrow_exception(error);
    if (cancelled.load(std::memory_order_relaxed)) throw Cancelled();
}

}  // namespace pnag
