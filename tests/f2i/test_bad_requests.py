"""Bad requests and bad models over a real socket: a typed error, and the service goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from onnx import helper
from reaas.v1 import f2i_pb2, model_pb2, tensor_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub

from tests.support.f2i import f2i_server, perturb_request, tensor
from tests.support.models import FEATURE_DIM, build, conv_encoder, manifest, publish
from tests.support.servers import error_info

IMAGES = np.full((2, 8, 8, 3), 128, np.uint8)
GOOD = perturb_request(IMAGES, [0.5, 0.5])
Code = grpc.StatusCode


def sine_encoder() -> bytes:
    """An encoder with an operator that no bound is known for."""
    weight = np.zeros((FEATURE_DIM, 192), np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
        helper.make_node("Sin", ["scores"], ["feature"], name="wave"),
    ]
    return build(nodes, {"w": weight}, (3, 8, 8), FEATURE_DIM)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    root = tmp_path_factory.mktemp("models")
    good = conv_encoder()
    publish(root, good)
    publish(root, b"no ONNX at all", manifest(b"no ONNX at all", name="corrupt"))
    publish(root, sine_encoder(), manifest(sine_encoder(), name="sine"))
    publish(root, good, manifest(good, name="liar") | {"digest": "sha256:" + 64 * "0"})
    constants = manifest(good)["certified"] | {"lipschitz": 0.5}
    publish(root, good, manifest(good, name="boaster", certified=constants))
    async with (
        f2i_server(root, max_batch_inputs=8) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield F2IServiceStub(channel)


def radii_tensor(values: Any) -> f2i_pb2.BallTarget:
    return f2i_pb2.BallTarget(radii=tensor(np.asarray(values, np.float64)))


def with_radii(*values: float) -> f2i_pb2.PerturbRequest:
    return perturb_request(IMAGES, list(values))


def of_model(name: str, digest: str = "") -> f2i_pb2.PerturbRequest:
    return perturb_request(IMAGES, [0.5, 0.5], model=model_pb2.ModelRef(name=name, digest=digest))


NAN_IMAGES = np.full((2, 8, 8, 3), np.nan, np.float32)
NOISY_IMAGES = np.full((2, 8, 8, 3), 1.5, np.float32)
CUT = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=(2, 8, 8, 3), data=b"12")
GIGABYTE = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=(5, 8, 8, 1 << 28), data=b"1")
INT_RADII = tensor_pb2.Tensor(
    dtype=tensor_pb2.DATA_TYPE_INT64, shape=(2,), data=np.ones(2, "<i8").tobytes()
)

CASES = {
    "radius negative": (with_radii(0.5, -1.0), "INVALID_RADIUS", "target.ball.radii[1]"),
    "radius zero": (with_radii(0.0, 0.5), "INVALID_RADIUS", "target.ball.radii[0]"),
    "radius NaN": (with_radii(np.nan, 0.5), "INVALID_RADIUS", "target.ball.radii[0]"),
    "radius infinite": (with_radii(0.5, np.inf), "INVALID_RADIUS", "target.ball.radii[1]"),
    "radius huge": (with_radii(0.5, 1e300), "INVALID_RADIUS", "target.ball.radii[1]"),
    "too few radii": (with_radii(0.5), "INVALID_SHAPE", "target.ball.radii.shape"),
    "radii of integers": (
        perturb_request(IMAGES, [1, 1], ball=f2i_pb2.BallTarget(radii=INT_RADII)),
        "INVALID_DTYPE",
        "target.ball.radii.dtype",
    ),
    "no target": (
        f2i_pb2.PerturbRequest(model=GOOD.model, inputs=GOOD.inputs),
        "MISSING_TARGET",
        "target",
    ),
    "method": (perturb_request(IMAGES, [1, 1], method=77), "INVALID_METHOD", "method"),
    "steps": (
        perturb_request(IMAGES, [1, 1], search=f2i_pb2.SearchOptions(max_steps=1_000_000)),
        "INVALID_SEARCH",
        "search.max_steps",
    ),
    "tolerance": (
        perturb_request(IMAGES, [1, 1], search=f2i_pb2.SearchOptions(relative_tolerance=np.nan)),
        "INVALID_SEARCH",
        "search.relative_tolerance",
    ),
    "images NaN": (perturb_request(NAN_IMAGES, [1, 1]), "INVALID_VALUE", "inputs.data"),
    "images with noise": (perturb_request(NOISY_IMAGES, [1, 1]), "INVALID_VALUE", "inputs.data"),
    "image shape": (perturb_request(IMAGES[:, :, :, :2], [1, 1]), "INVALID_SHAPE", "inputs.shape"),
    "truncated": (
        perturb_request(IMAGES, [1, 1], inputs=CUT),
        "INVALID_DATA_LENGTH",
        "inputs.data",
    ),
    "a gigabyte claimed": (
        perturb_request(IMAGES, [1, 1], inputs=GIGABYTE),
        "INVALID_SHAPE",
        "inputs.shape",
    ),
    "empty batch": (
        perturb_request(IMAGES[:0], np.zeros(0)),
        "EMPTY_BATCH",
        "inputs.shape",
    ),
    "no model": (of_model(""), "MODEL_NAME_MISSING", "model.name"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_bad_argument_names_its_field(stub: Any, case: Any) -> None:
    request, reason, field = case
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Perturb(request)
    info = error_info(caught.value)
    assert (caught.value.code(), info.reason) == (Code.INVALID_ARGUMENT, reason)
    assert info.metadata["field"] == field
    assert (await stub.Perturb(GOOD)).results[0].radius > 0


MODELS = {
    "unknown": (of_model("nobody"), Code.NOT_FOUND, "MODEL_NOT_FOUND", "nobody"),
    "other digest": (
        of_model("tiny", digest="sha256:" + 64 * "1"),
        Code.FAILED_PRECONDITION,
        "DIGEST_MISMATCH",
        "is served with",
    ),
    "corrupt": (of_model("corrupt"), Code.FAILED_PRECONDITION, "MODEL_BROKEN", "corrupt"),
    "operator": (
        of_model("sine"),
        Code.FAILED_PRECONDITION,
        "UNSUPPORTED_OPERATOR",
        "'wave' uses Sin",
    ),
    "digest that lies": (of_model("liar"), Code.FAILED_PRECONDITION, "MODEL_BROKEN", "but model"),
    "constant that lies": (
        of_model("boaster"),
        Code.FAILED_PRECONDITION,
        "MODEL_BROKEN",
        "certified.lipschitz is 0.5",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())
async def test_bad_model_says_why(stub: Any, case: Any) -> None:
    request, code, reason, words = case
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Perturb(request)
    assert (caught.value.code(), error_info(caught.value).reason) == (code, reason)
    assert words in (caught.value.details() or "")
    assert (await stub.Perturb(GOOD)).results[0].radius > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_only_sound_models_are_listed(stub: Any) -> None:
    models = (await stub.ListModels(model_pb2.ListModelsRequest())).models
    assert [info.model.name for info in models] == ["tiny"]
