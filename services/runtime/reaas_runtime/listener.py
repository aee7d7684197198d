"""The gRPC server itself: what reaches Python, where it listens, and why it cannot.

grpc.aio decodes the path of every call strictly, in the one task that accepts calls: a path that is
not UTF-8 ends that task, and with it the server (see docs/decisions/0015-front.md). C-core however
sorts the paths that were registered before Python sees them. Everything else reaches Python by one
method, which is replaced here: it answers UNIMPLEMENTED without looking at the path.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server as aio_server

from reaas_runtime.errors import ConfigurationError, DomainError, Reason
from reaas_runtime.settings import ServerSettings
from reaas_runtime.status import abort

# A call may outlive its connection's age by this much: longer than any sensible deadline.
_CONNECTION_GRACE_S = 3600
# What C-core may hold of a message that nobody has asked for yet.
_WINDOW_BYTES = 65_535
# Names and values of a call's metadata: a key, a few words, and what tracing adds.
_METADATA_BYTES = 16_384
# TLS and HTTP/2 settings, from somebody who means to talk.
_HANDSHAKE_MS = 20_000
_NO_COMPRESSION = 1

Options = Sequence[tuple[str, int]]


class _RegisteredOnly(cygrpc.AioServer):  # type: ignore[misc]
    """Hands calls of registered methods to grpc.aio, and refuses all others by itself."""

    async def _request_call(self) -> Any:
        """Called by the accepting task for calls of unregistered paths; never returns one."""
        refusals: set[asyncio.Task[None]] = set()
        while True:
            call = await super()._request_call()
            task = asyncio.create_task(_refuse(call))
            refusals.add(task)
            task.add_done_callback(refusals.discard)


async def _refuse(call: Any) -> None:
    context = cygrpc._ServicerContext(call, None, None, asyncio.get_running_loop())
    error = DomainError(
        Reason.UNKNOWN_METHOD,
        "this path is no method of this service",
        field=":path",
        limit="/package.Service/Method",
    )
    try:
        await abort(context, error)
    except (cygrpc.AbortError, cygrpc.ExecuteBatchError):
        return  # Answered, or nobody is there any more.


def make_server(
    options: Options, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> grpc.aio.Server:
    """A server of registered methods only; use as `grpc.aio.server`."""
    if "_request_call" not in cygrpc.AioServer.__dict__:
        raise ConfigurationError(
            f"grpcio {grpc.__version__} is not the release that this service was made for: "
            "install the one that reaas names"
        )
    server = grpc.aio.server(interceptors=interceptors, options=options)
    arguments = aio_server._augment_channel_arguments(tuple(options), None)
    server._server = _RegisteredOnly(  # type: ignore[attr-defined]
        asyncio.get_running_loop(), None, (), tuple(interceptors), arguments, None
    )
    return server


def listen(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Bind and return the port. Raises ConfigurationError with the system's reason."""
    address = join(host, port)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}: {_why(host, port)}") from error


def join(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """gRPC core options: sizes of messages, keepalive for long calls, bounds of connections."""
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_request_bytes),
        *bounded_options(settings.max_connections, settings.max_streams_per_connection),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(1000 * settings.min_client_ping_s),
        ),
        ("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", 1000 * _CONNECTION_GRACE_S),
        ("grpc.max_connection_idle_ms", round(1000 * settings.max_connection_idle_s)),
        # Peers that vanished without a word are noticed, and their calls end.
        ("grpc.keepalive_time_ms", round(1000 * settings.server_ping_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * settings.server_ping_timeout_s)),
    ]


def bounded_options(connections: int, streams: int) -> list[tuple[str, int]]:
    """What every port needs: nothing unbounded is kept for a peer that was not let in yet."""
    return [
        # Two services on one port would each get half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        # Messages are not compressible images and random numbers; a bomb is.
        ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
        # Without a fixed window C-core would buffer megabytes that nobody has asked for. What is
        # being read is not slowed down: then the window follows the message.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    ]


def _why(host: str, port: int) -> str:
    """Why an address cannot be bound, from the system: gRPC does not say."""
    bare = host.strip("[]")
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            probe.listen()
    except socket.gaierror as error:
        return f"{bare!r} is no address and no name of one ({error.strerror})"
    except OSError as error:
        hints = {
            errno.EADDRINUSE: "another process listens there",
            errno.EACCES: "this user may not",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }
        hint = hints.get(error.errno or 0)
        return f"{error.strerror}{f': {hint}' if hint else ''}"
    return "gRPC does not say why"
