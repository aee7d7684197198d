"""The targets of a run: three balls and the margins, each with its methods and its attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reaas_bounds import MarginMethod, Method
from torch import Tensor

from evaluation.bench_f2i.limits import ball_limits, margin_limits
from evaluation.bench_f2i.lirpa import Reference
from evaluation.bench_f2i.measure import Certify, ball_certifier, margin_certifier
from evaluation.bench_f2i.questions import Questions
from evaluation.bench_f2i.subject import Subject
from evaluation.bench_f2i.throughput import Ask, ask_balls, ask_margins

AnyMethod = Method | MarginMethod


@dataclass(frozen=True, eq=False)
class Target:
    """What is asked of every image: who can certify it, how it is attacked, how it travels."""

    name: str
    methods: tuple[AnyMethod, ...]
    certifier: Callable[[AnyMethod], Certify]
    attack: Callable[[], Iterator[Tensor]]
    request: Callable[[AnyMethod], Ask]
    reference: Certify | None
    """auto_LiRPA's CROWN, where it is installed."""


def targets(subject: Subject, asked: Questions, seed: int) -> Iterator[Target]:
    """The paper's method comes first, for the others are compared to it."""
    lirpa = Reference.of(subject, asked)
    for percentile, radius in asked.radii.items():
        yield _ball(subject, asked, percentile, radius, seed, lirpa)
    yield _margins(subject, asked, seed, lirpa)


def _ball(
    subject: Subject,
    asked: Questions,
    percentile: int,
    radius: float,
    seed: int,
    lirpa: Reference | None,
) -> Target:
    return Target(
        name=f"ball p{percentile}",
        methods=tuple(sorted(Method, key=lambda method: method is not Method.CROWN)),
        certifier=lambda method: ball_certifier(subject, asked, radius, Method(method.value)),
        attack=lambda: ball_limits(subject, asked.x, radius, seed),
        request=lambda method: ask_balls(asked, radius, method.value),
        reference=lirpa.ball(radius) if lirpa else None,
    )


def _margins(subject: Subject, asked: Questions, seed: int, lirpa: Reference | None) -> Target:
    return Target(
        name="margins",
        methods=tuple(sorted(MarginMethod, key=lambda method: method is not MarginMethod.CROWN)),
        certifier=lambda method: margin_certifier(subject, asked, MarginMethod(method.value)),
        attack=lambda: margin_limits(subject, asked.x, asked.normals, asked.offsets, seed),
        request=lambda method: ask_margins(asked, method.value),
        reference=lirpa.margins() if lirpa else None,
    )
