"""The processes of one run (`torchrun`): which rows are whose, and what they tell each other.

Every process draws the same random numbers and takes its own rows of them, so that a run of many
processes computes what one process with the same global batch computes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Group:
    """`size` processes of which this one is number `rank`; alone, everything is the identity."""

    rank: int = 0
    size: int = 1

    def rows(self, batch: Tensor) -> Tensor:
        """This process's rows of a global batch `[n, ...]`; n is a multiple of `size`."""
        share = len(batch) // self.size
        return batch[self.rank * share : (self.rank + 1) * share]

    def gather(self, rows: Tensor) -> Tensor:
        """The global batch from everyone's rows, in order; without gradient."""
        if self.size == 1:
            return rows.detach()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def gather_with_gradient(self, rows: Tensor) -> Tensor:
        """As `gather`; gradients go back to the process that each row came from, and add up."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)  # type: ignore[no-untyped-call]
        return gathered

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces every tensor by its mean over the processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        means = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def first(self, value: float) -> float:
        """The first process's `value`, for decisions that all have to take alike."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(shared, src=0)
        return float(shared)


class _Gather(torch.autograd.Function):
    """Gathers forward; backward adds up what every process says of the rows and keeps the own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.gather(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return ctx.group.rows(total), None


@contextmanager
def torchrun_group(device: torch.device) -> Iterator[Group]:
    """The group that `torchrun` started this process in; alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    # Both backends: features and gradients travel on the device, decisions on the CPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
