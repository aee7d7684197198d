"""Raw HTTP/2: headers that no gRPC library would send, and frames that break the rules."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import grpc
import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PATHS = (
    b"/reaas.v1.EncoderService/Encode",
    b"/reaas.v1.F2IService/Perturb",
    b"/reaas.v1.PretrainService/CreateRun",
    b"/grpc.health.v1.Health/Check",
    b"/\xff\xfe\xfd",
    b"/x\xc3",
    b"",
    b"no-slash",
    b"/" + b"a" * 6000,
    b"//",
    b"/reaas.v1.EncoderService/Encode\x00",
    b"*",
)
# Compressed without saying how is INTERNAL by the gRPC specification, and so not among them.
_BODIES = (b"\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x03abc", b"\x00\xff\xff\xff\xff")
Status = tuple[str, str]
"""Name of a status code, and its message."""
_NAMES = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}
Headers = list[tuple[bytes, bytes]]


async def raw_exchange(host: str, port: int, data: bytes, patience_s: float) -> list[Status]:
    """Sends bytes on a connection of their own; statuses that came back, or how it ended."""
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return [("refused", "")]
    received = b""
    try:
        async with asyncio.timeout(patience_s):
            writer.write(data)
            await writer.drain()
            while chunk := await reader.read(65_536):
                received += chunk
                if _statuses(received):
                    break
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return _statuses(received) or [("closed or silent", "")]


def hostile_bytes(rng: random.Random, key: str) -> bytes:
    """One connection's worth of bytes that a service should survive."""
    return rng.choice(_KINDS)(rng, key)


def _call(rng: random.Random, key: str) -> bytes:
    """A call with one thing wrong in its headers or its frames."""
    headers: Headers = [
        (b":method", rng.choice((b"POST", b"POST", b"POST", b"GET", b"\xff"))),
        (b":scheme", b"http"),
        (b":path", rng.choice(_PATHS)),
        (b":authority", rng.choice((b"x", b"", b"\xff\xff", b"a" * 2000))),
        (b"te", b"trailers"),
        (b"content-type", rng.choice((b"application/grpc", b"text/html", b"application/grpc+x"))),
    ]
    if rng.random() < 0.6:
        headers.append((b"authorization", b"Bearer " + key.encode()))
    extra: Headers = [
        (b"authorization", b"Bearer \xff\xfe"),
        (b"authorization", b"Bearer " + key.encode()),
        (b"grpc-timeout", rng.choice((b"1n", b"99999999H", b"-1S", b"x", b"1\xff"))),
        (b"grpc-encoding", rng.choice((b"gzip", b"snappy", b"\xff"))),
        (b"x-reaas-draws", b"\xd9\xa1\xd9\xa2"),
        (b"x-reaas-scheme", b"\xff\x00"),
        (b"x-bin-bin", b"!!!not base64!!!"),
        (b"x-huge", b"h" * 9000),
        (b"UPPER", b"case"),
        (b"connection", b"close"),
    ]
    headers += rng.sample(extra, rng.randrange(3))
    body = rng.choice(_BODIES)
    body = rng.choice((body, body, body + rng.randbytes(50), b"\x00\x00", b""))
    frames: list[Frame] = [SettingsFrame(0), _headers(1, headers), _data(1, body)]
    return _PREFACE + b"".join(frame.serialize() for frame in frames)


def _rules_broken(rng: random.Random, key: str) -> bytes:
    """Frames out of order, on wrong streams, with wrong sizes."""
    headers = _headers(1, [(b":method", b"POST"), (b":path", _PATHS[3]), (b":scheme", b"http")])
    window = WindowUpdateFrame(0)
    window.window_increment = rng.choice((1, 2**31 - 1))
    stopped = RstStreamFrame(rng.choice((1, 3)))
    settings = SettingsFrame(0)
    settings.settings = {rng.choice((1, 3, 4, 5, 6)): rng.choice((0, 1, 2**31 - 1, 2**32 - 1))}
    choices: list[Frame] = [
        headers,
        window,
        stopped,
        settings,
        _data(rng.choice((1, 2, 2**31 - 1)), rng.randbytes(20)),
        PingFrame(0, opaque_data=b"8 bytes!"),
        GoAwayFrame(0),
        PriorityFrame(1, depends_on=1),
    ]
    picked = [rng.choice(choices).serialize() for _ in range(rng.randrange(1, 30))]
    return _PREFACE + SettingsFrame(0).serialize() + b"".join(picked)


def _rapid_reset(rng: random.Random, key: str) -> bytes:
    """Calls that are taken back at once (CVE-2023-44487)."""
    parts = [_PREFACE, SettingsFrame(0).serialize()]
    headers = [(b":method", b"POST"), (b":path", _PATHS[0]), (b":scheme", b"http")]
    headers.append((b"authorization", b"Bearer " + key.encode()))
    for stream in range(1, 400, 2):
        parts.append(_headers(stream, headers).serialize())
        parts.append(RstStreamFrame(stream, error_code=8).serialize())
    return b"".join(parts)


def _garbage(rng: random.Random, key: str) -> bytes:
    start = rng.choice(
        (b"", _PREFACE, _PREFACE + SettingsFrame(0).serialize(), b"GET / HTTP/1.1\r\n")
    )
    return start + rng.randbytes(rng.choice((0, 1, 9, 500, 20_000)))


def _bomb(rng: random.Random, key: str) -> bytes:
    """Headers that are small as sent and large once they are read (an HPACK bomb)."""
    encoder = hpack.Encoder()
    first = encoder.encode([(b"x", b"y" * 4000)])
    block = first + encoder.encode([(b"x", b"y" * 4000)]) * 2000
    frame = HeadersFrame(1, data=block[:16_000], flags={"END_HEADERS", "END_STREAM"})
    return _PREFACE + SettingsFrame(0).serialize() + frame.serialize()


_KINDS: tuple[Callable[[random.Random, str], bytes], ...] = (
    _call,
    _call,
    _call,
    _call,
    _rules_broken,
    _rules_broken,
    _garbage,
    _rapid_reset,
    _bomb,
)


def _headers(stream: int, headers: Headers) -> HeadersFrame:
    block = hpack.Encoder().encode(headers)
    return HeadersFrame(stream, data=block, flags={"END_HEADERS"})


def _data(stream: int, body: bytes) -> DataFrame:
    return DataFrame(stream, data=body, flags={"END_STREAM"})


def _statuses(received: bytes) -> list[Status]:
    """gRPC statuses, with what they say, among the frames that came."""
    found = []
    decoder = hpack.Decoder()
    for frame in _frames(received):
        if isinstance(frame, HeadersFrame):
            try:
                headers = dict(decoder.decode(frame.data, raw=True))
            except hpack.HPACKError:
                break
            number = headers.get(b"grpc-status")
            if number is not None:
                said = headers.get(b"grpc-message", b"").decode(errors="replace")
                found.append((_NAMES.get(number, number.decode(errors="replace")), said))
    return found


def _frames(data: bytes) -> Iterator[Frame]:
    while len(data) >= 9:
        try:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                return
            frame.parse_body(memoryview(data[9 : 9 + length]))
        except Exception:  # hyperframe knows no common error; the rest cannot be read.
            return
        yield frame
        data = data[9 + length :]
