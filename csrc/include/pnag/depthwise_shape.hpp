// Apart from depthwise.hpp, because files for wider instruction sets include no standard templates.
#pragma once

#include <cstddef>

namespace pnag {

/// A depthwise convolution of (n, height, width, channels) with zeros around it, so that windows
/// are centred: padding kernel / 2. The output has (height - 1) / stride + 1 rows.
struct DepthwiseShape {
    std::size_t n;
    std::size_t height;
    std::size_t width;
    std::size_t channels;
    std::size_t kernel;  // 3, 5 or 7
    std::size_t stride;
};

}  // namespace pnag
