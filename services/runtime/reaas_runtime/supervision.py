"""Background work that must not end by itself: a service that lost a part of it has to end too.

A process whose watcher of keys, models or calls has died looks healthy and is not: a revoked key
goes on working, a port is closed. Nobody restarts what seems to be well. So each such piece of work
is started here; where one ends unasked, health says NOT_SERVING and the process exits non-zero.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

_log = structlog.get_logger("reaas.server")


@dataclass(frozen=True)
class Lost:
    """The first piece of work that ended unasked."""

    name: str
    """What it was, in words for the log: "watcher of models"."""
    why: str
    """Type of the error that ended it, or that it returned."""


class Background:
    """The work behind one service. Made and used in its event loop, but for `start_thread`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Future[Lost] = self._loop.create_future()
        self._closing = False

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until `close`. If it ends before, or is cancelled by anybody else, the
        service ends."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    def start_thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Run `work` in a daemon thread: for what may hang in a system call, as on a lost volume.

        It has to end by itself after `close`: nobody waits for it.
        """

        def run() -> None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as caught:
                error = caught
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended, name, error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    @property
    def whole(self) -> bool:
        """Whether all of it still runs."""
        return not self._lost.done()

    async def lost(self) -> Lost:
        """Return when the first piece of work has ended unasked."""
        return await asyncio.shield(self._lost)

    def closing(self) -> None:
        """From now on ends are asked for."""
        self._closing = True

    async def close(self) -> None:
        """End all tasks and wait for them."""
        self.closing()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._ended(task.get_name(), error)

    def _ended(self, name: str, error: BaseException | None) -> None:
        if self._closing or self._lost.done():
            return
        why = "it returned" if error is None else type(error).__name__
        _log.critical("background work ended unasked", work=name, why=why, exc_info=error)
        self._lost.set_result(Lost(name, why))
