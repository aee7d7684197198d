"""Combinations of choices: all of them where they are few, else a drawn part, always the same."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from tests.differential.file import ABSENT, OPSETS

Choices = Mapping[str, Sequence[Any]]
Draw = dict[str, Any]
T = TypeVar("T")


# Which part of each family is made: every so many files.
_EVERY: ContextVar[int] = ContextVar("every", default=1)


def take_every(count: int) -> None:
    """From here on every family is made of each ``count``-th of its files."""
    _EVERY.set(count)


def some(choices: Sequence[T]) -> Sequence[T]:
    """The part of ``choices`` that is taken."""
    return choices[:: _EVERY.get()]


def draws(family: str, count: int, /, **choices: Sequence[Any]) -> Iterator[Draw]:
    """At most ``count`` combinations of ``choices``, each with an ``opset`` and a ``seed``.

    Opsets are all that are known unless ``choices`` say which. The draw depends on the family's
    name only, so that a failure's name finds its file again.
    """
    space = {"opset": OPSETS, **choices}
    sizes = [len(values) for values in space.values()]
    total = math.prod(sizes)
    random = np.random.default_rng(zlib.crc32(family.encode()))
    chosen: Sequence[int] = range(total)
    if total > count:
        chosen = sorted({int(k) for k in random.integers(total, size=count)})
    for index in some(chosen):
        places = np.unravel_index(index, sizes)
        found = {name: space[name][int(k)] for name, k in zip(space, places, strict=True)}
        yield {**found, "seed": index % 2**31}


def mostly(good: Sequence[Any], odd: Sequence[Any]) -> list[Any]:
    """Choices of which at least four in five are ``good``."""
    return [*good] * -(-4 * len(odd) // len(good)) + [*odd]


def described(draw: Draw) -> str:
    """The draw in one line, without what is left out."""
    return " ".join(
        f"{name}={_short(value)}" for name, value in draw.items() if value is not ABSENT
    )


def _short(value: object) -> str:
    if isinstance(value, np.ndarray):
        text = str(value.tolist()) if value.size < 9 else f"[{value.size} entries]"
        return f"{value.dtype}{text}".replace(" ", "")
    return str(value).replace(" ", "")
