"""Whose job is next: that of the client which has had the least work so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Lane(IntEnum):
    """How long a job takes, about. Some threads take no longer ones: see `WorkerPool`."""

    QUICK = 0
    """A tenth of a second at most."""
    SHORT = 1
    """A second or two."""
    LONG = 2
    """Nobody knows."""


@dataclass(eq=False)
class Job:
    """Work for one thread, and what is expected of it.

    `cost` in seconds of a worker and `memory` in bytes are estimates; what a job really took is
    what its client has had.
    """

    client: str
    run: Callable[[], Any]
    cost: float
    memory: int
    lane: Lane
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _Share:
    """What a client has had, in seconds of work, and what waits, by lane."""

    used: float
    waiting: dict[Lane, deque[Job]] = field(
        default_factory=lambda: {lane: deque() for lane in Lane}
    )
    running: int = 0

    @property
    def idle(self) -> bool:
        return not (self.running or any(self.waiting.values()))

    def first(self, longest: Lane) -> Job | None:
        """Its next job up to lane `longest`: quick ones before long ones."""
        queues = (self.waiting[lane] for lane in Lane if lane <= longest)
        return next((queue[0] for queue in queues if queue), None)


class FairQueue:
    """Fair queueing by what jobs cost (Demers, Keshav & Shenker 1989; start-time fair queueing).

    The client that has had the least work comes first, whatever the others have waiting. A client
    that comes back gets no credit for its absence; one that left in debt finds it again. Estimates
    only order what waits: when a job ends, what it really took is counted. Not thread-safe.

    Jobs run side by side only while their memory fits into `memory` bytes; one that alone exceeds
    it runs alone. The fairest client's long job is waited for, else small ones of others would keep
    it out for good; shorter jobs pass.
    """

    def __init__(self, memory: float = float("inf")) -> None:
        self._memory = memory
        self._taken = 0
        self._now = 0.0
        self._shares: dict[str, _Share] = {}

    def push(self, job: Job) -> None:
        """Let `job` wait."""
        share = self._shares.get(job.client)
        if share is None:
            share = self._shares[job.client] = _Share(self._now)
        elif share.idle:
            share.used = max(share.used, self._now)
        share.waiting[job.lane].append(job)

    def pop(self, longest: Lane = Lane.LONG) -> Job | None:
        """The next job up to lane `longest` that may run, if any; `ended` has to follow."""
        firsts = [(share, share.first(longest)) for share in self._shares.values()]
        found = [(share, job) for share, job in firsts if job is not None and self._waited_for(job)]
        if not found:
            return None
        share, job = min(found, key=lambda pair: pair[0].used)
        if not self._fits(job):
            return None
        share.waiting[job.lane].popleft()
        self._now = max(self._now, share.used)
        share.used += job.cost
        share.running += 1
        self._taken += job.memory
        return job

    def ended(self, job: Job, seconds: float) -> None:
        """A popped job is over and took so many seconds."""
        share = self._shares[job.client]
        share.used += seconds - job.cost
        share.running -= 1
        self._taken -= job.memory
        self._forget_idle()

    def discard(self, job: Job) -> None:
        """A job need not run; does nothing where it is not waiting."""
        share = self._shares.get(job.client)
        if share is not None and job in share.waiting[job.lane]:
            share.waiting[job.lane].remove(job)
        self._forget_idle()

    def drop_all(self) -> Iterator[Job]:
        """Every job that waits; none waits afterwards."""
        for share in self._shares.values():
            for queue in share.waiting.values():
                yield from queue
                queue.clear()

    def _waited_for(self, job: Job) -> bool:
        return job.lane is Lane.LONG or self._fits(job)

    def _fits(self, job: Job) -> bool:
        return self._taken == 0 or self._taken + job.memory <= self._memory

    def _forget_idle(self) -> None:
        """Clients without jobs and without debt: their number is not ours to bound."""
        gone = [c for c, share in self._shares.items() if share.idle and share.used <= self._now]
        for client in gone:
            del self._shares[client]
        if all(share.idle for share in self._shares.values()):
            self._shares.clear()  # nobody waits for anybody: debts mean nothing
