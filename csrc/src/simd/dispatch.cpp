#include "dispatch.hpp"

#include <cstdlib>
#include <string>

#include "pnag/errors.hpp"

namespace pnag::simd {

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> available = {&kPortable};
#ifdef PNAG_HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        available.push_back(&kAvx2);
    }
#endif
#ifdef PNAG_HAVE_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        available.push_back(&kAvx512);
    }
#endif
    return available;
}

const Kernels& choose_kernels(const char* wanted) {
    const auto available = available_kernels();
    if (wanted == nullptr || *wanted == '\0') return *available.back();
    if (wanted == std::string("portable")) return *available.front();  // whatever its name here
    std::string names;
    for (const Kernels* candidate : available) {
        if (std::string(candidate->name) == wanted) return *candidate;
        if (!names.empty()) names += ", ";
        names += candidate->name;
    }
    throw InvalidInput("PNAG_SIMD is '" + std::string(wanted) +
                       "', which this machine or build does not have; choose one of: " + names +
                       ", or unset it");
}

const Kernels& kernels() {
    // Chosen at the first call; if the environment names a missing set, every call throws.
    static const Kernels& chosen = choose_kernels(std::getenv("PNAG_SIMD"));
    return chosen;
}

}  // namespace pnag::simd
