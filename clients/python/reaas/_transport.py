"""How the synchronous client talks: one message with its retries, a few messages at once."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic

import grpc

from reaas._attempts import Attempts, Message, not_metered
from reaas._errors import CLOSED, ReaasError, error_of_call
from reaas._flow import BatchFlow, Outgoing, Timed
from reaas._info import read_service_info
from reaas._model import Limits, Service
from reaas._protocol import Answer, Api, Batch, Reply, Request
from reaas._retry import UNLIMITED, Deadline
from reaas._session import Purpose, Session
from reaas.v1 import encoder_pb2_grpc, f2i_pb2_grpc, model_pb2

_log = logging.getLogger("reaas")
_STUBS: dict[Service, Callable[[grpc.Channel], Any]] = {
    Service.ENCODER: encoder_pb2_grpc.EncoderServiceStub,
    Service.F2I: f2i_pb2_grpc.F2IServiceStub,
}


class _Sending(Generic[Request, Reply]):
    """One message on its way: sent at once, and again until it is answered."""

    def __init__(self, session: Session, message: Message, attempts: Attempts) -> None:
        self._session, self._message, self._attempts = session, message, attempts
        self._under_way: dict[Any, float] = {}  # With the time of their beginning.
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._start()

    def _start(self) -> None:
        self._address = self._session.endpoint(self._message.service).address
        call = self._message.rpc.future(
            self._message.request,
            timeout=self._attempts.timeout(),
            metadata=self._session.metadata(self._message.purpose),
        )
        self._under_way[call] = time.monotonic()
        call.add_done_callback(self._done.put)

    def result(self) -> Reply:
        """The reply, after as many attempts as the options allow. Raises ReaasError."""
        while True:
            call = self._next_done()
            took_s = time.monotonic() - self._under_way.pop(call)
            try:
                reply: Reply = call.result()
            except grpc.FutureCancelledError as cancelled:
                raise ReaasError(CLOSED) from cancelled
            except grpc.RpcError as failed:
                error = error_of_call(failed, self._address)
                if not error.reason:
                    self._message.unconfirmed()
                if self._under_way:  # The second one may still be answered.
                    continue
                delay = self._attempts.delay(error, took_s)
                if delay is None:
                    raise error from failed
            else:
                self.cancel()
                return reply
            _log.info("%s; trying again in %.1f s", error, delay)
            time.sleep(delay)
            self._start()

    def _next_done(self) -> Any:
        """The next attempt that has ended; where it takes long, another one is made beside it."""
        hedge_after_s = self._session.options.hedge_after_s
        if hedge_after_s is not None and len(self._under_way) == 1:
            (begun,) = self._under_way.values()
            try:
                return self._done.get(timeout=max(0.0, begun + hedge_after_s - time.monotonic()))
            except Empty:
                self._start()
        return self._done.get()

    def cancel(self) -> None:
        """Tells the service that nobody waits any more."""
        for call in self._under_way:
            call.cancel()
            self._message.unconfirmed()
        self._under_way.clear()


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
        message = Message(service, self._rpc(service, rpc), request, purpose, not_metered)
        return self._send(message, deadline, self._session.options.info_timeout_s).result()

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
                unheard = partial(self._session.account_unconfirmed, api, out.want, purpose)
                rpc = self._rpc(api.service, api.rpc)
                message = Message(api.service, rpc, out.request, purpose, unheard)
                until, timeout_s = out.deadline, limits.default_timeout_s
                sending = self._send(message, until, timeout_s, undivided=api.divides_time)
                window.append((out, sending))
                if len(window) == options.messages_in_flight:
                    yield from finish_oldest()
            while window:
                yield from finish_oldest()
        finally:
            for _, sending in window:
                sending.cancel()
        flow.finish()

    def _rpc(self, service: Service, name: str) -> Any:
        self._session.endpoint(service)  # Raises where there is no stub to call.
        return getattr(self._stubs[service], name)

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

    def _limits_of(self, service: Service, purpose: Purpose, deadline: Deadline) -> Limits:
        if service not in self._limits:
            request = model_pb2.GetInfoRequest()
            reply = self.ask(service, "GetInfo", request, purpose, deadline)
            self._limits[service] = read_service_info(reply).limits
        return self._limits[service]
