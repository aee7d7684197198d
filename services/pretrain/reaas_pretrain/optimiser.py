"""SGD or Adam, and the learning rate over a run."""

from __future__ import annotations

import math

import torch

from reaas_pretrain.objective import Objective
from reaas_pretrain.sections import OptimiserConfig


def build_optimiser(objective: Objective, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser of what the objective trains; the loop sets its learning rate."""
    if config.method == "adam":
        return torch.optim.AdamW(
            objective.trained(),
            lr=0.0,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        objective.trained(),
        lr=0.0,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def learning_rate(progress: float, config: OptimiserConfig) -> float:
    """Linear warm-up, then half a cosine down to zero; `progress` in [0, 1] is the share done."""
    if progress < config.warmup:
        return config.learning_rate * (progress + 1e-3) / (config.warmup + 1e-3)
    done = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
