"""Connections of one process: so many for each peer, and no floods from those without a key.

gRPC's server has one bound for all connections together, which one peer can fill; and it reads a
message whole once it was asked to, however large. So a thread looks at the sockets themselves. It
only ever shuts one down, which gRPC sees as a peer that went away.
"""

from __future__ import annotations

import os
import resource
import socket
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from reaas_runtime.peers import peer_host

_LOOK_S = 0.25
# A message that is too large comes at a gigabyte a second; it is to be cut before many megabytes.
_FLOOD_LOOK_S = 0.002
_FLOOD_BYTES = 512 << 10
# Descriptors are given out lowest first: beyond so many free ones there is hardly another.
_GAP = 256
# For models, keys, metrics and what libraries open.
_SPARE_DESCRIPTORS = 256
# linux/tcp.h, struct tcp_info: tcpi_bytes_received.
_BYTES_RECEIVED = struct.Struct("=128xQ")
_LOG_EVERY_S = 10.0

_log = structlog.get_logger("reaas.server")


@dataclass(frozen=True)
class _Connection:
    descriptor: int
    inode: int
    peer: str
    """As gRPC names it: "ipv4:127.0.0.1:5000"."""


class Connections:
    """Watches the connections accepted on `ports`; `run` is a thread's work, until `close`."""

    def __init__(self, ports: frozenset[int], most_of_a_peer: int) -> None:
        self._ports, self._most = ports, most_of_a_peer
        self._found: dict[int, _Connection] = {}
        self._others: set[int] = set()
        self._trusted: set[str] = set()
        self._reading: dict[str, int | None] = {}
        self._wake = threading.Event()
        self._closed = False
        self._logged_at = -_LOG_EVERY_S

    def trust(self, peer: str) -> None:
        """A call with a key came from there: what it sends is counted against the key."""
        self._trusted.add(peer)

    @contextmanager
    def reading(self, peer: str) -> Iterator[None]:
        """While a small message is read from a peer that may have no key."""
        if peer in self._trusted:
            yield
            return
        self._reading[peer] = None
        self._wake.set()
        try:
            yield
        finally:
            self._reading.pop(peer, None)

    def run(self) -> None:
        """Look at the connections again and again."""
        while not self._closed:
            self._look()
            next_look = time.monotonic() + _LOOK_S
            while not self._closed and (left := next_look - time.monotonic()) > 0:
                if self._reading:
                    self._cut_floods()
                    time.sleep(_FLOOD_LOOK_S)
                else:
                    self._wake.wait(left)
                    self._wake.clear()

    def close(self) -> None:
        """End the thread soon."""
        self._closed = True
        self._wake.set()

    def _look(self) -> None:
        found = {c.inode: c for c in self._scan()}
        self._found = found
        peers = {c.peer for c in found.values()}
        self._trusted &= peers
        counted: Counter[str] = Counter()
        for connection in list(found.values()):  # The oldest first: those are kept.
            host = peer_host(connection.peer)
            counted[host] += 1
            if counted[host] > self._most:
                _shut_down(connection)
        crowded = {host: n for host, n in counted.items() if n > self._most}
        if crowded and time.monotonic() - self._logged_at > _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            _log.warning(
                "peers with too many connections", connections=crowded, most_of_a_peer=self._most
            )

    def _scan(self) -> Iterator[_Connection]:
        """Those known before, in their order, then the new ones."""
        known, fresh, others = dict(self._found), [], set()
        alive: set[int] = set()
        descriptor = gap = 0
        while gap < _GAP:
            try:
                status = os.fstat(descriptor)
            except OSError:
                gap += 1
            else:
                gap = 0
                if stat.S_ISSOCK(status.st_mode):
                    inode = status.st_ino
                    if inode in known:
                        alive.add(inode)
                    elif inode in self._others:
                        others.add(inode)
                    elif (connection := self._identify(descriptor, inode)) is not None:
                        fresh.append(connection)
                    else:
                        others.add(inode)
            descriptor += 1
        self._others = others
        yield from (c for inode, c in known.items() if inode in alive)
        yield from fresh

    def _identify(self, descriptor: int, inode: int) -> _Connection | None:
        """The connection behind a descriptor, if it was accepted on one of the ports."""
        try:
            looked_at = socket.socket(fileno=descriptor)
        except OSError:
            return None
        try:
            own, peer = looked_at.getsockname(), looked_at.getpeername()
        except OSError:
            return None
        finally:
            looked_at.detach()
        if not (isinstance(own, tuple) and own[1] in self._ports):
            return None
        return _Connection(descriptor, inode, _grpc_name(peer))

    def _cut_floods(self) -> None:
        by_peer = {c.peer: c for c in self._found.values()}
        if self._reading.keys() - by_peer.keys():
            self._look()
            by_peer = {c.peer: c for c in self._found.values()}
        for peer, begun in list(self._reading.items()):
            connection = by_peer.get(peer)
            received = None if connection is None else _bytes_received(connection)
            if connection is None or received is None or peer not in self._reading:
                continue
            if begun is None:
                self._reading[peer] = received
            elif received - begun > _FLOOD_BYTES:
                _shut_down(connection)


def most_connections(wanted: int) -> int:
    """`wanted`, or as many as the process has descriptors for beside its own files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(16, soft - _SPARE_DESCRIPTORS))


def _grpc_name(address: tuple[str, int]) -> str:
    host, port = address[0].removeprefix("::ffff:"), address[1]
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _bytes_received(connection: _Connection) -> int | None:
    """Bytes received so far; None where it is gone, or where the system does not tell."""
    try:
        if os.fstat(connection.descriptor).st_ino != connection.inode:
            return None
        looked_at = socket.socket(fileno=connection.descriptor)
    except OSError:
        return None
    try:
        info = looked_at.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        return int(_BYTES_RECEIVED.unpack(info)[0])
    except (OSError, struct.error, AttributeError):
        return None
    finally:
        looked_at.detach()


def _shut_down(connection: _Connection) -> None:
    try:
        if os.fstat(connection.descriptor).st_ino != connection.inode:
            return
        looked_at = socket.socket(fileno=connection.descriptor)
    except OSError:
        return
    try:
        looked_at.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # Gone by itself.
    finally:
        looked_at.detach()
