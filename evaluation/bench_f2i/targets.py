"""The targets of a run: three balls and the margins, each with its methods and its attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from reaas_bounds import MarginMethod, Method, SearchOptions
from torch import Tensor

from evaluation.bench_f2i.limits import ball_limits, margin_limits
from evaluation.bench_f2i.lirpa import Reference
from evaluation.bench_f2i.measure import Certify, ball_certifier, margin_certifier
from evaluation.bench_f2i.questions import Questions
from evaluation.bench_f2i.subject import Subject
from evaluation.bench_f2i.throughput import Ask, ask_balls, ask_margins

FINE = "local fine"
"""LOCAL at its finest level, which a tolerance below the default asks for."""
FINE_OPTIONS = SearchOptions(relative_tolerance=0.005)
METHODS = tuple(dict.fromkeys([*(m.value for m in (*Method, *MarginMethod)), FINE]))
"""All that a target may be certified by, as rows are named."""


@dataclass(frozen=True, eq=False)
class Way:
    """One method for a target, in this process and through the service."""

    name: str
    certify: Certify
    request: Ask


@dataclass(frozen=True, eq=False)
class Target:
    """What is asked of every image: who can certify it, and how it is attacked."""

    name: str
    ways: tuple[Way, ...]
    """The paper's method comes first, for the others are compared to it."""
    attack: Callable[[], Iterator[Tensor]]
    reference: Certify | None
    """auto_LiRPA's CROWN, where it is installed."""


def targets(subject: Subject, asked: Questions, seed: int) -> Iterator[Target]:
    """The balls, then the margins."""
    lirpa = Reference.of(subject, asked)
    for percentile, radius in asked.radii.items():
        yield Target(
            name=f"ball p{percentile}",
            ways=tuple(_ball_ways(subject, asked, radius)),
            attack=partial(ball_limits, subject, asked.x, radius, seed),
            reference=lirpa.ball(radius) if lirpa else None,
        )
    yield Target(
        name="margins",
        ways=tuple(_margin_ways(subject, asked)),
        attack=partial(margin_limits, subject, asked.x, asked.normals, asked.offsets, seed),
        reference=lirpa.margins() if lirpa else None,
    )


def _ball_ways(subject: Subject, asked: Questions, radius: float) -> Iterator[Way]:
    for method in sorted(Method, key=lambda method: method is not Method.CROWN):
        certify = ball_certifier(subject, asked, radius, method)
        yield Way(method.value, certify, ask_balls(asked, radius, method.value))
        if method is Method.LOCAL:
            fine = ball_certifier(subject, asked, radius, method, FINE_OPTIONS)
            tolerance = FINE_OPTIONS.relative_tolerance
            yield Way(FINE, fine, ask_balls(asked, radius, method.value, tolerance))


def _margin_ways(subject: Subject, asked: Questions) -> Iterator[Way]:
    for method in sorted(MarginMethod, key=lambda method: method is not MarginMethod.CROWN):
        certify = margin_certifier(subject, asked, method)
        yield Way(method.value, certify, ask_margins(asked, method.value))
