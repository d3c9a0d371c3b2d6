#include "pnag/depthwise.hpp"

#include <cstddef>

#include "arrays.hpp"
#include "interruptible.hpp"
#include "pnag/errors.hpp"
#include "register.hpp"

namespace pnag::python {
namespace {

py::array weight_gradient(const py::object& images, const py::object& gradient, int kernel,
                          int stride, int threads) {
    const Input<float> pixels(images, "images", 4);
    const Input<float> answers(gradient, "gradient", 4);
    if (kernel < 0 || stride < 0) throw InvalidInput("kernel and stride must not be negative");
    const DepthwiseShape shape{pixels.extent(0),
                               pixels.extent(1),
                               pixels.extent(2),
                               pixels.extent(3),
                               static_cast<std::size_t>(kernel),
                               static_cast<std::size_t>(stride)};
    Output<float> out({shape.channels, shape.kernel, shape.kernel});
    run_interruptibly(threads, [&](const Execution& execution) {
        depthwise_weight_gradient(pixels.values, answers.values, shape, out.values, execution);
    });
    return out.array;
}

}  // namespace

void register_depthwise(py::module_& module) {
    module.def("depthwise_weight_gradient", &weight_gradient, py::arg("images"),
               py::arg("gradient"), py::arg("kernel"), py::arg("stride"), py::arg("threads"));
}

}  // namespace pnag::python
