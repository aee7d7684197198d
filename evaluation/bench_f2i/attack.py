"""Gradient attacks on a feature: the proof that no sound radius can be larger.

Attacked is a loss [n] of images [n, C, H, W]: how far the feature moved (a ball), or moved
against a normal (a margin). All starts of all images travel in one batch, in any precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Radii are L2 in the network's own float64; images of a served encoder travel in float32, so an
# attack may stay this much inside of its ball.
INSIDE = 1 - 1e-6
# Share of the last step kept beside the gradient's direction: alone, on the sphere, that direction
# is power iteration, and runs in circles where two pieces of the network meet.
INERTIA = 0.1
# Largest factor by which one step of `shrink` changes a radius, and the largest over which it
# trusts the loss to be proportional to the radius.
JUMP, CLOSE = 1.5, 1.1

Loss = Callable[[Tensor], Tensor]


class Encoder(Protocol):
    """Whatever has features: the engine's network, or its graph in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, d] of images [n, C, H, W]."""
        ...


def pgd(
    network: Encoder, x: Tensor, radii: Tensor, steps: int = 15, restarts: int = 1, seed: int = 0
) -> Tensor:
    """Images [k, n, C, H, W] whose features moved farthest; k starts, ``||x' - x|| <= radii`` [n].

    Starts: the top right singular vector of the Jacobian, both signs, and ``restarts`` random.
    """
    starts = ball_starts(network, x, restarts, seed)
    return climb(moved(network, tiled(x, starts)), x, starts, radii, steps)


def margin_pgd(
    network: Encoder,
    x: Tensor,
    normals: Tensor,
    radii: Tensor,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
) -> Tensor:
    """Images [k, n, C, H, W] at which ``normals`` [n, m, d] times the feature fell farthest.

    Every row is attacked for itself, from its own gradient and from ``restarts`` random starts.
    """
    rows = normals.shape[1]
    each, flat = x.repeat_interleave(rows, 0), normals.flatten(0, 1)  # [n * m, ...]
    starts = margin_starts(network, each, flat, restarts, seed)
    loss = fallen(network, tiled(each, starts), flat.repeat(len(starts), 1))
    found = climb(loss, each, starts, radii.repeat_interleave(rows), steps)
    apart = found.reshape(len(starts), len(x), rows, *x.shape[1:])  # [starts, n, m, ...]
    return apart.movedim(2, 1).flatten(0, 1)


def climb(loss: Loss, x: Tensor, starts: Tensor, radii: Tensor, steps: int) -> Tensor:
    """The best images [k, n, C, H, W] that ``steps`` on the sphere of ``radii`` reach."""
    sizes = radii.repeat(len(starts))
    base = tiled(x, starts)
    delta = on_sphere(starts.flatten(0, 1), sizes)
    best, highest = delta, torch.full_like(sizes, -torch.inf)
    for _ in range(steps):
        value, gradient = with_gradient(loss, base + delta)
        best, highest = better(best, highest, delta, value)
        delta = on_sphere(INERTIA * delta + on_sphere(gradient, sizes), sizes)
    best, _ = better(best, highest, delta, loss(base + delta))
    return (base + best).detach().reshape(starts.shape)


@dataclass(frozen=True)
class Limits:
    """Directions [n, C, H, W] of length 1, and about where the loss reaches its level [n].

    Infinite where it was nowhere near its level.
    """

    directions: Tensor
    radii: Tensor


def shrink(
    loss: Loss, levels: Tensor, x: Tensor, starts: Tensor, radii: Tensor, steps: int
) -> Limits:
    """The smallest perturbations at which ``loss`` reaches ``levels`` [n], best of all starts.

    Each step turns towards the gradient and rescales the radius by level / loss: at a fixed point
    the loss is at its level and the perturbation along the gradient, as the shortest one must be.
    Not a certificate of any kind: whoever uses a result checks it.
    """
    count = len(starts)
    base, wanted, sizes = tiled(x, starts), levels.repeat(count), radii.repeat(count)
    delta = on_sphere(starts.flatten(0, 1), sizes)
    best, shortest = delta, torch.full_like(sizes, torch.inf)
    for _ in range(steps):
        value, gradient = with_gradient(loss, base + delta)
        factor = (wanted / value.clamp_min(1e-30)).clamp(1 / JUMP, JUMP)
        close = (factor < CLOSE) & (factor > 1 / CLOSE)
        estimate = torch.where(close, sizes * factor, torch.inf)
        best, shortest = better(best, -shortest, delta, -estimate)
        shortest, sizes = -shortest, sizes * factor
        delta = on_sphere(INERTIA * delta + on_sphere(gradient, sizes), sizes)
    shortest, start = shortest.reshape(count, len(x)).min(dim=0)
    chosen = best.reshape(starts.shape)[start, torch.arange(len(x))]
    return Limits(on_sphere(chosen, torch.ones_like(shortest)), shortest)


def moved(network: Encoder, x: Tensor) -> Loss:
    """``||f(x') - f(x)||_2``."""
    with torch.no_grad():
        centre = network.forward(x)
    return lambda images: (network.forward(images) - centre).norm(dim=1)


def fallen(network: Encoder, x: Tensor, normals: Tensor) -> Loss:
    """``-a . (f(x') - f(x))`` for ``normals`` [n, d]."""
    with torch.no_grad():
        centre = network.forward(x)
    return lambda images: ((centre - network.forward(images)) * normals).sum(dim=1)


def ball_starts(network: Encoder, x: Tensor, restarts: int, seed: int) -> Tensor:
    """Directions [2 + restarts, n, C, H, W]: the top singular one, both signs, and noise."""
    top = top_singular_direction(network, x, torch.Generator().manual_seed(seed))
    return torch.cat([torch.stack([top, -top]), noise(x, restarts, seed + 1)])


def margin_starts(network: Encoder, x: Tensor, normals: Tensor, restarts: int, seed: int) -> Tensor:
    """Directions [1 + restarts, n, C, H, W]: where the margin falls fastest, and noise."""
    steepest = with_gradient(fallen(network, x, normals), x)[1]
    return torch.cat([steepest[None], noise(x, restarts, seed)])


def noise(x: Tensor, count: int, seed: int) -> Tensor:
    """Gaussian directions [count, *x.shape]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *x.shape, generator=generator, dtype=x.dtype)


def top_singular_direction(network: Encoder, x: Tensor, generator: torch.Generator) -> Tensor:
    """Power iteration on J^T J at each image; J v by a difference within one linear piece."""
    step = 1e-6 if x.dtype == torch.float64 else 1e-3
    ones = torch.ones(len(x), dtype=x.dtype)
    direction = on_sphere(torch.randn(x.shape, generator=generator, dtype=x.dtype), ones)
    point = x.clone().requires_grad_()
    feature = network.forward(point)
    for _ in range(10):
        with torch.no_grad():
            pushed = (network.forward(x + step * direction) - feature) / step
        pulled = torch.autograd.grad((feature * pushed).sum(), point, retain_graph=True)[0]
        direction = on_sphere(pulled, ones)
    return direction


def with_gradient(loss: Loss, images: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [n] and their gradients [n, C, H, W]."""
    images = images.detach().requires_grad_()
    value = loss(images)
    gradient = torch.autograd.grad(value.sum(), images)[0]
    return value.detach(), gradient


def better(best: Tensor, highest: Tensor, delta: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The perturbations with the larger value, and that value."""
    risen = (value > highest).reshape(-1, *(1 for _ in delta.shape[1:]))
    return torch.where(risen, delta, best), torch.maximum(value, highest)


def on_sphere(delta: Tensor, radii: Tensor) -> Tensor:
    """``delta`` scaled to length ``radii`` (a hair inside)."""
    sizes = delta.flatten(1).norm(dim=1).clamp_min(1e-30)
    scaled: Tensor = delta * (radii * INSIDE / sizes).reshape(-1, *(1 for _ in delta.shape[1:]))
    return scaled


def tiled(x: Tensor, starts: Tensor) -> Tensor:
    """``x`` once for every start, [k * n, C, H, W]."""
    return x.repeat(len(starts), *(1 for _ in x.shape[1:]))
