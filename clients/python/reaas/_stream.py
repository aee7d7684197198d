"""Batches over one stream: which replies belong to which batch, without any I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Generic

from reaas._errors import ProtocolError
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


class StreamState(Generic[Request, Reply, Answer]):
    """Matches the replies of a stream with its requests, in order, and joins split batches.

    gRPC takes requests on a thread of its own while replies are read on the caller's; a deque and
    one reference are all that the two share.
    """

    def __init__(
        self, api: Api[Request, Reply, Answer], limits: Limits, preferred_bytes: int
    ) -> None:
        self._api, self._limits, self._preferred_bytes = api, limits, preferred_bytes
        self._sent: deque[tuple[Expected, bool]] = deque()
        self._parts: list[Answer] = []
        self._first: Answer | None = None
        self._failure: BaseException | None = None

    def outgoing(self, batches: Iterable[Batch[Request]]) -> Iterator[Request]:
        """The messages of all batches. What the caller's iterable raises ends them; see finish."""
        try:
            for batch in batches:
                yield from self._messages(batch)
        except Exception as failure:
            self._failure = failure

    async def outgoing_async(
        self, batches: AsyncIterable[Batch[Request]]
    ) -> AsyncIterator[Request]:
        """As `outgoing`."""
        try:
            async for batch in batches:
                for request in self._messages(batch):
                    yield request
        except Exception as failure:
            self._failure = failure

    def _messages(self, batch: Batch[Request]) -> Iterator[Request]:
        slices = batch.split(self._limits, self._preferred_bytes)
        for part in slices:
            request = batch.request(part)
            self._sent.append((expected(request), part is slices[-1]))
            yield request

    def next_expected(self) -> Expected:
        """What the next reply must be. Raises ProtocolError where none was asked for."""
        if not self._sent:
            raise ProtocolError("reply: the stream has more replies than requests")
        return self._sent[0][0]

    def take(self, reply: Reply) -> Answer | None:
        """The joined answer if this reply completes its batch, else None."""
        want, is_last = self._sent.popleft()
        part = self._api.read(want, reply)
        self._first = self._first or part
        check_one_encoder([self._first, part])
        self._parts.append(part)
        if not is_last:
            return None
        answer = self._api.join(self._parts)
        self._parts = []
        return answer

    def finish(self) -> None:
        """To be called when the stream has ended: raises what the caller's iterable raised."""
        if self._failure is not None:
            raise self._failure
        if self._sent:
            raise ProtocolError(f"reply: the stream ended {len(self._sent)} replies short")
