from __future__ import annotations

import itertools

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError, UnsupportedSpaceError
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space

torch = pytest.importorskip("torch")

from pnag_fast.supernet.modules import ElasticDepthwise  # noqa: E402

# Space, and a small image size: shapes do not depend on it.
SPACES = [
    ("ofa-mbv3", {}, 32),
    ("ofa-mbv3", {"width": 1.2, "classes": 7}, 33),
    ("compofa-mbv3", {}, 32),
    ("compofa-mbv3", {"kernel": "elastic", "resolutions": (32,)}, 32),
    ("mbv3-cifar", {}, 16),
    ("mbv3-tiny", {}, 32),
    ("nasbench-macro", {"width": 0.25}, 17),
]


on_every_space = pytest.mark.parametrize(
    ("name", "options", "size"),
    [pytest.param(*entry, id=f"{entry[0]}-{i}") for i, entry in enumerate(SPACES)],
)


def sampled(space, n, seed=1):
    half = n // 2
    return np.concatenate(
        [
            pf.supernet.extremes(space),
            space.sample(half, seed=seed),
            space.sample(n - half, seed=seed, distribution="decisions"),
        ]
    )


def scramble(net, seed=0):
    """Give every weight and statistic its own value, so that a wrong slice shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
            elif "transforms" in name:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return net


def built(name, options, seed=0):
    return scramble(pf.supernet.build(pf.spaces.get(name, **options), seed=seed))


def images(n, size, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def assert_close(a, b, tolerance=1e-5):
    a, b = a.detach(), b.detach()
    scale = max(1.0, float(b.abs().max()))
    assert float((a - b).abs().max()) <= tolerance * scale


@on_every_space
def test_extracted_network_computes_what_the_active_one_does(name, options, size):
    net = built(name, options).eval()
    x = images(2, size)
    with torch.inference_mode():
        for arch in sampled(net.space, 20):
            net.set_active(arch)
            expected = net(x)
            assert expected.shape == (2, net.space.network.classes)
            assert torch.isfinite(expected).all()
            assert_close(net.extract(arch)(x), expected)


@on_every_space
def test_parameters_and_macs_of_extracted_networks_match_the_closed_form(name, options, size):
    net = built(name, options)
    for arch in sampled(net.space, 4):
        static = net.extract(arch)
        blocks = static.blocks
        assert list(blocks) == net.space.layers(arch)
        for layer, block in zip(static.layers, blocks, strict=True):
            assert sum(p.numel() for p in layer.parameters()) == block.parameters


def count_macs(static, size):
    """Multiply-adds of convolutions and linear layers, counted from the shapes they see."""
    counts = []

    def count(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d):
            per_output = module.weight[0].numel()
            counts.append(output[0].numel() * per_output)
        else:
            counts.append(module.weight.numel())

    hooks = [
        module.register_forward_hook(count)
        for module in static.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    with torch.inference_mode():
        static(images(1, size))
    for hook in hooks:
        hook.remove()
    return sum(counts)


@pytest.mark.parametrize("name", ["ofa-mbv3", "mbv3-cifar", "mbv3-tiny"])
def test_macs_counted_by_hooks_match_the_closed_form(name):
    space = pf.spaces.get(name)
    net = pf.supernet.build(space)
    for arch in sampled(space, 2):
        size = space.resolution_of(arch)
        expected = sum(block.macs for block in space.layers(arch))
        assert count_macs(net.extract(arch), size) == expected
        assert pf.costs.macs(space)(arch[np.newaxis])[0] == expected


def test_a_smaller_kernel_is_the_transformed_centre_of_the_larger_one():
    layer = ElasticDepthwise(2, (3, 7, 5))
    with torch.no_grad():
        layer.weight.copy_(torch.arange(98.0).reshape(2, 1, 7, 7))
        assert layer.filters(2, 7).data_ptr() == layer.weight.data_ptr()
        # With identity matrices each step is a crop: rows and columns 1 to 5, then 2 to 4.
        assert torch.equal(layer.filters(2, 5), layer.weight[:, :, 1:6, 1:6])
        assert torch.equal(layer.filters(1, 3), layer.weight[:1, :, 2:5, 2:5])

        # 7 to 5 swaps the first two of its 25 values; 5 to 3 doubles the last of its 9.
        swap = torch.eye(25)
        swap[:2, :2] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        double = torch.eye(9)
        double[8, 8] = 2
        layer.transforms["7to5"].copy_(swap)
        layer.transforms["5to3"].copy_(double)
        five = layer.weight[:, :, 1:6, 1:6].reshape(2, 25).clone()
        five[:, [0, 1]] = five[:, [1, 0]]
        assert torch.equal(layer.filters(2, 5).reshape(2, 25), five)
        three = layer.weight[:, :, 2:5, 2:5].reshape(2, 9).clone()
        three[:, 8] *= 2
        assert torch.equal(layer.filters(2, 3).reshape(2, 9), three)


def test_the_transform_multiplies_from_the_left():
    # As in Once-for-All: new = matrix @ old, so row i of the matrix makes value i.
    layer = ElasticDepthwise(1, (1, 3))
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, 10).reshape(1, 1, 3, 3))
        layer.transforms["3to1"].fill_(3)
        assert layer.filters(1, 1).item() == 15
    layer = ElasticDepthwise(1, (3, 5))
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 1, 1] = 1  # value 0 of the centre
        matrix = torch.zeros(9, 9)
        matrix[4, 0] = 7
        layer.transforms["5to3"].copy_(matrix)
        expected = torch.zeros(3, 3)
        expected[1, 1] = 7
        assert torch.equal(layer.filters(1, 3)[0, 0], expected)


@pytest.mark.parametrize("kernels", [(3,), (1, 5), (3, 9, 5), (3, 5, 7, 9)])
def test_other_kernel_sets(kernels):
    network = MobileNetV3(
        channels=(8, 8, 16),
        strides=(1, 2),
        activations=("relu", "h_swish"),
        squeeze_excite=(True, False),
        expand_channels=32,
        feature_channels=32,
        max_depth=2,
        kernels=kernels,
        expand_ratios=(2, 3),
        classes=5,
    )
    space = mobilenetv3_space("mine", network, min_depth=1, resolutions=(16,))
    net = scramble(pf.supernet.build(space)).eval()
    steps = itertools.pairwise(sorted(kernels, reverse=True))
    assert set(net.slots[0].depthwise.transforms) == {f"{a}to{b}" for a, b in steps}
    for arch in sampled(space, 6):
        net.set_active(arch)
        assert_close(net.extract(arch)(images(2, 16)), net(images(2, 16)))


def test_weights_are_shared():
    space = pf.spaces.get("mbv3-tiny")
    net = pf.supernet.build(space)
    before = {name: parameter.data_ptr() for name, parameter in net.named_parameters()}
    smallest, largest = pf.supernet.extremes(space)
    for arch in (smallest, largest, smallest):
        net.set_active(arch)
    assert before == {name: parameter.data_ptr() for name, parameter in net.named_parameters()}
    # The smallest network's gradient reaches the shared filters it uses, and only those.
    net.set_active(smallest)
    net(images(4, 16)).sum().backward()
    mid = net.slots[0].active.mid_channels
    gradient = net.slots[0].expand.weight.grad
    assert gradient[:mid].abs().sum() > 0
    assert gradient[mid:].abs().sum() == 0
    assert net.slots[1].expand.weight.grad is None
    assert net.slots[0].depthwise.transforms["5to3"].grad.abs().sum() > 0


def test_an_extracted_network_owns_its_weights():
    space = pf.spaces.get("mbv3-tiny")
    net = pf.supernet.build(space).eval()
    largest = pf.supernet.extremes(space)[1]
    static = net.extract(largest)
    before = static(images(1, 16))
    shared = {t.untyped_storage().data_ptr() for t in net.state_dict().values()}
    assert not shared & {t.untyped_storage().data_ptr() for t in static.state_dict().values()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(static(images(1, 16)), before)
    assert all(parameter.requires_grad for parameter in static.parameters())
    kinds = {type(module) for module in static.modules() if not list(module.children())}
    assert kinds <= {torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear}


def fold_forward(blocks, weights, x):
    """Compute a network from folded weights, written independently of the modules."""
    f = torch.nn.functional

    def act(y, kind):
        return f.relu(y) if kind == "relu" else y * f.relu6(y + 3) / 6

    for block, arrays in zip(blocks, weights, strict=True):
        w = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if isinstance(block, pf.spaces.Stem):
            x = f.conv2d(x, w["weight"], w["bias"], block.stride, block.kernel // 2)
            x = act(x, block.activation)
        elif isinstance(block, pf.spaces.MBConv):
            y = x
            if block.expand:
                y = act(f.conv2d(y, w["expand.weight"], w["expand.bias"]), block.activation)
            y = f.conv2d(
                y,
                w["depthwise.weight"],
                w["depthwise.bias"],
                block.stride,
                block.kernel // 2,
                groups=block.mid_channels,
            )
            y = act(y, block.activation)
            if block.squeeze_excite:
                s = y.mean((2, 3))
                s = f.relu(f.linear(s, w["squeeze.reduce.weight"], w["squeeze.reduce.bias"]))
                s = f.linear(s, w["squeeze.expand.weight"], w["squeeze.expand.bias"])
                y = y * (f.relu6(s + 3) / 6)[:, :, None, None]
            y = f.conv2d(y, w["project.weight"], w["project.bias"])
            x = x + y if block.residual else y
        elif isinstance(block, pf.spaces.Pointwise):
            x = f.conv2d(x, w["weight"], w["bias"], block.stride)
        else:
            x = act(f.conv2d(x, w["expand.weight"], w["expand.bias"]), block.activation)
            x = x.mean((2, 3))
            if block.feature_channels:
                x = act(f.linear(x, w["feature.weight"]), block.activation)
            x = f.linear(x, w["classifier.weight"], w["classifier.bias"])
    return x


@on_every_space
def test_folded_weights_compute_the_same_network(name, options, size):
    net = built(name, options)
    for arch in sampled(net.space, 3):
        static = net.extract(arch)
        weights = pf.supernet.folded_weights(static)
        assert all(a.dtype == np.float32 for arrays in weights for a in arrays.values())
        assert all(a.flags.c_contiguous for arrays in weights for a in arrays.values())
        x = images(2, size)
        assert_close(fold_forward(static.blocks, weights, x), static(x))


def test_folded_shapes_are_those_promised():
    space = pf.spaces.get("mbv3-tiny")
    static = pf.supernet.build(space).extract(pf.supernet.extremes(space)[1])
    for block, arrays in zip(static.blocks, pf.supernet.folded_weights(static), strict=True):
        shapes = {name: array.shape for name, array in arrays.items()}
        if isinstance(block, pf.spaces.Stem):
            o, i, k = block.out_channels, block.in_channels, block.kernel
            assert shapes == {"weight": (o, i, k, k), "bias": (o,)}
        elif isinstance(block, pf.spaces.Head):
            i, x = block.in_channels, block.expand_channels
            f, c = block.feature_channels, block.classes
            assert shapes == {
                "expand.weight": (x, i, 1, 1),
                "expand.bias": (x,),
                "feature.weight": (f, x),
                "classifier.weight": (c, f),
                "classifier.bias": (c,),
            }
        else:
            i, m, o, k = block.in_channels, block.mid_channels, block.out_channels, block.kernel
            s = block.squeeze_channels
            expected = {
                "depthwise.weight": (m, 1, k, k),
                "depthwise.bias": (m,),
                "project.weight": (o, m, 1, 1),
                "project.bias": (o,),
            }
            if block.expand:
                expected |= {"expand.weight": (m, i, 1, 1), "expand.bias": (m,)}
            if block.squeeze_excite:
                expected |= {
                    "squeeze.reduce.weight": (s, m),
                    "squeeze.reduce.bias": (s,),
                    "squeeze.expand.weight": (m, s),
                    "squeeze.expand.bias": (m,),
                }
            assert shapes == expected


@on_every_space
def test_extremes_bound_all_costs(name, options, size):
    space = pf.spaces.get(name, **options)
    macs = pf.costs.macs(space)
    low, high = macs(pf.supernet.extremes(space))
    assert (low, high) == tuple(macs.bounds)


def test_extremes_of_several_resolutions():
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 16, 32))
    smallest, largest = pf.supernet.extremes(space)
    space.validate(np.stack([smallest, largest]))
    assert space.resolution_of(smallest) == 16
    assert space.resolution_of(largest) == 32


def test_same_seed_same_weights_and_no_global_random_state():
    space = pf.spaces.get("mbv3-tiny")
    state = torch.get_rng_state()
    a, b, c = (pf.supernet.build(space, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["stem.conv.weight"], c["stem.conv.weight"])


def test_build_refuses_what_it_cannot_build():
    space = pf.spaces.get("mbv3-tiny")
    assert pf.supernet.build(space, classes=10).head.classifier.out_features == 10
    with pytest.raises(InvalidInputError, match=r"classes=3 differs .* get a space"):
        pf.supernet.build(space, classes=3)
    with pytest.raises(UnsupportedSpaceError, match="nasbench201"):
        pf.supernet.build(pf.spaces.get("nasbench201"))
    with pytest.raises(InvalidTypeError, match="space should be a search space"):
        pf.supernet.build("mbv3-tiny")
    with pytest.raises(InvalidInputError, match="seed"):
        pf.supernet.build(space, seed=-1)


def test_set_active_and_extract_refuse_impossible_architectures():
    space = pf.spaces.get("mbv3-tiny")
    net = pf.supernet.build(space)
    good = space.sample(1, seed=1)[0]
    bad = good.copy()
    bad[0] = 200
    for call in (net.set_active, net.extract):
        with pytest.raises(InvalidInputError, match="code 200"):
            call(bad)
        with pytest.raises(InvalidTypeError, match="uint8"):
            call(good.astype(np.int64))
        with pytest.raises(InvalidTypeError, match="found list"):
            call(good.tolist())
        with pytest.raises(InvalidInputError, match="one row"):
            call(good[np.newaxis])
    net.set_active(good[::-1].copy()[::-1])  # a view that is not contiguous
