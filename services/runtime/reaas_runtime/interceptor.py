"""Around every call: identity before a byte of the message is read, room for it, exact counts.

Handlers are rewrapped as such that read by themselves, without (de)serializers: this module decides
when a message is read and sees its raw bytes. What is metered is what was on the wire, and a
message that cannot be decoded is a typed error.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from reaas_runtime.accounting import Accounting, Context
from reaas_runtime.call import (
    AUTHORIZATION,
    PHASES,
    SCHEMES,
    Call,
    read_choice,
    read_draws,
    read_metadata,
)
from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.identity import ANONYMOUS, ApiKeys
from reaas_runtime.inbox import Inbox
from reaas_runtime.metering import FRAME_BYTES, Meter, RpcName
from reaas_runtime.open_services import OPEN_SERVICES, OpenServices
from reaas_runtime.pace import CallLimiter
from reaas_runtime.peers import peer_host
from reaas_runtime.quota import Quotas, parse_limits
from reaas_runtime.settings import ServerSettings
from reaas_runtime.wire import check_wire

# grpc's own type is generic for type checkers only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
# A message that has not come for so long has lost its room to those that wait.
_PATIENCE_S = 2.0
# Of one call, or of one message: the name of its message's class is that of its method.
_KINDS = {
    (False, False): "unary",
    (False, True): "server_streaming",
    (True, True): "bidi_streaming",
}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler: the product's own services, and those that are open to all."""

    def __init__(
        self,
        keys: ApiKeys,
        meter: Meter,
        settings: ServerSettings,
        admit_peer: Callable[[Context], None],
    ) -> None:
        self.keys = keys
        self.draining = False
        self._settings = settings
        self.quotas = Quotas(parse_limits(settings.default_limits, "default_limits"))
        self._inbox = Inbox(settings.max_pending_bytes, settings.max_request_bytes, _PATIENCE_S)
        self.limiter = CallLimiter(settings.max_calls_per_s, settings.max_refusals_per_s)
        self._accounts = Accounting(meter, self._inbox, self.limiter)
        self.open_services = OpenServices(settings.max_request_bytes)
        self._admit_peer = admit_peer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Replace the handler by one that reads when there is room; refuse who has no key."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        _, service, method = str(handler_call_details.method).split("/", 2)
        if service in OPEN_SERVICES:
            return self.open_services.wrap(handler)
        rpc = RpcName(
            _KINDS[handler.request_streaming, handler.response_streaming], service, method
        )
        call = Call(client_id="", scheme=SCHEMES[0], phase=PHASES[0], quotas=self.quotas)
        try:
            self._identify(call, handler_call_details)
        except DomainError as error:
            return self._refusal(rpc, call, error)
        if handler.unary_unary is not None:
            return self._unary(handler, rpc, call)
        if handler.unary_stream is not None:
            return self._server_stream(handler, rpc, call)
        return self._stream(handler, rpc, call)

    async def wait_idle(self) -> None:
        """Return when no call is in flight."""
        await self._accounts.wait_idle()

    def _identify(self, call: Call, details: grpc.HandlerCallDetails) -> None:
        metadata = read_metadata(details.invocation_metadata or ())
        call.client_id = self.keys.authenticate(metadata.get(AUTHORIZATION))
        call.roles = self.keys.roles_of(call.client_id)
        call.scheme = read_choice(metadata, "x-reaas-scheme", SCHEMES)
        call.phase = read_choice(metadata, "x-reaas-phase", PHASES)
        call.draws = read_draws(metadata)

    def _refusal(self, rpc: RpcName, call: Call, error: DomainError) -> Handler:
        """Answers `error` and reads nothing."""

        async def behaviour(requests: Any, context: Context) -> NoReturn:
            async with self._accounts.of(rpc, call, context):
                self._pace(call, context)
                raise error
            raise AssertionError("unreachable")  # pragma: no cover

        return grpc.stream_unary_rpc_method_handler(behaviour)

    def _unary(self, handler: Handler, rpc: RpcName, call: Call) -> Handler:
        answer = cast(Callable[..., Awaitable[Message]], handler.unary_unary)

        async def behaviour(requests: Any, context: Context) -> bytes:
            async with self._accounts.of(rpc, call, context):
                # No name for the message here: this frame outlives the call, see status.forget.
                reply = await answer(await self._only(handler, call, context), context)
                return self._accounts.settle(call, reply)
            raise AssertionError("unreachable")  # pragma: no cover

        return grpc.stream_unary_rpc_method_handler(behaviour)

    def _server_stream(self, handler: Handler, rpc: RpcName, call: Call) -> Handler:
        """One request, many replies: a look at something, never a query."""
        answer = cast(Callable[..., AsyncIterator[Message]], handler.unary_stream)

        async def behaviour(requests: Any, context: Context) -> AsyncIterator[bytes]:
            async with self._accounts.of(rpc, call, context):
                replies = answer(await self._only(handler, call, context), context)
                call.totals["request_bytes"] += call.held_bytes + FRAME_BYTES
                async for reply in replies:
                    yield self._accounts.serialise(call, reply)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    def _stream(self, handler: Handler, rpc: RpcName, call: Call) -> Handler:
        answer = cast(Callable[..., AsyncIterator[Message]], handler.stream_stream)

        async def behaviour(requests: Any, context: Context) -> AsyncIterator[bytes]:
            async with self._accounts.of(rpc, call, context):
                self._pace(call, context)
                self._admit_peer(context)

                async def messages() -> AsyncIterator[Message]:
                    within = context.time_remaining()
                    while request := await self._next(handler, call, context, within):
                        yield request[0]

                async for reply in answer(messages(), context):
                    yield self._accounts.settle(call, reply)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    def _pace(self, call: Call, context: Context) -> None:
        """Count the call for its key, or for where it comes from. Raises TOO_MANY_CALLS."""
        known = call.client_id not in ("", ANONYMOUS)
        call.caller = f"key {call.client_id}" if known else f"peer {peer_host(context.peer())}"
        self.limiter.enter(call.caller)

    def _check_key(self, call: Call, context: Context) -> None:
        """A stream ends with its key. Raises DomainError UNAUTHENTICATED."""
        metadata = read_metadata(context.invocation_metadata() or ())
        call.client_id = self.keys.authenticate(metadata.get(AUTHORIZATION))
        call.roles = self.keys.roles_of(call.client_id)

    async def _only(self, handler: Handler, call: Call, context: Context) -> Message:
        """The message of a call that has one. Raises DomainError."""
        self._pace(call, context)
        self._admit_peer(context)
        remaining = context.time_remaining()
        within = self._settings.default_deadline_s if remaining is None else remaining
        request = await self._next(handler, call, context, within)
        if request is None:
            raise DomainError(
                Reason.UNDECODABLE_MESSAGE, "the call ended without a message", field="message"
            )
        return request[0]

    async def _next(
        self, handler: Handler, call: Call, context: Context, within: float | None
    ) -> tuple[Message] | None:
        """Read, account for and decode a message; None at the end of the client's messages."""
        raw = await self._inbox.read(call.client_id, context.read, within)
        if raw is grpc.aio.EOF:
            return None
        self._begin_message(call, context, len(raw))
        return (decode(handler, raw),)

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
        self._accounts.hold(call, size)
        remaining = context.time_remaining()
        seconds = self._settings.default_deadline_s if remaining is None else remaining
        call.deadline = time.monotonic() + seconds
        call.cost = None


def decode(handler: Handler, raw: bytes) -> Message:
    """`raw` as the message of the method. Raises DomainError UNDECODABLE_MESSAGE."""
    # Generated code registers the class method `FromString` of the request's class.
    deserialize = cast(Callable[[bytes], Message], handler.request_deserializer)
    kind: type[Message] = deserialize.__self__  # type: ignore[attr-defined]
    check_wire(raw, kind.DESCRIPTOR)
    try:
        return deserialize(raw)
    except DecodeError as error:
        raise DomainError(
            Reason.UNDECODABLE_MESSAGE,
            f"the message of {len(raw)} bytes cannot be decoded as protobuf",
            field="message",
            got=f"{len(raw)} bytes",
        ) from error
