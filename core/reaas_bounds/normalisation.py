"""Encoders that divide their feature by its length: questions about it, asked of what is divided.

The served feature is ``z / max(||z||, least)``. It has no constant that is of use, as it moves
arbitrarily fast near z = 0, but at an image the length of z is known.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.network import Network
from reaas_bounds.margin_query import MarginSets
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.rounding import float32_error_at
from reaas_bounds.summation import UNIT_32

# Each set of margins is asked about in this many balls around z: as far as the nearest border is
# by its row, times these. Their curvature costs more in larger ones, which hold further out.
REACHES = (1.1, 1.6, 2.5)
COPIES = len(REACHES)
# Lengths between which squares of float32 numbers neither vanish nor overflow.
_SHORTEST, _LONGEST = 1e-15, 1e18
# Float64 rounding of what is computed here.
_MARGIN = 1e-11


def radii_before(network: Network, x: Tensor, feature_radii: Tensor) -> Tensor:
    """How far z may move, [n], while the served feature stays within R' [n]; deterministic.

    Theorem: let n be at most the length of the served z at x. If z moves by ``t < n`` at most, its
    direction turns by at most ``asin(t / n)`` and the feature moves by ``2 sin(asin(t / n) / 2)``:
    within ``2h`` for ``t = 2 n h sqrt(1 - h^2)``, h at most ``sqrt(1/2)``. R' = 2h less the float32
    rounding of both divisions; t stays clear of lengths below ``2 least``. ``x`` [n, C, H, W].
    """
    z = network.before.forward(x.to(network.device)).cpu()  # [n, d]
    return _moves(network, z, float32_error_at(network.before, x), feature_radii)


def margins_before(network: Network, x: Tensor, asked: MarginSets) -> MarginSets:
    """Margins of z, ``COPIES`` sets for each of ``asked``, that imply those of the served feature.

    Theorem: let u be the direction of z, and c at least ``a . (served feature) - m``, rounding
    included. ``a . z' > c ||z'||`` implies the row a. Within rho of z, ``||z'||`` is at least ``u .
    z'`` and at most ``u . z' + rho^2 / 2 (||z|| - rho)``, so the row ``a - c u`` with the margin
    ``||z|| m`` does, less that last term times c where c > 0: first order in m is exact.
    Deterministic; a row with ``c <= -||a||`` limits nothing.
    """
    z = network.before.forward(x.to(network.device)).cpu()
    error = float32_error_at(network.before, x)[:, None, None]  # [n, 1, 1]
    length = z.norm(dim=1)[:, None, None].clamp_min(_SHORTEST)
    unit = z[:, None, None] / length[..., None]  # [n, 1, 1, d]
    sizes = asked.normals.norm(dim=3)  # ||a|| [n, s, m]
    turned = 2 * error / (length - error).clamp_min(_SHORTEST) + _MARGIN  # of the served direction
    offsets = asked.offsets - sizes * (2 * _rounding(network) + turned)
    level = (asked.normals * unit).sum(3) - offsets  # c
    rows = asked.normals - level[..., None] * unit
    across = rows.norm(dim=3).clamp_min(_SHORTEST)
    margins = length * offsets - across * error - _MARGIN * length * sizes
    within = _moves(network, z[:, None], error[..., 0], asked.within)  # [n, s]
    nearest = (margins / across).amin(2).clamp_min(_SHORTEST)
    free = level <= -sizes * (1 + _MARGIN)
    found = [
        _within(rows, margins, level, length, error, free, torch.minimum(within, reach * nearest))
        for reach in REACHES
    ]
    normals, bounds, balls = (
        torch.stack(part, 2).flatten(1, 2) for part in zip(*found, strict=True)
    )
    return MarginSets(normals, bounds, balls)


def _within(
    rows: Tensor,
    margins: Tensor,
    level: Tensor,
    length: Tensor,
    error: Tensor,
    free: Tensor,
    radii: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, margins and radii [n, s] of the sets in balls of ``radii`` around the served z.

    That one is within ``error`` [n, 1, 1] of the exact z, of which length and direction are known:
    what is within a radius of it is within so much more of the exact one.
    """
    radii = radii.clamp_min(_SHORTEST)
    rho = (radii[..., None] + error) * (1 + _MARGIN)
    base = (length - rho).clamp_min(_SHORTEST)
    lost = level.clamp_min(0) * rho.square() / (2 * base)
    normals = torch.where(free[..., None], 0.0, rows)
    return normals, torch.where(free, 1.0, margins - lost), radii


def _moves(network: Network, z: Tensor, error: Tensor, feature_radii: Tensor) -> Tensor:
    """The t of ``radii_before`` for z [..., d]; the other shapes broadcast."""
    length = z.norm(dim=-1) * (1 - _MARGIN) - error
    half = ((feature_radii - 2 * _rounding(network)) / 2).clamp(0.0, math.sqrt(0.5))
    moves = 2 * length * half * (1 - half.square()).sqrt() * (1 - _MARGIN)
    assert network.least_length is not None
    floor = max(2 * network.least_length, _SHORTEST)
    moves = torch.minimum(moves, length - floor).clamp_min(0.0)
    return torch.where(length < _LONGEST, moves, 0.0)


def _rounding(network: Network) -> float:
    """Float32 error of the division of a vector by its length, in units of the result."""
    return gamma(network.feature_dim + 8, UNIT_32)
