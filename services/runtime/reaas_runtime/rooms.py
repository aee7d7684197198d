"""Room in the house, counted in inputs: bounded in all and for each client."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from reaas_runtime.errors import DomainError, Reason

# Weight of the newest measurement in the running mean behind the advice when to retry.
_SMOOTHING = 0.2
# What one client may hold of the room that others leave: however many such clients there are,
# something is left for the next one.
_SHARE = 0.8

_room: ContextVar[_Room] = ContextVar("reaas_room")


@dataclass(eq=False)
class _Room:
    """Room held for a message: until its handler is done and its threads are free."""

    client: str
    inputs: int
    running: set[Future[Any]] = field(default_factory=set)
    left: bool = False


class Rooms:
    """Rooms of messages: each is held until its handler is done and its threads are free.

    Use from one event loop.
    """

    def __init__(self, max_pending: int) -> None:
        self.max_pending = max_pending
        self.pending = 0
        self._held: Counter[str] = Counter()
        self._seconds_per_input = 0.0

    @contextmanager
    def admit(self, inputs: int, client: str = "") -> Iterator[None]:
        """Hold room for `inputs`. Raises DomainError QUEUE_FULL with advice when to retry."""
        self._check_room(inputs, client)
        room = _Room(client, inputs)
        self.pending += inputs
        self._held[client] += inputs
        begun = time.monotonic()
        token = _room.set(room)
        try:
            yield
        finally:
            _room.reset(token)
            # Little's law on what went through: waiting callers see this pace.
            pace = (time.monotonic() - begun) / max(self.pending, 1)
            self._seconds_per_input += _SMOOTHING * (pace - self._seconds_per_input)
            room.left = True
            self._give_back(room)

    def hold_for(self, futures: Sequence[Future[Any]]) -> None:
        """Keep the room of this call until the threads of jobs that go on are free."""
        room = _room.get(None)
        running = [future for future in futures if not future.done()]
        if room is None or not running:
            return
        loop = asyncio.get_running_loop()

        def free(future: Future[Any]) -> None:
            room.running.discard(future)
            self._give_back(room)

        def ended(future: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(free, future)

        room.running.update(running)
        for future in running:
            future.add_done_callback(ended)

    def _check_room(self, inputs: int, client: str) -> None:
        free, own = self.max_pending - self.pending, self._held[client]
        if inputs > free:
            why = (
                f"{self.pending} inputs are waiting; with these {inputs} it would be more than "
                f"{self.max_pending}"
            )
        elif own and client and own + inputs > math.ceil(_SHARE * (own + free)):
            why = (
                f"{own} inputs of this client are waiting; with these {inputs} it would be more "
                f"than its share of the {self.max_pending} that there is room for"
            )
        else:
            return
        raise DomainError(
            Reason.QUEUE_FULL,
            why,
            got=self.pending + inputs,
            limit=self.max_pending,
            retry_after_s=self._retry_after(),
        )

    def _give_back(self, room: _Room) -> None:
        if not room.left or room.running or not room.inputs:
            return
        self.pending -= room.inputs
        self._held[room.client] -= room.inputs
        if self._held[room.client] <= 0:
            del self._held[room.client]
        room.inputs = 0

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, self._seconds_per_input * self.pending))
