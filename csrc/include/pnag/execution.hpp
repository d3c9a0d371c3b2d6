// How a kernel runs: on how many threads, and who may stop it.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>

namespace pnag {

/// Thrown in the threads of a kernel that is told to stop.
class Cancelled : public std::exception {
  public:
    [[nodiscard]] const char* what() const noexcept override { return "cancelled"; }
};

/// A request to stop, asked for by a function that is called now and then while kernels run.
///
/// Only the thread that made the object calls the function, at most once per interval, so it may
/// hold what belongs to that thread, such as Python's lock. It asks to stop by throwing; what it
/// throws reaches the caller of the kernel.
class Cancellation {
  public:
    explicit Cancellation(std::function<void()> poll) : poll_(std::move(poll)) {}
    Cancellation(const Cancellation&) = delete;
    Cancellation& operator=(const Cancellation&) = delete;

    /// Throws if the kernel is to stop. Takes about 30 ns: call it every few microseconds to every
    /// few milliseconds of work.
    void check();

    /// Ten a second answer Ctrl-C at once to a human, and cost nothing that can be measured.
    static constexpr std::chrono::milliseconds kInterval{100};

  private:
    std::function<void()> poll_;
    std::atomic<bool> requested_{false};
    std::thread::id owner_ = std::this_thread::get_id();
    std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kInterval;
};

/// Passed to kernels by value; a plain number of threads will do.
struct Execution {
    // NOLINTNEXTLINE: implicit, so that callers without a cancellation pass a number.
    Execution(int n_threads, Cancellation* stop = nullptr)
        : threads(n_threads), cancellation(stop) {}

    void check() const {
        if (cancellation != nullptr) cancellation->check();
    }

    int threads;
    Cancellation* cancellation;
};

/// Calls Execution::check once in a while, for loops whose steps are short.
class Pacer {
  public:
    explicit Pacer(const Execution& execution) : execution_(execution) {}

    /// `work` in steps of about 1 ns.
    void spend(std::size_t work) {
        left_ -= static_cast<std::ptrdiff_t>(work);
        if (left_ > 0) return;
        left_ = kBudget;
        execution_.check();
    }

  private:
    static constexpr std::ptrdiff_t kBudget = 1'000'000;

    Execution execution_;
    std::ptrdiff_t left_ = kBudget;
};

}  // namespace pnag
