"""The targets of a run: three balls and the margins, each with its methods and its attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reaas_bounds import MarginMethod, Method
from torch import Tensor

from evaluation.bench_f2i.limits import ball_limits, margin_limits
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


def targets(subject: Subject, asked: Questions, seed: int) -> Iterator[Target]:
    """The paper's method comes first, for the others are compared to it."""
    for percentile, radius in asked.radii.items():
        yield _ball(subject, asked, f"ball p{percentile}", radius, seed)
    yield _margins(subject, asked, seed)


def _ball(subject: Subject, asked: Questions, name: str, radius: float, seed: int) -> Target:
    return Target(
        name,
        tuple(sorted(Method, key=lambda method: method is not Method.CROWN)),
        lambda method: ball_certifier(subject, asked, radius, Method(method.value)),
        lambda: ball_limits(subject, asked.x, radius, seed),
        lambda method: ask_balls(asked, radius, method.value),
    )


def _margins(subject: Subject, asked: Questions, seed: int) -> Target:
    return Target(
        "margins",
        tuple(sorted(MarginMethod, key=lambda method: method.value != Method.CROWN.value)),
        lambda method: margin_certifier(subject, asked, MarginMethod(method.value)),
        lambda: margin_limits(subject, asked.x, asked.normals, asked.offsets, seed),
        lambda method: ask_margins(asked, method.value),
    )
