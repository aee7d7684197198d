"""Attacks on certified radii; ONNX Runtime's float32 features, which clients see, are the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reaas_bounds import LinearOp, ReplicateChannels, SeparableResize
from torch import Tensor

from evaluation.bench_f2i.attack import Encoder, margin_pgd, on_sphere, pgd
from tests.bounds.encoders import Float32

__all__ = ["Effort", "Served", "Verdict", "attack_balls", "attack_margins", "on_sphere", "pgd"]

Reach = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""How far [n, m] a change [n, d] of the feature goes towards each of a pair's limits."""
Beyond = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]


class Served:
    """What a client gets for its own images: the linear maps in float32, then ONNX Runtime."""

    def __init__(self, onnx: bytes, ops: Sequence[LinearOp] = ()) -> None:
        self._ops = ops
        self._features = Float32(onnx)

    def __call__(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Features [n, d] of images [n, C, h, w]."""
        for op in self._ops:
            match op:
                case SeparableResize():
                    images = op.rows.astype(np.float32) @ images @ op.cols.astype(np.float32).T
                case ReplicateChannels():
                    images = np.repeat(images, op.channels, axis=1)
        return self._features(images)


@dataclass(frozen=True)
class Effort:
    """How long to attack a pair."""

    steps: int = 15
    restarts: int = 1
    seed: int = 0
    dtype: torch.dtype = torch.float64
    """Of the attacker's arithmetic; that of the encoder it is given."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """Which pairs [n] had a radius and an image within it, and which of those were beaten.

    ``used``: the largest share of the pair's target that an image within the radius used up.
    """

    attacked: NDArray[np.bool_]
    beaten: NDArray[np.bool_]
    used: NDArray[np.float64]

    def of(self, part: slice) -> Verdict:
        """That of some of the pairs."""
        return Verdict(self.attacked[part], self.beaten[part], self.used[part])


def attack_balls(
    encoder: Encoder,
    served: Served,
    x: Tensor,
    feature_radii: Tensor,
    radii: Tensor,
    effort: Effort,
) -> Verdict:
    """Attack certified ``radii`` [n] of balls around the features of ``x`` [n, C, H, W]."""
    known = x.to(effort.dtype), radii.to(effort.dtype)
    found = pgd(encoder, *known, effort.steps, effort.restarts, effort.seed)
    limits = feature_radii.numpy()[:, None]
    return _judged(
        served, x, radii, found, lambda d: np.linalg.norm(d, axis=1)[:, None], limits, np.greater
    )


def attack_margins(
    encoder: Encoder,
    served: Served,
    x: Tensor,
    normals: Tensor,
    offsets: Tensor,
    radii: Tensor,
    effort: Effort,
) -> Verdict:
    """Attack certified ``radii`` [n] of margins ``normals`` [n, m, d], ``offsets`` [n, m]."""
    known = x.to(effort.dtype), normals.to(effort.dtype), radii.to(effort.dtype)
    found = margin_pgd(encoder, *known, effort.steps, effort.restarts, effort.seed)
    rows = normals.numpy()

    def fallen(moved: NDArray[np.float64]) -> NDArray[np.float64]:
        reached: NDArray[np.float64] = -np.einsum("nmd,nd->nm", rows, moved)
        return reached

    return _judged(served, x, radii, found, fallen, offsets.numpy(), np.greater_equal)


def _judged(
    served: Served,
    x: Tensor,
    radii: Tensor,
    found: Tensor,
    reach: Reach,
    limits: NDArray[np.float64],
    beyond: Beyond,
) -> Verdict:
    """What the served features say of ``found`` [k, n, C, H, W], as float32 images."""
    start, certified = x.numpy(), radii.numpy()
    before = served(start.astype(np.float32))
    attacked, beaten, used = np.zeros(len(start), bool), np.zeros(len(start), bool), 0 * certified
    room = np.where(limits > 0, limits, np.inf)
    for images in found.numpy().astype(np.float32):
        distance = np.linalg.norm((images - start).reshape(len(start), -1), axis=1)
        inside = (distance < certified) & (certified > 0)
        reached = reach(served(images) - before)
        attacked |= inside
        beaten |= inside & beyond(reached, limits).any(axis=1)
        used = np.maximum(used, inside * (reached / room).max(axis=1))
    return Verdict(attacked, beaten, used)
