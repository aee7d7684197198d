"""HTTP/2 by hand: what no well-behaved gRPC client would send."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 0x1, 0x4
_INITIAL_WINDOW_SIZE = 4


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


def raw_request(port: int, path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A call with any bytes as its path and in `more` headers, and an empty message; what the
    server answered soon."""
    headers = {":method": b"POST", ":scheme": b"http", ":authority": b"x"}
    fields = [(k.encode(), v) for k, v in headers.items()]
    fields += [(b":path", path), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
    block = b"".join(b"\x10" + _bytes(k) + _bytes(v) for k, v in [*fields, *more])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_PREFACE + _http2(_SETTINGS, 0, 0, b""))
        connection.sendall(_http2(_HEADERS, _END_HEADERS, 1, block))
        connection.sendall(_http2(_DATA, _END_STREAM, 1, bytes(5)))
        return _read_for_a_second(connection, 0.2)


def deaf_request(port: int, path: str, message: bytes) -> socket.socket:
    """A call on a connection whose peer takes no byte of an answer; the caller closes it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    no_window = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
    connection.sendall(_PREFACE + _http2(_SETTINGS, 0, 0, no_window))
    connection.sendall(_http2(_HEADERS, _END_HEADERS, 1, _request_headers(path)))
    frame = struct.pack(">BI", 0, len(message)) + message
    connection.sendall(_http2(_DATA, _END_STREAM, 1, frame))
    return connection


def _bytes(value: bytes) -> bytes:
    """A string of HPACK: a length with a prefix of 7 bits, then the bytes."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + value


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


def _read_for_a_second(connection: socket.socket, pause: float = 1.0) -> bytes:
    connection.settimeout(pause)
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except (TimeoutError, ConnectionError):
        pass
    return received
