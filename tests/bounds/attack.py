"""PGD on the feature: the largest change of it that an attacker finds within a radius."""

from __future__ import annotations

import torch
from reaas_bounds import Network
from torch import Tensor

# Radii are L2 in the network's own float64; images of a served encoder travel in float32, so an
# attack may stay this much inside of its ball.
INSIDE = 1 - 1e-6


def pgd(
    network: Network, x: Tensor, radii: Tensor, steps: int = 15, restarts: int = 1, seed: int = 0
) -> Tensor:
    """Worst perturbed images [k, n, C, H, W] found: k starts, ``||x' - x||_2 <= radii`` [n].

    Starts: the top right singular vector of the Jacobian, both signs, and ``restarts`` random.
    """
    generator = torch.Generator().manual_seed(seed)
    top = top_singular_direction(network, x, generator)
    starts = [top, -top]
    starts += [torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(restarts)]
    centre = network.forward(x)
    found = []
    for start in starts:
        delta = on_sphere(start, radii)
        best, best_change = delta, change(network, x, delta, centre)
        for _ in range(steps):
            delta = delta.requires_grad_()
            gradient = torch.autograd.grad(change(network, x, delta, centre).sum(), delta)[0]
            # The gradient's own direction: on the sphere the fixed point of power iteration.
            delta = on_sphere(delta.detach() * 0.1 + on_sphere(gradient, radii), radii)
            now = change(network, x, delta, centre)
            better = (now > best_change)[:, None, None, None]
            best, best_change = torch.where(better, delta, best), torch.maximum(now, best_change)
        found.append((x + best).detach())
    return torch.stack(found)


def change(network: Network, x: Tensor, delta: Tensor, centre: Tensor) -> Tensor:
    """``||f(x + delta) - f(x)||_2`` [n]."""
    norms: Tensor = (network.forward(x + delta) - centre).norm(dim=1)
    return norms


def on_sphere(delta: Tensor, radii: Tensor) -> Tensor:
    """``delta`` scaled to length ``radii`` (a hair inside)."""
    sizes = delta.flatten(1).norm(dim=1).clamp_min(1e-300)
    scaled: Tensor = delta * (radii * INSIDE / sizes)[:, None, None, None]
    return scaled


def top_singular_direction(network: Network, x: Tensor, generator: torch.Generator) -> Tensor:
    """Power iteration on J^T J at each image; J v by a difference within one linear piece."""
    step = 1e-6
    direction = on_sphere(torch.randn(x.shape, generator=generator, dtype=x.dtype), torch.ones(()))
    for _ in range(10):
        point = x.clone().requires_grad_()
        feature = network.forward(point)
        pushed = (network.forward(x + step * direction) - feature).detach() / step
        pulled = torch.autograd.grad((feature * pushed).sum(), point)[0]
        direction = on_sphere(pulled, torch.ones(len(x), dtype=x.dtype))
    return direction
