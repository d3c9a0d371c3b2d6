#include "pnag/depthwise.hpp"

#include <string>

#include "pnag/errors.hpp"
#include "pnag/parallel.hpp"
#include "simd/depthwise.hpp"
#include "simd/levels.hpp"

namespace pnag {

void depthwise_weight_gradient(std::span<const float> images, std::span<const float> gradient,
                               const DepthwiseShape& shape, std::span<float> out,
                               const Execution& execution) {
    if (shape.kernel != 3 && shape.kernel != 5 && shape.kernel != 7) {
        throw InvalidInput("kernel is " + std::to_string(shape.kernel) + "; it must be 3, 5 or 7");
    }
    if (shape.stride == 0) throw InvalidInput("stride is 0; it must be at least 1");
    if (shape.height == 0 || shape.width == 0) throw InvalidInput("images have no pixels");
    const std::size_t rows = (shape.height - 1) / shape.stride + 1;
    const std::size_t columns = (shape.width - 1) / shape.stride + 1;
    if (images.size() != shape.n * shape.height * shape.width * shape.channels ||
        gradient.size() != shape.n * rows * columns * shape.channels ||
        out.size() != shape.channels * shape.kernel * shape.kernel) {
        throw InvalidInput("the gradient does not have the shape of the convolution's output");
    }
    const auto& kernels = simd::kernels<simd::DepthwiseKernels>();
    // A cache line holds 16 channels.
    parallel_for(shape.channels, 16, execution, [&](std::size_t begin, std::size_t end) {
        kernels.depthwise_weight_gradient(images.data(), gradient.data(), shape, begin, end,
                                          out.data());
    });
}

}  // namespace pnag
