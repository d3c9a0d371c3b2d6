#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace pnag::window {

/// What is built when first needed. Not under the lock: a build may run the caller's signal
/// handlers, and they may come back here.
template <typename T, typename Build>
std::shared_ptr<const T> built_once(std::mutex& mutex, std::shared_ptr<const T>& slot,
                                    const Build& build) {
    {
        const std::lock_guard lock(mutex);
        if (slot) return slot;
    }
    auto built = std::make_shared<const T>(build());
    const std::lock_guard lock(mutex);
    if (!slot) slot = std::move(built);
    return slot;
}

}  // namespace pnag::window
