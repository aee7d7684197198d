"""Deliberately broken bounds: the suite's own audit has to find every one of them.

Each test puts one mistake into the engine, certifies with it, and attacks with the sound network
as the attacker's twin; the judge is ONNX Runtime. The same question without the mistake stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import reaas_bounds.bounds.ball
import reaas_bounds.bounds.crown
import reaas_bounds.constants
import reaas_bounds.pairs
import torch
from reaas_bounds import Method, Network, load_network
from reaas_bounds.bounds.centre import Interval
from reaas_bounds.bounds.relaxation import Relaxation
from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution, materialize
from reaas_bounds.graph.operators import OPERATORS
from reaas_bounds.graph.signatures import SIGNATURES, Signature
from reaas_bounds.norms import OperatorNorms
from torch import Tensor

from tests.soundness.audit import audit
from tests.soundness.draft import Draft
from tests.soundness.generator import random_encoder
from tests.soundness.tally import Audit

Break = Callable[[pytest.MonkeyPatch], object]


def found(
    onnx_file: bytes,
    patch: pytest.MonkeyPatch,
    broken: Break,
    method: Method = Method.LIPSCHITZ,
) -> Audit:
    """The audit with the mistake; without it nothing is beaten."""
    twin = load_network(onnx_file)

    def beaten() -> Audit:
        return audit(onnx_file, twin=twin, balls=[method], margins=(), images=12)

    assert beaten().beaten == []
    broken(patch)
    return beaten()


def normed(norm: Callable[[LinearMap], float]) -> Break:
    """Every certified norm replaced by ``norm`` of each factor."""

    def of(_: OperatorNorms, *maps: LinearMap) -> float:
        parts = [part for linear in maps for part in linear.parts]
        return float(np.prod([norm(part) for part in parts]))

    return lambda patch: patch.setattr(OperatorNorms, "of", of)


def power_iteration(linear: LinearMap) -> float:
    """A lower bound, whatever the number of steps."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1, *linear.input_shape, generator=generator, dtype=torch.float64)
    for _ in range(3):
        vector = linear.adjoint(linear.apply(vector / vector.norm()))
    return float(linear.apply(vector / vector.norm()).norm())


def reshaped_kernel(linear: LinearMap) -> float:
    """The norm of the kernel as a matrix [o, i k k]: of one window, not of the operator."""
    if isinstance(linear, Convolution):
        return float(torch.linalg.matrix_norm(linear.weight.flatten(1), 2))
    return true_norm(linear)


def circular(linear: LinearMap) -> float:
    """The circular convolution of the image's own size: the padding wraps around."""
    if isinstance(linear, Convolution):
        blocks = torch.fft.fft2(linear.weight, s=linear.input_shape[1:]).movedim((0, 1), (2, 3))
        return float(torch.linalg.matrix_norm(blocks, 2).max())
    return true_norm(linear)


def true_norm(linear: LinearMap) -> float:
    """Of the map's matrix."""
    return float(torch.linalg.matrix_norm(materialize(linear).weight, 2))


def one_convolution(weight: np.ndarray, size: int) -> bytes:
    """A padded convolution whose output is the feature: an attack gets what the norm says.

    The activation in front, idle on most images, keeps it a convolution when the graph is folded.
    """
    draft = Draft((weight.shape[1], size, size), 0)
    draft.op("Relu")
    draft.op("Conv", weight, kernel_shape=weight.shape[2:], pads=[1, 1, 1, 1])
    draft.op("Flatten")
    return draft.finish()


def test_a_norm_from_power_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    assert found(one_convolution(weight, 6), monkeypatch, normed(power_iteration)).beaten


def test_a_norm_of_the_reshaped_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = np.abs(np.random.default_rng(0).normal(size=(4, 2, 3, 3)))
    assert found(one_convolution(smooth, 8), monkeypatch, normed(reshaped_kernel)).beaten


def test_a_norm_of_the_circular_convolution_of_the_images_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gap(weight: np.ndarray) -> float:
        layer = Convolution(torch.from_numpy(weight), (1, 3, 3), (1, 1), (1, 1, 1, 1))
        return true_norm(layer) / circular(layer)

    kernels = [np.random.default_rng(seed).normal(size=(1, 1, 3, 3)) for seed in range(300)]
    assert found(one_convolution(max(kernels, key=gap), 3), monkeypatch, normed(circular)).beaten


def test_no_margin_for_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact features within R', served ones not: large numbers cancel in the last layer."""
    draft = Draft((1, 4, 4), 3)
    draft.op("Flatten")
    draft.op("Gemm", draft.weights(6, 16), np.full(6, 3e4), transB=1)
    draft.op("Sub", np.full(6, 3e4))

    assert found(draft.finish(), monkeypatch, exact_arithmetic).beaten


def exact_arithmetic(patch: pytest.MonkeyPatch) -> None:
    """As if float32 did not round."""
    patch.setattr(reaas_bounds.pairs, "float32_error_at", lambda _, x: 0 * x[:, 0, 0, 0])
    patch.setattr(reaas_bounds.constants, "float32_error", lambda _: (0.0, 0.0))


def skipped(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """The operator as the identity of its first input."""
    builder.index[node.output[0]] = builder.source(node)


def test_a_normalisation_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bound for a ball of normalised pixels says of a ball of the client's."""
    draft = Draft((3, 4, 4), 1)
    draft.op("Sub", np.full((1, 3, 1, 1), 0.45))
    draft.op("Div", np.full((1, 3, 1, 1), 0.25))
    draft.op("Flatten")
    draft.op("Gemm", draft.weights(4, 48), draft.weights(4), transB=1)
    result = found(
        draft.finish(), monkeypatch, lambda patch: patch.setitem(OPERATORS, "Div", skipped)
    )
    assert result.beaten


def test_a_box_that_loses_its_width_at_a_normalisation_in_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an IBP that knows the ball at the image only, and from there on a box that is a point."""
    norms = Network.row_norms

    def pointlike(network: Network, index: int) -> Tensor:
        return 0 * norms(network, index)

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Network, "row_norms", pointlike)

    assert found(random_encoder("constants", 2), monkeypatch, broken, Method.IBP).beaten


def test_an_unknown_operator_as_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft((1, 3, 3), 0)
    draft.op("Flatten")
    draft.op("Gemm", draft.weights(6, 9), np.full(6, 1.5), transB=1)
    draft.op("Exp")
    draft.op("Gemm", draft.weights(3, 6), draft.weights(3), transB=1)
    data = draft.finish()
    monkeypatch.setitem(OPERATORS, "Exp", skipped)
    monkeypatch.setitem(SIGNATURES, "Exp", Signature((6, 13)))
    assert audit(data, balls=[Method.LIPSCHITZ], margins=(), images=8).beaten


def test_lines_of_neurons_that_never_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """CROWN with the tangent at the image for every neuron: right within one linear piece only."""

    def tangent(function: Entrywise, at: Tensor, interval: Interval) -> Relaxation:
        slope, nothing = function.derivative(at), torch.zeros_like(at)
        return Relaxation(slope, slope, nothing, nothing)

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(reaas_bounds.bounds.crown, "relax", tangent)

    assert found(random_encoder("relu", 4), monkeypatch, broken, Method.CROWN).beaten


def test_a_local_bound_that_forgets_what_neurons_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neurons that turn where images are grey: near every random one."""
    draft = Draft((1, 4, 4), 0)
    weight = draft.weights(2, 16)
    draft.op("Flatten")
    draft.op("Gemm", weight, -0.5 * weight.sum(axis=1), transB=1)
    draft.op("Relu")
    draft.op("Gemm", draft.weights(2, 2), draft.weights(2), transB=1)
    ramp = reaas_bounds.bounds.ball.ramp

    def lossless(*arguments: Any) -> tuple[Tensor, Tensor]:
        slopes, omega = ramp(*arguments)
        return slopes, 0 * omega

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(reaas_bounds.bounds.ball, "ramp", lossless)

    assert found(draft.finish(), monkeypatch, broken, Method.LOCAL).beaten
