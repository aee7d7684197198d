"""Bounded work in threads: fair turns, deadlines honoured while waiting, room until the end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.fair import FairQueue, Job, Lane
from reaas_runtime.rooms import Rooms

T = TypeVar("T")
Stop = Callable[[], bool]
_stop: ContextVar[Stop] = ContextVar("reaas_stop")


@dataclass(frozen=True)
class Done(Generic[T]):
    """Result of a job and where its time went, in seconds."""

    value: T
    queue_seconds: float
    busy_seconds: float


@dataclass(frozen=True)
class Effort:
    """What one job is expected to take: seconds of a worker, bytes."""

    seconds: float = 0.01
    memory: int = 0
    lane: Lane = Lane.QUICK


def stop_asked() -> bool:
    """Inside a job: whether it should end with what it has: its caller has gone, or the service
    shuts down."""
    asked = _stop.get(None)
    return asked is not None and asked()


class WorkerPool:
    """Threads for what would block the event loop.

    `admit` bounds the inputs in the house, `run` executes one job. Clients take turns by what
    their jobs cost (`FairQueue`). With `lanes` there are two threads more, one for `Lane.QUICK`
    alone and one that takes `Lane.SHORT` too: these never wait for a longer one to end.

    A job whose caller has gone, or whose deadline has passed while it waited, is skipped and
    reported to `on_skip`; one that has begun is asked to stop (`stop_asked`), and its room is held
    until its thread is free. Use from one event loop.

    Threads are daemons: one that is stuck outside of Python does not keep the process.
    """

    def __init__(
        self,
        workers: int,
        max_pending: int,
        on_skip: Callable[[str], None] = lambda why: None,
        *,
        lanes: bool = False,
        memory: float = float("inf"),
    ) -> None:
        self.workers = workers
        self.rooms = Rooms(max_pending)
        self.memory = memory
        self.ends_at = float("inf")
        """`time.monotonic()` seconds by which work should be done: the service is shutting down."""
        self._on_skip = on_skip
        self._queue = FairQueue(memory)
        self._changed = threading.Condition()
        self._closed = False
        threads = [Lane.LONG] * workers + ([Lane.QUICK, Lane.SHORT] if lanes else [])
        for index, lane in enumerate(threads):
            name = f"worker_{index}"
            threading.Thread(target=self._work, args=(lane,), name=name, daemon=True).start()

    @property
    def pending(self) -> int:
        """Inputs waiting or in work."""
        return self.rooms.pending

    def admit(self, inputs: int, client: str = "") -> AbstractContextManager[None]:
        """Hold room for `inputs`. Raises DomainError QUEUE_FULL with advice when to retry."""
        return self.rooms.admit(inputs, client)

    async def run(
        self,
        job: Callable[[], T],
        *,
        deadline: float | None = None,
        client: str = "",
        effort: Effort | None = None,
    ) -> Done[T]:
        """Run `job` in a thread, inside the caller's context variables.

        `deadline` is in `time.monotonic()` seconds. Raises DomainError DEADLINE_TOO_SHORT when it
        passes first. Then, and when the caller is cancelled, a job that has not begun is dropped
        and one that has is asked to stop.
        """
        efforts = None if effort is None else [effort]
        [done] = await self.run_all([job], deadline=deadline, client=client, efforts=efforts)
        return done

    async def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        deadline: float | None = None,
        client: str = "",
        efforts: Sequence[Effort] | None = None,
    ) -> list[Done[T]]:
        """As `run`, for many jobs side by side; the first failure drops those not yet begun."""
        stopped = threading.Event()
        expected = efforts or [Effort()] * len(jobs)
        futures = [
            self._submit(job, deadline, client, effort, stopped)
            for job, effort in zip(jobs, expected, strict=True)
        ]
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        waiting = [asyncio.wrap_future(future) for future in futures]
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await asyncio.gather(*waiting)
        except TimeoutError:
            if scope.expired():
                raise _too_late() from None
            raise
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()
            self.rooms.hold_for(futures)

    def end_by(self, moment: float) -> None:
        """The service is shutting down: searches end by `moment` with what they have."""
        self.ends_at = moment

    def close(self) -> None:
        """Stop the threads; what waits is dropped, what runs is asked to stop."""
        with self._changed:
            self._closed = True
            dropped = list(self._queue.drop_all())
            self._changed.notify_all()
        for job in dropped:
            job.future.cancel()

    @property
    def _ending(self) -> bool:
        return self._closed or time.monotonic() >= self.ends_at

    def _submit(
        self,
        job: Callable[[], T],
        deadline: float | None,
        client: str,
        effort: Effort,
        stopped: threading.Event,
    ) -> Future[Done[T]]:
        queued = time.monotonic()
        context = contextvars.copy_context()

        def timed() -> Done[T]:
            begun = time.monotonic()
            context.run(_stop.set, lambda: stopped.is_set() or self._ending)
            value = context.run(job)
            return Done(value, begun - queued, time.monotonic() - begun)

        work = Job(client, timed, effort.seconds, effort.memory, effort.lane)

        def report(future: Future[Done[T]]) -> None:
            if future.cancelled():
                late = deadline is not None and time.monotonic() >= deadline
                self._on_skip("deadline" if late else "gone")
                with self._changed:
                    self._queue.discard(work)
                    self._changed.notify_all()

        work.future.add_done_callback(report)
        with self._changed:
            if not self._closed:
                self._queue.push(work)
                self._changed.notify_all()
        if self._closed:
            work.future.cancel()
        return work.future

    def _work(self, longest: Lane) -> None:
        """A worker thread: the next job, again and again."""
        while (job := self._next(longest)) is not None:
            begun = time.monotonic()
            # A future that was cancelled in this very moment need not run.
            if job.future.set_running_or_notify_cancel():
                _carry_out(job)
            with self._changed:
                self._queue.ended(job, time.monotonic() - begun)
                self._changed.notify_all()
            del job  # while the thread waits, nobody needs its images

    def _next(self, longest: Lane) -> Job | None:
        """Waits for a job that may run; None: the pool is closed."""
        with self._changed:
            while not self._closed:
                job = self._queue.pop(longest)
                if job is not None:
                    return job
                self._changed.wait()
        return None


def _carry_out(job: Job) -> None:
    try:
        value = job.run()
    except BaseException as error:
        job.future.set_exception(error)
    else:
        job.future.set_result(value)


def _too_late() -> DomainError:
    return DomainError(
        Reason.DEADLINE_TOO_SHORT,
        "the deadline passed before the answer was ready: allow more time or send fewer inputs",
        field="deadline",
    )
