#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "check.hpp"
#include "pnag/depthwise.hpp"
#include "pnag/errors.hpp"
#include "pnag/random.hpp"

using namespace pnag;

namespace {

std::vector<float> numbers(std::size_t n, std::uint64_t seed) {
    std::vector<float> values(n);
    RowStream random(stream_key(seed, 0), 0);
    for (float& value : values)
        value = static_cast<float>(std::ldexp(static_cast<double>(random.next() >> 11), -52) - 1.0);
    return values;
}

std::size_t output_side(std::size_t side, std::size_t stride) {
    return (side - 1) / stride + 1;
}

// By the definition, in double.
std::vector<double> by_definition(const std::vector<float>& images,
                                  const std::vector<float>& gradient, const DepthwiseShape& s) {
    const std::size_t rows = output_side(s.height, s.stride);
    const std::size_t columns = output_side(s.width, s.stride);
    std::vector<double> sums(s.channels * s.kernel * s.kernel);
    for (std::size_t i = 0; i < s.n; ++i)
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < columns; ++c)
                for (std::size_t y = 0; y < s.kernel; ++y)
                    for (std::size_t x = 0; x < s.kernel; ++x) {
                        // Unsigned: a pixel above or left of the image wraps to a large number.
                        const std::size_t row = r * s.stride + y - s.kernel / 2;
                        const std::size_t column = c * s.stride + x - s.kernel / 2;
                        if (row >= s.height || column >= s.width) continue;
                        for (std::size_t f = 0; f < s.channels; ++f) {
                            const double pixel =
                                images[((i * s.height + row) * s.width + column) * s.channels + f];
                            sums[(f * s.kernel + y) * s.kernel + x] +=
                                pixel * gradient[((i * rows + r) * columns + c) * s.channels + f];
                        }
                    }
    return sums;
}

}  // namespace

TEST(depthwise_gradient_is_what_its_definition_says) {
    for (const std::size_t kernel : {3UL, 5UL, 7UL})
        for (const std::size_t stride : {1UL, 2UL, 3UL})
            // Fewer channels than a register, exactly one, and a remainder; images smaller than
            // the filter.
            for (const std::size_t channels : {1UL, 16UL, 37UL})
                for (const auto& [height, width] : std::vector<std::pair<std::size_t, std::size_t>>{
                         {1, 3}, {6, 8}, {9, 11}, {5, 1}, {1, 1}}) {
                    const DepthwiseShape shape{3, height, width, channels, kernel, stride};
                    const auto images = numbers(3 * height * width * channels, kernel);
                    const auto gradient = numbers(
                        3 * output_side(height, stride) * output_side(width, stride) * channels, 9);
                    std::vector<float> sums(channels * kernel * kernel, -1.0F);
                    depthwise_weight_gradient(images, gradient, shape, sums, 1);
                    const auto expected = by_definition(images, gradient, shape);
                    for (std::size_t i = 0; i < sums.size(); ++i)
                        CHECK(std::abs(sums[i] - expected[i]) < 1e-4);
                    std::vector<float> shared(sums.size());
                    depthwise_weight_gradient(images, gradient, shape, shared, 3);
                    CHECK(shared == sums);
                }
}

TEST(shapes_of_no_convolution_are_refused) {
    const auto images = numbers(8, 0);
    std::vector<float> sums(9);
    CHECK_THROWS(depthwise_weight_gradient(images, images, {1, 2, 2, 2, 4, 1}, sums, 1),
                 InvalidInput, "kernel is 4");
    CHECK_THROWS(depthwise_weight_gradient(images, images, {1, 2, 2, 2, 3, 0}, sums, 1),
                 InvalidInput, "stride is 0");
    CHECK_THROWS(depthwise_weight_gradient({}, {}, {1, 0, 2, 2, 3, 1}, sums, 1), InvalidInput,
                 "no pixels");
    CHECK_THROWS(depthwise_weight_gradient({}, {}, {1, 2, 0, 2, 3, 1}, sums, 1), InvalidInput,
                 "no pixels");
    // Two channels of two by two pixels, of which each of the three arrays in turn is another.
    const DepthwiseShape shape{1, 2, 2, 2, 3, 1};
    std::vector<float> right(18);
    depthwise_weight_gradient(images, images, shape, right, 1);
    const auto longer = numbers(10, 0);
    CHECK_THROWS(depthwise_weight_gradient(images, images, shape, sums, 1), InvalidInput,
                 "does not have the shape");
    CHECK_THROWS(depthwise_weight_gradient(longer, images, shape, right, 1), InvalidInput,
                 "does not have the shape");
    CHECK_THROWS(depthwise_weight_gradient(images, longer, shape, right, 1), InvalidInput,
                 "does not have the shape");
}

int main() {
    return pnag::test::run_all();
}
