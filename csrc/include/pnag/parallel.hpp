// A loop over [0, n) on a few threads that live for one call.
//
// There is no pool that outlives a call, hence nothing to join at exit and nothing that a fork() of
// the Python process could leave locked. Starting a thread costs 10 to 30 us, so `grain` should
// stand for at least 100 us of work. A thread that has not begun when the work is done is not
// waited for: on a machine whose other cores are busy that would take longer than the work.
#pragma once

#include <cstddef>
#include <functional>

#include "pnag/execution.hpp"

namespace pnag {

/// Work on the rows [begin, end).
using RangeTask = std::function<void(std::size_t begin, std::size_t end)>;

/// Call `task` on consecutive ranges of at most `grain` rows that together cover [0, n) once.
///
/// At most `execution.threads` threads run, the calling one included; work of a single grain never
/// leaves the calling thread. A request to stop is seen between ranges, and by a calling thread
/// that waits for others. Ranges start in order but may run in any order, so a task must give the
/// same result for a row wherever it runs. If tasks throw, the exception of the lowest range that
/// threw reaches the caller after all threads have left the work. Floating-point flags that tasks
/// raise stand in the calling thread afterwards. Throws InvalidInput if threads < 1.
void parallel_for(std::size_t n, std::size_t grain, const Execution& execution,
                  const RangeTask& task);

}  // namespace pnag
