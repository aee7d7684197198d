"""F2IPerturb-API: (x, feature-space certified radius) -> image-space certified radius."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog
import torch
from reaas.v1 import f2i_pb2, f2i_pb2_grpc, model_pb2
from reaas_bounds import DeviceError, interruptible, prepare_device
from reaas_runtime import (
    ConfigurationError,
    Meter,
    ModelEntry,
    ModelServicer,
    WorkerPool,
    answer_each,
    available_memory,
    check_inputs,
    current_call,
    load_given_up,
    stage_timings,
)

from reaas_f2i.answers import AnswerMetrics
from reaas_f2i.certifier import Certifier
from reaas_f2i.effort import decoding_effort
from reaas_f2i.jobs import NewSizes, answer_in_parts
from reaas_f2i.questions import check_request, to_question, to_result
from reaas_f2i.settings import F2ISettings

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("reaas.f2i")


class F2IServicer(ModelServicer[Certifier], f2i_pb2_grpc.F2IServiceServicer):
    """Answers with image-space certified radii; sound, and deterministic unless cut short."""

    api = "f2iperturb"
    descriptor = f2i_pb2.DESCRIPTOR.services_by_name["F2IService"]
    settings: F2ISettings

    def __init__(self, settings: F2ISettings, meter: Meter) -> None:
        # The worker pool is the parallelism; torch's own threads would fight over the same cores.
        torch.set_num_threads(1)
        self.device = _prepared(settings.device)
        super().__init__(settings, meter)
        self._answers = AnswerMetrics(meter)
        self._sizes = NewSizes(self.pool)
        meter.show_engine("torch", torch.__version__, str(self.device), self.pool.workers)
        _log.info("bounds", device=str(self.device), torch=torch.__version__)

    def load(self, entry: ModelEntry) -> Certifier:
        """A warm certifier of `entry`."""
        with interruptible(load_given_up):
            return Certifier(entry, self.settings.max_input_shapes, self.device)

    def make_pool(self, workers: int) -> WorkerPool:
        """Closed forms and searches of minutes side by side: each in its lane, within memory."""
        budget = self.settings.memory_budget_bytes or available_memory() // 2
        _log.info("memory for bounds", budget_bytes=budget)
        return WorkerPool(
            workers,
            self.settings.max_pending_inputs,
            self.meter.skipped,
            lanes=True,
            memory=budget,
        )

    def refresh(self) -> None:
        """As the base; the metrics of what is served begin at 0."""
        super().refresh()
        self._answers.begin_at_zero({s.entry.manifest.name for s in self.repository.served()})

    def backends(self) -> list[str]:
        """What computes the bounds."""
        return [f"torch-{self.device.type}"]

    def limits(self) -> model_pb2.Limits:
        """Every limit, that of the search included."""
        limits = super().limits()
        limits.max_search_steps = self.settings.max_search_steps
        limits.max_margin_rows = self.settings.max_margin_rows
        limits.max_margin_sets = self.settings.max_margin_sets
        return limits

    async def Perturb(  # noqa: N802
        self, request: f2i_pb2.PerturbRequest, context: Context
    ) -> f2i_pb2.PerturbResponse:
        """Image-space certified radii of a batch of queries."""
        call = current_call()
        served = await self.resolve(request.model)
        manifest = served.entry.manifest
        spec = manifest.input
        count = check_inputs(request.inputs, spec, self.settings.max_batch_inputs)
        check_request(request, count, manifest.feature.dim, self.settings)
        with self.admit(count):
            ready = await self.pool.run(
                lambda: to_question(request, spec, self.settings),
                deadline=call.deadline,
                client=call.client_id,
                effort=decoding_effort(len(request.inputs.data)),
            )
            encoder = await self._sizes.ready(served.model, ready.value.images.shape[1:], call)
            parts = await answer_in_parts(
                self.pool, served.model, encoder, ready.value, call, self.settings.queries_per_job
            )
        compute = sum(part.busy_seconds for part in parts)
        call.charge(self.api, request.model.name, count, ready.busy_seconds + compute)
        answers = [answer for part in parts for answer in part.value]
        self._answers.count(manifest.name, request.WhichOneof("target") or "", answers)
        return f2i_pb2.PerturbResponse(
            model=served.entry.ref,
            results=[to_result(answer) for answer in answers],
            timings=stage_timings(
                queue=ready.queue_seconds + min(part.queue_seconds for part in parts),
                preprocess=ready.busy_seconds,
                compute=compute,
            ),
        )

    def PerturbStream(  # noqa: N802
        self, request_iterator: AsyncIterator[f2i_pb2.PerturbRequest], context: Context
    ) -> AsyncIterator[f2i_pb2.PerturbResponse]:
        """As Perturb, for many batches: one reply for each request, in order."""
        return answer_each(self.Perturb, request_iterator, context)


def _prepared(name: str) -> torch.device:
    """The device of the settings. Raises ConfigurationError where it is not there."""
    try:
        return prepare_device(name)
    except DeviceError as error:
        raise ConfigurationError(str(error)) from error
