#include "pnag/build_info.hpp"

#include "simd/dispatch.hpp"

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
    info.simd_built = {simd::kPortable.name};
#ifdef PNAG_HAVE_AVX2
    info.simd_built.emplace_back("avx2");
#endif
#ifdef PNAG_HAVE_AVX512
    info.simd_built.emplace_back("avx512");
#endif
    for (const auto* kernels : simd::available_kernels()) {
        info.simd_usable.emplace_back(kernels->name);
    }
    info.simd_used = simd::kernels().name;
    return info;
}

}  // namespace pnag
