"""The smallest perturbations that an attack finds: no sound radius can be larger.

Found on the engine's own folded network in float32, confirmed on features as they are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.bench_f2i.attack import (
    Limits,
    ball_starts,
    fallen,
    margin_starts,
    moved,
    shrink,
    with_gradient,
)
from evaluation.bench_f2i.subject import Subject

Left = Callable[[NDArray[np.float64]], NDArray[np.bool_]]

STEPS = 40
RESTARTS = 2
# Rows of an image that are attacked: those that its linearisation reaches first.
ROWS = 3
# Pairs of one batch: with all starts and a small encoder about 100 MB.
BATCH = 64
# The served feature leaves at a radius that is searched between these shares of the estimate ...
SPAN = (0.9, 1.5)
# ... to this many halvings: 0.01%.
HALVINGS = 13


def ball_limits(subject: Subject, x: Tensor, feature_radius: float, seed: int) -> Iterator[Tensor]:
    """Radii [n], in batches, at which served features left the ball; infinite where none did."""
    for images in torch.split(x, BATCH):
        encoder, small = subject.network.folded_float32, images.float()
        starts = ball_starts(encoder, small, RESTARTS, seed)
        levels = small.new_full((len(small),), feature_radius)
        loss = moved(encoder, small.repeat(len(starts), 1, 1, 1))
        found = shrink(loss, levels, small, starts, _guess(small), STEPS)
        yield _confirmed(subject, images, found, _outside(feature_radius))


def margin_limits(
    subject: Subject, x: Tensor, normals: Tensor, offsets: Tensor, seed: int
) -> Iterator[Tensor]:
    """The same for margins: radii [n] at which a served feature crossed one of the planes."""
    parts = (torch.split(part, BATCH) for part in (x, normals, offsets))
    for images, rows, margins in zip(*parts, strict=True):
        encoder = subject.network.folded_float32
        chosen, each = _nearest(subject, images, rows, margins)
        flat = chosen.flatten()
        own = torch.arange(len(images)).repeat_interleave(chosen.shape[1])
        repeated, row = images[own], rows[own, flat].float()
        small, level = repeated.float(), margins[own, flat].float()
        starts = margin_starts(encoder, small, row, RESTARTS, seed)
        loss = fallen(encoder, small.repeat(len(starts), 1, 1, 1), row.repeat(len(starts), 1))
        found = shrink(loss, level, small, starts, each.flatten(), STEPS)
        left = _crossed(rows[own].numpy(), margins[own].numpy())
        yield _confirmed(subject, repeated, found, left).reshape(chosen.shape).amin(1)


def _nearest(
    subject: Subject, x: Tensor, normals: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """The rows [n, k] that the linearisation reaches first, and where it does."""
    encoder, count = subject.network.folded_float32, normals.shape[1]
    each = x.float().repeat_interleave(count, 0)
    loss = fallen(encoder, each, normals.flatten(0, 1).float())
    slopes = with_gradient(loss, each)[1].flatten(1).norm(dim=1).clamp_min(1e-12)
    reached = offsets.float() / slopes.reshape(offsets.shape)
    radii, rows = reached.topk(min(ROWS, count), dim=1, largest=False)
    return rows, radii


def _guess(x: Tensor) -> Tensor:
    """A first radius: a hundredth of the pixels' own norm; the steps take it from there."""
    sizes: Tensor = x.flatten(1).norm(dim=1)
    return 0.01 * sizes


def _outside(feature_radius: float) -> Left:
    return lambda change: np.linalg.norm(change, axis=1) > feature_radius


def _crossed(normals: NDArray[np.float64], offsets: NDArray[np.float64]) -> Left:
    def crossed(change: NDArray[np.float64]) -> NDArray[np.bool_]:
        reached = np.einsum("nmd,nd->nm", normals, change) <= -offsets  # [n, m]
        lost: NDArray[np.bool_] = np.any(reached, axis=1)
        return lost

    return crossed


def _confirmed(subject: Subject, x: Tensor, found: Limits, left: Left) -> Tensor:
    """The smallest radius [n] along each direction at which served features had left."""
    before = subject.served(x)
    # Where nothing was found, any number will do: nothing is confirmed there.
    low, high = (found.radii.double().nan_to_num(posinf=0.0) * share for share in SPAN)
    shortest = torch.full_like(high, torch.inf)
    for step in range(HALVINGS + 1):
        radii = high if step == 0 else (low + high) / 2
        images = (x + found.directions.double() * radii[:, None, None, None]).float().double()
        gone = torch.from_numpy(left(subject.served(images) - before))
        lengths = (images - x).flatten(1).norm(dim=1)
        shortest = torch.where(gone, torch.minimum(shortest, lengths), shortest)
        low, high = torch.where(gone, low, radii), torch.where(gone, radii, high)
    return shortest
