"""Whose job is next: that of the client which has had the least work so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Job:
    """Work for one thread, and what is expected of it.

    `cost` in seconds of a worker and `memory` in bytes are estimates; what a job really took is
    what its client has had. `cheap` jobs may pass dear ones.
    """

    client: str
    run: Callable[[], Any]
    cost: float
    memory: int
    cheap: bool
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _Share:
    """What a client has had, in seconds of work, and what waits: cheap jobs and dear ones."""

    used: float
    cheap: deque[Job] = field(default_factory=deque)
    dear: deque[Job] = field(default_factory=deque)
    running: int = 0

    @property
    def idle(self) -> bool:
        return not (self.cheap or self.dear or self.running)


class FairQueue:
    """Fair queueing by what jobs cost (Demers, Keshav & Shenker 1989; start-time fair queueing).

    The client that has had the least work comes first, whatever the others have waiting. A client
    that comes back gets no credit for its absence; one that left in debt finds it again. Estimates
    only order what waits: when a job ends, what it really took is counted. Not thread-safe.

    Jobs run side by side only while their memory fits into `memory` bytes; one that alone exceeds
    it runs alone. The fairest client's dear job is waited for, else small ones of others would keep
    it out for good; cheap jobs pass.
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
        (share.cheap if job.cheap else share.dear).append(job)

    def pop(self, *, cheap_only: bool = False) -> Job | None:
        """The next job to run, if there is one that may; `ended` has to follow."""
        if cheap_only:
            waiting = [s for s in self._shares.values() if s.cheap and self._fits(s.cheap[0])]
        else:
            waiting = [s for s in self._shares.values() if s.cheap or s.dear]
        if not waiting:
            return None
        share = min(waiting, key=lambda s: s.used)
        queue = share.cheap or share.dear
        if not self._fits(queue[0]):
            return None
        job = queue.popleft()
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
        queue = None if share is None else (share.cheap if job.cheap else share.dear)
        if queue is not None and job in queue:
            queue.remove(job)
        self._forget_idle()

    def drop_all(self) -> Iterator[Job]:
        """Every job that waits; none waits afterwards."""
        for share in self._shares.values():
            yield from (*share.cheap, *share.dear)
            share.cheap.clear()
            share.dear.clear()

    def _fits(self, job: Job) -> bool:
        return self._taken == 0 or self._taken + job.memory <= self._memory

    def _forget_idle(self) -> None:
        """Clients without jobs and without debt: their number is not ours to bound."""
        gone = [c for c, share in self._shares.items() if share.idle and share.used <= self._now]
        for client in gone:
            del self._shares[client]
        if all(share.idle for share in self._shares.values()):
            self._shares.clear()  # nobody waits for anybody: debts mean nothing
