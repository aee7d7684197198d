"""Room for messages before they are read: what is being received or worked on has a bound.

gRPC reads a message in whole or not at all, and says its size only afterwards. So whoever is to
read holds room for the largest message first, and gives back what the message did not need. See
docs/decisions/0015-front.md.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from reaas_runtime.errors import DomainError, Reason

T = TypeVar("T")
# Joining and parsing a message holds up the event loop, and everybody: 2 ns a byte or so. A client
# may take half of it, which is twice as fast as a line of 1 Gbit/s.
_SECONDS_PER_BYTE = 4e-9
# Times of readers are looked at so often, and not by a timer for each: most are done at once.
_LOOK_S = 0.5
# Shorter messages are not worth a pause.
_SHORT_BYTES = 1 << 20
# A client's calls that wait for room; C-core keeps a window of 64 KiB for each.
_MOST_WAITING = 1024


@dataclass(eq=False)
class _Reader:
    """Somebody who holds room for a message that has not come yet."""

    client: str
    begun: float
    end: float
    scope: asyncio.Timeout
    evicted: bool = False

    def stop(self, now: float) -> None:
        self.scope.reschedule(now)


@dataclass(eq=False)
class Inbox:
    """Bytes of messages, being read and in work. Use from one event loop.

    At most ``capacity`` bytes, or one message of ``largest`` where ``capacity`` is full of messages
    in work. No client holds more than a quarter of the places, so that one who sends slowly leaves
    the others; who waits gets the place of the reader that has been waiting longest, but at least
    ``patience_s``, for its message. After a long message a client pauses.
    """

    capacity: int
    largest: int
    patience_s: float
    held: int = 0
    """Bytes of messages in work."""
    _readers: dict[_Reader, None] = field(default_factory=dict)
    _places: Counter[str] = field(default_factory=Counter)
    """Of each client: places for largest messages that it holds."""
    _waiting: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    _not_before: dict[str, float] = field(default_factory=dict)
    """When the pause of a client ends."""
    _alarm: asyncio.TimerHandle | None = None

    async def read(
        self, client: str, receive: Callable[[], Awaitable[T]], within: float | None
    ) -> T:
        """Await ``receive()``, bytes or an end, with room for its message.

        ``within``: seconds that it may take altogether. Raises DomainError QUEUE_FULL where there
        is no room in time, or where the message kept others waiting; DEADLINE_TOO_SHORT where it
        did not come in time.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        end = math.inf if within is None else begun + within
        if self._waiting or not self._room_for(client):
            await self._wait(client, end)
        else:
            self._places[client] += 1
        reader = _Reader(client, loop.time(), end, asyncio.timeout(None))
        self._readers[reader] = None
        self._watch_readers()
        try:
            async with reader.scope:
                message = await receive()
            if isinstance(message, bytes):
                self._pause(client, len(message))
            return message
        except TimeoutError:
            if not reader.scope.expired():
                raise
            raise _too_slow(evicted=reader.evicted) from None
        finally:
            del self._readers[reader]
            self._free(client)

    def replace(self, before: int, after: int) -> None:
        """Hold ``after`` bytes for a message in work in place of ``before``.

        Raises DomainError QUEUE_FULL where that is more than there is room for.
        """
        held = self.held - before + after
        if after and held > self.capacity:
            raise DomainError(
                Reason.QUEUE_FULL,
                f"messages of {held - after} bytes are waiting; with this one of {after} it would "
                f"be more than {self.capacity}",
                got=held,
                limit=self.capacity,
                retry_after_s=1.0,
            )
        self.held = held
        if after < before:
            self._admit()

    def _room_for(self, client: str) -> bool:
        share = max(1, self.capacity // self.largest // 4)
        return self._places[client] < share and client not in self._not_before and not self._full

    def _pause(self, client: str, size: int) -> None:
        if size < _SHORT_BYTES:
            return
        loop = asyncio.get_running_loop()
        begin = max(loop.time(), self._not_before.get(client, 0.0))
        self._not_before[client] = end = begin + size * _SECONDS_PER_BYTE
        loop.call_at(end, self._go_on, client, end)

    def _go_on(self, client: str, end: float) -> None:
        if self._not_before.get(client) == end:
            del self._not_before[client]
            self._admit()

    @property
    def _full(self) -> bool:
        taken = self._places.total()
        return bool(taken) and self.held + (taken + 1) * self.largest > self.capacity

    def _free(self, client: str) -> None:
        self._places[client] -= 1
        if not self._places[client]:
            del self._places[client]
        self._admit()

    async def _wait(self, client: str, end: float) -> None:
        """Return when the client holds one place more. Raises DomainError QUEUE_FULL."""
        queue = self._waiting.setdefault(client, deque())
        if len(queue) >= _MOST_WAITING:
            raise _no_room(f"{len(queue)} calls of this client wait to send their message")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._admit()
        try:
            async with asyncio.timeout_at(None if end == math.inf else end):
                await asyncio.shield(turn)
        except BaseException as error:
            self._give_up(client, turn)
            if isinstance(error, TimeoutError):
                raise _no_room("no room for a message became free in time") from None
            raise

    def _give_up(self, client: str, turn: asyncio.Future[None]) -> None:
        if turn.done():  # Its turn came while it was being told to go.
            self._free(client)
            return
        queue = self._waiting[client]
        queue.remove(turn)
        if not queue:
            del self._waiting[client]
        turn.cancel()

    def _admit(self) -> None:
        """Wake those whose turn it is: one call of a client, then one of the next."""
        for client in list(self._waiting):
            if self._full:
                return
            if self._room_for(client):
                queue = self._waiting[client]
                self._places[client] += 1
                queue.popleft().set_result(None)
                self._waiting.move_to_end(client)
                if not queue:
                    del self._waiting[client]

    def _watch_readers(self) -> None:
        """While somebody reads, look for those that have lost their right to go on."""
        if self._alarm is None and self._readers:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(min(self.patience_s / 2, _LOOK_S), self._look)

    def _look(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        for reader in self._readers:
            if now >= reader.end:
                reader.stop(now)
        if self._waiting:
            self._evict(now)
        self._watch_readers()

    def _evict(self, now: float) -> None:
        late = [r for r in self._readers if now - r.begun >= self.patience_s and not r.evicted]
        if late:
            slowest = max(late, key=lambda r: (self._places[r.client], now - r.begun))
            slowest.evicted = True
            slowest.stop(now)


def _too_slow(*, evicted: bool) -> DomainError:
    if evicted:
        return _no_room("the message came too slowly while others waited for room")
    return DomainError(
        Reason.DEADLINE_TOO_SHORT,
        "the message did not come before the deadline",
        field="deadline",
    )


def _no_room(why: str) -> DomainError:
    return DomainError(Reason.QUEUE_FULL, why, retry_after_s=1.0)
