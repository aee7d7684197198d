"""Activations that are their argument times a gate of it: SiLU, HardSwish, Mish."""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.graph.smooth import Smooth


def _silu(z: Tensor) -> Tensor:
    value: Tensor = z * torch.sigmoid(z)
    return value


def _silu_slope(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    slope: Tensor = gate + z * gate * torch.sigmoid(-z)
    return slope


def _hard_swish(z: Tensor) -> Tensor:
    value: Tensor = z * (z + 3).clamp(0, 6) / 6
    return value


def _hard_swish_slope(z: Tensor) -> Tensor:
    """At the kinks that of the parabola, -1/2 and 3/2: the extremes."""
    outside = (z > 3).to(z.dtype)
    slope: Tensor = torch.where(z.abs() <= 3, (2 * z + 3) / 6, outside)
    return slope


def _mish_gate(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``t = tanh(log(1 + e^z))``, ``1 - t`` and ``1 + t``, without cancellation or overflow."""
    w = torch.exp(-z.abs())
    one = torch.ones_like(w)
    positive = z >= 0
    above = torch.where(positive, 1 + 2 * w, w * (w + 2))
    rest = torch.where(positive, 2 * w * w, 2 * one)
    whole = above + rest
    return above / whole, rest / whole, (2 * above + rest) / whole


def _mish(z: Tensor) -> Tensor:
    value: Tensor = z * _mish_gate(z)[0]
    return value


def _mish_slope(z: Tensor) -> Tensor:
    gate, down, up = _mish_gate(z)
    slope: Tensor = gate + z * (down * up) * torch.sigmoid(z)
    return slope


# ONNX Runtime multiplies the argument by a gate that is itself off by up to 1.7e-7 (its Sigmoid
# does not reach 0), so the error of SiLU and Mish grows with |z| where their value is 0. Measured
# over a dense sample of all float32 numbers, for one operator, for the operators that make it, and
# for what ONNX Runtime fuses of them; the margins are 6 times that or more, as in ``smooth``.
SILU = Smooth(
    "SiLU",
    (_silu, _silu_slope),
    inflections=(-2.399357280515468, 2.399357280515468),
    rising=(False, True, False),
    limits=(0.0, 1.0),
    turning=(-1.2784645427610738,),
    errors=(2.0**-21, 2.0**-20),
    argument_error=2.0**-20,
)
# Its slope jumps at -3 and 3, down both times.
HARD_SWISH = Smooth(
    "HardSwish",
    (_hard_swish, _hard_swish_slope),
    inflections=(-3.0, 3.0),
    rising=(False, True, False),
    limits=(0.0, 1.0),
    turning=(-1.5,),
    errors=(2.0**-21, 2.0**-21),
)
MISH = Smooth(
    "Mish",
    (_mish, _mish_slope),
    inflections=(-2.2563763963607931, 1.4905711794854285),
    rising=(False, True, False),
    limits=(0.0, 1.0),
    turning=(-1.1924312145154952,),
    errors=(2.0**-21, 2.0**-19),
    argument_error=2.0**-19,
)
