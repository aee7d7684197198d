"""Features over a real socket: right, and bit for bit the same whatever shares the batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from reaas.v1 import encoder_pb2, model_pb2, tensor_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import RunningServer, as_array, as_tensor, resize_matrix

from tests.support.models import conv_encoder, manifest, publish
from tests.support.servers import encoder_server

pytestmark = pytest.mark.asyncio(loop_scope="module")
Array = NDArray[Any]
ONNX = conv_encoder()
# The shape of the encoders that are shipped.
LARGE = conv_encoder(1, size=32, feature_dim=128, channels=(32, 64, 128))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer[Any]]:
    root = tmp_path_factory.mktemp("models")
    publish(root, ONNX)
    meta = manifest(LARGE, "large", feature={"dim": 128})
    meta["input"]["shape"] = [32, 32, 3]
    publish(root, LARGE, meta)
    async with encoder_server(root) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(server: RunningServer[Any]) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield EncoderServiceStub(channel)


def tensor(images: Array) -> tensor_pb2.Tensor:
    if images.dtype != np.uint8:
        return as_tensor(images)
    dtype = tensor_pb2.DATA_TYPE_UINT8
    return tensor_pb2.Tensor(dtype=dtype, shape=images.shape, data=images.tobytes())


def request(images: Array, name: str = "tiny") -> encoder_pb2.EncodeRequest:
    return encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(name=name), inputs=tensor(images))


async def encode(stub: Any, images: Array, name: str = "tiny") -> Array:
    reply = await stub.Encode(request(images, name))
    assert reply.features.dtype == tensor_pb2.DATA_TYPE_FLOAT32
    return as_array(reply.features)


def reference(images: Array, onnx: bytes = ONNX) -> Array:
    """What ONNX Runtime says on its own, in float32, for images [n, H, W, 3] in [0, 1]."""
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    features: Array = session.run(None, {"input": batch})[0]
    return features


async def test_features_are_those_of_the_graph(stub: Any) -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
    np.testing.assert_allclose(await encode(stub, images), reference(images), rtol=1e-5, atol=1e-6)


async def test_a_reply_says_which_encoder_and_where_the_time_went(stub: Any) -> None:
    reply = await stub.Encode(request(np.zeros((1, 8, 8, 3), np.uint8)))
    assert (reply.model.name, reply.model.version) == ("tiny", "1")
    assert reply.model.digest == manifest(ONNX)["digest"]
    assert reply.timings.compute.ToNanoseconds() > 0
    assert reply.timings.preprocess.ToNanoseconds() > 0
    assert reply.timings.queue.ToNanoseconds() >= 0


async def test_uint8_and_float32_of_the_same_pixels_have_the_same_bits(stub: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    scaled = pixels.astype(np.float32) / np.float32(255)
    assert (await encode(stub, pixels)).tobytes() == (await encode(stub, scaled)).tobytes()


async def test_images_of_the_clients_own_size_are_resized_by_the_matrices(stub: Any) -> None:
    images = np.random.default_rng(2).random((2, 30, 13, 3), dtype=np.float32)
    rows, columns = resize_matrix(30, 8), resize_matrix(13, 8)
    resized = np.einsum("Hh,nhwc,Ww->nHWc", rows, images, columns).astype(np.float32)
    np.testing.assert_allclose(await encode(stub, images), reference(resized), atol=1e-5)


async def test_one_channel_is_replicated(stub: Any) -> None:
    grey = np.random.default_rng(3).random((2, 8, 8, 1), dtype=np.float32)
    colour = np.repeat(grey, 3, axis=3)
    assert (await encode(stub, grey)).tobytes() == (await encode(stub, colour)).tobytes()


async def test_images_with_noise_far_outside_the_range_are_encoded(stub: Any) -> None:
    images = np.random.default_rng(4).normal(0.5, 2, (4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(await encode(stub, images), reference(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("tiny", (11, 9, 3)), ("large", (32, 32, 3))])
async def test_the_same_image_has_the_same_bits_in_any_company(
    stub: Any, name: str, shape: tuple[int, int, int]
) -> None:
    """Concurrent callers, random batch sizes and positions, random neighbours."""
    random = np.random.default_rng(5)
    images = random.random((40, *shape), dtype=np.float32)
    alone = [await encode(stub, image[None], name) for image in images]

    async def check(chosen: Array) -> None:
        features = await encode(stub, images[chosen], name)
        for row, index in enumerate(chosen):
            assert features[row].tobytes() == alone[index][0].tobytes(), (len(chosen), row)

    for _ in range(8):
        sizes = random.integers(1, 80, size=6)
        await asyncio.gather(*[check(random.integers(0, len(images), size=s)) for s in sizes])


async def test_the_stream_twin_answers_each_message_in_order(stub: Any) -> None:
    random = np.random.default_rng(6)
    batches = [random.random((n, 8, 8, 3), dtype=np.float32) for n in (3, 1, 7)]
    replies = [r async for r in stub.EncodeStream(iter([request(b) for b in batches]))]
    for batch, reply in zip(batches, replies, strict=True):
        assert as_array(reply.features).tobytes() == (await encode(stub, batch)).tobytes()


async def test_models_are_listed_with_all_that_a_client_needs(stub: Any) -> None:
    reply = await stub.ListModels(model_pb2.ListModelsRequest())
    assert [m.model.name for m in reply.models] == ["large", "tiny"]
    [tiny] = (await stub.ListModels(model_pb2.ListModelsRequest(name="tiny"))).models
    assert list(tiny.input.shape) == [8, 8, 3]
    assert list(tiny.input.resize.max_size) == [64, 64]
    assert tiny.feature_dim == 8
    assert tiny.constants.lipschitz == 100.0
    assert tiny.constants.float32_error_slope == 1e-3
    assert tiny.latest
    info = await stub.GetInfo(model_pb2.GetInfoRequest())
    assert info.backends == ["CPUExecutionProvider"]
    assert info.limits.max_batch_inputs == 1024
    assert info.limits.max_request_bytes >= 64 * 224 * 224 * 3 * 4


async def test_a_new_version_is_picked_up_while_calls_go_on(tmp_path: Path) -> None:
    publish(tmp_path, ONNX)
    newer = conv_encoder(7)
    image = np.full((1, 8, 8, 3), 0.5, np.float32)
    async with (
        encoder_server(tmp_path) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        old = (await stub.Encode(request(image))).model
        publish(tmp_path, newer, manifest(newer, version="2"))
        async with asyncio.timeout(20):
            while (seen := (await stub.Encode(request(image))).model) == old:
                await asyncio.sleep(0.01)
        assert (seen.version, seen.digest) == ("2", manifest(newer)["digest"])
        pinned = request(image)
        pinned.model.CopyFrom(old)
        assert (await stub.Encode(pinned)).model == old
