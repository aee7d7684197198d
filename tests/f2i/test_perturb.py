"""F2IPerturb over a real socket: radii, methods, image sizes, deadlines, metering."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2, model_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_runtime import FRAME_BYTES, prepare_batch
from reaas_runtime.manifest import Manifest

from tests.support.f2i import f2i_server, perturb_request
from tests.support.models import conv_encoder, manifest
from tests.support.servers import scrape

METHODS = [
    f2i_pb2.METHOD_AUTO,
    f2i_pb2.METHOD_LIPSCHITZ,
    f2i_pb2.METHOD_CROWN,
    f2i_pb2.METHOD_IBP,
]


@pytest_asyncio.fixture
async def server(models_dir: Path) -> AsyncIterator[Any]:
    async with f2i_server(models_dir) as running:
        yield running


@pytest_asyncio.fixture
async def stub(server: Any) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield F2IServiceStub(channel)


def images(count: int, shape: tuple[int, ...] = (8, 8, 3), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def served_features(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """What clients see: float32 features of [n, h, w, c] images by ONNX Runtime."""
    onnx = conv_encoder()
    spec = Manifest.model_validate(manifest(onnx)).input
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    features: NDArray[np.float32] = session.run(None, {"input": prepare_batch(batch, spec)})[0]
    return features


async def test_auto_is_the_best_of_all_methods(stub: Any) -> None:
    batch, radii = images(6), np.geomspace(0.02, 5.0, 6)
    replies = {
        method: await stub.Perturb(perturb_request(batch, radii, method=method))
        for method in METHODS
    }
    found = {m: np.array([r.radius for r in reply.results]) for m, reply in replies.items()}
    for method in METHODS[1:]:
        assert (found[f2i_pb2.METHOD_AUTO] >= found[method] * (1 - 1e-9)).all()
        assert {r.method for r in replies[method].results} == {method}
    auto = replies[f2i_pb2.METHOD_AUTO]
    assert auto.model.digest == manifest(conv_encoder())["digest"]
    assert all(r.converged and r.upper >= r.radius > 0 for r in auto.results)
    assert f2i_pb2.METHOD_AUTO not in {r.method for r in auto.results}


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (5, 7, 3), (16, 12, 1)])
async def test_no_sampled_perturbation_leaves_the_ball(stub: Any, shape: tuple[int, ...]) -> None:
    """The radius refers to the pixels the client sent, and to the features it will receive."""
    batch, radii = images(4, shape), np.array([0.05, 0.3, 1.0, 4.0])
    reply = await stub.Perturb(perturb_request(batch, radii))
    random = np.random.default_rng(1)
    clean = batch.astype(np.float32) / np.float32(255)
    for image, allowed, result in zip(clean, radii, reply.results, strict=True):
        noise = random.normal(size=(64, *shape))
        noise /= np.linalg.norm(noise.reshape(64, -1), axis=1).reshape(-1, 1, 1, 1)
        moved = (image + result.radius * noise).astype(np.float32)
        shift = served_features(moved) - served_features(image[None])
        assert np.linalg.norm(shift, axis=1).max() <= allowed


async def test_same_query_same_answer_in_any_batch(stub: Any) -> None:
    batch, radii = images(13), np.geomspace(0.05, 3.0, 13)
    together = (await stub.Perturb(perturb_request(batch, radii))).results
    for i in (0, 5, 12):
        alone = (await stub.Perturb(perturb_request(batch[i : i + 1], radii[i : i + 1]))).results
        assert alone[0] == together[i]


async def test_larger_feature_radius_never_gives_smaller_radius(stub: Any) -> None:
    batch = np.repeat(images(1), 12, axis=0)
    for method in METHODS:
        request = perturb_request(batch, np.geomspace(0.01, 10.0, 12), method=method)
        found = [r.radius for r in (await stub.Perturb(request)).results]
        assert found == sorted(found)


async def test_stream_answers_in_order(stub: Any) -> None:
    requests = [perturb_request(images(n, seed=n), np.full(n, 0.5)) for n in (1, 3, 2)]
    streamed = [reply async for reply in stub.PerturbStream(iter(requests))]
    single = [await stub.Perturb(request) for request in requests]
    assert [list(r.results) for r in streamed] == [list(r.results) for r in single]


async def test_short_deadline_still_gives_certified_radii(models_dir: Path) -> None:
    """A search that is cut short returns its certified lower end, and says so."""
    async with (
        f2i_server(models_dir) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub: Any = F2IServiceStub(channel)
        request = perturb_request(
            images(60),
            np.full(60, 0.5),
            method=f2i_pb2.METHOD_CROWN,
            search=f2i_pb2.SearchOptions(max_steps=60, relative_tolerance=1e-12),
        )
        begun = time.monotonic()
        whole = (await stub.Perturb(request, timeout=250)).results
        # However fast the machine: some searches end, others have to be cut short.
        hurried = (await stub.Perturb(request, timeout=0.4 * (time.monotonic() - begun))).results
    assert len(hurried) == 60
    assert all(h.radius <= w.radius * (1 + 1e-9) for h, w in zip(hurried, whole, strict=True))
    assert not all(result.converged for result in hurried)


async def test_queries_and_bytes_are_metered(stub: Any, server: Any) -> None:
    request = perturb_request(images(5), np.full(5, 0.5))
    reply = await stub.Perturb(request, metadata=(("x-reaas-phase", "test"),))
    samples = await scrape(server)
    labels = "{api=f2iperturb,client=anonymous,model=tiny,phase=test,scheme=reaas}"
    assert samples[f"reaas_queries_total{labels}"] == 5
    assert samples[f"reaas_request_bytes_total{labels}"] == request.ByteSize() + FRAME_BYTES
    assert samples[f"reaas_response_bytes_total{labels}"] == reply.ByteSize() + FRAME_BYTES


async def test_answers_are_counted_by_what_certified_them(models_dir: Path) -> None:
    async with (
        f2i_server(models_dir) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        request = perturb_request(images(5), np.full(5, 0.5), method=f2i_pb2.METHOD_LIPSCHITZ)
        reply = await F2IServiceStub(channel).Perturb(request)
        samples = await scrape(server)
    labels = "method=lipschitz,model=tiny,target=ball"
    assert samples[f"reaas_f2i_answers_total{{converged=true,{labels}}}"] == 5
    assert samples[f"reaas_f2i_steps_sum{{{labels}}}"] == sum(r.steps for r in reply.results)
    total = sum(r.radius for r in reply.results)
    assert samples[f"reaas_f2i_radius_sum{{{labels}}}"] == pytest.approx(total)


async def test_info_names_the_search_limit(stub: Any) -> None:
    info = await stub.GetInfo(model_pb2.GetInfoRequest())
    assert info.service == "reaas.v1.F2IService"
    assert info.limits.max_search_steps == 60
    assert info.backends == ["torch-cpu"]
