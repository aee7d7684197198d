"""Activations that bend, beside the plain ones: SiLU, HardSwish, ELU and their kind."""

from __future__ import annotations

import math

import onnx
import torch

from reaas_bounds.graph.activation import Clip
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.exponential import SOFTPLUS, SOFTSIGN, STEEPEST, exponential_linear
from reaas_bounds.graph.gates import HARD_SWISH, MISH, SILU
from reaas_bounds.graph.maps import Scaling
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.graph.operators.options import Operator, options, require
from reaas_bounds.graph.smooth import Smooth

# Arguments are multiplied by no more and by no less than this before a gate.
_FAR, _NEAR = 1e4, 1e-4


def _plain(function: Smooth) -> Operator:
    """The operator of a function without options."""

    def lower(builder: GraphBuilder, node: onnx.NodeProto) -> None:
        options(node)
        builder.activation(node, function)

    return lower


def _number(node: onnx.NodeProto, name: str, value: object, least: float, most: float) -> float:
    """An attribute as a number between the limits."""
    number = float(value)  # type: ignore[arg-type]
    inside = math.isfinite(number) and least <= number <= most
    require(node, inside, f"{name}={number:g} (it may be {least:g} to {most:g})")
    return number


def _elu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    alpha = _number(node, "alpha", options(node, alpha=1.0)["alpha"], 0.0, STEEPEST)
    builder.activation(node, exponential_linear("Elu", 1.0, alpha, 1.0))


def _selu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875)
    gamma = _number(node, "gamma", given["gamma"], 1e-3, STEEPEST)
    alpha = _number(node, "alpha", given["alpha"], 0.0, STEEPEST / max(gamma, 1.0))
    builder.activation(node, exponential_linear("Selu", gamma, gamma * alpha, 1.0))


def _celu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    alpha = _number(node, "alpha", options(node, alpha=1.0)["alpha"], 1e-3, 1e3)
    builder.activation(node, exponential_linear("Celu", 1.0, alpha, alpha))


def _hard_sigmoid(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``min(max(alpha x + beta, 0), 1)``: straight lines, which all bounds know exactly."""
    given = options(node, alpha=0.2, beta=0.5)
    alpha = _number(node, "alpha", given["alpha"], -_FAR, _FAR)
    beta = _number(node, "beta", given["beta"], -_FAR, _FAR)
    shape = builder.shape(node)
    factor = torch.tensor(alpha, dtype=torch.float64)
    shift = torch.tensor(beta, dtype=torch.float64)
    line = Affine(builder.source(node), Scaling(factor, shape), shift, shift.abs())
    builder.activation_of(builder.append(line, node.output[0]), node, Clip(0.0, 1.0))


def _swish(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``x sigmoid(alpha x)``, the SiLU of ``alpha x`` divided by alpha."""
    alpha = float(options(node, alpha=1.0)["alpha"])
    if alpha == 1.0:
        builder.activation(node, SILU)
        return
    known = math.isfinite(alpha) and _NEAR <= abs(alpha) <= _FAR
    require(node, known, f"alpha={alpha:g} (its size may be {_NEAR:g} to {_FAR:g})")
    shape = builder.shape(node)
    scale = torch.tensor(alpha, dtype=torch.float64)
    name = node.output[0]
    within = builder.linear(builder.source(node), Scaling(scale, shape), name)
    builder.activation_of(within, node, SILU)
    found = builder.linear(builder.index[name], Scaling(1 / scale, shape), name)
    builder.index[name] = found


BENT: dict[str, Operator] = {
    "Celu": _celu,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(HARD_SWISH),
    "Mish": _plain(MISH),
    "Selu": _selu,
    "Softplus": _plain(SOFTPLUS),
    "Softsign": _plain(SOFTSIGN),
    "Swish": _swish,
}
