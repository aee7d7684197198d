"""How the synchronous client talks: one message with its retries, a split batch, a stream."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

import grpc

from reaas._channel import ChannelOptions
from reaas._errors import error_of_call
from reaas._info import read_service_info
from reaas._model import Limits, Service
from reaas._protocol import Answer, Api, Batch, Expected, Reply, Request, expected
from reaas._retry import Backoff, Deadline
from reaas._session import Metadata, Purpose, Session
from reaas._stream import StreamState
from reaas.v1 import encoder_pb2_grpc, f2i_pb2_grpc, model_pb2

_log = logging.getLogger("reaas")
_STUBS: dict[Service, Callable[[grpc.Channel], Any]] = {
    Service.ENCODER: encoder_pb2_grpc.EncoderServiceStub,
    Service.F2I: f2i_pb2_grpc.F2IServiceStub,
}


class _Sending(Generic[Request, Reply]):
    """One message on its way: sent at once, and again until it is answered."""

    def __init__(
        self,
        rpc: grpc.UnaryUnaryMultiCallable[Request, Reply],
        request: Request,
        metadata: Metadata,
        address: str,
        timeout_s: float | None,
        deadline: Deadline,
        options: ChannelOptions,
    ) -> None:
        self._rpc, self._request, self._metadata = rpc, request, metadata
        self._address, self._timeout_s, self._deadline = address, timeout_s, deadline
        self._backoff = Backoff(options, deadline)
        self._call = self._start()

    def _start(self) -> Any:
        left = self._deadline.left()
        timeout = self._timeout_s if left is None else left
        return self._rpc.future(self._request, timeout=timeout, metadata=self._metadata)

    def result(self) -> Reply:
        """The reply, after as many attempts as the options allow. Raises ReaasError."""
        while True:
            try:
                reply: Reply = self._call.result()
                return reply
            except grpc.RpcError as failed:
                error = error_of_call(failed, self._address)
                delay = self._backoff.delay(error)
                if delay is None:
                    raise error from failed
            _log.info("%s; trying again in %.1f s", error, delay)
            time.sleep(delay)
            self._call = self._start()

    def cancel(self) -> None:
        """Tells the service that nobody waits any more."""
        self._call.cancel()


class Transport:
    """The channels of a client and of those derived from it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channels = {name: end.open() for name, end in session.endpoints.items()}
        self._stubs = {name: _STUBS[name](channel) for name, channel in self._channels.items()}
        self._limits: dict[Service, Limits] = {}

    def close(self) -> None:
        """Closes the channels; calls under way are cancelled."""
        self._session.closed = True
        for channel in self._channels.values():
            channel.close()

    def ask(self, service: Service, rpc: str, request: Any, purpose: Purpose) -> Any:
        """One call that is not metered."""
        timeout_s = self._session.options.info_timeout_s
        return self._send(service, rpc, request, purpose, timeout_s, Deadline(None)).result()

    def call(
        self,
        api: Api[Request, Reply, Answer],
        batch: Batch[Request],
        purpose: Purpose,
        deadline: Deadline,
    ) -> Answer:
        """A batch in as many messages as it needs, a few of them on their way at once."""
        limits, options = self._limits_of(api.service, purpose), self._session.options
        slices = batch.split(limits, options.preferred_message_bytes)
        at_once = options.messages_in_flight
        window: deque[tuple[Expected, _Sending[Request, Reply]]] = deque()
        parts: list[Answer] = []
        try:
            for index, part in enumerate(slices):
                if len(window) == at_once:
                    parts.append(self._finish(api, window, purpose))
                rounds = math.ceil((len(slices) - index) / at_once)
                until = deadline.share(rounds) if api.divides_time else deadline
                request = batch.request(part)
                timeout_s = limits.default_timeout_s
                sending = self._send(api.service, api.unary, request, purpose, timeout_s, until)
                window.append((expected(request), sending))
            while window:
                parts.append(self._finish(api, window, purpose))
        finally:
            for _, sending in window:
                sending.cancel()
        return api.join(parts)

    def stream(
        self,
        api: Api[Request, Reply, Answer],
        batches: Iterable[Batch[Request]],
        purpose: Purpose,
        deadline: Deadline,
    ) -> Iterator[Answer]:
        """Many batches over one stream: an answer for each, in order."""
        limits, address = self._limits_of(api.service, purpose), self._address(api.service)
        state = StreamState(api, limits, self._session.options.preferred_message_bytes)
        call = getattr(self._stubs[api.service], api.stream)(
            state.outgoing(batches),
            timeout=deadline.left(),
            metadata=self._session.metadata(purpose),
        )
        try:
            for reply in call:
                self._session.account(api, state.next_expected(), reply, purpose)
                answer = state.take(reply)
                if answer is not None:
                    yield answer
        except grpc.RpcError as failed:
            raise error_of_call(failed, address) from failed
        finally:
            call.cancel()
        state.finish()

    def _address(self, service: Service) -> str:
        return self._session.endpoint(service).address

    def _send(
        self,
        service: Service,
        rpc: str,
        request: Any,
        purpose: Purpose,
        timeout_s: float | None,
        deadline: Deadline,
    ) -> _Sending[Any, Any]:
        address = self._address(service)
        multicallable = getattr(self._stubs[service], rpc)
        metadata, options = self._session.metadata(purpose), self._session.options
        return _Sending(multicallable, request, metadata, address, timeout_s, deadline, options)

    def _finish(
        self,
        api: Api[Request, Reply, Answer],
        window: deque[tuple[Expected, _Sending[Request, Reply]]],
        purpose: Purpose,
    ) -> Answer:
        want, sending = window[0]  # It stays in the window, to be cancelled, until it is answered.
        reply = sending.result()
        window.popleft()
        self._session.account(api, want, reply, purpose)
        return api.read(want, reply)

    def _limits_of(self, service: Service, purpose: Purpose) -> Limits:
        if service not in self._limits:
            reply = self.ask(service, "GetInfo", model_pb2.GetInfoRequest(), purpose)
            self._limits[service] = read_service_info(reply).limits
        return self._limits[service]
