"""A run as it goes on, for any number of watchers: each one reads what is on disk by itself.

So a watcher that comes back names what it has seen and misses nothing, whoever answers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from reaas.v1 import pretrain_pb2
from reaas_runtime import DomainError, Reason

from reaas_pretrain.service.messages import log_event, progress_event, to_message
from reaas_pretrain.service.progress import chunks, rows
from reaas_pretrain.service.store import RunStore

Event = pretrain_pb2.WatchRunResponse


@dataclass
class Watcher:
    """How far one watcher has seen a run."""

    store: RunStore
    run_id: str
    after_epoch: int = 0
    log_offset: int = 0

    async def events(self, poll_s: float, stopping: asyncio.Event) -> AsyncIterator[Event]:
        """Everything that happens until the run has ended; the first and last event are the run.

        Raises DomainError RUN_NOT_FOUND, RUN_BROKEN, and DRAINING once `stopping` is set.
        """
        told: pretrain_pb2.Run | None = None
        while True:
            # The state before the output: a run that has ended writes no more.
            run = self.store.get(self.run_id)
            message = await asyncio.to_thread(to_message, run, self.store.directory(self.run_id))
            if message != told:
                yield Event(run=message)
                told = message
            for event in await asyncio.to_thread(self._news, run.has_ended):
                yield event
            if run.has_ended:
                yield Event(run=message)
                return
            if stopping.is_set():
                raise DomainError(
                    Reason.DRAINING,
                    "the service is shutting down: watch again",
                    retry_after_s=1.0,
                )
            await _sleep(poll_s, stopping)

    def _news(self, ended: bool) -> list[Event]:
        return list(self._read(ended))

    def _read(self, ended: bool) -> Iterator[Event]:
        directory = self.store.directory(self.run_id)
        for row in rows(directory, self.after_epoch):
            self.after_epoch = row.epoch
            yield progress_event(row)
        for chunk in chunks(directory, self.log_offset, complete=ended):
            self.log_offset = chunk.end
            yield log_event(chunk)


async def _sleep(seconds: float, stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
