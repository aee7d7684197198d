"""Certify the questions by one method: radii, and the CPU time of a query alone and in a batch."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from reaas_bounds import MarginMethod, Method, SearchOptions, certify_ball, certify_margins
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
# Share of the budget for images asked one by one, with nothing beside them: these are timed.
ALONE_SHARE = 0.25
# Images for which a slow method may take `OVERDRAFT` times its budget: a median wants some tens.
ENOUGH = 20
OVERDRAFT = 3.0
CORES = os.cpu_count() or 1


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
    subject: Subject,
    asked: Questions,
    feature_radius: float,
    method: Method,
    options: SearchOptions | None = None,
) -> Certify:
    """Balls of one R' around every image's feature; ``options``: the engine's own if None."""
    radii = torch.full((len(asked.x),), feature_radius, dtype=torch.float64)
    known, how = (subject.network, subject.constants), options or SearchOptions()
    return lambda part: certify_ball(*known, asked.x[part], radii[part], method, how)


def margin_certifier(subject: Subject, asked: Questions, method: MarginMethod) -> Certify:
    """Every image's own margins."""
    known = subject.network, subject.constants
    return lambda part: certify_margins(
        *known, asked.x[part], asked.normals[part], asked.offsets[part], method
    )


def measure(
    method: str, certify: Certify, images: int, budget_s: float, advance: Advance
) -> Measured:
    """Ask about image after image, then about all in batches, for about ``budget_s`` seconds.

    Where batches take longer than what is left, the images that follow are asked one by one on all
    cores, for their radii only. ``certify`` is called by several threads then.
    """
    begun = time.monotonic()
    answers: list[Any] = []
    alone: list[float] = []
    while len(answers) < min(images, ALONE) and (
        len(answers) < FEWEST or sum(alone) < ALONE_SHARE * budget_s
    ):
        found, seconds = _timed(certify, slice(len(answers), len(answers) + 1))
        answers, alone = [*answers, *found], [*alone, seconds]
        advance(1)
    batched: list[float] = []
    whole = min(BATCH, images)
    if statistics.median(alone) * images <= budget_s - sum(alone):
        # From the start: the images asked alone count again, so that every batch is a full one.
        answers = []
        for start in range(0, images, whole):
            found, seconds = _timed(certify, slice(start, start + whole))
            answers += found
            batched.append(seconds / len(found))
            advance(len(found))
    else:
        answers += _side_by_side(certify, len(answers), images, begun, budget_s, advance)
    return Measured(
        method=method,
        radii=torch.tensor([answer.radius for answer in answers], dtype=torch.float64),
        alone_ms=1e3 * statistics.median(alone),
        batched_ms=1e3 * statistics.median(batched) if batched else None,
        winners=dict(Counter(answer.method.value for answer in answers)),
    )


def _side_by_side(
    certify: Certify, start: int, stop: int, begun: float, budget_s: float, advance: Advance
) -> list[Any]:
    """Answers for as many images from ``start`` on as the budget allows."""

    def ask(index: int) -> Any:
        allowed = budget_s * (OVERDRAFT if index < ENOUGH else 1.0)
        if time.monotonic() - begun > allowed:
            return None
        (answer,) = certify(slice(index, index + 1))
        advance(1)
        return answer

    with ThreadPoolExecutor(CORES) as pool:
        found = list(pool.map(ask, range(start, stop)))
    return list(itertools.takewhile(lambda answer: answer is not None, found))


def _timed(certify: Certify, part: slice) -> tuple[Sequence[Any], float]:
    """The answers, and the CPU seconds of this process that they took."""
    begun = time.process_time()
    found = certify(part)
    return found, time.process_time() - begun
