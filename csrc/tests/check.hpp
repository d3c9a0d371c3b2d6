// A check harness for tests that must run without any dependency.
//
//     TEST(name) { CHECK(x == y); CHECK_THROWS(f(), InvalidInput, "part of the message"); }
//     int main() { return pnag::test::run_all(); }
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

namespace pnag::test {

struct Case {
    const char* name;
    void (*body)();
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Registrar {
    Registrar(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline void check(bool ok, const char* what, const char* file, int line) {
    if (ok) return;
    ++failures();
    std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

template <typename Error, typename Body>
bool throws_with(const Body& body, const std::string& part) {
    try {
        body();
    } catch (const Error& error) {
        if (std::string(error.what()).find(part) != std::string::npos) return true;
        std::fprintf(stderr, "message: %s\n", error.what());
    }
    return false;
}

/// PNAG_STOP_AT_FIRST in the environment ends the run with the first case that fails.
inline int run_all() {
    int failed = 0;
    for (const Case& test : cases()) {
        if (failed != 0 && std::getenv("PNAG_STOP_AT_FIRST") != nullptr) break;
        const int before = failures();
        try {
            test.body();
        } catch (const std::exception& error) {
            check(false, error.what(), test.name, 0);
        }
        if (failures() != before) ++failed;
        std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", test.name);
    }
    std::printf("%d passed, %d failed\n", static_cast<int>(cases().size()) - failed, failed);
    return failed == 0 ? 0 : 1;
}

}  // namespace pnag::test

#define TEST(name)                                                          \
    static void test_##name();                                              \
    static const pnag::test::Registrar register_##name(#name, test_##name); \
    static void test_##name()
#define CHECK(...) pnag::test::check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
#define CHECK_THROWS(body, Error, part) CHECK(pnag::test::throws_with<Error>([&] { body; }, part))
