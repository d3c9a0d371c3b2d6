#include "simd/depthwise.hpp"

namespace pnag::simd {
namespace {

// Channels lie side by side, so a register holds as many of them and no lane meets another. The
// sums of one row of the filter stay in registers while the images' rows stream past.

#if defined(__AVX512F__)
constexpr std::size_t kFloats = 16;
#elif defined(__AVX2__)
constexpr std::size_t kFloats = 8;
#else
constexpr std::size_t kFloats = 4;
#endif

inline std::size_t least(std::size_t a, std::size_t b) {
    return a < b ? a : b;
}

template <std::size_t W>
struct FloatsOf {
    typedef float Type __attribute__((vector_size(4 * W)));
};
template <>
struct FloatsOf<1> {
    using Type = float;
};

template <std::size_t W>
inline typename FloatsOf<W>::Type load_floats(const float* from) {
    typename FloatsOf<W>::Type values;
    __builtin_memcpy(&values, from, sizeof values);
    return values;
}

// Channels [channel, channel + W) of row `i` of the filters, over one image: adds to sum[K].
template <std::size_t K, std::size_t W>
inline void add_filter_row(const float* image, const float* gradient, const DepthwiseShape& shape,
                           std::size_t i, typename FloatsOf<W>::Type* sum) {
    using Floats = typename FloatsOf<W>::Type;
    constexpr std::size_t kPad = K / 2;
    const std::size_t c = shape.channels;
    const std::size_t s = shape.stride;
    const std::size_t width = shape.width;
    const std::size_t out_height = (shape.height - 1) / s + 1;
    const std::size_t out_width = (width - 1) / s + 1;
    // Output columns [low, high) see pixels only, no padding.
    const std::size_t low = least((kPad + s - 1) / s, out_width);
    const std::size_t inside = width < kPad + 1 ? 0 : (width - 1 - kPad) / s + 1;
    const std::size_t high = inside < low ? low : least(inside, out_width);
    for (std::size_t y = 0; y < out_height; ++y) {
        const std::size_t row = y * s + i;  // with kPad rows above the image
        if (row < kPad || row - kPad >= shape.height) continue;
        const float* pixels = image + (row - kPad) * width * c;
        const float* answers = gradient + y * out_width * c;
        for (std::size_t x = 0; x < out_width; ++x) {
            const Floats g = load_floats<W>(answers + x * c);
            if (x >= low && x < high) {
                const float* window = pixels + (x * s - kPad) * c;
                for (std::size_t j = 0; j < K; ++j)
                    sum[j] += g * load_floats<W>(window + j * c);
            } else {
                for (std::size_t j = 0; j < K; ++j) {
                    const std::size_t column = x * s + j;
                    if (column < kPad || column - kPad >= width) continue;
                    sum[j] += g * load_floats<W>(pixels + (column - kPad) * c);
                }
            }
        }
    }
}

template <std::size_t K, std::size_t W>
void filter_gradients(const float* images, const float* gradient, const DepthwiseShape& shape,
                      std::size_t channel, float* out) {
    using Floats = typename FloatsOf<W>::Type;
    const std::size_t image_size = shape.height * shape.width * shape.channels;
    const std::size_t gradient_size = ((shape.height - 1) / shape.stride + 1) *
                                      ((shape.width - 1) / shape.stride + 1) * shape.channels;
    Floats sums[K][K] = {};
    // Image by image, so that its pixels stay in the cache for the K rows of the filter.
    for (std::size_t b = 0; b < shape.n; ++b) {
        for (std::size_t i = 0; i < K; ++i) {
            Floats sum[K];
            for (std::size_t j = 0; j < K; ++j)
                sum[j] = sums[i][j];
            add_filter_row<K, W>(images + b * image_size + channel,
                                 gradient + b * gradient_size + channel, shape, i, sum);
            for (std::size_t j = 0; j < K; ++j)
                sums[i][j] = sum[j];
        }
    }
    for (std::size_t w = 0; w < W; ++w) {
        for (std::size_t tap = 0; tap < K * K; ++tap) {
            float value;
            __builtin_memcpy(&value, reinterpret_cast<const char*>(&sums[0][0]) + 4 * (tap * W + w),
                             sizeof value);
            out[(channel + w) * K * K + tap] = value;
        }
    }
}

template <std::size_t K>
void filter_gradients_of(const float* images, const float* gradient, const DepthwiseShape& shape,
                         std::size_t begin, std::size_t end, float* out) {
    std::size_t channel = begin;
    for (; channel + kFloats <= end; channel += kFloats)
        filter_gradients<K, kFloats>(images, gradient, shape, channel, out);
    for (; channel + 4 <= end; channel += 4)
        filter_gradients<K, 4>(images, gradient, shape, channel, out);
    for (; channel < end; ++channel)
        filter_gradients<K, 1>(images, gradient, shape, channel, out);
}

void depthwise_weight_gradient(const float* images, const float* gradient,
                               const DepthwiseShape& shape, std::size_t begin, std::size_t end,
                               float* out) {
    if (shape.kernel == 7) return filter_gradients_of<7>(images, gradient, shape, begin, end, out);
    if (shape.kernel == 5) return filter_gradients_of<5>(images, gradient, shape, begin, end, out);
    filter_gradients_of<3>(images, gradient, shape, begin, end, out);
}

}  // namespace

constinit const DepthwiseKernels DepthwiseKernels::PNAG_LEVEL = {
    .depthwise_weight_gradient = simd::depthwise_weight_gradient,
};

}  // namespace pnag::simd
