"""Bounded work in threads: admission by inputs, deadlines honoured while waiting."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from reaas_runtime.errors import DomainError, Reason

T = TypeVar("T")
# Weight of the newest measurement in the running mean behind the advice when to retry.
_SMOOTHING = 0.2


@dataclass(frozen=True)
class Done(Generic[T]):
    """Result of a job and where its time went, in seconds."""

    value: T
    queue_seconds: float
    busy_seconds: float


class WorkerPool:
    """Threads for what would block the event loop.

    `admit` bounds the inputs in the house, `run` executes one job. A job whose caller has gone, or
    whose deadline has passed while it waited, is skipped and reported to `on_skip`. Use from one
    event loop.
    """

    def __init__(
        self, workers: int, max_pending: int, on_skip: Callable[[str], None] = lambda why: None
    ) -> None:
        self.workers = workers
        self.max_pending = max_pending
        self.pending = 0
        self._on_skip = on_skip
        self._seconds_per_input = 0.0
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")

    @contextmanager
    def admit(self, inputs: int) -> Iterator[None]:
        """Hold room for `inputs`. Raises DomainError QUEUE_FULL with advice when to retry."""
        if self.pending + inputs > self.max_pending:
            raise DomainError(
                Reason.QUEUE_FULL,
                f"{self.pending} inputs are waiting; with these {inputs} it would be more than "
                f"{self.max_pending}",
                got=self.pending + inputs,
                limit=self.max_pending,
                retry_after_s=self._retry_after(),
            )
        self.pending += inputs
        begun = time.monotonic()
        try:
            yield
        finally:
            # Little's law on what went through: waiting callers see this pace.
            pace = (time.monotonic() - begun) / max(self.pending, 1)
            self._seconds_per_input += _SMOOTHING * (pace - self._seconds_per_input)
            self.pending -= inputs

    async def run(self, job: Callable[[], T], *, deadline: float | None = None) -> Done[T]:
        """Run `job` in a thread, inside the caller's context variables.

        `deadline` is in `time.monotonic()` seconds. Raises DomainError DEADLINE_TOO_SHORT when it
        passes first; a job that has begun is then left to end by itself. Cancelling the caller
        drops a job that has not begun.
        """
        [done] = await self.run_all([job], deadline=deadline)
        return done

    async def run_all(
        self, jobs: Sequence[Callable[[], T]], *, deadline: float | None = None
    ) -> list[Done[T]]:
        """As `run`, for many jobs side by side; the first failure drops those not yet begun."""
        futures = [self._submit(job, deadline) for job in jobs]
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
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Stop the threads; what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submit(self, job: Callable[[], T], deadline: float | None) -> Future[Done[T]]:
        queued = time.monotonic()
        context = contextvars.copy_context()

        def timed() -> Done[T]:
            begun = time.monotonic()
            value = context.run(job)
            return Done(value, begun - queued, time.monotonic() - begun)

        def report(future: Future[Done[T]]) -> None:
            if future.cancelled():
                late = deadline is not None and time.monotonic() >= deadline
                self._on_skip("deadline" if late else "gone")

        future = self._threads.submit(timed)
        future.add_done_callback(report)
        return future

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, self._seconds_per_input * self.pending))


def _too_late() -> DomainError:
    return DomainError(
        Reason.DEADLINE_TOO_SHORT,
        "the deadline passed before the answer was ready: allow more time or send fewer inputs",
        field="deadline",
    )
