"""What somebody without a key, or with one, can make a service keep in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from reaas_runtime.keys import add_key

from tests.hostile.service import MIB, TOY, UNLIMITED, Attacked, attacked
from tests.support.models import conv_encoder, publish

ENCODE = "/reaas.v1.EncoderService/Encode"
HEALTH = "/grpc.health.v1.Health/Check"
SIZE = 24 * MIB
CALLS = 12


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root = tmp_path_factory.mktemp("attacked")
    publish(root / "models", conv_encoder())
    keys = root / "keys.txt"
    key = add_key("alice", keys)
    flags = ("--api-keys-file", str(keys), "--max-pending-bytes", str(64 * MIB))
    with attacked(TOY, root / "models", *flags) as started:
        started.key = key
        yield started


def message(size: int) -> bytes:
    """A valid message of `size` bytes and a bit: one field that nobody knows."""
    length = bytes(size >> 7 * i & 127 | 128 for i in range(4)) + bytes([size >> 28])
    return b"\x7a" + length + bytes(size)


def flood(
    service: Attacked, method: str, key: str | None, compression: Any = None
) -> tuple[int, Counter[str]]:
    """Many large messages at once on two connections; bytes grown at most, and the codes."""
    before, peak, done = service.memory(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], service.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    channels = [grpc.insecure_channel(service.address, UNLIMITED) for _ in range(2)]
    raw = message(SIZE)
    methods: list[Any] = [channel.unary_unary(method) for channel in channels]
    calls = [
        call.future(raw, timeout=120, metadata=metadata, compression=compression)
        for call in methods
        for _ in range(CALLS // 2)
    ]
    codes = Counter(str(call.code().name) for call in calls)
    done.set()
    watcher.join()
    for channel in channels:
        channel.close()
    return peak[0] - before, codes


def test_without_a_key_no_message_is_read(service: Attacked) -> None:
    for key in (None, "reaas_wrong"):
        grown, codes = flood(service, ENCODE, key)
        assert codes == {"UNAUTHENTICATED": CALLS}
        assert grown < SIZE


def test_methods_that_are_not_there_read_nothing(service: Attacked) -> None:
    grown, codes = flood(service, "/reaas.v1.EncoderService/None", None)
    assert codes == {"UNIMPLEMENTED": CALLS}
    assert grown < SIZE


def test_health_takes_small_messages_only(service: Attacked) -> None:
    grown, codes = flood(service, HEALTH, None)
    assert "OK" not in codes
    # One message at the very most, and what joining its pieces takes.
    assert grown < 3 * SIZE
    assert service.health() == health_pb2.HealthCheckResponse.SERVING


def test_compressed_messages_are_refused_unread(service: Attacked) -> None:
    key = service.key
    for method, shown in ((ENCODE, None), (ENCODE, key), (HEALTH, None)):
        grown, codes = flood(service, method, shown, grpc.Compression.Gzip)
        assert codes == {"UNIMPLEMENTED": CALLS}
        assert grown < SIZE


def test_with_a_key_the_messages_at_a_time_are_bounded(service: Attacked) -> None:
    left = []
    for _ in range(4):
        grown, codes = flood(service, ENCODE, service.key)
        assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"}
        # Two being read and joined, one in work and parsed, and its answer, each in a copy or two:
        # twelve of them at once would be thirty and more.
        assert grown < 24 * SIZE, f"{grown / SIZE:.1f} messages"
        left.append(service.memory())
    # An allocator keeps what it was given once; what grows with every flood is kept by us.
    assert left[-1] - left[0] < CALLS * SIZE, "messages are kept"


@pytest.mark.parametrize("dimensions", [100_000, 20_000_000])
def test_a_shape_of_millions_of_dimensions_holds_nobody_up(
    service: Attacked, dimensions: int
) -> None:
    shape = b"\x12" + _varint(dimensions) + dimensions * b"\x01"
    tensor = b"\x08\x01" + shape
    raw = b"\x0a\x06\x0a\x04tiny\x12" + _varint(len(tensor)) + tensor
    before = len(service.log)
    with grpc.insecure_channel(service.address, UNLIMITED) as channel:
        call: Any = channel.unary_unary(ENCODE)
        with pytest.raises(grpc.RpcError) as refused:
            call(raw, timeout=60, metadata=(("authorization", f"Bearer {service.key}"),))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inputs.shape" in (refused.value.details() or "")
    assert len(refused.value.details() or "") < 1000
    assert len(service.log) - before < 2000


@pytest.mark.parametrize("field", [1, 2, 3])
def test_a_name_of_megabytes_reaches_neither_log_nor_status(service: Attacked, field: int) -> None:
    text = 30 * MIB * b"A"
    ref = bytes([field << 3 | 2]) + _varint(len(text)) + text
    raw = b"\x0a" + _varint(len(ref)) + ref
    before = len(service.log)
    metadata = (("authorization", f"Bearer {service.key}"),)
    with grpc.insecure_channel(service.address, UNLIMITED) as channel:
        call: Any = channel.unary_unary(ENCODE)
        with pytest.raises(grpc.RpcError) as refused:
            call(raw, timeout=60, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refused.value.details() or "") < 1000
    assert len(service.log) - before < 2000


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
