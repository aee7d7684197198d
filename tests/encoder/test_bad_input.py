"""Bad input over a real socket: a typed error that names the field, and the service goes on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from reaas.v1 import encoder_pb2, model_pb2, tensor_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import RunningServer, as_tensor

from tests.support.models import FEATURE_DIM, conv_encoder, manifest, publish
from tests.support.servers import details, encoder_server, error_info
from tests.support.wire import claim_message

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENCODE = "/reaas.v1.EncoderService/Encode"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models "tiny" (good), "corrupt" (not ONNX), "liar" (another digest), "narrow" (wrong dim)."""
    root = tmp_path_factory.mktemp("models")
    onnx = conv_encoder()
    publish(root, onnx)
    publish(root, b"not ONNX at all", manifest(b"not ONNX at all", "corrupt"))
    publish(root, onnx[:-100], manifest(onnx[:-100], "truncated"))
    publish(root, onnx, manifest(onnx, "liar", digest="sha256:" + "0" * 64))
    publish(root, onnx, manifest(onnx, "narrow", feature={"dim": FEATURE_DIM - 1}))
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(repository: Path) -> AsyncIterator[RunningServer[Any]]:
    async with encoder_server(repository, max_batch_inputs=8, max_pending_inputs=8) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(server: RunningServer[Any]) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield EncoderServiceStub(channel)


def images(*shape: int) -> tensor_pb2.Tensor:
    return as_tensor(np.full(shape, 0.5, np.float32))


def request(name: str = "tiny", **fields: Any) -> encoder_pb2.EncodeRequest:
    """A good request, with `fields` of ModelRef or Tensor replaced."""
    ref = {"name": name} | {k: fields.pop(k) for k in ("version", "digest") if k in fields}
    inputs = fields.pop("inputs", images(1, 8, 8, 3))
    for field, value in fields.items():
        if field == "shape":
            inputs.ClearField("shape")
            inputs.shape.extend(value)
        else:
            setattr(inputs, field, value)
    return encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(**ref), inputs=inputs)


def with_value(value: float) -> tensor_pb2.Tensor:
    pixels = np.full((2, 8, 8, 3), 0.5, np.float32)
    pixels[1, 7, 7, 2] = value
    return as_tensor(pixels)


Case = tuple[Callable[[], encoder_pb2.EncodeRequest], grpc.StatusCode, str, str]
CASES: dict[str, Case] = {
    "no inputs": (lambda: encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(name="tiny")),
                  INVALID, "INVALID_DTYPE", "inputs.dtype"),
    "unknown dtype": (lambda: request(dtype=77), INVALID, "INVALID_DTYPE", "inputs.dtype"),
    "float64": (lambda: request(dtype=tensor_pb2.DATA_TYPE_FLOAT64),
                INVALID, "INVALID_DTYPE", "inputs.dtype"),
    "no batch": (lambda: request(inputs=images(8, 8, 3)), INVALID, "INVALID_SHAPE", "inputs.shape"),
    "no shape": (lambda: request(shape=[]), INVALID, "INVALID_SHAPE", "inputs.shape"),
    "channels first": (lambda: request(inputs=images(1, 3, 8, 8)),
                       INVALID, "INVALID_SHAPE", "inputs.shape"),
    "two channels": (lambda: request(inputs=images(1, 8, 8, 2)),
                     INVALID, "INVALID_SHAPE", "inputs.shape"),
    "too small": (lambda: request(inputs=images(1, 3, 8, 3)),
                  INVALID, "INVALID_SHAPE", "inputs.shape"),
    "too large": (lambda: request(inputs=images(1, 8, 65, 3)),
                  INVALID, "INVALID_SHAPE", "inputs.shape"),
    "zero height": (lambda: request(shape=[1, 0, 8, 3], data=b""),
                    INVALID, "INVALID_SHAPE", "inputs.shape"),
    "negative batch": (lambda: request(shape=[-1, 8, 8, 3]),
                       INVALID, "INVALID_SHAPE", "inputs.shape"),
    "empty batch": (lambda: request(shape=[0, 8, 8, 3], data=b""),
                    INVALID, "EMPTY_BATCH", "inputs.shape"),
    "too many": (lambda: request(inputs=images(9, 8, 8, 3)),
                 grpc.StatusCode.RESOURCE_EXHAUSTED, "BATCH_TOO_LARGE", "inputs.shape"),
    "more claimed by the shape than sent": (lambda: request(shape=[8, 64, 64, 3]),
                                  INVALID, "INVALID_DATA_LENGTH", "inputs.data"),
    "2^63 claimed by the shape": (lambda: request(shape=[2**62, 8, 8, 3]),
                                  grpc.StatusCode.RESOURCE_EXHAUSTED, "BATCH_TOO_LARGE",
                                  "inputs.shape"),
    "truncated bytes": (lambda: request(data=images(1, 8, 8, 3).data[:-1]),
                        INVALID, "INVALID_DATA_LENGTH", "inputs.data"),
    "bytes too many": (lambda: request(data=images(1, 8, 8, 3).data + b"x"),
                       INVALID, "INVALID_DATA_LENGTH", "inputs.data"),
    "NaN": (lambda: request(inputs=with_value(np.nan)), INVALID, "INVALID_VALUE", "inputs.data"),
    "inf": (lambda: request(inputs=with_value(np.inf)), INVALID, "INVALID_VALUE", "inputs.data"),
    "above": (lambda: request(inputs=with_value(16.1)), INVALID, "INVALID_VALUE", "inputs.data"),
    "below": (lambda: request(inputs=with_value(-3e38)), INVALID, "INVALID_VALUE", "inputs.data"),
    "no name": (lambda: request(name=""), INVALID, "MODEL_NAME_MISSING", "model.name"),
    "unknown model": (lambda: request(name="nope"),
                      grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model.name"),
    "unknown version": (lambda: request(version="99"),
                        grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model.version"),
    "digest mismatch": (lambda: request(digest="sha256:" + "0" * 64),
                        grpc.StatusCode.FAILED_PRECONDITION, "DIGEST_MISMATCH", "model.digest"),
    "corrupt ONNX": (lambda: request(name="corrupt"),
                     grpc.StatusCode.FAILED_PRECONDITION, "MODEL_BROKEN", "model"),
    "truncated ONNX": (lambda: request(name="truncated"),
                       grpc.StatusCode.FAILED_PRECONDITION, "MODEL_BROKEN", "model"),
    "lying manifest": (lambda: request(name="liar"),
                       grpc.StatusCode.FAILED_PRECONDITION, "MODEL_BROKEN", "model"),
    "wrong feature size": (lambda: request(name="narrow"),
                           grpc.StatusCode.FAILED_PRECONDITION, "MODEL_BROKEN", "model"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_bad_requests(stub: Any, case: str) -> None:
    make, code, reason, field = CASES[case]
    for call in (stub.Encode(make()), stub.EncodeStream(iter([make()])).read()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        error = refused.value
        assert error.code() is code
        info = error_info(error)
        assert (info.domain, info.reason, info.metadata["field"]) == ("reaas", reason, field)
        if code is INVALID:
            [violation] = details(error)[1].field_violations
            assert violation.field == field
            assert field in violation.description
    await still_serving(stub)


async def test_garbage_instead_of_a_message(server: RunningServer[Any], stub: Any) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        raw: Any = channel.unary_unary(ENCODE)
        huge_field = b"\x12\xff\xff\xff\xff\x03" + bytes(100)  # `inputs` of 1 GB, 100 bytes follow
        for message in (b"\xff" * 50, huge_field):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw(message)
            assert refused.value.code() is INVALID
            assert error_info(refused.value).reason == "UNDECODABLE_MESSAGE"
    await still_serving(stub)


async def test_an_empty_message_lacks_its_model(server: RunningServer[Any]) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        raw: Any = channel.unary_unary(ENCODE)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(b"")
    assert error_info(refused.value).reason == "MODEL_NAME_MISSING"


async def test_a_gigabyte_claimed_in_a_frame_header(server: RunningServer[Any], stub: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        answer = await asyncio.to_thread(claim_message, server.port, ENCODE, 1 << 30, bytes(1000))
        assert answer, "the server said nothing"
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 256 << 10
    await still_serving(stub)


async def test_a_message_above_the_limit(repository: Path) -> None:
    async with (
        encoder_server(repository, max_request_bytes=10_000) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Encode(request(inputs=images(1, 64, 64, 3)))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await still_serving(stub)


async def still_serving(stub: Any) -> None:
    reply = await stub.Encode(request())
    assert list(reply.features.shape) == [1, FEATURE_DIM]
