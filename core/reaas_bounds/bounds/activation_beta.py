"""What one neuron can add to a row beyond its line and its share of the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.graph.activation import Clip, Entrywise, TwoSlope
from reaas_bounds.graph.smooth import Smooth


def beta(function: Entrywise, p: Tensor, g: Tensor, z: Tensor, curvature: Tensor) -> Tensor:
    """``sup_s p (sigma(z + s) - sigma(z) - g s) - K s^2`` entrywise, or more; K > 0.

    ``g`` inside the function's range of slopes. Exact for two slopes: with ``sigma = alpha z +
    (1 - alpha) relu`` it is that of a ReLU for ``(1 - alpha) p`` and ``(g - alpha)/(1 - alpha)``.
    For a smooth function with slopes in [a, b] it is at most ``p^2 max(b - g, g - a)^2 / 4K``.
    """
    match function:
        case TwoSlope():
            rest, share = relu_part(function, g)
            return relu_beta(rest * p, share, z, curvature)
        case Clip():
            return clip_beta(function, p, g, z, curvature)
        case Smooth():
            farthest = torch.maximum(function.high - g, g - function.low)
            return (p * farthest) ** 2 / (4 * curvature)
        case _:
            raise TypeError(f"no beta for {function.name}")


def relu_part(function: TwoSlope, g: Tensor) -> tuple[Tensor, Tensor]:
    """``1 - alpha``, and the slope in [0, 1] of the ReLU in it that makes the whole slope g."""
    rest = 1 - function.alpha
    share = (g - function.alpha) / torch.where(rest == 0, 1.0, rest)
    return rest, share.clamp(0, 1)


def relu_beta(p: Tensor, g: Tensor, z: Tensor, curvature: Tensor) -> Tensor:
    """``sup_s p (relu(z + s) - relu(z) - g s) - K s^2`` entrywise, for g in [0, 1] and K > 0.

    Exact. For p > 0 the change of a ReLU is the larger of its two lines, and each makes a
    parabola. For p < 0 it is at least any line between them; the best one makes a Huber function.
    """
    size = p.abs()
    peak = size**2 / (4 * curvature)
    rising = torch.maximum(
        peak * (1 - g) ** 2 - size * torch.relu(-z), peak * g**2 - size * torch.relu(z)
    )
    gap = ((z > 0).to(g.dtype) - g).abs() * size
    bent = torch.minimum(2 * curvature * z.abs(), gap)
    falling = z.abs() * (gap - bent) + bent**2 / (4 * curvature)
    return torch.where(p > 0, rising, falling)


def clip_beta(function: Clip, p: Tensor, g: Tensor, z: Tensor, curvature: Tensor) -> Tensor:
    """``sup_s p (sigma(z + s) - sigma(z) - g s) - K s^2`` entrywise for a clip, K > 0. Exact.

    On each of its three straight pieces the gain is a parabola with its vertex at ``p (slope - g)
    / 2K``: the largest value is taken there, or at the end of the piece that is nearest to it.
    """
    flat, steep = -p * g / (2 * curvature), p * (1 - g) / (2 * curvature)
    down, up = function.least - z, function.most - z
    gains = []
    for s in (torch.minimum(flat, down), steep.clamp(down, up), torch.maximum(flat, up)):
        s = torch.where(s.isfinite(), s, 0.0)  # an infinite limit has no piece beyond it
        gains.append(p * (function.change(z, s) - g * s) - curvature * s * s)
    return torch.stack(gains).amax(0)
