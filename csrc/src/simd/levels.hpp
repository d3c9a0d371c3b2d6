// Instruction sets, and the kernels for the one that this machine has.
//
// Loops that gain from wider instructions are kernels. Those of a topic (costs, spaces, points,
// ...) are in one file, declared in the header beside it, and the file is compiled once for each
// level. It includes no templates of the standard library, so that the linker cannot keep a copy
// with wide instructions for everyone. All kernels are integer arithmetic, comparisons and plain
// sums in a fixed order: every level gives the same bits.
//
// A new kernel is a member of its topic's struct, with what it promises, and a function of that
// name in the topic's file. A new topic is a pair of such files, listed in CMakeLists.txt.
#pragma once

#include <vector>

namespace pnag::simd {

/// Narrowest first. kPortable is what every machine of the architecture has.
enum class Level { kPortable, kAvx2, kAvx512 };

/// As PNAG_SIMD names it; kPortable is called "neon" on aarch64.
const char* name_of(Level level);

/// Those that this build has, and those of them that this machine has; narrowest first.
std::vector<Level> built_levels();
std::vector<Level> usable_levels();

/// The level called `wanted`, or the widest if that is null or empty. Throws InvalidInput for a
/// name that is unknown or that the machine lacks.
Level choose_level(const char* wanted);

/// The level for this machine: the widest it has, or the one that PNAG_SIMD names (portable, avx2,
/// avx512, neon). Throws InvalidInput as choose_level does.
Level chosen_level();

/// The kernels of a topic.
template <typename Kernels>
const Kernels& kernels(Level level = chosen_level()) {
#ifdef PNAG_HAVE_AVX512
    if (level == Level::kAvx512) return Kernels::kAvx512;
#endif
#ifdef PNAG_HAVE_AVX2
    if (level == Level::kAvx2) return Kernels::kAvx2;
#endif
    return Kernels::kPortable;
}

}  // namespace pnag::simd
