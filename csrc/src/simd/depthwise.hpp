// Kernels on images.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pnag/depthwise_shape.hpp"

namespace pnag::simd {

struct DepthwiseKernels {
    /// Channels [begin, end) of depthwise_weight_gradient; see pnag/depthwise.hpp.
    void (*depthwise_weight_gradient)(const float* images, const float* gradient,
                                      const DepthwiseShape& shape, std::size_t begin,
                                      std::size_t end, float* out);

    static const DepthwiseKernels kPortable, kAvx2,
        kAvx512;  // depthwise.cpp, compiled for each level
};

}  // namespace pnag::simd
