// How this library was built.
#pragma once

#include <string>
#include <vector>

namespace pnag {

struct BuildInfo {
    std::string version;
    std::string compiler;
    std::string build_type;
    std::string flags;                     ///< those that bear on results, speed and safety
    std::vector<std::string> simd_built;   ///< compiled in
    std::vector<std::string> simd_usable;  ///< of those, what this machine has
    std::string simd_used;
};

/// Throws InvalidInput if the environment asks for an instruction set that is not there.
BuildInfo build_info();

}  // namespace pnag
