// Memory for large arrays that are written before they are read.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pnag {

/// n numbers without initial values.
template <typename T>
class Buffer {
    static_assert(std::is_trivially_default_constructible_v<T> &&
                  std::is_trivially_destructible_v<T>);

  public:
    explicit Buffer(std::size_t n) : large_(n >= kLarge / sizeof(T)) {
        if (!large_) {
            data_ = static_cast<T*>(::operator new(n * sizeof(T)));
            return;
        }
        data_ = static_cast<T*>(::operator new(n * sizeof(T), kHugePage));
#if defined(__linux__)
        // Thousands of page faults take longer than what is done with the memory. A kernel that
        // refuses changes nothing but the time.
        madvise(data_, n * sizeof(T), MADV_HUGEPAGE);
#endif
    }
    ~Buffer() {
        // Statements, since clang 14 makes both calls of `large_ ? delete : delete`.
        if (large_) {
            ::operator delete(data_, kHugePage);
        } else {
            ::operator delete(data_);
        }
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    [[nodiscard]] T* data() { return data_; }
    [[nodiscard]] const T* data() const { return data_; }

  private:
    static constexpr std::size_t kLarge = std::size_t{4} << 20;
    static constexpr std::align_val_t kHugePage{std::size_t{2} << 20};

    T* data_ = nullptr;
    bool large_;
};

}  // namespace pnag
