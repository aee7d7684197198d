"""The reference implementation of the paper's bound, auto_LiRPA's CROWN, where it is importable.

On the folded network: with the normalisation inside of the graph its L2 bounds are not sound. In
float32 without margins, and without the float32 error of served features: not a certificate.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from reaas_bounds import Network
from reaas_bounds.graph.activation import RELU
from reaas_bounds.graph.maps import Convolution, Dense, Scaling
from reaas_bounds.graph.nodes import Activation, Affine, Graph
from torch import Tensor, nn

from evaluation.bench_f2i.measure import Certify
from evaluation.bench_f2i.questions import Questions
from evaluation.bench_f2i.subject import Subject

NAME = "auto_LiRPA crown"
# Of a bisection that begins with the radius of the constant, as the paper does it.
STEPS = 10

Holds = Callable[[int, float], bool]
"""Whether its bound certifies a radius for an image."""


@dataclass(frozen=True, eq=False)
class Twin:
    """The encoder as torch layers of ``x + shift``: normalisation in weights and input, exactly."""

    layers: nn.Module
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Features [n, d] of images [n, C, H, W], in float32."""
        with torch.no_grad():
            features: Tensor = self.layers(x.float() + self.shift)
        return features

    @classmethod
    def of(cls, network: Network) -> Twin | None:
        """Of a chain of convolutions, matrices and ReLUs behind a normalisation; else None."""
        shift, start = _normalisation(network.executed)
        layers = [_layer(network, index, start) for index in range(1, len(network.folded.nodes))]
        shapes = [node.shape for node in network.folded.nodes]
        flattened = any(len(a) < len(b) for a, b in itertools.pairwise(shapes))
        if flattened or any(layer is None for layer in layers):
            return None
        sequence = nn.Sequential(*(layer for layer in layers if layer is not None))
        twin = cls(sequence.eval().requires_grad_(False), shift.float())
        probe = torch.full((1, *network.input_shape), 0.5, dtype=torch.float64)
        same = torch.allclose(twin(probe).double(), network.forward(probe), rtol=1e-3, atol=1e-3)
        return twin if same else None


@dataclass(frozen=True, eq=False)
class Reference:
    """auto_LiRPA's module of an encoder, and where its bisections begin."""

    subject: Subject
    asked: Questions
    twin: Twin
    module: Any

    @classmethod
    def of(cls, subject: Subject, asked: Questions) -> Reference | None:
        """None where auto_LiRPA is not installed or the network has other layers."""
        if find_spec("auto_LiRPA") is None or (twin := Twin.of(subject.network)) is None:
            return None
        library = importlib.import_module("auto_LiRPA")
        options = {"conv_mode": "patches"}
        module = library.BoundedModule(twin.layers, asked.x[:1].float(), bound_opts=options)
        return cls(subject, asked, twin, module)

    def ball(self, feature_radius: float) -> Certify:
        """As `ball_certifier`: every coordinate's interval, then the 2-norm."""

        def holds(index: int, radius: float) -> bool:
            lower, upper = self._bounds(index, radius, None)
            centre = self.twin(self.asked.x[index : index + 1])
            farthest = torch.maximum((lower - centre).abs(), (upper - centre).abs())
            return float(farthest.norm()) <= feature_radius

        return self._certifier(holds, lambda _: feature_radius / self.subject.constants.lipschitz)

    def margins(self) -> Certify:
        """As `margin_certifier`: CROWN on the encoder and the classifier behind it."""

        def holds(index: int, radius: float) -> bool:
            rows = self.asked.normals[index].float()  # [m, d]
            lower, _ = self._bounds(index, radius, rows[None])
            centre = self.twin(self.asked.x[index : index + 1]) @ rows.T
            return bool((lower - centre > -self.asked.offsets[index].float()).all())

        def start(index: int) -> float:
            units = self.asked.offsets[index] / self.asked.normals[index].norm(dim=1)
            return 4 * float(units.min()) / self.subject.constants.lipschitz

        return self._certifier(holds, start)

    def _bounds(self, index: int, radius: float, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        library = importlib.import_module("auto_LiRPA")
        perturbations = importlib.import_module("auto_LiRPA.perturbations")
        image = self.asked.x[index : index + 1].float() + self.twin.shift
        with torch.no_grad():
            ball = library.BoundedTensor(
                image, perturbations.PerturbationLpNorm(norm=2, eps=radius)
            )
            lower, upper = self.module.compute_bounds((ball,), C=rows, method="CROWN")
        return lower.detach(), upper.detach()

    def _certifier(self, holds: Holds, start: Callable[[int], float]) -> Certify:
        def certify(part: slice) -> list[Any]:
            indices = range(*part.indices(len(self.asked.x)))
            return [_answer(_bisected(holds, index, start(index))) for index in indices]

        return certify


def _bisected(holds: Holds, index: int, high: float) -> float:
    low = 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(index, middle) else (low, middle)
    return low


def _answer(radius: float) -> Any:
    return SimpleNamespace(radius=radius, method=SimpleNamespace(value=NAME))


def _normalisation(graph: Graph) -> tuple[Tensor, int]:
    """The shift b / s [1, C, H, W] of a leading ``s x + b``, and the index of the node behind."""
    end = 0
    while isinstance(node := graph.nodes[end + 1], Affine) and isinstance(node.linear, Scaling):
        end += 1
    shape = (1, *graph.nodes[0].shape)
    low, high = (
        graph.activations(torch.full(shape, value, dtype=torch.float64))[end]
        for value in (0.0, 1.0)
    )
    return low / (high - low), end + 1


def _layer(network: Network, index: int, start: int) -> nn.Module | None:
    """Node ``index`` of the folded graph; the first one with the bias of ``start`` as it runs."""
    match network.folded.nodes[index]:
        case Activation(function=function, source=source) if function is RELU:
            return nn.ReLU() if source == index - 1 else None
        case Affine(linear=Convolution() as linear, bias=bias, source=source):
            own = network.executed.nodes[start]
            bias = own.bias if index == 1 and isinstance(own, Affine) else bias
            return _convolution(linear, bias) if source == index - 1 else None
        case Affine(linear=Dense() as linear, bias=bias, source=source) if source == index - 1:
            layer = nn.Linear(linear.weight.shape[1], linear.weight.shape[0])
            layer.weight.data = linear.weight.float()
            layer.bias.data = bias.expand(linear.output_shape).flatten().float().clone()
            return nn.Sequential(nn.Flatten(), layer)
        case _:
            return None


def _convolution(linear: Convolution, bias: Tensor) -> nn.Module | None:
    if linear.pads[:2] != linear.pads[2:]:
        return None
    outputs, inputs, *kernel = linear.weight.shape
    layer = nn.Conv2d(
        inputs * linear.groups,
        outputs,
        (kernel[0], kernel[1]),
        linear.stride,
        linear.pads[:2],
        linear.dilation,
        linear.groups,
    )
    layer.weight.data = linear.weight.float()
    layer.bias.data = bias.expand(linear.output_shape)[:, 0, 0].float().clone()  # type: ignore[union-attr]
    return layer
