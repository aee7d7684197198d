"""Batches on their way: split into messages, joined from replies. Without any I/O.

Streams of batches travel as unary calls, a few at once, and not over one gRPC stream: that would
stay with one replica, could not be sent again after a restart, and grpc.aio loses the status of a
stream that the service ends while the client still writes.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic

from reaas._channel import ChannelOptions
from reaas._model import Limits
from reaas._protocol import (
    Answer,
    Api,
    Batch,
    Expected,
    Reply,
    Request,
    check_one_encoder,
    expected,
)
from reaas._retry import Deadline

Timed = tuple[Batch[Request], Deadline]


@dataclass(frozen=True)
class Outgoing(Generic[Request]):
    """One message, ready to be sent."""

    request: Request
    want: Expected
    deadline: Deadline
    ends_batch: bool


class BatchFlow(Generic[Request, Reply, Answer]):
    """Takes batches apart and puts their answers together, in order."""

    def __init__(
        self, api: Api[Request, Reply, Answer], limits: Limits, options: ChannelOptions
    ) -> None:
        self._api: Api[Request, Reply, Answer] = api
        self._limits, self._options = limits, options
        self._parts: list[Answer] = []
        self._first: Answer | None = None
        self._failure: Exception | None = None

    def outgoing(self, batches: Iterable[Timed[Request]]) -> Iterator[Outgoing[Request]]:
        """The messages of all batches. What `batches` raises ends them; `finish` raises it."""
        try:
            for batch, deadline in batches:
                yield from self._messages(batch, deadline)
        except Exception as failure:
            self._failure = failure

    async def outgoing_async(
        self, batches: AsyncIterable[Timed[Request]]
    ) -> AsyncIterator[Outgoing[Request]]:
        """As `outgoing`."""
        try:
            async for batch, deadline in batches:
                for message in self._messages(batch, deadline):
                    yield message
        except Exception as failure:
            self._failure = failure

    def _messages(self, batch: Batch[Request], deadline: Deadline) -> Iterator[Outgoing[Request]]:
        most_inputs = self._options.perturb_message_inputs if self._api.divides_time else None
        parts = batch.split(self._limits, self._options.preferred_message_bytes, most_inputs)
        for index, part in enumerate(parts):
            request, rounds_left = batch.request(part), len(parts) - index
            until = deadline
            if self._api.divides_time:
                until = deadline.share(math.ceil(rounds_left / self._options.messages_in_flight))
            yield Outgoing(request, expected(request), until, ends_batch=rounds_left == 1)

    def incoming(self, sent: Outgoing[Request], reply: Reply) -> list[Answer]:
        """The joined answer if this reply completes its batch, else nothing.

        Raises ProtocolError, or DigestMismatchError where two encoders have answered.
        """
        part = self._api.read(sent.want, reply)
        self._first = self._first or part
        check_one_encoder([self._first, part])
        self._parts.append(part)
        if not sent.ends_batch:
            return []
        answer, self._parts = self._api.join(self._parts), []
        return [answer]

    def finish(self) -> None:
        """To be called after the last reply."""
        if self._failure is not None:
            raise self._failure
