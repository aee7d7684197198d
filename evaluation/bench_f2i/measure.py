"""Certify the questions by one method: radii, and the CPU time of a query alone and in a batch."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from reaas_bounds import MarginMethod, Method, certify_ball, certify_margins
from torch import Tensor

from evaluation.bench_f2i.questions import Questions
from evaluation.bench_f2i.subject import Subject

Advance = Callable[[int], None]
Certify = Callable[[slice], Sequence[Any]]
"""Certified answers of some of the images."""

BATCH = 64
# Images asked one by one at least, however long they take.
FEWEST = 3
# Images asked one by one at most: their median does not get better by more.
ALONE = 16


@dataclass(frozen=True, eq=False)
class Measured:
    """One method on the first ``len(radii)`` images of one target."""

    method: str
    radii: Tensor
    alone_ms: float
    """Median CPU time of a query in a message of its own."""
    batched_ms: float | None
    """The same in messages of 64; None where the budget did not allow one."""
    winners: dict[str, int] = field(default_factory=dict)
    """Which bound certified how many of the images (AUTO)."""


def ball_certifier(
    subject: Subject, asked: Questions, feature_radius: float, method: Method
) -> Certify:
    """Balls of one R' around every image's feature."""
    radii = torch.full((len(asked.x),), feature_radius, dtype=torch.float64)
    known = subject.network, subject.constants
    return lambda part: certify_ball(*known, asked.x[part], radii[part], method)


def margin_certifier(subject: Subject, asked: Questions, method: MarginMethod) -> Certify:
    """Every image's own margins."""
    known = subject.network, subject.constants
    return lambda part: certify_margins(
        *known, asked.x[part], asked.normals[part], asked.offsets[part], method
    )


def measure(
    method: str, certify: Certify, images: int, budget_s: float, advance: Advance
) -> Measured:
    """Ask image by image, then in batches, for about ``budget_s`` seconds of CPU time.

    At least `FEWEST` images are asked, then as many as the budget is expected to allow. Medians do
    not mind what a first call allocates.
    """
    answers: list[Any] = []
    alone: list[float] = []
    while len(answers) < min(images, ALONE) and (
        len(answers) < FEWEST or sum(alone) < budget_s / 2
    ):
        found, seconds = _timed(certify, slice(len(answers), len(answers) + 1))
        answers, alone = [*answers, *found], [*alone, seconds]
        advance(1)
    batched: list[float] = []
    reserve = budget_s - sum(alone)
    whole = min(BATCH, images)
    if statistics.median(alone) * whole <= reserve:
        # From the start: the images asked alone count again, so that every batch is a full one.
        answers = []
        for start in range(0, images, whole):
            found, seconds = _timed(certify, slice(start, start + whole))
            answers += found
            batched.append(seconds / len(found))
        advance(images)
    return Measured(
        method=method,
        radii=torch.tensor([answer.radius for answer in answers], dtype=torch.float64),
        alone_ms=1e3 * statistics.median(alone),
        batched_ms=1e3 * statistics.median(batched) if batched else None,
        winners=dict(Counter(answer.method.value for answer in answers)),
    )


def _timed(certify: Certify, part: slice) -> tuple[Sequence[Any], float]:
    """The answers, and the CPU seconds of this process that they took."""
    begun = time.process_time()
    found = certify(part)
    return found, time.process_time() - begun
