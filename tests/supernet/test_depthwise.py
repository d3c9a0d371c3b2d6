from __future__ import annotations

import numpy as np
import pytest

from pnag_fast import _core
from pnag_fast.errors import InvalidInputError, InvalidTypeError

torch = pytest.importorskip("torch")

from pnag_fast.supernet.depthwise import depthwise_conv2d  # noqa: E402


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(2, 16, 8, 8), (3, 40, 9, 5), (1, 7, 1, 1), (2, 21, 2, 3), (1, 1, 4, 1), (0, 4, 3, 3)]
)
def test_gradients_are_those_of_torch(kernel, stride, shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    w = torch.randn(shape[1], 1, kernel, kernel, generator=generator, dtype=torch.float64)
    x, w = x.requires_grad_(), w.requires_grad_()
    y = torch.nn.functional.conv2d(x, w, None, stride, kernel // 2, groups=shape[1])
    g = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad(y, (x, w), g)
    fast_x, fast_w = x.detach().float().requires_grad_(), w.detach().float().requires_grad_()
    fast = depthwise_conv2d(fast_x, fast_w, stride)
    found = torch.autograd.grad(fast, (fast_x, fast_w), g.float())
    torch.testing.assert_close(fast.double(), y, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)
    kernel_gradient = [
        _core.depthwise_weight_gradient(
            np.ascontiguousarray(x.detach().float().permute(0, 2, 3, 1).numpy()),
            np.ascontiguousarray(g.float().permute(0, 2, 3, 1).numpy()),
            kernel,
            stride,
            threads,
        )
        for threads in (1, 2, 5)
    ]
    np.testing.assert_allclose(kernel_gradient[0], expected[1][:, 0], rtol=1e-4, atol=1e-4)
    assert all((other == kernel_gradient[0]).all() for other in kernel_gradient[1:])


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_under_autocast(stride):
    x = torch.randn(4, 24, 8, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
    w = torch.randn(24, 1, 7, 7, generator=torch.Generator().manual_seed(3), requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x, w, stride)
    assert y.dtype == torch.bfloat16
    found = torch.autograd.grad(y.float().square().mean(), (x, w))
    y = torch.nn.functional.conv2d(x, w, None, stride, 3, groups=24)
    for a, b in zip(found, torch.autograd.grad(y.square().mean(), (x, w)), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0.03 * float(b.abs().max()))


def test_bad_input_is_refused():
    x, g = np.zeros((2, 8, 8, 4), np.float32), np.zeros((2, 8, 8, 4), np.float32)
    for kernel, stride, match in (
        (4, 1, "kernel is 4"),
        (5, 0, "stride is 0"),
        (5, -1, "negative"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            _core.depthwise_weight_gradient(x, g, kernel, stride, 1)
    with pytest.raises(InvalidInputError, match="does not have the shape"):
        _core.depthwise_weight_gradient(x, g[:1], 5, 1, 1)
    with pytest.raises(InvalidInputError, match="no pixels"):
        _core.depthwise_weight_gradient(x[:, :0], g, 5, 1, 1)
    with pytest.raises(InvalidTypeError, match="float32"):
        _core.depthwise_weight_gradient(x.astype(np.float64), g, 5, 1, 1)
