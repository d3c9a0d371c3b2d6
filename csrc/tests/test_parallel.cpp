#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "pnag/errors.hpp"
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

int main() {
    return pnag::test::run_all();
}
