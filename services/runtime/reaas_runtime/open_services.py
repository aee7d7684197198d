"""Health and reflection: open to everybody, hence for small messages, few at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from reaas_runtime.connections import Connections
from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.health import PROBE_BYTES
from reaas_runtime.inbox import Inbox
from reaas_runtime.peers import peer_host
from reaas_runtime.reflection import V1, V1ALPHA
from reaas_runtime.status import abort

# Answered from state for balancers and tools: no key, no metering.
OPEN_SERVICES = frozenset({"grpc.health.v1.Health", V1, V1ALPHA})
# Messages read at a time: they are not known to be small before they are here.
_READERS = 2
# A probe's message comes along with its call.
_WITHIN_S, _PATIENCE_S = 5.0, 0.25

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class OpenServices:
    """Wraps handlers that anybody may call. `largest`: bytes of the largest message of the port."""

    def __init__(self, largest: int) -> None:
        self.connections: Connections | None = None
        self._inbox = Inbox(_READERS * largest, largest, _PATIENCE_S)

    def wrap(self, handler: Handler) -> Handler:
        """A handler that reads by itself: a small message, in time, or refuses."""
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._unary(handler))
        return grpc.stream_stream_rpc_method_handler(self._stream(handler))

    def _unary(self, handler: Handler) -> Callable[..., Awaitable[bytes]]:
        answer = cast(Callable[..., Awaitable[Message]], handler.unary_unary)

        async def behaviour(requests: Any, context: Context) -> bytes:
            async for request in self._requests(handler, context):
                return (await answer(request, context)).SerializeToString()
            return await abort(context, _without_message())

        return behaviour

    def _stream(self, handler: Handler) -> Callable[..., AsyncIterator[bytes]]:
        one_request = handler.unary_stream is not None
        answer = cast(
            Callable[..., AsyncIterator[Message]], handler.unary_stream or handler.stream_stream
        )

        async def behaviour(requests: Any, context: Context) -> AsyncIterator[bytes]:
            if one_request:
                async for request in self._requests(handler, context):
                    async for reply in answer(request, context):
                        yield reply.SerializeToString()
                return
            async for reply in answer(self._requests(handler, context), context):
                yield reply.SerializeToString()

        return behaviour

    async def _requests(self, handler: Handler, context: Context) -> AsyncIterator[Message]:
        """The call's messages; the call is ended where one is too large, too late or none."""
        deserialize = cast(Callable[[bytes], Message], handler.request_deserializer)
        while True:
            try:
                request = await self._next(deserialize, context)
            except DomainError as error:
                await abort(context, error)
            if request is None:
                return
            yield request

    async def _next(
        self, deserialize: Callable[[bytes], Message], context: Context
    ) -> Message | None:
        raw = await self._read(context)
        return None if raw is grpc.aio.EOF else _small(deserialize, raw)

    async def _read(self, context: Context) -> Any:
        peer = context.peer()

        async def receive() -> Any:
            if self.connections is None:
                return await context.read()
            with self.connections.reading(peer):
                return await context.read()

        return await self._inbox.read(peer_host(peer), receive, _WITHIN_S)


def _small(deserialize: Callable[[bytes], Message], raw: bytes) -> Message:
    if len(raw) > PROBE_BYTES:
        raise DomainError(
            Reason.MESSAGE_TOO_LARGE,
            f"the message has {len(raw)} bytes, this method takes {PROBE_BYTES}",
            field="message",
            got=len(raw),
            limit=PROBE_BYTES,
        )
    try:
        return deserialize(raw)
    except DecodeError as error:
        raise DomainError(
            Reason.UNDECODABLE_MESSAGE, "the message cannot be decoded as protobuf", field="message"
        ) from error


def _without_message() -> DomainError:
    return DomainError(
        Reason.UNDECODABLE_MESSAGE, "the call ended without a message", field="message"
    )
