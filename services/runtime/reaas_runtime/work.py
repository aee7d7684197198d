"""Bounded work in threads: admission by inputs, fair turns, deadlines honoured while waiting."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.fair import FairQueue, Job, Lane

T = TypeVar("T")
Stop = Callable[[], bool]
# Weight of the newest measurement in the running mean behind the advice when to retry.
_SMOOTHING = 0.2
# What one client may hold of the room that others leave: however many such clients there are,
# something is left for the next one.
_SHARE = 0.8

_stop: ContextVar[Stop] = ContextVar("reaas_stop")
_room: ContextVar[_Room] = ContextVar("reaas_room")


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


@dataclass(eq=False)
class _Room:
    """Room held for a message: until its handler is done and its threads are free."""

    client: str
    inputs: int
    running: set[Future[Any]] = field(default_factory=set)
    left: bool = False


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
        self.max_pending = max_pending
        self.memory = memory
        self.pending = 0
        self.ends_at = float("inf")
        """`time.monotonic()` seconds by which work should be done: the service is shutting down."""
        self._held: Counter[str] = Counter()
        self._on_skip = on_skip
        self._seconds_per_input = 0.0
        self._queue = FairQueue(memory)
        self._changed = threading.Condition()
        self._closed = False
        threads = [Lane.LONG] * workers + ([Lane.QUICK, Lane.SHORT] if lanes else [])
        for index, lane in enumerate(threads):
            name = f"worker_{index}"
            threading.Thread(target=self._work, args=(lane,), name=name, daemon=True).start()

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
            self._hold_for(futures)

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

    def _hold_for(self, futures: Sequence[Future[Done[T]]]) -> None:
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

    def _give_back(self, room: _Room) -> None:
        if not room.left or room.running or not room.inputs:
            return
        self.pending -= room.inputs
        self._held[room.client] -= room.inputs
        if self._held[room.client] <= 0:
            del self._held[room.client]
        room.inputs = 0

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

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, self._seconds_per_input * self.pending))


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
