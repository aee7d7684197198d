"""How the synchronous client talks: one message with its retries, a few messages at once."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

import grpc

from reaas._errors import CLOSED, ReaasError, error_of_call
from reaas._flow import BatchFlow, Outgoing, Timed
from reaas._info import read_service_info
from reaas._model import Limits, Service
from reaas._protocol import Answer, Api, Batch, Reply, Request
from reaas._retry import UNLIMITED, Backoff, Deadline
from reaas._session import Purpose, Session
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
        session: Session,
        service: Service,
        rpc: grpc.UnaryUnaryMultiCallable[Request, Reply],
        request: Request,
        purpose: Purpose,
        timeout_s: float | None,
        deadline: Deadline,
    ) -> None:
        self._session, self._service = session, service
        self._rpc, self._request, self._purpose = rpc, request, purpose
        self._timeout_s, self._deadline = timeout_s, deadline
        self._backoff = Backoff(session.options, deadline)
        self._call = self._start()

    def _start(self) -> Any:
        self._address = self._session.endpoint(self._service).address
        left = self._deadline.left()
        timeout = self._timeout_s if left is None else left
        metadata = self._session.metadata(self._purpose)
        return self._rpc.future(self._request, timeout=timeout, metadata=metadata)

    def result(self) -> Reply:
        """The reply, after as many attempts as the options allow. Raises ReaasError."""
        while True:
            try:
                reply: Reply = self._call.result()
                return reply
            except grpc.FutureCancelledError as cancelled:
                raise ReaasError(CLOSED) from cancelled
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

    def ask(
        self,
        service: Service,
        rpc: str,
        request: Any,
        purpose: Purpose,
        deadline: Deadline = UNLIMITED,
    ) -> Any:
        """One call that is not metered."""
        timeout_s = self._session.options.info_timeout_s
        return self._send(service, rpc, request, purpose, timeout_s, deadline).result()

    def call(
        self,
        api: Api[Request, Reply, Answer],
        batch: Batch[Request],
        purpose: Purpose,
        deadline: Deadline,
    ) -> Answer:
        """One batch, in as many messages as it needs."""
        limits = self._limits_of(api.service, purpose, deadline)
        (answer,) = self._run(api, [(batch, deadline)], limits, purpose)
        return answer

    def stream(
        self,
        api: Api[Request, Reply, Answer],
        batches: Iterable[Batch[Request]],
        purpose: Purpose,
        timeout: float | None,
    ) -> Iterator[Answer]:
        """Many batches: an answer for each, in order. `timeout` is for each batch."""
        limits = self._limits_of(api.service, purpose, self._session.deadline(timeout))
        timed = ((batch, self._session.deadline(timeout)) for batch in batches)
        yield from self._run(api, timed, limits, purpose)

    def _run(
        self,
        api: Api[Request, Reply, Answer],
        batches: Iterable[Timed[Request]],
        limits: Limits,
        purpose: Purpose,
    ) -> Iterator[Answer]:
        """Sends the messages, `messages_in_flight` at once; yields the answer to each batch."""
        options = self._session.options
        flow = BatchFlow(api, limits, options)
        window: deque[tuple[Outgoing[Request], _Sending[Request, Reply]]] = deque()

        def finish_oldest() -> list[Answer]:
            sent, sending = window[0]  # It stays there, to be cancelled, until it is answered.
            reply = sending.result()
            window.popleft()
            self._session.account(api, sent.want, reply, purpose)
            return flow.incoming(sent, reply)

        try:
            # A message is asked for when it can leave: its share of the time begins there.
            for out in flow.outgoing(batches):
                timeout_s, until = limits.default_timeout_s, out.deadline
                sending = self._send(api.service, api.rpc, out.request, purpose, timeout_s, until)
                window.append((out, sending))
                if len(window) == options.messages_in_flight:
                    yield from finish_oldest()
            while window:
                yield from finish_oldest()
        finally:
            for _, sending in window:
                sending.cancel()
        flow.finish()

    def _send(
        self,
        service: Service,
        rpc: str,
        request: Any,
        purpose: Purpose,
        timeout_s: float | None,
        deadline: Deadline,
    ) -> _Sending[Any, Any]:
        self._session.endpoint(service)  # Raises where there is no stub to call.
        multicallable = getattr(self._stubs[service], rpc)
        return _Sending(
            self._session, service, multicallable, request, purpose, timeout_s, deadline
        )

    def _limits_of(self, service: Service, purpose: Purpose, deadline: Deadline) -> Limits:
        if service not in self._limits:
            request = model_pb2.GetInfoRequest()
            reply = self.ask(service, "GetInfo", request, purpose, deadline)
            self._limits[service] = read_service_info(reply).limits
        return self._limits[service]
