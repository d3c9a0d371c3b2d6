#include "check.hpp"
#include "pnag/build_info.hpp"
#include "pnag/errors.hpp"
#include "simd/dispatch.hpp"

using namespace pnag;

TEST(build_info_names_a_usable_set) {
    const BuildInfo info = build_info();
    CHECK(!info.compiler.empty());
    CHECK(info.simd_usable.front() == simd::kPortable.name);
#if defined(__aarch64__)
    CHECK(info.simd_usable.front() == "neon");
#else
    CHECK(info.simd_usable.front() == "portable");
#endif
    CHECK(info.simd_usable.size() <= info.simd_built.size());
    bool found = false;
    for (const auto& name : info.simd_usable)
        found = found || name == info.simd_used;
    CHECK(found);
}

TEST(sets_are_chosen_by_name_or_refused) {
    CHECK(&simd::choose_kernels("portable") == &simd::kPortable);
    CHECK(&simd::choose_kernels(simd::kPortable.name) == &simd::kPortable);
    CHECK(&simd::choose_kernels(nullptr) == simd::available_kernels().back());
    CHECK(&simd::choose_kernels("") == simd::available_kernels().back());
    CHECK_THROWS(simd::choose_kernels("sse9"), InvalidInput, "PNAG_SIMD is 'sse9'");
#if defined(__aarch64__)
    CHECK_THROWS(simd::choose_kernels("avx2"), InvalidInput, "choose one of: neon");
#else
    CHECK_THROWS(simd::choose_kernels("neon"), InvalidInput, "choose one of: portable");
#endif
}

int main() {
    return pnag::test::run_all();
}
