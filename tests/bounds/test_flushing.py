"""Underflow and overflow of float32: what is claimed holds on ONNX Runtime, from 1e-38 to 1e38."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from reaas_bounds import (
    InvalidModelError,
    Method,
    Network,
    certified_constants,
    certify_ball,
    load_network,
)
from reaas_bounds.measurement import Measured, Measurement
from reaas_bounds.propagation import Propagation
from reaas_bounds.rounding import float32_error_at, within_range

Float = NDArray[np.float32]


def network_of(layers: list[tuple[str, list[Float]]], size: int = 6) -> bytes:
    """An encoder of one image plane [1, size, size]: operators with their weights, in a row."""
    nodes = [helper.make_node("Flatten", ["x"], ["h0"])]
    weights = []
    for k, (kind, arrays) in enumerate(layers):
        names = [f"w{k}_{i}" for i in range(len(arrays))]
        weights += [numpy_helper.from_array(a, n) for a, n in zip(arrays, names, strict=True)]
        nodes.append(helper.make_node(kind, [f"h{k}", *names], [f"h{k + 1}"]))
    nodes[-1].output[0] = "feature"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 1, size, size])],
        [helper.make_tensor_value_info("feature", 1, ["N", "d"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def served(onnx_bytes: bytes, x: NDArray[np.float64], *, flush: bool) -> NDArray[np.float64]:
    """Features by ONNX Runtime, with denormal numbers flushed to zero or not."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1" if flush else "0")
    session = onnxruntime.InferenceSession(onnx_bytes, options)
    found: NDArray[np.float32] = session.run(None, {"x": x.astype(np.float32)})[0]
    return found.astype(np.float64)


def scaled_network(rng: np.random.Generator, scales: list[float]) -> bytes:
    """Matrices, elementwise factors and ReLUs; the k-th has weights of about ``scales[k]``."""
    layers: list[tuple[str, list[Float]]] = []
    width = 36
    for scale in scales:
        kind = rng.choice(["MatMul", "Mul", "Gemm"])
        if kind == "Mul":
            factors = rng.standard_normal(width) * scale
            layers.append(("Mul", [factors.astype(np.float32)]))
        else:
            out = int(rng.integers(3, 9))
            matrix = (rng.standard_normal((width, out)) * scale).astype(np.float32)
            bias = [(rng.standard_normal(out) * scale).astype(np.float32)] * (kind == "Gemm")
            layers.append((str(kind), [matrix, *bias]))
            width = out
        if rng.random() < 0.5:
            layers.append(("Relu", []))
    return network_of(layers)


SCALES = [1e-42, 1e-38, 1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30]


def error_over_claim(onnx_bytes: bytes, network: Network, x: NDArray[np.float64]) -> float:
    """The largest error of a served feature, in units of what is claimed of it."""
    claimed = float32_error_at(network, torch.from_numpy(x)).numpy()
    exact = network.forward(torch.from_numpy(x)).numpy()
    worst = 0.0
    for flush in (False, True):
        error = np.linalg.norm(served(onnx_bytes, x, flush=flush) - exact, axis=1)
        known = np.isfinite(claimed)  # where the claim is infinite, nothing is certified
        worst = max(
            worst, float(np.max(error[known] / np.maximum(claimed[known], 1e-300), initial=0))
        )
    return worst


@pytest.mark.parametrize("seed", range(60))
def test_the_claimed_error_holds_at_every_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = [float(rng.choice(SCALES)) for _ in range(int(rng.integers(1, 6)))]
    onnx_bytes = scaled_network(rng, scales)
    network = load_network(onnx_bytes)
    x = rng.random((3, 1, 6, 6)) * float(rng.choice([1e-38, 1e-20, 1.0]))
    x = x.astype(np.float32).astype(np.float64)
    assert error_over_claim(onnx_bytes, network, x) <= 1.0


@pytest.mark.parametrize("seed", range(20))
def test_no_served_feature_moves_beyond_its_radius(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = [float(rng.choice(SCALES)) for _ in range(3)]
    onnx_bytes = scaled_network(rng, scales)
    network = load_network(onnx_bytes)
    constants = certified_constants(network)
    x = rng.random((1, 1, 6, 6)).astype(np.float32).astype(np.float64)
    reach = float(np.linalg.norm(served(onnx_bytes, x, flush=False))) or 1e-3
    if not np.isfinite(reach):
        reach = 1.0
    for method in (Method.LIPSCHITZ, Method.AUTO):
        target = torch.tensor([0.1 * reach], dtype=torch.float64)
        [found] = certify_ball(network, constants, torch.from_numpy(x), target, method)
        assert 0 <= found.radius <= max(within_range(network, torch.from_numpy(x)))
        if found.radius == 0:
            continue
        for flush in (False, True):
            at = served(onnx_bytes, x, flush=flush)
            for _ in range(5):
                step = rng.standard_normal(x.shape)
                step *= 0.99 * min(found.radius, 1e6) / np.linalg.norm(step)
                moved = np.linalg.norm(served(onnx_bytes, x + step, flush=flush) - at)
                assert moved <= 0.1 * reach


def two_scales() -> bytes:
    """Weights of 1e-30 times 1e-30, then 1e30 twice: all in between is lost in float32."""
    eye = np.eye(36, dtype=np.float32)
    scales = (1e-30, 1e-30, 1e30, 1e30)
    return network_of([("MatMul", [eye * np.float32(s)]) for s in scales])


def test_without_the_term_for_underflow_the_claim_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx_bytes = two_scales()
    x = np.full((1, 1, 6, 6), 0.5)
    assert error_over_claim(onnx_bytes, load_network(onnx_bytes), x) <= 1.0
    original = Propagation.of

    def without(network: Network) -> Propagation:
        known = original(network)
        nothing = replace(
            known.flushing,
            lost=[(0.0, 0.0)] * len(known.gain),
            per_error=[0.0] * len(known.gain),
        )
        return replace(known, flushing=nothing)

    monkeypatch.setattr(Propagation, "of", without)
    assert error_over_claim(onnx_bytes, load_network(onnx_bytes), x) > 100.0


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18, 1e30])
def test_convolutions_of_many_channels_have_a_claim_at_every_scale(scale: float) -> None:
    rng = np.random.default_rng(3)
    kernel = (rng.standard_normal((12, 1, 3, 3)) * scale).astype(np.float32)
    back = (rng.standard_normal((8, 12, 1, 1)) / scale).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["feature"]),
    ]
    weights = [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(back, "b")]
    image = helper.make_tensor_value_info("x", 1, ["N", 1, 6, 6])
    feature = helper.make_tensor_value_info("feature", 1, ["N", "d"])
    graph = helper.make_graph(nodes, "g", [image], [feature], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx_bytes = bytes(model.SerializeToString())
    x = rng.random((3, 1, 6, 6)).astype(np.float32).astype(np.float64)
    assert error_over_claim(onnx_bytes, load_network(onnx_bytes), x) <= 1.0


def test_radii_end_where_a_sum_may_overflow() -> None:
    onnx_bytes = network_of([("MatMul", [np.full((36, 2), 1e37, np.float32)])])
    network = load_network(onnx_bytes)
    constants = certified_constants(network)
    x = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    target = torch.tensor([1e300], dtype=torch.float64)
    for method in (Method.LIPSCHITZ, Method.LOCAL, Method.CROWN):
        [found] = certify_ball(network, constants, x, target, method)
        assert 0 < found.radius < 2.0**127 / (1e37 * 6)
    inside = np.full((1, 1, 6, 6), found.radius / 6 * 0.999)
    assert np.isfinite(served(onnx_bytes, inside, flush=False)).all()


def test_an_image_that_overflows_is_certified_nothing() -> None:
    network = load_network(network_of([("MatMul", [np.full((36, 2), 1e38, np.float32)])]))
    constants = certified_constants(network)
    x = torch.ones(1, 1, 6, 6, dtype=torch.float64)
    target = torch.tensor([1e300], dtype=torch.float64)
    [found] = certify_ball(network, constants, x, target)
    assert found.radius == 0.0


def test_a_constant_encoder_has_radii() -> None:
    """Nothing moves: the radius ends where float32 might overflow, not in a division by zero."""
    network = load_network(network_of([("MatMul", [np.zeros((36, 2), np.float32)])]))
    constants = certified_constants(network)
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    target = torch.tensor([0.5], dtype=torch.float64)
    for method in Method:
        [found] = certify_ball(network, constants, x, target, method)
        assert found.radius > 1e6


def test_products_of_small_norms_are_not_lost() -> None:
    """1e-38 eight times and 1e38 eight times is 1, though float64 cannot hold the half of it."""
    eye = np.eye(36, dtype=np.float32)
    layers: list[tuple[str, list[Float]]] = []
    for scale in (1e-38,) * 9 + (1e38,) * 9:
        layers += [("MatMul", [eye * np.float32(scale)]), ("Relu", [])]
    constants = certified_constants(network_of(layers))
    assert constants.lipschitz >= 0.999


def _batch_normalised(variance: float) -> list[tuple[str, list[Float]]]:
    one = np.ones(36, np.float32)
    return [("BatchNormalization", [one, one, one, one * np.float32(variance)])]


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([("Div", [np.full(36, 1e-20, np.float32)])], "divides by"),
        ([("Div", [np.zeros(36, np.float32)])], "divides by zero"),
        (_batch_normalised(-1e-5), "variance"),
    ],
)
def test_factors_that_float32_cannot_bear_are_refused(
    layers: list[tuple[str, list[Float]]], why: str
) -> None:
    with pytest.raises(InvalidModelError, match=why):
        load_network(network_of(layers))


# -- The bound is attained: an order of summation exists that loses about as much as is claimed.


def sequential(products: NDArray[np.float32]) -> np.float32:
    """One sum after the other in float32, in the order given."""
    total = np.float32(0)
    for product in products:
        total = np.float32(total + product)
    return total


def worst_order(weights: Float, values: Float) -> float:
    """Of several orders of summation, the largest error of ``weights . values`` in float32."""
    products = (weights * values).astype(np.float32)
    exact = float(weights.astype(np.float64) @ values.astype(np.float64))
    largest_first = np.argsort(-np.abs(products), kind="stable")
    signs = np.argsort(products, kind="stable")  # all negative ones, then all positive ones
    orders = (np.arange(len(products)), largest_first, signs, signs[::-1])
    return max(abs(float(sequential(products[order])) - exact) for order in orders)


def claim_over_worst() -> float:
    """The claim of the last layer's rounding over the worst order found, for one long sum."""
    # 1, then terms of just above half a unit of what has been added up: each is rounded up.
    count = 4096
    values = np.full(count, 2.0**-24 * 1.01, np.float32)
    values[0] = 1.0
    weights = np.ones((count, 1), np.float32)
    onnx_bytes = network_of([("MatMul", [weights])], size=64)
    network = load_network(onnx_bytes)
    x = torch.from_numpy(values.astype(np.float64).reshape(1, 1, 64, 64))
    return float(float32_error_at(network, x)) / worst_order(weights[:, 0], values)


def test_the_claimed_rounding_is_nearly_attained() -> None:
    """Not below what an order of summation loses, nor a hundred times above it."""
    ratio = claim_over_worst()
    assert 1.0 <= ratio <= 8.0


@pytest.mark.parametrize("factor", [0.01, 0.1])
def test_a_rounding_that_is_too_small_is_caught(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Measurement.at

    def too_small(self: Measurement, x: torch.Tensor) -> Measured:
        found = at(self, x)
        return replace(found, added=[part * factor for part in found.added], own=found.own * factor)

    monkeypatch.setattr(Measurement, "at", too_small)
    assert claim_over_worst() < 1.0
