"""Feature-API: x -> f(x)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import numpy as np
from reaas.v1 import encoder_pb2, encoder_pb2_grpc
from reaas_runtime import (
    ConfigurationError,
    Effort,
    Meter,
    ModelEntry,
    ModelServicer,
    answer_each,
    as_tensor,
    check_inputs,
    current_call,
    decode_inputs,
    prepare_batch,
    stage_timings,
)
from reaas_runtime.inference import CUDA, cuda_available

from reaas_encoder.session import EncoderSession
from reaas_encoder.settings import EncoderSettings

# What orders clients before it is known what their images really take.
_SECONDS_PER_IMAGE = 1e-3
Context = grpc.aio.ServicerContext[Any, Any]


class EncoderServicer(ModelServicer[EncoderSession], encoder_pb2_grpc.EncoderServiceServicer):
    """Answers with features, FLOAT32 [n, d], bit for bit the same whatever shares the batch."""

    api = "feature"
    descriptor = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"]

    def __init__(self, settings: EncoderSettings, meter: Meter) -> None:
        if settings.device == "cuda" and not cuda_available():
            raise ConfigurationError(
                f"device is cuda, but this ONNX Runtime has no {CUDA}: install onnxruntime-gpu "
                "(the 'gpu' extra) or set device to auto"
            )
        self._batch_sizes = settings.batch_sizes
        self._device = settings.device
        super().__init__(settings, meter)

    def load(self, entry: ModelEntry) -> EncoderSession:
        """A warm session of `entry`."""
        return EncoderSession(entry, self._batch_sizes, self._device)

    def backends(self) -> list[str]:
        """ONNX Runtime's providers in use."""
        return sorted({p for served in self.repository.served() for p in served.model.providers})

    async def Encode(  # noqa: N802
        self, request: encoder_pb2.EncodeRequest, context: Context
    ) -> encoder_pb2.EncodeResponse:
        """Feature vectors of a batch of inputs."""
        call = current_call()
        served = await self.resolve(request.model)
        spec, encoder = served.entry.manifest.input, served.model
        count = check_inputs(request.inputs, spec, self.settings.max_batch_inputs)
        with self.admit(count):
            ready = await self.pool.run(
                lambda: prepare_batch(decode_inputs(request.inputs, spec, clean=False), spec),
                deadline=call.deadline,
                client=call.client_id,
                effort=Effort(count * _SECONDS_PER_IMAGE),
            )
            batches = encoder.split(ready.value)
            parts = await self.pool.run_all(
                [partial(encoder.encode, batch) for batch in batches],
                deadline=call.deadline,
                client=call.client_id,
                efforts=[Effort(len(batch) * _SECONDS_PER_IMAGE) for batch in batches],
            )
        compute = sum(part.busy_seconds for part in parts)
        call.charge(self.api, request.model.name, count, ready.busy_seconds + compute)
        return encoder_pb2.EncodeResponse(
            model=served.entry.ref,
            features=as_tensor(np.concatenate([part.value for part in parts])),
            timings=stage_timings(
                queue=ready.queue_seconds + min(part.queue_seconds for part in parts),
                preprocess=ready.busy_seconds,
                compute=compute,
            ),
        )

    def EncodeStream(  # noqa: N802
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeRequest], context: Context
    ) -> AsyncIterator[encoder_pb2.EncodeResponse]:
        """As Encode, for many batches: one reply for each request, in order."""
        return answer_each(self.Encode, request_iterator, context)
