"""Addresses that cannot be meant, and what answers at one where a call found no service."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

import click

_SCHEMES = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "vsock:", "xds:", "passthrough:")
_PROBE_S = 2.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH", "HTTP_REQUEST")


def check_address(option: str, address: str) -> None:
    """Raises click.UsageError for a host without a port, and for IPv6 without brackets: gRPC would
    take port 443, or a part of the address for the port."""
    if address.startswith(_SCHEMES) or "://" in address:
        return
    if address.count(":") > 1 and not address.startswith("["):
        host, _, port = address.rpartition(":")
        if _is_ip(address) and not (_is_ip(host) and len(port) > 4):
            host, port = address, "PORT"
        raise click.UsageError(
            f"{option} is {address!r}; an IPv6 address is written in brackets: [{host}]:{port}"
        )
    try:
        missing = urlsplit(f"//{address}").port is None
    except ValueError as error:
        raise click.UsageError(f"{option} is {address!r}: {error}") from error
    if missing:
        raise click.UsageError(f"{option} is {address!r}; it needs a port: {address}:PORT")


def what_answers(address: str, *, with_tls: bool) -> str | None:
    """What to change, where `address` speaks TLS and the client does not, or the reverse."""
    speaks = _speaks_tls(address)
    if speaks is True and not with_tls:
        return (
            "this port speaks TLS: add --tls, and --ca FILE unless a public authority signed its "
            "certificate"
        )
    if speaks is False and with_tls:
        return "this port speaks no TLS: leave out --tls, --ca, --cert and --server-name"
    return None


def _speaks_tls(address: str) -> bool | None:
    """Whether a TLS handshake gets an answer; None: nothing listens, or nothing can be said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # Nothing secret is sent.
    context.set_alpn_protocols(["h2"])
    try:
        with _connected(address) as raw, context.wrap_socket(raw):
            return True
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):  # It asks for a client's certificate, for example.
            return True
        return False if (error.reason or "").startswith(_NO_TLS) else None
    except (OSError, ValueError):
        return None


def _connected(address: str) -> socket.socket:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(_PROBE_S)
        connected.connect(path)
        return connected
    if "://" in address:  # dns:///host:port
        address = address.rpartition("/")[2]
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    parts = urlsplit(f"//{address.partition(',')[0]}")
    return socket.create_connection((parts.hostname or "", parts.port or 443), _PROBE_S)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
