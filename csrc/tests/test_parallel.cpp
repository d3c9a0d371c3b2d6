#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "pnag/errors.hpp"
#include "pnag/float_flags.hpp"
#include "pnag/parallel.hpp"

using namespace pnag;

TEST(every_row_is_visited_once) {
    for (const std::size_t n : {0UL, 1UL, 7UL, 64UL, 1000UL}) {
        for (const std::size_t grain : {0UL, 1UL, 3UL, 64UL, 5000UL}) {
            for (const int threads : {1, 2, 5}) {
                std::vector<int> visits(n, 0);
                parallel_for(n, grain, threads, [&](std::size_t begin, std::size_t end) {
                    for (std::size_t i = begin; i < end; ++i)
                        ++visits[i];
                });
                for (const int count : visits)
                    CHECK(count == 1);
            }
        }
    }
}

TEST(lowest_failing_range_reaches_the_caller) {
    for (const int threads : {1, 4}) {
        CHECK_THROWS(parallel_for(1000, 10, threads,
                                  [](std::size_t begin, std::size_t) {
                                      if (begin >= 300) {
                                          throw std::runtime_error("at " + std::to_string(begin));
                                      }
                                  }),
                     std::runtime_error, "at 300");
    }
}

TEST(threads_below_one_are_refused) {
    CHECK_THROWS(parallel_for(10, 1, 0, [](std::size_t, std::size_t) {}), InvalidInput,
                 "threads is 0");
    CHECK_THROWS(parallel_for(10, 1, -3, [](std::size_t, std::size_t) {}), InvalidInput,
                 "threads is -3");
}

TEST(whoever_asks_to_stop_is_heard) {
    for (const int threads : {1, 3}) {
        int asked = 0;
        Cancellation cancellation([&] {
            if (++asked == 2) throw std::runtime_error("stop");
        });
        std::atomic<int> done{0};
        CHECK_THROWS(parallel_for(100000, 1, Execution(threads, &cancellation),
                                  [&](std::size_t, std::size_t) {
                                      std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                      ++done;
                                  }),
                     std::runtime_error, "stop");
        CHECK(done < 10000);
    }
}

TEST(who_waits_for_others_is_heard_too) {
    Cancellation cancellation([] { throw std::runtime_error("stop"); });
    const Execution execution(2, &cancellation);
    const auto owner = std::this_thread::get_id();
    std::atomic<bool> other_works{false};
    // The other thread works until it is told. This one has nothing left to do once that has begun,
    // which is before anybody asks: so it is asked while it waits.
    const auto work = [&](std::size_t, std::size_t) {
        if (std::this_thread::get_id() == owner) {
            for (int i = 0; i < 20000 && !other_works; ++i)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return;
        }
        other_works = true;
        for (;;) {
            execution.check();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    };
    // Its own reason reaches the caller, not that the others were told.
    CHECK_THROWS(parallel_for(2, 1, execution, work), std::runtime_error, "stop");
}

TEST(float_flags_of_tasks_reach_the_caller) {
    for (const int threads : {1, 3}) {
        for (const bool raises : {false, true}) {
            float_flags::write(0);
            volatile double small = 1e-200;
            std::atomic<int> inside{0};
            parallel_for(3, 1, threads, [&](std::size_t begin, std::size_t) {
                ++inside;
                // Every thread has a task of its own, on machines that start them in time.
                for (int i = 0; i < 1000 && inside < threads; ++i)
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                if (raises && begin == 2) small = small * small;
            });
            CHECK(float_flags::read() == (raises ? float_flags::kUnderflow : 0U));
        }
    }
    float_flags::write(0);
}

int main() {
    return pnag::test::run_all();
}
