#include "pnag/execution.hpp"

namespace pnag {

void Cancellation::check() {
    if (requested_.load(std::memory_order_relaxed)) throw Cancelled();
    if (std::this_thread::get_id() != owner_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + kInterval;
    try {
        poll_();
    } catch (...) {
        requested_.store(true, std::memory_order_relaxed);
        throw;
    }
}

}  // namespace pnag
