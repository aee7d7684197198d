"""How much of the time of training is the forward and backward pass: the rest is to be had."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count

import torch

from reaas_pretrain.train import Trainer

ROUNDS = 5
"""Loop and pass take turns, so that a machine that gets slower slows both down."""


@dataclass(frozen=True)
class Throughput:
    """Images a second, of all processes together."""

    loop: float
    """Drawing the batch, augmenting both views, and the step."""
    step: float
    """The step alone, on views that are there already: the limit."""

    @property
    def ratio(self) -> float:
        """Share of the limit that the loop reaches."""
        return self.loop / self.step


def measure_throughput(trainer: Trainer, steps: int) -> Throughput:
    """Takes `steps` steps of the loop and as many on fixed views, in turns, after a warm-up.

    The trainer has moved on afterwards: it is for measuring only.
    """
    batches = chain.from_iterable(trainer.batches() for _ in count())
    fixed = trainer.draw(next(batches))

    def loop() -> None:
        trainer.take(*trainer.draw(next(batches)))

    def step() -> None:
        trainer.take(*fixed)

    _seconds(loop, ROUNDS, trainer.device)
    seconds = {loop: 0.0, step: 0.0}
    each = -(-steps // ROUNDS)
    for _ in range(ROUNDS):
        for what in (loop, step):
            seconds[what] += _seconds(what, each, trainer.device)
    images = ROUNDS * each * trainer.recipe.schedule.batch
    return Throughput(images / seconds[loop], images / seconds[step])


def _seconds(what: Callable[[], None], times: int, device: torch.device) -> float:
    """Wall time of doing it so often, with all that it left to a GPU."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        what()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
