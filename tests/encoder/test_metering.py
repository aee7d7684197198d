"""What is metered is what was on the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
from reaas.v1 import encoder_pb2, model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import as_tensor
from reaas_runtime.keys import add_key

from tests.support.servers import encoder_server, scrape

FRAME = 5
ENCODE = "/reaas.v1.EncoderService/Encode"
STREAM = "/reaas.v1.EncoderService/EncodeStream"


def message(count: int) -> bytes:
    images = np.random.default_rng(count).random((count, 8, 8, 3), dtype=np.float32)
    request = encoder_pb2.EncodeRequest(
        model=model_pb2.ModelRef(name="tiny"), inputs=as_tensor(images)
    )
    return request.SerializeToString()


class Tally:
    """Queries and bytes of raw messages, as a client counts them."""

    def __init__(self) -> None:
        self.queries = self.sent = self.received = 0

    def add(self, queries: int, request: bytes, reply: bytes) -> None:
        self.queries += queries
        self.sent += len(request) + FRAME
        self.received += len(reply) + FRAME


def metered(metrics: dict[str, float], scheme: str, phase: str) -> list[float]:
    labels = f"{{api=feature,client=phone,model=tiny,phase={phase},scheme={scheme}}}"
    names = ("queries", "request_bytes", "response_bytes")
    return [metrics[f"reaas_{name}_total{labels}"] for name in names]


async def test_queries_and_bytes_equal_those_on_the_wire(models_dir: Path, tmp_path: Path) -> None:
    key = add_key("phone", tmp_path / "keys")
    tallies = {("reaas", "test"): Tally(), ("seaas", "train"): Tally()}
    async with (
        encoder_server(models_dir, api_keys_file=tmp_path / "keys") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        unary: Any = channel.unary_unary(ENCODE)
        stream: Any = channel.stream_stream(STREAM)
        for (scheme, phase), tally in tallies.items():
            metadata = (
                ("authorization", f"Bearer {key}"),
                ("x-reaas-scheme", scheme),
                ("x-reaas-phase", phase),
            )
            for count in (1, 33, 7):
                tally.add(count, message(count), await unary(message(count), metadata=metadata))
            counts = (2, 40, 1)
            replies = stream(iter([message(c) for c in counts]), metadata=metadata)
            for count in counts:
                tally.add(count, message(count), await replies.read())
        metrics = await scrape(server)
    for (scheme, phase), tally in tallies.items():
        expected = [tally.queries, tally.sent, tally.received]
        assert metered(metrics, scheme, phase) == expected
        labels = f"{{api=feature,client=phone,model=tiny,phase={phase},scheme={scheme}}}"
        assert metrics[f"reaas_compute_seconds_total{labels}"] > 0
    assert metrics["reaas_batch_inputs_count{api=feature}"] == 12
    assert metrics["reaas_batch_inputs_sum{api=feature}"] == 2 * 84


async def test_refused_calls_and_info_calls_cost_nothing(models_dir: Path) -> None:
    async with (
        encoder_server(models_dir) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        await stub.ListModels(model_pb2.ListModelsRequest())
        await stub.GetInfo(model_pb2.GetInfoRequest())
        stream = stub.EncodeStream(
            iter([encoder_pb2.EncodeRequest.FromString(message(1)), encoder_pb2.EncodeRequest()])
        )
        assert (await stream.read()).features.shape[0] == 1
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        metrics = await scrape(server)
    queries = {name: v for name, v in metrics.items() if name.startswith("reaas_queries_total")}
    assert list(queries.values()) == [1], "only the stream's first message was answered"
    handled = "grpc_server_handled_total{{grpc_code={},grpc_method={},{}}}"
    service = "grpc_service=reaas.v1.EncoderService,grpc_type="
    for code, method, kind in [
        ("OK", "ListModels", "unary"),
        ("OK", "GetInfo", "unary"),
        ("INVALID_ARGUMENT", "EncodeStream", "bidi_streaming"),
    ]:
        assert metrics[handled.format(code, method, service + kind)] == 1
    [model] = [name for name in metrics if name.startswith("reaas_model_info")]
    assert "model=tiny,version=1" in model
