"""Real services on loopback: what is served otherwise than it is certified is refused at load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc.aio import AioRpcError, insecure_channel
from onnx import helper
from reaas.v1 import encoder_pb2, f2i_pb2, model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_bounds import certified_constants, load_network
from reaas_bounds.graph.operators import OPERATORS
from reaas_gate import check_served, probe_record
from reaas_pretrain.manifest import certified_section

from tests.gate.test_gate import changed
from tests.support.f2i import f2i_server, perturb_request, tensor
from tests.support.models import FEATURE_DIM, SIZE, build, conv_encoder, manifest, publish
from tests.support.servers import encoder_server

IMAGES = np.random.default_rng(0).random((2, SIZE, SIZE, 3), dtype=np.float32)


def linear_encoder() -> bytes:
    """One without a convolution."""
    weights = np.random.default_rng(3).normal(size=(FEATURE_DIM, 3 * SIZE * SIZE)) / 20
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["feature"], transB=1),
    ]
    return build(nodes, {"w": weights}, (3, SIZE, SIZE), FEATURE_DIM)


def honest(onnx_bytes: bytes, **changes: Any) -> dict[str, Any]:
    return manifest(
        onnx_bytes, certified=certified_section(certified_constants(onnx_bytes)), **changes
    )


def recorded(onnx_bytes: bytes) -> dict[str, Any]:
    network = load_network(onnx_bytes)
    return probe_record(network, check_served(onnx_bytes, network))


async def test_an_engine_that_reads_another_encoder_refuses_it_and_serves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = OPERATORS["Conv"]
    wrong, other = conv_encoder(), linear_encoder()
    monkeypatch.setitem(
        OPERATORS,
        "Conv",
        lambda builder, node: right(builder, changed(node, pads=[2, 1, 0, 1])),
    )
    publish(tmp_path, wrong, honest(wrong))
    publish(tmp_path, other, honest(other, name="other"))
    async with (
        f2i_server(tmp_path) as server,
        insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = F2IServiceStub(channel)
        with pytest.raises(AioRpcError) as refused:
            await stub.Perturb(perturb_request(IMAGES, [0.1, 0.1]))
        details = refused.value.details() or ""
        assert "serves other features than the engine certifies" in details
        assert "the first node that differs is" in details
        request = perturb_request(IMAGES, [0.1, 0.1], model=model_pb2.ModelRef(name="other"))
        reply = await stub.Perturb(request)
        assert len(reply.results) == 2
        info = await stub.ListModels(model_pb2.ListModelsRequest())
        assert [model.model.name for model in info.models] == ["other"]


async def test_an_encoder_service_whose_runtime_computes_otherwise_refuses(tmp_path: Path) -> None:
    file, other = conv_encoder(seed=1), conv_encoder(seed=2)
    publish(tmp_path, file, manifest(file, checked=recorded(file)))
    publish(tmp_path, other, manifest(other, name="other", checked=recorded(file)))
    async with (
        encoder_server(tmp_path) as server,
        insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = EncoderServiceStub(channel)
        reply = await stub.Encode(
            encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(name="tiny"), inputs=tensor(IMAGES))
        )
        assert reply.features.shape[0] == 2
        info = await stub.ListModels(model_pb2.ListModelsRequest())
        [tiny] = info.models
        assert '"worst"' in tiny.manifest_json  # What was found is told; the probes are long.
        assert '"features"' not in tiny.manifest_json
        with pytest.raises(AioRpcError, match="serves other features than were certified"):
            await stub.Encode(
                encoder_pb2.EncodeRequest(
                    model=model_pb2.ModelRef(name="other"), inputs=tensor(IMAGES)
                )
            )


async def test_a_record_of_another_runtime_is_held_against_this_one(tmp_path: Path) -> None:
    """Features count, not names: whoever computes what was certified serves."""
    file = conv_encoder()
    record = recorded(file) | {"runtime": "onnxruntime 1.0.0"}
    publish(tmp_path, file, honest(file, checked=record))
    async with encoder_server(tmp_path) as server, f2i_server(tmp_path) as bounds:
        assert server.port != bounds.port
        async with insecure_channel(f"127.0.0.1:{server.port}") as channel:
            request = encoder_pb2.EncodeRequest(
                model=model_pb2.ModelRef(name="tiny"), inputs=tensor(IMAGES)
            )
            assert (await EncoderServiceStub(channel).Encode(request)).features.data
        async with insecure_channel(f"127.0.0.1:{bounds.port}") as channel:
            reply = await F2IServiceStub(channel).Perturb(perturb_request(IMAGES, [0.1, 0.1]))
            assert isinstance(reply, f2i_pb2.PerturbResponse)


async def test_a_file_that_overflows_is_refused_by_name(tmp_path: Path) -> None:
    file, other = conv_encoder(scale=1e13), linear_encoder()
    publish(tmp_path, file, honest(file))
    publish(tmp_path, other, honest(other, name="other"))
    async with (
        f2i_server(tmp_path) as server,
        insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        with pytest.raises(AioRpcError, match="is not finite for the image"):
            await F2IServiceStub(channel).Perturb(perturb_request(IMAGES, [0.1, 0.1]))
