#include "pnag/build_info.hpp"

#include "simd/levels.hpp"

namespace pnag {

BuildInfo build_info() {
    BuildInfo info;
    info.version = PNAG_VERSION;
#if defined(__clang__)
    info.compiler = "clang " __clang_version__;
#elif defined(__GNUC__)
    info.compiler = "gcc " __VERSION__;
#else
    info.compiler = "unknown";
#endif
    info.build_type = PNAG_BUILD_TYPE;
    info.flags = "-ffp-contract=off";
#if defined(__SSP_STRONG__)
    info.flags += " -fstack-protector-strong";
#endif
#if defined(_FORTIFY_SOURCE) && _FORTIFY_SOURCE > 0
    info.flags += " -D_FORTIFY_SOURCE";
#endif
    if (*PNAG_SANITIZERS != '\0') info.flags += " -fsanitize=" PNAG_SANITIZERS;
    for (const simd::Level level : simd::built_levels())
        info.simd_built.emplace_back(simd::name_of(level));
    for (const simd::Level level : simd::usable_levels())
        info.simd_usable.emplace_back(simd::name_of(level));
    info.simd_used = simd::name_of(simd::chosen_level());
    return info;
}

}  // namespace pnag
