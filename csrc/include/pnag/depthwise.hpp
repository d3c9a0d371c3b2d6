// The one gradient for which the CPU kernels of torch are slow.
#pragma once

#include <cstddef>
#include <span>

#include "pnag/depthwise_shape.hpp"
#include "pnag/execution.hpp"

namespace pnag {

/// Gradient of the filters, (channels, kernel, kernel), from the images and the gradient of the
/// output, (n, rows, columns, channels).
///
/// Sums run image by image in float; every channel is summed in the same order on any number of
/// threads and with every instruction set. n * rows * columns * channels * kernel^2 multiply-adds.
/// Throws InvalidInput for other kernels, a stride of 0 or sizes that do not fit.
void depthwise_weight_gradient(std::span<const float> images, std::span<const float> gradient,
                               const DepthwiseShape& shape, std::span<float> out,
                               const Execution& execution);

}  // namespace pnag
