"""Quadratic envelope of the whole change of the feature around an image: all directions at once.

The envelope of one direction u of the feature (``envelope``) with slopes and curvatures that do
not depend on u: its rows are linear in u, and what is lost at the neurons becomes a quadratic
form. The worst direction is then an eigenvalue of a matrix of the feature's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.envelope import Envelope, Local, activation
from reaas_bounds.bounds.multipliers import TINY, shared_curvature
from reaas_bounds.bounds.row_constant import ROUNDING, rounded_rows
from reaas_bounds.graph.activation import Entrywise, TwoSlope
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.graph.window import Window, crop
from reaas_bounds.norms.matrix import eigenvectors, matrix_norm

# Power steps towards the direction that a layer's curvature is first chosen for.
POWER_STEPS = 3
# Choices of a layer's curvature, each for the worst direction of the one before.
ROUNDS = 3
# Steps of the weight between the linear part and the rest; it converges at once.
BALANCE_STEPS = 3

# Per node how far each of its entries moves at most, [1, *shape]; asked for what activations read.
Moves = Callable[[int], Tensor]


def ball_envelope(local: Local, radius: float, within: float, moves: Moves) -> Envelope:
    """``||f(x + d) - f(x)||_2 <= offset + slope ||d|| + curvature ||d||^2``, ``||d|| <= within``.

    Built to be small at ``||d|| = radius``. Deterministic.

    Theorem: let A_k [d, N_k] be the rows of all feature coordinates at the output of activation
    k, pulled back with slopes g (``A_0``: at the image), and let omega_j be such that
    ``p (sigma(z_j + s) - sigma(z_j) - g_j s) <= omega_j p^2 + K s^2`` for all
    ``|p| <= ||column j of A_k||`` and all changes ``|s| <= moves`` (``ramp``), K = 0 where sigma is
    a straight line that far. For a unit vector u the row at neuron j is the product of u with
    that column, so by the theorem of ``quadratic_envelope``, s_k the changes of the others,
    ``u . (f(x + d) - f(x)) <= ||A_0^T u|| ||d|| + sum_k K_k ||s_k||^2 + u^T M u``,
    ``M = sum_k A_k diag(omega_k) A_k^T``, and ``||s_k||`` is at most ``Q_k ||d||`` and at most
    ``||moves||``. With ``a b <= a^2 / 4 mu + mu b^2`` for any mu > 0:
    ``||f(x + d) - f(x)|| <= lambda_max(A_0 A_0^T / 4 mu + M) + sum_k K_k ||s_k||^2 + mu ||d||^2``.
    The eigenvalue is bounded by ``matrix_norm`` (Cholesky).

    Float64. Added for its rounding: that of the rows (``rounded_rows``, with Frobenius norms, which
    are at least the norm of the row of any u); values off by ``drift`` cost ``||p|| drift`` times
    the range of slopes; that of omega and of the matrix ``ROUNDING ||A_k||_F^2 (1 + gain)^2 / K``
    and ``ROUNDING ||A_0||_F^2 / mu``.
    """
    graph, basis = local.network.folded, torch.eye(local.network.feature_dim).to(local.values[-1])
    form, parts = torch.zeros_like(basis), Envelope(0.0, 0.0, 0.0)
    sizes: dict[int, Tensor] = {}

    def through(index: int, rows: Tensor, window: Window | None) -> Tensor:
        nonlocal parts
        node = activation(graph, index)
        layer = _Layer(
            function=node.function,
            z=crop(local.values[node.source], window),
            rows=rows.flatten(1),
            cap=crop(moves(node.source), window),
            reach=local.reach[node.source],
        )
        lost = layer.lost(radius)
        sizes[index] = layer.rows.norm()
        drifted = float(sizes[index]) * local.drift[node.source] * max(1, 2 * node.function.gain)
        parts = Envelope(
            parts.offset + lost.offset + drifted, 0.0, parts.curvature + lost.curvature
        )
        form.add_(lost.form)
        return rows * lost.slopes

    last = len(graph.nodes) - 1
    start = basis.reshape(-1, *graph.nodes[last].shape)
    image = pull_back(graph, last, start, None, through).flatten(1)  # [d, C h w]
    linear, form = (image @ image.T).cpu(), form.cpu()
    mu = _balance(linear, form, radius)
    offset = parts.offset + ROUNDING * float(image.norm()) ** 2 / mu
    offset += matrix_norm(linear / (4 * mu) + form)
    slope = float(rounded_rows(local.network, local.reach, basis.norm(), sizes))
    grown = 1 + ROUNDING
    return Envelope(offset * grown, slope * grown, (parts.curvature + mu) * grown)


@dataclass(frozen=True, eq=False)
class _Lost:
    """What a layer costs: a form in u, its share of the budget, and the slopes taken for it."""

    form: Tensor
    slopes: Tensor
    offset: float
    curvature: float


@dataclass(frozen=True, eq=False)
class _Layer:
    """An activation with input z [1, *window], the rows [d, N] at its output, and Q of its input.

    ``cap`` [1, *window]: how far each input moves.
    """

    function: Entrywise
    z: Tensor
    rows: Tensor
    cap: Tensor
    reach: float

    def lost(self, radius: float) -> _Lost:
        """For the best of a few curvatures."""
        bent = self.function.bends(self.z - self.cap, self.z + self.cap)  # [1, *window]
        chosen = bent.flatten()
        if not bool(chosen.any()):
            form = self.rows.new_zeros(len(self.rows), len(self.rows))
            return _Lost(form, self.function.derivative(self.z), 0.0, 0.0)
        total = float(self.cap[bent].norm()) * (1 + ROUNDING)
        budget = min(self.reach * radius, total)
        columns = (self.rows.norm(dim=0) * (1 + ROUNDING)).reshape(self.z.shape)
        curvature, form, slopes = self._best(columns, bent, budget)
        length = float(self.rows[:, chosen].norm())
        rounding = ROUNDING * length**2 * (1 + self.function.gain) ** 2 / curvature
        if total < self.reach * radius:
            return _Lost(form, slopes, rounding + curvature * total**2, 0.0)
        return _Lost(form, slopes, rounding, curvature * self.reach**2)

    def _best(self, columns: Tensor, bent: Tensor, budget: float) -> tuple[float, Tensor, Tensor]:
        """Curvature, form and slopes with the smallest ``lambda_max + K budget^2``."""
        chosen, least = bent.flatten(), math.inf
        pulled = _longest(self.rows[:, chosen])
        found = (1.0, self.rows, self.z)
        for _ in range(ROUNDS):
            curvature = self._curvature(pulled, columns, bent, budget)
            slopes, omega = ramp(self.function, self.z, columns, curvature, self.cap)
            weight = omega.flatten()[chosen]
            form = (self.rows[:, chosen] * weight) @ self.rows[:, chosen].T
            values, vectors = eigenvectors(form)
            total = float(values[-1] + curvature * budget * budget)
            if total < least:
                found, least = (float(curvature), form, slopes), total
            pulled = vectors[:, -1] @ self.rows[:, chosen]
        return found

    def _curvature(self, pulled: Tensor, columns: Tensor, bent: Tensor, budget: float) -> Tensor:
        """K with the smallest ``u^T M u + K budget^2`` for the u whose row is ``pulled``."""
        match self.function:
            case TwoSlope():
                rest = (1 - self.function.alpha).abs()
                width, size = (rest * columns)[bent], columns[bent]
                share = pulled / size.clamp_min(TINY)
                return shared_curvature(width, self.z[bent], budget, share, self.cap[bent])
            case _:
                spread = self.function.spread.expand(self.z.shape)[bent]
                found: Tensor = ((spread * pulled).norm() / (2 * budget)).clamp_min(TINY)
                return found


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
    takes ``C`` and ``R^2 / 4K``; where it is straight that far, its slope and 0.
    """
    match function:
        case TwoSlope():
            rest = 1 - function.alpha
            width = torch.minimum(rest.abs() * size / (4 * curvature), cap).clamp_min(TINY)
            off = (1 - z.abs() / width).clamp_min(0) / 2
            slopes = function.alpha + rest * torch.where(z > 0, 1 - off, off)
            return slopes, (rest * off).square() / (4 * curvature)
        case _:
            bent = function.bends(z - cap, z + cap)
            slopes = torch.where(bent, function.centre, function.derivative(z))
            return slopes, torch.where(bent, function.spread.square() / (4 * curvature), 0.0)


def neuron_reach(local: Local, index: int) -> Tensor:
    """How far each entry of node ``index`` moves per unit of ``||d||`` at most, [1, *shape].

    The norm of its row times how far what it reads moves; for all images.
    """
    network, node = local.network, local.network.folded.nodes[index]
    most = torch.full_like(local.values[index], local.reach[index])
    if not isinstance(node, Affine):
        return most
    rows = network.row_norms(index).to(most) * local.reach[node.source]
    return torch.minimum(most, rows * (1 + ROUNDING))


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
        top = eigenvectors(linear / (4 * mu) + form)[1][:, -1]
        mu = math.sqrt(max(float(top @ linear @ top), TINY)) / (2 * radius)
    return mu
