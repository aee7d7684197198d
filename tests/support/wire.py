"""HTTP/2 by hand: what no well-behaved gRPC client would send."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_HEADERS = 0x4


def claim_message(port: int, path: str, claimed_bytes: int, sent: bytes) -> bytes:
    """Call `path` with a gRPC frame header that claims `claimed_bytes`, and send only `sent`.

    Returns the raw bytes that the server answered within a second.
    """
    frame = struct.pack(">BI", 0, claimed_bytes) + sent
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_PREFACE + _http2(_SETTINGS, 0, 0, b""))
        connection.sendall(_http2(_HEADERS, _END_HEADERS, 1, _request_headers(path)))
        connection.sendall(_http2(_DATA, 0, 1, frame))
        return _read_for_a_second(connection)


def _http2(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _request_headers(path: str) -> bytes:
    """HPACK: every header as a literal, never indexed, no Huffman coding."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(b"\x10" + _literal(k) + _literal(v) for k, v in headers.items())


def _literal(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _read_for_a_second(connection: socket.socket) -> bytes:
    connection.settimeout(1.0)
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except TimeoutError:
        pass
    return received
