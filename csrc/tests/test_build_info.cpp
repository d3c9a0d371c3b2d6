#include "check.hpp"
#include "pnag/build_info.hpp"
#include "pnag/errors.hpp"
#include "simd/levels.hpp"

using namespace pnag;

TEST(build_info_names_a_usable_level) {
    const BuildInfo info = build_info();
    CHECK(!info.compiler.empty());
    CHECK(info.simd_usable.front() == simd::name_of(simd::Level::kPortable));
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

TEST(levels_are_chosen_by_name_or_refused) {
    CHECK(simd::choose_level("portable") == simd::Level::kPortable);
    CHECK(simd::choose_level(simd::name_of(simd::Level::kPortable)) == simd::Level::kPortable);
    CHECK(simd::choose_level(nullptr) == simd::usable_levels().back());
    CHECK(simd::choose_level("") == simd::usable_levels().back());
    CHECK_THROWS(simd::choose_level("sse9"), InvalidInput, "PNAG_SIMD is 'sse9'");
#if defined(__aarch64__)
    CHECK_THROWS(simd::choose_level("avx2"), InvalidInput, "choose one of: neon");
#else
    CHECK_THROWS(simd::choose_level("neon"), InvalidInput, "choose one of: portable");
#endif
}

int main() {
    return pnag::test::run_all();
}
