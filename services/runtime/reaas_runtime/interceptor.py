"""Around every call: identity, deadline, exact byte counts, metering, error mapping, one log line.

Handlers are rewrapped without (de)serializers, so that this module sees the raw bytes: what is
metered is what was on the wire, and a message that cannot be decoded is a typed error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from reaas_runtime.call import PHASES, SCHEMES, Call, enter_call, read_choice, read_draws
from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.identity import ANONYMOUS, ApiKeys
from reaas_runtime.metering import FRAME_BYTES, Meter, RpcName
from reaas_runtime.pace import CallLimiter, key_caller, peer_caller
from reaas_runtime.quota import Quotas, parse_limits
from reaas_runtime.settings import ServerSettings
from reaas_runtime.status import abort, code_of

# Answered from state for balancers and tools: no key, no metering.
OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)

# Refusals that say nothing against the caller, or that have been counted.
_NOT_ITS_FAULT = frozenset(
    {
        Reason.TOO_MANY_CALLS,
        Reason.QUEUE_FULL,
        Reason.NOT_READY,
        Reason.DRAINING,
        Reason.DEADLINE_TOO_SHORT,
    }
)

_log = structlog.get_logger("reaas.calls")
Context = grpc.aio.ServicerContext[Any, Any]
# grpc's own type is generic for type checkers only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the product's own services."""

    def __init__(self, keys: ApiKeys, meter: Meter, settings: ServerSettings) -> None:
        self.keys = keys
        self.draining = False
        self._meter = meter
        self._settings = settings
        self.quotas = Quotas(parse_limits(settings.default_limits, "default_limits"))
        self.limiter = CallLimiter(settings.max_calls_per_s, settings.max_refusals_per_s)
        self._held_bytes = 0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Replace the handler by one on raw bytes."""
        handler = await continuation(handler_call_details)
        _, service, method = str(handler_call_details.method).split("/", 2)
        if handler is None or service in OPEN_SERVICES:
            return handler
        if handler.unary_unary is not None:
            return self._unary(handler, RpcName("unary", service, method))
        if handler.unary_stream is not None:
            return self._server_stream(handler, RpcName("server_streaming", service, method))
        if handler.stream_stream is not None:
            return self._stream(handler, RpcName("bidi_streaming", service, method))
        raise NotImplementedError(f"{service}/{method}: no metering for this kind of method")

    async def wait_idle(self) -> None:
        """Return when no call is in flight."""
        await self._idle.wait()

    def _unary(self, handler: Handler, rpc: RpcName) -> Handler:
        answer = cast(Callable[..., Awaitable[Message]], handler.unary_unary)

        async def behaviour(raw: bytes, context: Context) -> bytes:
            async with self._accounted(rpc, context) as call:
                self._begin_message(call, context, len(raw))
                reply = await answer(_decode(handler, raw), context)
                return self._settle(call, reply)
            raise AssertionError("unreachable")  # pragma: no cover

        return grpc.unary_unary_rpc_method_handler(behaviour)

    def _server_stream(self, handler: Handler, rpc: RpcName) -> Handler:
        """One request, many replies: a look at something, never a query."""
        answer = cast(Callable[..., AsyncIterator[Message]], handler.unary_stream)

        async def behaviour(raw: bytes, context: Context) -> AsyncIterator[bytes]:
            async with self._accounted(rpc, context) as call:
                self._begin_message(call, context, len(raw))
                call.totals["request_bytes"] += len(raw) + FRAME_BYTES
                async for reply in answer(_decode(handler, raw), context):
                    yield _serialise(call, reply)

        return grpc.unary_stream_rpc_method_handler(behaviour)

    def _stream(self, handler: Handler, rpc: RpcName) -> Handler:
        answer = cast(Callable[..., AsyncIterator[Message]], handler.stream_stream)

        async def behaviour(raws: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async with self._accounted(rpc, context) as call:

                async def requests() -> AsyncIterator[Message]:
                    async for raw in raws:
                        self._begin_message(call, context, len(raw))
                        yield _decode(handler, raw)

                async for reply in answer(requests(), context):
                    yield self._settle(call, reply)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    def _begin_message(self, call: Call, context: Context, size: int) -> None:
        """Give the message its deadline: the client's, else the service's default from now on."""
        if self.draining:
            raise DomainError(
                Reason.DRAINING, "the service is shutting down: ask again", retry_after_s=1.0
            )
        call.messages += 1
        if call.messages > 1:
            self.limiter.enter(call.caller)
            self._check_key(call, context)
        self._hold(call, size)
        remaining = context.time_remaining()
        seconds = self._settings.default_deadline_s if remaining is None else remaining
        call.deadline = time.monotonic() + seconds
        call.cost = None

    def _hold(self, call: Call, size: int) -> None:
        """Replace what `call` holds in memory by `size` bytes. Raises DomainError QUEUE_FULL."""
        held = self._held_bytes - call.held_bytes + size
        if size and held > self._settings.max_pending_bytes:
            raise DomainError(
                Reason.QUEUE_FULL,
                f"messages of {held - size} bytes are waiting; with this one of {size} it would be "
                f"more than {self._settings.max_pending_bytes}",
                got=held,
                limit=self._settings.max_pending_bytes,
                retry_after_s=1.0,
            )
        self._held_bytes, call.held_bytes = held, size

    def _settle(self, call: Call, reply: Message) -> bytes:
        """Serialize the reply and count what the message cost, just before it leaves."""
        raw, received = _serialise(call, reply), call.held_bytes
        if call.cost is not None:
            self._meter.charge(
                call.client_id,
                call.scheme,
                call.phase,
                call.cost,
                received,
                len(raw),
                call.draws,
            )
            call.totals["queries"] += call.cost.queries
        call.totals["request_bytes"] += received + FRAME_BYTES
        return raw

    @asynccontextmanager
    async def _accounted(self, rpc: RpcName, context: Context) -> AsyncIterator[Call]:
        """Identify the caller, map errors to statuses, count and log the outcome."""
        begun = time.monotonic()
        call = Call(client_id="", scheme=SCHEMES[0], phase=PHASES[0])
        code = grpc.StatusCode.OK
        self._enter(rpc)
        try:
            self._identify(call, context)
            enter_call(call)
            yield call
        except DomainError as error:
            code, call.why = code_of(error), error.message
            self._meter.refused(error.reason)
            if error.reason not in _NOT_ITS_FAULT:
                self.limiter.refused(call.caller)
            await abort(context, error)
        except (asyncio.CancelledError, GeneratorExit):
            code = _why_cancelled(context)
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            _log.exception("call failed", method=rpc.method, client=call.client_id)
            await abort(context, DomainError(Reason.INTERNAL, "internal error of the service"))
        finally:
            self._leave(rpc, call, code, time.monotonic() - begun)

    def _identify(self, call: Call, context: Context) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        call.caller = peer_caller(context.peer())
        try:
            call.client_id = self.keys.authenticate(metadata.get("authorization"))
            if call.client_id != ANONYMOUS:
                call.caller = key_caller(call.client_id)
        finally:  # a wrong key counts for where it comes from
            self.limiter.enter(call.caller)
        call.roles = self.keys.roles_of(call.client_id)
        call.scheme = read_choice(metadata, "x-reaas-scheme", SCHEMES)
        call.phase = read_choice(metadata, "x-reaas-phase", PHASES)
        call.draws = read_draws(metadata)
        call.quotas = self.quotas

    def _check_key(self, call: Call, context: Context) -> None:
        """A stream ends with its key. Raises DomainError UNAUTHENTICATED."""
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        call.client_id = self.keys.authenticate(metadata.get("authorization"))
        call.roles = self.keys.roles_of(call.client_id)

    def _enter(self, rpc: RpcName) -> None:
        self._in_flight += 1
        self._idle.clear()
        self._meter.started(rpc)

    def _leave(self, rpc: RpcName, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        self._hold(call, 0)
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()
        self._meter.handled(rpc, code.name, seconds)
        _log.info(
            "call",
            client=call.client_id,
            method=rpc.method,
            api=call.cost.api if call.cost else None,
            model=call.cost.model if call.cost else None,
            scheme=call.scheme,
            phase=call.phase,
            code=code.name,
            why=call.why,
            ms=round(1000 * seconds, 3),
            **call.totals,
        )


def _decode(handler: Handler, raw: bytes) -> Message:
    deserialize = cast(Callable[[bytes], Message], handler.request_deserializer)
    try:
        return deserialize(raw)
    except DecodeError as error:
        raise DomainError(
            Reason.UNDECODABLE_MESSAGE,
            f"the message of {len(raw)} bytes cannot be decoded as protobuf",
            field="message",
            got=f"{len(raw)} bytes",
        ) from error


def _serialise(call: Call, reply: Message) -> bytes:
    raw = reply.SerializeToString()
    call.totals["response_bytes"] += len(raw) + FRAME_BYTES
    return raw


def _why_cancelled(context: Context) -> grpc.StatusCode:
    remaining = context.time_remaining()
    late = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
