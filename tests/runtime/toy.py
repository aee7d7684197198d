"""A service on the runtime whose work tests control: it answers with what it was sent."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from reaas.v1 import encoder_pb2, encoder_pb2_grpc, model_pb2, tensor_pb2
from reaas_runtime import (
    Meter,
    ModelEntry,
    ModelServicer,
    ServiceSettings,
    answer_each,
    current_call,
    stage_timings,
)


class Toy(ModelServicer[str], encoder_pb2_grpc.EncoderServiceServicer):
    """Echoes `inputs`. Of the model names, "slow" waits for `release` and "bug" raises."""

    api = "feature"
    descriptor = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"]

    def __init__(self, settings: ServiceSettings, meter: Meter) -> None:
        super().__init__(settings, meter)
        self.warm = threading.Event()
        self.warm.set()
        self.release = threading.Event()
        self.working = threading.Event()

    def load(self, entry: ModelEntry) -> str:
        assert self.warm.wait(30)
        return entry.manifest.version

    def backends(self) -> list[str]:
        return ["toy"]

    def work(self, name: str) -> None:
        if name == "bug":
            raise ZeroDivisionError("/secret/path")
        if name == "slow":
            self.working.set()
            assert self.release.wait(30)

    async def Encode(  # noqa: N802
        self, request: encoder_pb2.EncodeRequest, context: Any
    ) -> encoder_pb2.EncodeResponse:
        call = current_call()
        with self.admit(1):
            done = await self.pool.run(
                lambda: self.work(request.model.name), deadline=call.deadline
            )
        call.charge("feature", request.model.name, 1, done.busy_seconds)
        return encoder_pb2.EncodeResponse(
            model=request.model,
            features=request.inputs,
            timings=stage_timings(done.queue_seconds, 0.0, done.busy_seconds),
        )

    def EncodeStream(  # noqa: N802
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeRequest], context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeResponse]:
        return answer_each(self.Encode, request_iterator, context)


def toy_settings(models_dir: Path, **changes: Any) -> ServiceSettings:
    """Settings for a toy on ports of its own; anonymous by default."""
    defaults: dict[str, Any] = {
        "models_dir": models_dir,
        "port": 0,
        "metrics_port": 0,
        "allow_anonymous": True,
        "workers": 1,
        "model_poll_s": 0.05,
        "grace_seconds": 5.0,
    }
    return ServiceSettings(**defaults | changes)


def request(name: str = "tiny", data: bytes = b"") -> encoder_pb2.EncodeRequest:
    """One message for the toy."""
    return encoder_pb2.EncodeRequest(
        model=model_pb2.ModelRef(name=name), inputs=tensor_pb2.Tensor(data=data)
    )
