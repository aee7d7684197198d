"""Every operator: what the engine reads is what ONNX Runtime does, and every bound holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reaas_bounds import (
    MarginMethod,
    MarginOptions,
    Network,
    UnsupportedOperatorError,
    certified_constants,
    certify_margins,
    load_network,
)
from reaas_bounds.bounds import Centre, crown_bound, ibp_bound
from reaas_bounds.rounding import float32_error_at
from torch import Tensor

from tests.bounds.encoders import EncoderBuilder, Float32
from tests.bounds.operator_nets import NETS, net


def attacked(network: Network, x: Tensor, rows: Tensor, radius: float) -> Tensor:
    """The largest value of ``|rows (f(x + d) - f(x))|`` found on the sphere, per row."""
    generator = torch.Generator().manual_seed(0)
    centre = network.forward(x)
    best = torch.zeros(len(rows), dtype=torch.float64)
    delta = torch.randn(2 * len(rows), *x.shape[1:], generator=generator, dtype=torch.float64)
    for _ in range(8):
        delta = delta / delta.flatten(1).norm(dim=1)[:, None, None, None] * radius
        delta.requires_grad_()
        moved = ((network.forward(x + delta) - centre) * rows.repeat(2, 1)).sum(1).abs()
        best = torch.maximum(best, moved.detach().reshape(2, -1).amax(0))
        ascent = torch.autograd.grad(moved.sum(), delta)[0]
        size = ascent.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
        delta = delta.detach() + ascent / size * radius
    return best


@pytest.mark.parametrize("name", NETS)
def test_the_feature_is_that_of_onnx_runtime_within_the_stated_error(name: str) -> None:
    data = net(name)
    network, served = load_network(data), Float32(data)
    constants = certified_constants(network)
    for size in (1.0, 30.0):
        images = np.random.default_rng(1).uniform(-size, size, (20, *network.input_shape))
        images = images.astype(np.float32)
        x = torch.from_numpy(images.astype(np.float64))
        exact = network.forward(x)
        off = torch.from_numpy(np.linalg.norm(served(images) - exact.numpy(), axis=1))
        norms = x.flatten(1).norm(dim=1)
        assert float((off / exact.norm(dim=1)).max()) < 1e-4
        assert bool((off <= float32_error_at(network, x)).all())
        assert bool((off <= constants.float32_slope * norms + constants.float32_offset).all())


@pytest.mark.parametrize("name", NETS)
def test_no_attack_exceeds_a_bound_of_the_ball(name: str) -> None:
    network = load_network(net(name))
    lipschitz = certified_constants(network).lipschitz
    x = torch.rand(1, *network.input_shape, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64))
    centre = Centre.of(network, x)
    for radius in (1e-3, 0.05, 1.0):
        found = float(attacked(network, x, directions, radius).max())
        radii = torch.tensor([radius], dtype=torch.float64)
        crown, ibp = float(crown_bound(centre, radii)), float(ibp_bound(centre, radii))
        assert found <= crown <= ibp * (1 + 1e-8) < math.inf
        assert found <= lipschitz * radius
        assert crown < 2 * lipschitz * radius or radius > 0.01


@pytest.mark.parametrize("name", NETS)
def test_no_attack_crosses_a_certified_margin(name: str) -> None:
    network = load_network(net(name))
    constants = certified_constants(network)
    x = torch.rand(1, *network.input_shape, dtype=torch.float64)
    rows = torch.nn.functional.normalize(torch.randn(1, 3, 5, dtype=torch.float64), dim=2)
    for size in (0.05, 2.0):
        offsets = torch.full((1, 3), size, dtype=torch.float64)
        for method in (MarginMethod.LIPSCHITZ, MarginMethod.ENVELOPE):
            answer = certify_margins(
                network, constants, x, rows, offsets, method, MarginOptions(max_envelopes=6)
            )[0]
            assert answer.radius > 0 or method is MarginMethod.ENVELOPE
            if answer.radius > 0:
                assert float(attacked(network, x, rows[0], answer.radius).max()) <= size


def test_orthogonal_layers_with_sorted_pairs_have_constant_one() -> None:
    """Nothing is lost: the pairs, the halves and the pools are rotations for the engine."""
    builder = EncoderBuilder((4, 4, 4))
    for _ in range(3):
        rotation = np.linalg.qr(builder.random.normal(size=(4, 4)))[0].reshape(4, 4, 1, 1)
        builder.op("Conv", rotation, kernel_shape=[1, 1])
        start, halves = builder.last, []
        for first, last in ((0, 2), (2, 4)):
            cut = [builder._constant(np.array([v])) for v in (first, last, 1)]
            halves.append(builder._append("Slice", [start, *cut], {}).last)
        sorted_pair = [builder._append(kind, halves, {}).last for kind in ("Max", "Min")]
        builder._append("Concat", sorted_pair, {"axis": 1})
    builder.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).op("Flatten")
    builder.op("Gemm", np.linalg.qr(builder.random.normal(size=(16, 16)))[0])
    lipschitz = certified_constants(builder.file(16)).lipschitz
    assert 1 <= lipschitz <= 1 + 1e-3


@pytest.mark.parametrize(
    ("kind", "constants", "attributes", "operator"),
    [
        ("Softmax", [], {"axis": 0}, "axis=0"),
        ("Exp", [], {}, "Exp"),
        ("Erf", [], {}, "Erf"),
        ("InstanceNormalization", [np.ones(2)] * 2, {"epsilon": 0.0}, "epsilon=0"),
        ("LayerNormalization", [np.ones(6)], {"epsilon": -1.0}, "epsilon=-1"),
        ("LpNormalization", [], {"axis": 1}, "it moves features arbitrarily fast"),
        ("ReduceL2", [], {"axes": [1]}, "other axes than the one of a vector"),
        ("Gelu", [], {"approximate": "cubic"}, "approximate=cubic"),
        ("PRelu", [np.ones((2, 6, 6))], {}, "one number, or one for each channel"),
        ("Transpose", [], {"perm": [1, 0, 2, 3]}, "perm="),
        ("ReduceMean", [], {"axes": [1]}, "the mean over a plane"),
        ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array(1.0)], {}, "constant of 1.0"),
        ("Cast", [], {"to": 10}, "to=FLOAT16"),
        ("Flatten", [], {"axis": 2}, "axis=2"),
        ("Max", [np.zeros(1)], {}, "a constant"),
        ("Reshape", [np.array([2, -1])], {}, "shape="),
    ],
)
def test_what_has_no_bound_is_refused_by_name(
    kind: str, constants: list[np.ndarray], attributes: dict[str, object], operator: str
) -> None:
    builder = EncoderBuilder(opset=20 if kind == "Gelu" else 17).conv(2)
    data = builder.op(kind, *constants, **attributes).head(2 * 36)
    with pytest.raises(UnsupportedOperatorError, match=operator) as caught:
        load_network(data)
    assert caught.value.node == f"{kind.lower()}_1"
    assert caught.value.operator.startswith(kind)


def test_a_sort_of_too_many_entries_is_refused() -> None:
    builder = EncoderBuilder((3, 9, 9)).op("Flatten").op("TopK", np.array([3]), axis=1)
    builder.nodes[-1].output.append("places")
    with pytest.raises(UnsupportedOperatorError, match="243 entries to sort, more than 64"):
        load_network(builder.linear(3, 5).file(5))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("largest", [0, 1])
def test_a_sort_of_a_group_is_exact_and_has_constant_one(size: int, largest: int) -> None:
    builder = EncoderBuilder((2, 1, size)).op("TopK", np.array([size]), largest=largest)
    builder.nodes[-1].output.append("places")
    builder.last = builder.nodes[-1].output[0]
    network = load_network(builder.op("Flatten").op("Identity").file(2 * size))
    x = torch.randn(50, 2, 1, size, dtype=torch.float64).round(decimals=1)  # with ties
    ordered = torch.sort(x, dim=3, descending=bool(largest))[0]
    torch.testing.assert_close(network.forward(x), ordered.flatten(1), rtol=1e-12, atol=1e-12)
    assert 1 <= certified_constants(network).lipschitz <= 1 + 1e-3


@pytest.mark.parametrize(
    ("mode", "coordinates", "factor", "message"),
    [
        ("cubic", "half_pixel", 2.0, "mode=cubic"),
        ("nearest", "asymmetric", 1.2, "may choose another pixel"),
        ("linear", "half_pixel", 7 / 6, "in float32 of another size"),
        ("nearest", "tf_crop_and_resize", 2.0, "tf_crop_and_resize"),
    ],
)
def test_a_rescaling_that_float32_may_do_otherwise_is_refused(
    mode: str, coordinates: str, factor: float, message: str
) -> None:
    builder = EncoderBuilder().conv(2)
    names = [builder._constant(np.zeros(0)), builder._constant(np.array([1.0, 1, factor, factor]))]
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    builder._append("Resize", [builder.last, *names], attributes)
    with pytest.raises(UnsupportedOperatorError, match=message):
        load_network(builder.head(2 * 144))
