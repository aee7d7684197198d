"""Steepest ascent of a loss in a ball around images: RoCL's instance-wise attack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reaas_pretrain.chance import Chance
from reaas_pretrain.sections import AttackConfig


def attacked(
    images: Tensor, loss: Callable[[Tensor], Tensor], config: AttackConfig, chance: Chance
) -> Tensor:
    """Images `[n, 3, s, s]` in [0, 1], no further than epsilon away, where `loss` is larger.

    A uniform start in the ball, then `steps` steps along the sign of the gradient (L-inf) or along
    the gradient of each image (L2), each followed by the projection on the ball and on [0, 1].
    """
    moved = (images + _start(images, config, chance)).clamp(0, 1)
    for _ in range(config.steps):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(moved), moved)
        with torch.no_grad():
            step = config.step * _direction(gradient, config)
            moved = (images + project(moved + step - images, config)).clamp(0, 1)
    return moved.detach()


def project(change: Tensor, config: AttackConfig) -> Tensor:
    """The nearest change `[n, ...]` of norm epsilon at most, image by image."""
    if config.norm == "linf":
        return change.clamp(-config.epsilon, config.epsilon)
    nearer: Tensor = change * (config.epsilon / _lengths(change)).clamp_max(1)
    return nearer


def _direction(gradient: Tensor, config: AttackConfig) -> Tensor:
    """The steepest direction of norm 1."""
    return gradient.sign() if config.norm == "linf" else _scaled(gradient)


def _start(images: Tensor, config: AttackConfig, chance: Chance) -> Tensor:
    """Uniform in the ball, `[n, 3, s, s]`."""
    n, *shape = images.shape
    if config.norm == "linf":
        return config.epsilon * (2 * chance.uniform(n, *shape) - 1)
    direction = _scaled(chance.normal(n, *shape))
    share = chance.uniform(n, 1, 1, 1).pow(1 / images[0].numel())  # of the ball's radius
    return config.epsilon * share * direction


def _scaled(vectors: Tensor) -> Tensor:
    """`[n, c, h, w]` at L2 norm 1."""
    return vectors / _lengths(vectors)


def _lengths(vectors: Tensor) -> Tensor:
    """`[n, 1, 1, 1]` L2 norms of `[n, c, h, w]`, never 0."""
    lengths: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1).clamp_min(1e-12)
    return lengths.view(-1, 1, 1, 1)
