"""Files whose bytes were changed at random: whatever comes of them, it is no traceback."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.differential.file import Case
from tests.differential.hostile import right
from tests.differential.space import some


def mutated(count: int, seed: int = 0) -> Iterator[Case]:
    """Valid files with bytes changed, cut out, doubled, or exchanged with another file's."""
    sources = [bytes(right(opset).SerializeToString()) for opset in (9, 13, 17, 21)]
    for number in some(range(count)):
        random = np.random.default_rng((seed, number))
        data = bytearray(sources[number % len(sources)])
        for _ in range(int(random.integers(1, 5))):
            _mutate(data, random, sources)
        yield Case("mutated", f"seed={seed} number={number}", bytes(data))


def _mutate(data: bytearray, random: np.random.Generator, sources: list[bytes]) -> None:
    at, size = int(random.integers(len(data) or 1)), int(random.integers(1, 9))
    match int(random.integers(5)):
        case 0:
            data[at : at + 1] = random.bytes(1)
        case 1:
            del data[at : at + size]
        case 2:
            data[at:at] = data[at : at + size]
        case 3:
            data[at : at + size] = random.bytes(size)
        case _:
            other = sources[int(random.integers(len(sources)))]
            data[at : at + size] = other[at : at + size]


MUTATED = {"mutated": lambda: mutated(2000)}
