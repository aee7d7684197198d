"""The F2I service as a process: 10,000 mixed queries about the shipped encoders, and its memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from reaas import Client, Method, ModelInfo
from reaas_bounds import MarginMethod
from reaas_bounds import Method as BallMethod

from evaluation.services import ServiceProcess, start_service

MIB = 1 << 20
MODELS = Path(__file__).parents[2] / "models"
BALLS = tuple(Method(method.value) for method in BallMethod)
MARGINS = tuple(Method(method.value) for method in MarginMethod)
ROWS = 9
# Of the encoder, and smaller and larger than it, colour and grey.
SHAPES = ((32, 32, 3), (28, 28, 1), (20, 24, 3), (40, 40, 3))
# Messages of one round: method and inputs. Every bound of milliseconds, and searches.
BALL_ROUND = (
    (Method.LIPSCHITZ, 64), (Method.LIPSCHITZ, 64), (Method.LIPSCHITZ, 17), (Method.IBP, 8),
    (Method.LIPSCHITZ, 64), (Method.LOCAL, 3), (Method.LIPSCHITZ, 1), (Method.AUTO, 1),
)  # fmt: skip
MARGIN_ROUND = (
    (Method.LIPSCHITZ, 64), (Method.IBP, 5), (Method.ENVELOPE, 2), (Method.AUTO, 1),
)  # fmt: skip
# A message of the dear bounds after so many rounds.
DEAR_EVERY = 3
# As many as the workers of two cores bound at once: more do not need more memory.
FULL = 16
# What allocators keep for themselves comes and goes.
GROWTH = 64 * MIB
LIMIT = 2048 * MIB


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """The F2I service with every shipped model."""
    started = start_service("f2i", MODELS, tmp_path)
    try:
        started.wait_until_serving()
        yield started
    finally:
        started.stop()


def _memory(service: ServiceProcess, field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (at most so far)."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


class _Mix:
    """Ever the same rounds of cheap and dear queries; no search goes on for long."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._random = np.random.default_rng(0)
        self._all = client.models()
        self._models, self._shapes = cycle(self._all), cycle(SHAPES)

    def ask_everything(self) -> None:
        """Every model by every method about both targets, a full load of each."""
        for model in self._all:
            for method in BALLS:
                self._ask_balls(model, method, FULL)
            for method in MARGINS:
                self._ask_margins(model, method, FULL)

    def ask(self, queries: int) -> None:
        """At least so many queries, in rounds."""
        left, rounds = queries, 0
        while left > 0:
            for method, count in BALL_ROUND:
                self._ask_balls(next(self._models), method, count, next(self._shapes))
                left -= count
            for method, count in MARGIN_ROUND:
                self._ask_margins(next(self._models), method, count)
                left -= count
            rounds += 1
            if rounds % DEAR_EVERY == 0:
                self._ask_balls(next(self._models), Method.CROWN, 2)
                self._ask_balls(next(self._models), Method.CROWN_JOINT, 2)
                self._ask_margins(next(self._models), Method.CROWN, 2)
                left -= 6

    def _ask_balls(
        self, model: ModelInfo, method: Method, count: int, shape: tuple[int, ...] = SHAPES[0]
    ) -> None:
        radii = np.full(count, 0.5)
        self._client.perturb(self._images(count, shape), radii, model.ref, method, max_steps=2)

    def _ask_margins(self, model: ModelInfo, method: Method, count: int) -> None:
        normals = self._random.normal(size=(count, ROWS, model.feature_dim))
        images, offsets = self._images(count, SHAPES[0]), np.full((count, ROWS), 0.5)
        self._client.perturb_margins(images, normals, offsets, model.ref, method, max_steps=2)

    def _images(self, count: int, shape: tuple[int, ...]) -> np.ndarray:
        return self._random.integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_mixed_queries_do_not_make_the_service_grow(service: ServiceProcess) -> None:
    now = []
    with Client(f2i=service.address) as client:
        mix = _Mix(client)
        mix.ask(1_000)
        for _ in range(10):
            mix.ask(1_000)
            now.append(_memory(service, "VmRSS"))
        mix.ask_everything()
        peak = _memory(service, "VmHWM")
    said = f"{[value // MIB for value in now]} MiB, at most {peak // MIB} MiB"
    print(said)
    assert max(now[5:]) - max(now[:5]) < GROWTH, said
    assert peak < LIMIT, said
