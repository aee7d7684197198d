"""Every number of a request at the ends of what float64 holds: an answer, or a typed refusal."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from reaas.v1 import f2i_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub

from tests.support.f2i import f2i_server, perturb_request, tensor
from tests.support.models import FEATURE_DIM, conv_encoder, publish
from tests.support.servers import error_info

IMAGES = np.full((1, 8, 8, 3), 128, np.uint8)
ODD = [
    np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1e-300, 1e-17, 1e-12, 1e-9,
    -1.0, 1.0, 1e9, 1e17, 1e154, 1.7e308, -1.7e308,
]  # fmt: skip
# What a client can help, and what it cannot: neither is the service's fault.
FINE = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
METHODS = {
    "ball": ["METHOD_AUTO", "METHOD_LIPSCHITZ", "METHOD_CROWN", "METHOD_IBP"],
    "margins": ["METHOD_AUTO", "METHOD_LIPSCHITZ", "METHOD_ENVELOPE", "METHOD_IBP"],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    root = tmp_path_factory.mktemp("models")
    publish(root, conv_encoder())
    async with (
        f2i_server(root) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield F2IServiceStub(channel)


def margins_request(normal: float, offset: float, within: float, method: str) -> Any:
    request = perturb_request(IMAGES, [1.0], method=f2i_pb2.Method.Value(method))
    normals = np.ones((1, 1, 2, FEATURE_DIM))
    normals[0, 0, 1, 0] = normal
    offsets = np.array([[[1.0, offset]]])
    request.margins.normals.CopyFrom(tensor(normals))
    request.margins.offsets.CopyFrom(tensor(offsets))
    request.margins.valid_within.CopyFrom(tensor(np.array([[within]])))
    request.search.max_steps = 3
    return request


def ball_request(radius: float, tolerance: float, method: str) -> Any:
    request = perturb_request(IMAGES, [radius], method=f2i_pb2.Method.Value(method))
    request.search.max_steps = 3
    request.search.relative_tolerance = tolerance
    return request


async def code_of(stub: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    try:
        reply = await stub.Perturb(request, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code(), error_info(error).reason
    radii = [result.radius for result in reply.results]
    assert all(np.isfinite(radii)), radii
    assert all(radius >= 0 for radius in radii)
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("method", METHODS["ball"])
@pytest.mark.asyncio(loop_scope="module")
async def test_balls(stub: Any, method: str) -> None:
    pairs = [(odd, 0.0) for odd in ODD] + [(1.0, odd) for odd in ODD]
    for radius, tolerance in pairs:
        code, reason = await code_of(stub, ball_request(radius, tolerance, method))
        assert code in FINE, (radius, tolerance, reason)


@pytest.mark.parametrize("method", METHODS["margins"])
@pytest.mark.asyncio(loop_scope="module")
async def test_margins(stub: Any, method: str) -> None:
    tried = itertools.chain(
        ((odd, 1.0, np.inf) for odd in ODD),
        ((1.0, odd, np.inf) for odd in ODD),
        ((1.0, 1.0, odd) for odd in ODD),
        ((odd, odd, odd) for odd in ODD),
    )
    for normal, offset, within in tried:
        request = margins_request(normal, offset, within, method)
        code, reason = await code_of(stub, request)
        assert code in FINE, (normal, offset, within, reason)


@pytest.mark.parametrize("tolerance", [5e-324, 1e-308, 1e-17, 1.0, 2.0, -1e-3, np.nan, np.inf])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_tolerance_beyond_the_limits_is_named(stub: Any, tolerance: float) -> None:
    for request in (
        ball_request(1.0, tolerance, "METHOD_LIPSCHITZ"),
        margins_request(1.0, 1.0, 1.0, "METHOD_LIPSCHITZ"),
    ):
        request.search.relative_tolerance = tolerance
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Perturb(request)
        info = error_info(refused.value)
        assert (info.reason, info.metadata["field"]) == (
            "INVALID_SEARCH",
            "search.relative_tolerance",
        )
        assert "1e-12" in info.metadata["limit"]


@pytest.mark.asyncio(loop_scope="module")
async def test_steps_beyond_the_limits_are_named(stub: Any) -> None:
    for steps in (-1, 61, 2**31 - 1, -(2**31)):
        request = ball_request(1.0, 0.0, "METHOD_CROWN")
        request.search.max_steps = steps
        assert await code_of(stub, request) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_SEARCH",
        )
