// Values from the bytes of a fuzzer, and what stops it.
//
// A target builds arguments from bytes, right and wrong ones, and compares what the library says
// with the plainest code that could answer. Sanitizers watch what it does.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "pnag/errors.hpp"

namespace pnag::fuzz {

/// Reads from the front; zeros follow the end.
class Bytes {
  public:
    Bytes(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    [[nodiscard]] std::size_t size() const { return left_.size(); }

    std::uint8_t byte() {
        if (left_.empty()) return 0;
        const std::uint8_t first = left_[0];
        left_ = left_.subspan(1);
        return first;
    }

    std::size_t below(std::size_t bound) { return byte() % bound; }

    std::uint64_t word() {
        std::uint64_t value = 0;
        for (int i = 0; i < 8; ++i)
            value = value << 8 | byte();
        return value;
    }

    /// Mostly small multiples of 1/8, of which ties are made, and now and then any double at all.
    double number() {
        const std::uint8_t kind = byte();
        if (kind < 224) return (static_cast<double>(kind) - 100.0) / 8.0;
        const std::uint64_t bits = word();
        double value = 0.0;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    std::vector<std::uint8_t> bytes(std::size_t n) {
        std::vector<std::uint8_t> result(n);
        for (std::uint8_t& value : result)
            value = byte();
        return result;
    }

  private:
    std::span<const std::uint8_t> left_;
};

inline void require(bool ok, const char* what, const char* file, int line) {
    if (ok) return;
    std::fprintf(stderr, "%s:%d: %s\n", file, line, what);
    std::abort();
}

/// Does `body` refuse its input, as only a wrong one may be?
template <typename Body>
bool refuses(const Body& body) {
    try {
        body();
    } catch (const InvalidInput&) {
        return true;
    }
    return false;
}

}  // namespace pnag::fuzz

#define REQUIRE(...) pnag::fuzz::require((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
