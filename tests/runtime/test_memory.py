"""The F2I service as a process: 10,000 mixed queries about the shipped encoders, and its memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from reaas import Client, Method, ModelRef

from evaluation.services import ServiceProcess, start_service

MIB = 1 << 20
MODELS = Path(__file__).parents[2] / "models"
BATCH = 64
# Of the encoder, and smaller and larger than it, colour and grey.
SHAPES = ((32, 32, 3), (28, 28, 1), (20, 24, 3), (40, 40, 3))
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
    """Ever the same round of cheap and dear queries."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._random = np.random.default_rng(0)
        self._models = cycle([info.ref for info in client.models()])
        self._shapes = cycle(SHAPES)

    def ask(self, queries: int) -> None:
        """About so many queries."""
        left = queries
        while left > 0:
            for method, count in ((Method.LIPSCHITZ, BATCH),) * 8 + ((Method.AUTO, 1),):
                model, shape = next(self._models), next(self._shapes)
                images = self._random.integers(0, 256, (count, *shape), np.uint8)
                self._client.perturb(images, np.full(count, 0.5), model, method, max_steps=2)
                left -= count
            self._ask_margins(next(self._models), Method.LIPSCHITZ, BATCH)
            self._ask_margins(next(self._models), Method.AUTO, 1)
            left -= BATCH + 1

    def _ask_margins(self, model: ModelRef, method: Method, count: int) -> None:
        images = self._random.integers(0, 256, (count, *SHAPES[0]), np.uint8)
        dim = self._client.model(model).feature_dim
        normals, offsets = self._random.normal(size=(count, 9, dim)), np.full((count, 9), 0.5)
        self._client.perturb_margins(images, normals, offsets, model, method, max_steps=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_mixed_queries_do_not_make_the_service_grow(service: ServiceProcess) -> None:
    with Client(f2i=service.address) as client:
        mix = _Mix(client)
        mix.ask(2_000)
        early = _memory(service, "VmRSS")
        mix.ask(8_000)
        late = _memory(service, "VmRSS")
    assert late - early < GROWTH, f"{early / MIB:.0f} MiB grew to {late / MIB:.0f} MiB"
    assert _memory(service, "VmHWM") < LIMIT
