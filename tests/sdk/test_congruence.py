"""The fake server answers as the real services do, for the same linear encoder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import reaas
from reaas._errors import error_of_call
from reaas._tensor import to_tensor
from reaas.testing import FakeModel, FakeServer
from reaas.v1 import encoder_pb2, encoder_pb2_grpc, f2i_pb2, f2i_pb2_grpc, model_pb2, tensor_pb2

from tests.sdk.samples import make_images

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")
pytest.importorskip("reaas_encoder")
pytest.importorskip("reaas_f2i")

from onnx import helper

from tests.support.f2i import f2i_server
from tests.support.models import build, manifest, publish
from tests.support.servers import encoder_server

MODEL = FakeModel(shape=(4, 4, 3))
Outcome = tuple[str, str, str]


def _publish(root: Path) -> reaas.ModelRef:
    """The fake's encoder as an ONNX file for the real services."""
    by_channel = MODEL.weights.reshape(8, 4, 4, 3).transpose(0, 3, 1, 2)  # [d, c, h, w]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["feature"], transB=1),
    ]
    onnx = build(nodes, {"w": by_channel.reshape(8, 48)}, (3, 4, 4), 8)
    meta = manifest(onnx, name="fake")
    meta["input"] |= {"shape": [4, 4, 3], "resize": None, "grey": False}
    meta["certified"] |= {"lipschitz": 2.0001}
    publish(root, onnx, meta)
    return reaas.ModelRef("fake", "1", meta["digest"])


@asynccontextmanager
async def _both(tmp_path: Path) -> AsyncIterator[tuple[list[tuple[str, str]], list[str]]]:
    """Addresses (encoder, f2i) of the fake and of the real services, and the digests they serve."""
    ref = _publish(tmp_path)
    async with AsyncExitStack() as stack:
        fake = stack.enter_context(FakeServer([MODEL]))
        encoder = await stack.enter_async_context(encoder_server(tmp_path))
        f2i = await stack.enter_async_context(f2i_server(tmp_path))
        addresses = [(fake.address, fake.address), (encoder.address, f2i.address)]
        yield addresses, [MODEL.ref.digest, ref.digest]


async def test_answers_agree(tmp_path: Path) -> None:
    images = make_images(20)
    as_float = (images / 255.0).astype(np.float32)
    feature_radii = np.linspace(0.05, 2.0, 20)
    rng = np.random.default_rng(1)
    planes = rng.normal(size=(20, 3, 8)), rng.uniform(-0.05, 3.0, size=(20, 3))
    planes[0][0], planes[1][0] = 0.0, 1.0  # nothing limits the first input
    sets = rng.normal(size=(20, 4, 3, 8)), rng.uniform(0.1, 3.0, size=(20, 4, 3))
    within = np.where(rng.uniform(size=(20, 4)) < 0.3, np.inf, rng.uniform(0.1, 2, (20, 4)))
    answers = []
    async with _both(tmp_path) as (addresses, _):
        for encoder, f2i in addresses:
            async with reaas.AsyncClient(encoder, f2i) as client:
                features = await client.encode(images, "fake")
                noisy = await client.encode(as_float * 3 - 1, "fake", phase="train")
                radii = await client.perturb(images, feature_radii, features.model)
                own = await client.radius_from_constant(images, feature_radii, features.model)
                (model,) = await client.models()
                margins = [
                    await client.perturb_margins(images, *planes, features.model, method)
                    for method in ("lipschitz", "envelope", "crown", "ibp")
                ]
                margins.append(
                    await client.perturb_margins(
                        images, *sets, features.model, "lipschitz", valid_within=within
                    )
                )
                entries = client.ledger.entries()
                answers.append((features, noisy, radii, own, model, entries, margins))
    fake, real = answers
    for mine, its in zip(fake[:2], real[:2], strict=True):
        np.testing.assert_allclose(mine.values, its.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fake[2].radius, real[2].radius, rtol=1e-2)
    assert (fake[2].radius <= feature_radii / MODEL.lipschitz).all()
    assert (real[2].radius <= feature_radii / MODEL.lipschitz).all()
    assert (real[2].radius >= real[3]).all()
    for known, found in zip(fake[6], real[6], strict=True):
        # Searches end within 1% of what their bound allows.
        np.testing.assert_allclose(known.radius, found.radius, rtol=1e-2, atol=1e-4)
        assert known.method == found.method
        assert (known.margin_set == found.margin_set).all()
        assert (known.limited_by_ball == found.limited_by_ball).all()
        assert (found.upper == found.radius).all()
        assert found.converged.all()
    assert fake[4].input == real[4].input
    assert fake[4].feature_dim == real[4].feature_dim
    assert [(key, usage.queries) for key, usage in fake[5].items()] == [
        (key, usage.queries) for key, usage in real[5].items()
    ]


def _encode(**fields: Any) -> encoder_pb2.EncodeRequest:
    return encoder_pb2.EncodeRequest(
        **{"model": model_pb2.ModelRef(name="fake"), "inputs": to_tensor(make_images(2))} | fields
    )


def _perturb(**fields: Any) -> f2i_pb2.PerturbRequest:
    ball = f2i_pb2.BallTarget(radii=to_tensor(np.ones(2)))
    base = {"model": model_pb2.ModelRef(name="fake"), "inputs": to_tensor(make_images(2))}
    return f2i_pb2.PerturbRequest(**base | {"ball": ball} | fields)


def _ball(*radii: float) -> f2i_pb2.BallTarget:
    return f2i_pb2.BallTarget(radii=to_tensor(np.array(radii)))


def _margins(
    normals: Any = None,
    offsets: Any = None,
    method: Any = f2i_pb2.METHOD_AUTO,
    within: Any = None,
) -> f2i_pb2.PerturbRequest:
    target = f2i_pb2.MarginTarget(
        normals=to_tensor(np.ones((2, 3, 8)) if normals is None else normals),
        offsets=to_tensor(np.ones((2, 3)) if offsets is None else offsets),
        valid_within=None if within is None else to_tensor(within),
    )
    return f2i_pb2.PerturbRequest(
        model=model_pb2.ModelRef(name="fake"),
        inputs=to_tensor(make_images(2)),
        margins=target,
        method=method,
    )


def _sets(within: Any) -> f2i_pb2.PerturbRequest:
    return _margins(np.ones((2, 2, 3, 8)), np.ones((2, 2, 3)), within=within)


def _floats(value: float) -> tensor_pb2.Tensor:
    return to_tensor(np.full((2, 4, 4, 3), value, np.float32))


def _tensor(dtype: Any, shape: tuple[int, ...], data: bytes) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)


REFUSED: dict[str, Callable[[], Any]] = {
    "no model": lambda: _encode(model=model_pb2.ModelRef()),
    "unknown model": lambda: _encode(model=model_pb2.ModelRef(name="nope")),
    "unknown version": lambda: _encode(model=model_pb2.ModelRef(name="fake", version="9")),
    "other digest": lambda: _encode(model=model_pb2.ModelRef(name="fake", digest="sha256:0")),
    "wrong size": lambda: _encode(inputs=to_tensor(np.zeros((2, 5, 4, 3), np.uint8))),
    "wrong channels": lambda: _encode(inputs=to_tensor(np.zeros((2, 4, 4, 1), np.uint8))),
    "too few axes": lambda: _encode(inputs=to_tensor(np.zeros((4, 3), np.uint8))),
    "no shape": lambda: _encode(inputs=_tensor(1, (), b"")),
    "empty batch": lambda: _encode(inputs=_tensor(1, (0, 4, 4, 3), b"")),
    "negative size": lambda: _encode(inputs=_tensor(1, (1, -4, 4, 3), b"")),
    "no type": lambda: _encode(inputs=_tensor(0, (1, 4, 4, 3), bytes(48))),
    "integers": lambda: _encode(inputs=_tensor(4, (1, 4, 4, 3), bytes(384))),
    "truncated": lambda: _encode(inputs=_tensor(1, (2, 4, 4, 3), bytes(95))),
    "1 GB claimed": lambda: _encode(inputs=_tensor(1, (1024, 4, 4, 3), bytes(10))),
    "not a number": lambda: _encode(inputs=_floats(np.nan)),
    "out of range": lambda: _encode(inputs=_floats(17.0)),
    "too many": lambda: _encode(inputs=to_tensor(np.zeros((1025, 4, 4, 3), np.uint8))),
    "not clean": lambda: _perturb(inputs=_floats(1.5)),
    "no target": lambda: f2i_pb2.PerturbRequest(
        model=model_pb2.ModelRef(name="fake"), inputs=to_tensor(make_images(2))
    ),
    "radius 0": lambda: _perturb(ball=_ball(1.0, 0.0)),
    "radius negative": lambda: _perturb(ball=_ball(1.0, -1.0)),
    "radius not a number": lambda: _perturb(ball=_ball(np.nan, 1.0)),
    "radius infinite": lambda: _perturb(ball=_ball(np.inf, 1.0)),
    "too few radii": lambda: _perturb(ball=_ball(1.0)),
    "radius huge": lambda: _perturb(ball=_ball(1.0, 1e10)),
    "radii as integers": lambda: _perturb(
        ball=f2i_pb2.BallTarget(radii=to_tensor(np.ones(2, np.int64)))
    ),
    "radii truncated": lambda: _perturb(ball=f2i_pb2.BallTarget(radii=_tensor(3, (2,), bytes(15)))),
    "normals of another length": lambda: _margins(np.ones((2, 3, 7))),
    "normals for other inputs": lambda: _margins(np.ones((3, 3, 8))),
    "normals without rows": lambda: _margins(np.ones((2, 8))),
    "no rows": lambda: _margins(np.ones((2, 0, 8))),
    "no normals for any input": lambda: _margins(np.ones((0, 3, 8))),
    "too many rows": lambda: _margins(np.ones((2, 513, 8)), np.ones((2, 513))),
    "normals in float32": lambda: _margins(np.ones((2, 3, 8), np.float32)),
    "normals not finite": lambda: _margins(np.full((2, 3, 8), np.inf)),
    "offsets for other rows": lambda: _margins(offsets=np.ones((2, 2))),
    "offsets in float32": lambda: _margins(offsets=np.ones((2, 3), np.float32)),
    "offsets not a number": lambda: _margins(offsets=np.full((2, 3), np.nan)),
    "a ball without sets": lambda: _margins(within=np.ones((2, 1))),
    "too many sets": lambda: _margins(np.ones((2, 17, 3, 8)), np.ones((2, 17, 3))),
    "no sets": lambda: _margins(np.ones((2, 0, 3, 8)), np.ones((2, 0, 3))),
    "too many axes": lambda: _margins(np.ones((2, 2, 2, 3, 8)), np.ones((2, 2, 2, 3))),
    "offsets for other sets": lambda: _margins(np.ones((2, 2, 3, 8)), np.ones((2, 3))),
    "balls of other sets": lambda: _sets(np.ones((2, 3))),
    "balls in float32": lambda: _sets(np.ones((2, 2), np.float32)),
    "balls of radius 0": lambda: _sets(np.zeros((2, 2))),
    "negative balls": lambda: _sets(-np.ones((2, 2))),
    "balls not a number": lambda: _sets(np.full((2, 2), np.nan)),
    "margins by no method": lambda: _margins(method=99),
    "a ball by envelope": lambda: _perturb(method=f2i_pb2.METHOD_ENVELOPE),
    "unknown method": lambda: _perturb(method=99),
    "too many steps": lambda: _perturb(search=f2i_pb2.SearchOptions(max_steps=10_000)),
    "negative steps": lambda: _perturb(search=f2i_pb2.SearchOptions(max_steps=-1)),
    "tolerance 1": lambda: _perturb(search=f2i_pb2.SearchOptions(relative_tolerance=1.0)),
    "tolerance not a number": lambda: _perturb(
        search=f2i_pb2.SearchOptions(relative_tolerance=float("nan"))
    ),
}


async def test_refusals_agree(tmp_path: Path) -> None:
    async with _both(tmp_path) as (addresses, _):
        fake, real = [
            {name: await _outcome(*where, make()) for name, make in REFUSED.items()}
            for where in addresses
        ]
    assert fake == real


async def test_unknown_metadata_is_refused_alike(tmp_path: Path) -> None:
    metadata = (("x-reaas-scheme", "paas"),)
    async with _both(tmp_path) as (addresses, _):
        fake, real = [await _outcome(*where, _encode(), metadata) for where in addresses]
    assert fake[:2] == real[:2] == ("InvalidArgumentError", "INVALID_METADATA")


async def _outcome(encoder: str, f2i: str, request: Any, metadata: Any = ()) -> Outcome:
    """Exception, reason and field that a raw request ends with."""
    is_encode = isinstance(request, encoder_pb2.EncodeRequest)
    async with grpc.aio.insecure_channel(encoder if is_encode else f2i) as channel:
        call: Any = (
            encoder_pb2_grpc.EncoderServiceStub(channel).Encode
            if is_encode
            else f2i_pb2_grpc.F2IServiceStub(channel).Perturb
        )
        try:
            await call(request, metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as failed:
            error = error_of_call(failed, encoder)
            return type(error).__name__, error.reason, error.field
    return "answered", "", ""
