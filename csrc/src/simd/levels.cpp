#include "simd/levels.hpp"

#include <cstdlib>
#include <string>

#include "pnag/errors.hpp"

namespace pnag::simd {
namespace {

bool is_usable(Level level) {
    switch (level) {
#ifdef PNAG_HAVE_AVX2
        case Level::kAvx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#endif
#ifdef PNAG_HAVE_AVX512
        case Level::kAvx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
        default:
            return level == Level::kPortable;
    }
}

}  // namespace

const char* name_of(Level level) {
    if (level == Level::kAvx512) return "avx512";
    if (level == Level::kAvx2) return "avx2";
#if defined(__aarch64__)
    return "neon";  // every aarch64 has it, so compilers use it unasked
#else
    return "portable";
#endif
}

std::vector<Level> built_levels() {
    return {
        Level::kPortable,
#ifdef PNAG_HAVE_AVX2
        Level::kAvx2,
#endif
#ifdef PNAG_HAVE_AVX512
        Level::kAvx512,
#endif
    };
}

std::vector<Level> usable_levels() {
    std::vector<Level> levels = built_levels();
    std::erase_if(levels, [](Level level) { return !is_usable(level); });
    return levels;
}

Level choose_level(const char* wanted) {
    const std::vector<Level> usable = usable_levels();
    if (wanted == nullptr || *wanted == '\0') return usable.back();
    if (wanted == std::string("portable")) return Level::kPortable;  // whatever its name here
    std::string names;
    for (const Level level : usable) {
        if (wanted == std::string(name_of(level))) return level;
        if (!names.empty()) names += ", ";
        names += name_of(level);
    }
    throw InvalidInput("PNAG_SIMD is '" + std::string(wanted) +
                       "', which this machine or build does not have; choose one of: " + names +
                       ", or unset it");
}

Level chosen_level() {
    // Chosen at the first call; if the environment names a missing level, every call throws.
    static const Level chosen = choose_level(std::getenv("PNAG_SIMD"));
    return chosen;
}

}  // namespace pnag::simd
