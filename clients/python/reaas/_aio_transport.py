"""How the asynchronous client talks: as `_transport`, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Generic, TypeVar

from grpc import aio

from reaas._attempts import Attempts, Message, not_metered
from reaas._errors import CLOSED, UNDECODABLE_REPLY, ProtocolError, ReaasError, error_of_call
from reaas._flow import BatchFlow, Outgoing, Timed
from reaas._info import read_service_info
from reaas._model import Limits, Service
from reaas._protocol import Answer, Api, Batch, Reply, Request
from reaas._retry import UNLIMITED, Deadline
from reaas._session import Purpose, Session
from reaas.v1 import encoder_pb2_grpc, f2i_pb2_grpc, model_pb2

Item = TypeVar("Item")
_log = logging.getLogger("reaas")
_STUBS: dict[Service, Callable[[aio.Channel], Any]] = {
    Service.ENCODER: encoder_pb2_grpc.EncoderServiceStub,
    Service.F2I: f2i_pb2_grpc.F2IServiceStub,
}


class _Sending(Generic[Request, Reply]):
    """One message on its way: sent at once, and again until it is answered."""

    def __init__(self, session: Session, message: Message, attempts: Attempts) -> None:
        self._session, self._message, self._attempts = session, message, attempts
        self._under_way: dict[Any, float] = {}  # With the time of their beginning.
        self._done: asyncio.Queue[Any] = asyncio.Queue()
        self._start()

    def _start(self) -> None:
        self._address = self._session.endpoint(self._message.service).address
        call = self._message.rpc(
            self._message.request,
            timeout=self._attempts.timeout(),
            metadata=self._session.metadata(self._message.purpose),
        )
        self._under_way[call] = time.monotonic()
        call.add_done_callback(self._done.put_nowait)

    async def result(self) -> Reply:
        """The reply, after as many attempts as the options allow. Raises ReaasError."""
        try:
            return await self._result()
        finally:
            self.cancel()  # What is still under way when the caller goes, or another one won.

    async def _result(self) -> Reply:
        while True:
            call = await self._next_done()
            took_s = time.monotonic() - self._under_way.pop(call)
            try:
                reply: Reply | None = await call
                if reply is None:  # So grpc.aio says that it could not be parsed.
                    raise ProtocolError(f"{self._address}: {UNDECODABLE_REPLY}")
                return reply
            except asyncio.CancelledError:
                if self._session.closed and not _is_cancelled():
                    raise ReaasError(CLOSED) from None
                raise
            except aio.AioRpcError as failed:
                error = error_of_call(failed, self._address)
                if not error.reason:
                    self._message.unconfirmed()
                if self._under_way:  # The second one may still be answered.
                    continue
                delay = self._attempts.delay(error, took_s)
                if delay is None:
                    raise error from failed
            _log.info("%s; trying again in %.1f s", error, delay)
            await asyncio.sleep(delay)
            self._start()

    async def _next_done(self) -> Any:
        """The next attempt that has ended; where it takes long, another one is made beside it."""
        hedge_after_s = self._session.options.hedge_after_s
        if hedge_after_s is not None and len(self._under_way) == 1:
            (begun,) = self._under_way.values()
            try:
                async with asyncio.timeout(max(0.0, begun + hedge_after_s - time.monotonic())):
                    return await self._done.get()
            except TimeoutError:
                self._start()
        return await self._done.get()

    def cancel(self) -> None:
        """Tells the service that nobody waits any more."""
        for call in self._under_way:
            call.cancel()
            self._message.unconfirmed()
        self._under_way.clear()


class AsyncTransport:
    """The channels of a client and of those derived from it, opened on the loop that calls."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channels: dict[Service, aio.Channel] = {}
        self._limits: dict[Service, Limits] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Closes the channels; calls under way are cancelled."""
        self._session.closed = True
        for channel in self._channels.values():
            await channel.close()

    async def ask(
        self,
        service: Service,
        rpc: str,
        request: Any,
        purpose: Purpose,
        deadline: Deadline = UNLIMITED,
    ) -> Any:
        """One call that is not metered."""
        message = Message(service, self._rpc(service, rpc), request, purpose, not_metered)
        return await self._send(message, deadline, self._session.options.info_timeout_s).result()

    async def call(
        self,
        api: Api[Request, Reply, Answer],
        batch: Batch[Request],
        purpose: Purpose,
        deadline: Deadline,
    ) -> Answer:
        """One batch, in as many messages as it needs."""
        limits = await self._limits_of(api.service, purpose, deadline)
        source = _each([(batch, deadline)])
        (answer,) = [answer async for answer in self._run(api, source, limits, purpose)]
        return answer

    async def stream(
        self,
        api: Api[Request, Reply, Answer],
        batches: AsyncIterable[Batch[Request]],
        purpose: Purpose,
        timeout: float | None,
    ) -> AsyncIterator[Answer]:
        """Many batches: an answer for each, in order. `timeout` is for each batch."""
        limits = await self._limits_of(api.service, purpose, self._session.deadline(timeout))
        timed = ((batch, self._session.deadline(timeout)) async for batch in batches)
        async with aclosing(self._run(api, timed, limits, purpose)) as answers:
            async for answer in answers:
                yield answer

    async def _run(
        self,
        api: Api[Request, Reply, Answer],
        batches: AsyncIterable[Timed[Request]],
        limits: Limits,
        purpose: Purpose,
    ) -> AsyncGenerator[Answer, None]:
        """Sends the messages, `messages_in_flight` at once; yields the answer to each batch."""
        options = self._session.options
        flow = BatchFlow(api, limits, options)
        window: deque[tuple[Outgoing[Request], _Sending[Request, Reply]]] = deque()

        async def finish_oldest() -> list[Answer]:
            sent, sending = window[0]  # It stays there, to be cancelled, until it is answered.
            reply = await sending.result()
            window.popleft()
            self._session.account(api, sent.want, reply, purpose)
            return flow.incoming(sent, reply)

        try:
            # A message is asked for when it can leave: its share of the time begins there.
            async for out in flow.outgoing_async(batches):
                unheard = partial(self._session.account_unconfirmed, api, out.want, purpose)
                rpc = self._rpc(api.service, api.rpc)
                message = Message(api.service, rpc, out.request, purpose, unheard)
                until, timeout_s = out.deadline, limits.default_timeout_s
                sending = self._send(message, until, timeout_s, undivided=api.divides_time)
                window.append((out, sending))
                if len(window) == options.messages_in_flight:
                    for answer in await finish_oldest():
                        yield answer
            while window:
                for answer in await finish_oldest():
                    yield answer
        finally:
            for _, sending in window:
                sending.cancel()
        flow.finish()

    def _rpc(self, service: Service, name: str) -> Any:
        return getattr(self._stub(service), name)

    def _send(
        self,
        message: Message,
        deadline: Deadline,
        timeout_s: float | None,
        *,
        undivided: bool = False,
    ) -> _Sending[Any, Any]:
        replicas = self._session.endpoint(message.service).replicas
        attempts = Attempts(
            self._session.options, deadline, timeout_s, replicas=replicas, undivided=undivided
        )
        return _Sending(self._session, message, attempts)

    def _stub(self, service: Service) -> Any:
        """The stub of a service; the channel is opened where it is needed first."""
        endpoint, loop = self._session.endpoint(service), asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise ReaasError("this client belongs to another event loop; make one for each")
        self._loop = loop
        if service not in self._channels:
            self._channels[service] = endpoint.open_aio()
        return _STUBS[service](self._channels[service])

    async def _limits_of(self, service: Service, purpose: Purpose, deadline: Deadline) -> Limits:
        if service not in self._limits:
            request = model_pb2.GetInfoRequest()
            reply = await self.ask(service, "GetInfo", request, purpose, deadline)
            self._limits[service] = read_service_info(reply).limits
        return self._limits[service]


async def _each(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


def _is_cancelled() -> bool:
    """Whether somebody wants the running task itself to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
