// Which instruction sets this machine and build have.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace pnag::simd {

/// Narrowest first.
std::vector<const Kernels*> available_kernels();

/// The set called `wanted`, or the widest if that is null or empty.
const Kernels& choose_kernels(const char* wanted);

}  // namespace pnag::simd
