"""The only source of chance of a run: one generator, whose state is in the checkpoint."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from reaas_pretrain.group import Group


class Chance:
    """Random numbers for the rows of a batch; in a group every process takes its own rows."""

    def __init__(self, generator: Generator, group: Group | None = None) -> None:
        self.generator = generator
        self.group = group or Group()

    def order(self, count: int) -> Tensor:
        """A permutation of `count` images, the same in every process."""
        return torch.randperm(count, generator=self.generator, device=self.generator.device)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """`[rows, *shape]` numbers in [0, 1)."""
        source = self.generator
        total = (rows * self.group.size, *shape)
        return self.group.rows(torch.rand(total, generator=source, device=source.device))

    def between(self, rows: int, low: float, high: float) -> Tensor:
        """`[rows]` numbers in [low, high)."""
        return low + (high - low) * self.uniform(rows)

    def happens(self, rows: int, probability: float) -> Tensor:
        """`[rows]`, 1 where it happens and 0 elsewhere."""
        return (self.uniform(rows) < probability).float()

    def normal(self, rows: int, *shape: int) -> Tensor:
        """`[rows, *shape]` standard normal numbers."""
        source = self.generator
        total = (rows * self.group.size, *shape)
        return self.group.rows(torch.randn(total, generator=source, device=source.device))
