"""Quadratic envelope of the whole change of the feature around an image: all directions at once.

The envelope of one direction u of the feature (``envelope``) with slopes and curvatures that do
not depend on u: its rows are linear in u, and what is lost at the neurons becomes a quadratic
form. The worst direction is then an eigenvalue of a matrix of the feature's size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.bounds.envelope import Envelope, Local, activation
from reaas_bounds.bounds.multipliers import TINY, shared_curvature
from reaas_bounds.bounds.row_constant import ROUNDING, rounded_rows
from reaas_bounds.graph.activation import Entrywise, TwoSlope
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution, Dense
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.graph.window import Window, crop
from reaas_bounds.norms.matrix import matrix_norm

# Power steps towards the direction that a layer's curvature is chosen for: each reads the rows
# twice, and the curvature hardly depends on the direction.
POWER_STEPS = 3
# Steps of the weight between the linear part and the rest; it converges at once.
BALANCE_STEPS = 3


def ball_envelope(local: Local, radius: float, within: float) -> Envelope:
    """``||f(x + d) - f(x)||_2 <= offset + slope ||d|| + curvature ||d||^2``, ``||d|| <= within``.

    Built to be small at ``||d|| = radius``. Deterministic.

    Theorem: let A_k [d, N_k] be the rows of all feature coordinates at the output of activation
    k, pulled back with slopes g (``A_0``: at the image), and let omega_j be such that
    ``p (sigma(z_j + s) - sigma(z_j) - g_j s) <= omega_j p^2 + K s^2`` for all
    ``|p| <= ||column j of A_k||`` and all changes s within ``neuron_reach`` (``ramp``). For a unit
    vector u the row at neuron j is the product of u with that column, so by the theorem of
    ``quadratic_envelope``
    ``u . (f(x + d) - f(x)) <= ||A_0^T u|| ||d|| + sum_k K_k Q_k^2 ||d||^2 + u^T M u``,
    ``M = sum_k A_k diag(omega_k) A_k^T``. With ``a b <= a^2 / 4 mu + mu b^2`` for any mu > 0:
    ``||f(x + d) - f(x)|| <= lambda_max(A_0 A_0^T / 4 mu + M) + (mu + sum_k K_k Q_k^2) ||d||^2``.
    The eigenvalue is bounded by ``matrix_norm`` (Cholesky).

    Float64. Added for its rounding: that of the rows (``rounded_rows``, with Frobenius norms, which
    are at least the norm of the row of any u); values off by ``drift`` cost ``||p|| drift`` times
    the range of slopes; that of omega and of the matrix ``ROUNDING ||A_k||_F^2 (1 + gain)^2 / K``
    and ``ROUNDING ||A_0||_F^2 / mu``.
    """
    graph, reach = local.network.folded, local.reach
    basis = torch.eye(local.network.feature_dim, dtype=local.values[-1].dtype)
    basis = basis.to(local.values[-1].device)
    form = torch.zeros_like(basis)
    sizes: dict[int, Tensor] = {}
    bent, offset = 0.0, 0.0

    def through(index: int, rows: Tensor, window: Window | None) -> Tensor:
        nonlocal bent, offset
        node = activation(graph, index)
        flat = rows.flatten(1)  # [d, N]
        z = crop(local.values[node.source], window)  # [1, *window]
        columns = (flat.norm(dim=0) * (1 + ROUNDING)).reshape(z.shape)
        cap = crop(neuron_reach(local, node.source) * within, window)
        pulled = _longest(flat).reshape(z.shape)
        budget = reach[node.source] * radius
        curvature = _curvature(node.function, pulled, columns, z, budget, cap)
        slopes, omega = ramp(node.function, z, columns, curvature, cap)
        form.add_((flat * omega.reshape(1, -1)) @ flat.T)
        sizes[index] = flat.norm()
        length, gain = float(sizes[index]), node.function.gain
        bent += float(curvature) * reach[node.source] ** 2
        offset += length * local.drift[node.source] * max(1.0, 2 * gain)
        offset += ROUNDING * length**2 * (1 + gain) ** 2 / float(curvature)
        return rows * slopes

    last = len(graph.nodes) - 1
    start = basis.reshape(-1, *graph.nodes[last].shape)
    image = pull_back(graph, last, start, None, through).flatten(1)  # [d, C h w]
    linear, form = (image @ image.T).cpu(), form.cpu()
    mu = _balance(linear, form, radius)
    offset += matrix_norm(linear / (4 * mu) + form) + ROUNDING * float(image.norm()) ** 2 / mu
    slope = float(rounded_rows(local.network, reach, basis.norm(), sizes))
    grown = 1 + ROUNDING
    return Envelope(offset * grown, slope * grown, (bent + mu) * grown)


def ramp(
    function: Entrywise, z: Tensor, size: Tensor, curvature: Tensor, cap: Tensor
) -> tuple[Tensor, Tensor]:
    """(g, omega) with ``p (sigma(z + s) - sigma(z) - g s) <= omega p^2 + K s^2``.

    For all ``|p| <= size`` and ``|s| <= cap``; entrywise and exact up to rounding. A ReLU takes the
    ramp that is 0 below ``-w``, 1 above w and linear between: with ``t = (1 - |z| / w)_+ / 2`` g
    lies t off the slope at z, and ``omega = t^2 / 4K``. It holds for two w, of which the smaller is
    taken. For ``w = cap``, since no difference quotient is farther than t from g. For
    ``w = size / 4K``, since of the two parabolas and the Huber function of ``beta`` the first and
    the last are below ``t^2 p^2 / 4K`` for every p, the second is ``(1 - t)^2 p^2 / 4K - |z| |p|``,
    and ``(1 - t)^2 - t^2 = 1 - 2t <= 4K |z| / size``. A function that is only known by its slopes
    takes ``C`` and ``R^2 / 4K``.
    """
    match function:
        case TwoSlope():
            rest = 1 - function.alpha
            width = torch.minimum(rest.abs() * size / (4 * curvature), cap).clamp_min(TINY)
            off = (1 - z.abs() / width).clamp_min(0) / 2
            slopes = function.alpha + rest * torch.where(z > 0, 1 - off, off)
            return slopes, (rest * off).square() / (4 * curvature)
        case _:
            spread = function.spread.expand(z.shape)
            return function.centre.expand(z.shape), spread.square() / (4 * curvature)


def neuron_reach(local: Local, index: int) -> Tensor:
    """How far each entry of node ``index`` moves per unit of ``||d||`` at most, [1, *shape].

    The norm of its row times how far what it reads moves; exact at the image.
    """
    network, node = local.network, local.network.folded.nodes[index]
    most = torch.full_like(local.values[index], local.reach[index])
    if index in network.first_row_norms:
        found = network.first_row_norms[index].to(most) * (1 + ROUNDING)
    elif isinstance(node, Affine) and (rows := _row_norms(node.linear)) is not None:
        found = rows * local.reach[node.source] * (1 + ROUNDING)
    else:
        return most
    return torch.minimum(most, found)


def _row_norms(linear: LinearMap) -> Tensor | None:
    """Bounds of the rows' norms, broadcastable to the output; None: nothing cheap is known."""
    if not isinstance(linear, Convolution | Dense):
        return None
    norms: Tensor = linear.weight.flatten(1).norm(dim=1)  # zero padding only shortens rows
    shape = (-1, 1, 1) if isinstance(linear, Convolution) else linear.output_shape
    return norms.reshape(shape)


def _curvature(
    function: Entrywise, pulled: Tensor, columns: Tensor, z: Tensor, budget: float, cap: Tensor
) -> Tensor:
    """K of one layer: smallest ``u^T M u + K budget^2`` for the u whose row is ``pulled``."""
    match function:
        case TwoSlope():
            width = (1 - function.alpha).abs() * columns
            share = pulled / columns.clamp_min(TINY)
            return shared_curvature(width, z, budget, share, cap)
        case _:
            found: Tensor = ((function.spread * pulled).norm() / (2 * budget)).clamp_min(TINY)
            return found


def _longest(rows: Tensor) -> Tensor:
    """About the longest row [N] that a unit combination of ``rows`` [d, N] makes."""
    direction = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    direction[rows.norm(dim=1).argmax()] = 1.0
    for _ in range(POWER_STEPS):
        direction = rows @ (direction @ rows)
        direction = direction / direction.norm().clamp_min(TINY)
    return direction @ rows


def _balance(linear: Tensor, form: Tensor, radius: float) -> float:
    """The mu that makes the bound small at ``radius``, by its own fixed point."""
    mu = math.sqrt(max(float(torch.linalg.eigvalsh(linear)[-1]), TINY)) / (2 * radius)
    for _ in range(BALANCE_STEPS):
        top = torch.linalg.eigh(linear / (4 * mu) + form).eigenvectors[:, -1]
        mu = math.sqrt(max(float(top @ linear @ top), TINY)) / (2 * radius)
    return mu
