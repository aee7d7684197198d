"""Activations with an exponential branch: ELU, SELU, CELU, Softplus; and Softsign."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from reaas_bounds.graph.smooth import Smooth

# Slopes beyond this would not be good to the slack that all smooth functions share.
STEEPEST = 16.0


def exponential_linear(name: str, above: float, depth: float, width: float) -> Smooth:
    """``above z`` for z >= 0, else ``depth (e^(z / width) - 1)``.

    All are positive (``depth`` may be 0); ``above`` and ``depth / width`` at most ``STEEPEST``.
    ELU: (1, alpha, 1), SELU: (gamma, gamma alpha, 1), CELU: (1, alpha, alpha). Convex unless its
    slope falls at 0.
    """
    steep = depth / width
    falls = steep > above
    relative, absolute = 2.0**-20, 2.0**-20 * depth
    return Smooth(
        name,
        (
            partial(_value, above=above, depth=depth, width=width),
            partial(_slope, above=above, steep=steep, width=width),
        ),
        inflections=(0.0,) if falls else (),
        rising=(True, False) if falls else (True,),
        limits=(0.0, above),
        turning=(),
        errors=(relative, absolute),
        argument_error=0.0,
    )


def _value(z: Tensor, above: float, depth: float, width: float) -> Tensor:
    return above * z.clamp_min(0.0) + depth * torch.expm1(z.clamp_max(0.0) / width)


def _slope(z: Tensor, above: float, steep: float, width: float) -> Tensor:
    """At 0 the steeper of both."""
    left = steep * torch.exp(z.clamp_max(0.0) / width)
    slope = torch.where(z > 0, torch.full_like(z, above), left)
    return torch.where(z == 0, slope.clamp_min(above), slope)


def _softplus(z: Tensor) -> Tensor:
    return torch.logaddexp(z, torch.zeros_like(z))


def _softsign(z: Tensor) -> Tensor:
    value: Tensor = z / (1 + z.abs())
    return value


def _softsign_slope(z: Tensor) -> Tensor:
    slope: Tensor = 1 / (1 + z.abs()).square()
    return slope


SOFTPLUS = Smooth(
    "Softplus",
    (_softplus, torch.sigmoid),
    inflections=(),
    rising=(True,),
    limits=(0.0, 1.0),
    turning=(),
    errors=(2.0**-20, 2.0**-20),
)
SOFTSIGN = Smooth(
    "Softsign",
    (_softsign, _softsign_slope),
    inflections=(0.0,),
    rising=(True, False),
    limits=(0.0, 0.0),
    turning=(),
    errors=(2.0**-20, 0.0),
)
