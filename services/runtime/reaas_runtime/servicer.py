"""What a service is to its server, and what those with models have in common."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, ClassVar, Generic, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.duration_pb2 import Duration
from reaas.v1 import model_pb2

from reaas_runtime.call import PHASES, SCHEMES, current_call
from reaas_runtime.cpus import available_cpus
from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.loading import LoadLimits
from reaas_runtime.metering import Meter
from reaas_runtime.readiness import DIRECTORY, Marks
from reaas_runtime.repository import ModelEntry, ModelRepository, Served
from reaas_runtime.settings import ServiceSettings
from reaas_runtime.supervision import Background
from reaas_runtime.work import WorkerPool

Context = grpc.aio.ServicerContext[Any, Any]
M = TypeVar("M")
Request = TypeVar("Request")
Reply = TypeVar("Reply")
# How soon a model that has become warm is noticed.
_NOTICE_S = 0.05
# How long a start waits for models beside the first, and a call for a model that is being loaded.
_OTHERS_S, _LOADING_S = 10.0, 20.0
# Of the grace, for searches; the rest is for their answers.
_SHARE_OF_GRACE = 0.8


class Servicer(ABC):
    """Base of every servicer: how its server starts it, looks after it and ends it."""

    descriptor: ClassVar[ServiceDescriptor]
    """The service in the contract, for example `DESCRIPTOR.services_by_name["EncoderService"]`."""
    background: Background
    """Where work that must not end by itself is started; set by the server before `start`."""

    async def start(self) -> None:  # noqa: B027
        """Begin work of its own, before the first call. Raises ConfigurationError."""

    @abstractmethod
    def refresh(self) -> None:
        """Bring the view up to date with the disk; blocking, again and again in a thread."""

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether calls can be answered: SERVING or NOT_SERVING."""

    async def changed(self, seconds: float) -> None:
        """Return when there is reason to `refresh`, after `seconds` at the latest."""
        await asyncio.sleep(seconds)

    def drain(self) -> None:  # noqa: B027
        """No new calls from now on: end those that would not end by themselves."""

    @abstractmethod
    def close(self) -> None:
        """Stop work and free everything; blocking."""


class ModelServicer(Servicer, Generic[M]):
    """Base of a servicer with models. A service adds `load`, `backends`, one method and its
    stream twin.

    `M` is what the service makes of a model (a session, a network); `load` makes it, checks it and
    warms it up, in a background thread.
    """

    api: ClassVar[str]
    """What its queries are metered as."""

    def __init__(self, settings: ServiceSettings, meter: Meter) -> None:
        self.settings = settings
        self.meter = meter
        self.repository: ModelRepository[M] = ModelRepository(
            settings.models_dir,
            self.load,
            LoadLimits(settings.model_load_s, settings.max_model_bytes),
            settings.latest_wait_s,
        )
        where = settings.readiness_dir or settings.models_dir / DIRECTORY
        self._marks = Marks(where, self.descriptor.name)
        self._started = False
        self._noticed = 0
        self._begun = time.monotonic()
        self._opened = False
        self.pool = self.make_pool(settings.workers or available_cpus())
        meter.watch_pending(lambda: float(self.pool.pending), settings.max_pending_inputs)

    def make_pool(self, workers: int) -> WorkerPool:
        """The threads that answer; all of a service's queries are about as dear."""
        return WorkerPool(workers, self.settings.max_pending_inputs, self.meter.skipped)

    @abstractmethod
    def load(self, entry: ModelEntry) -> M:
        """Make `entry` ready to answer. Raises DomainError MODEL_BROKEN or UNSUPPORTED_OPERATOR."""

    @abstractmethod
    def backends(self) -> list[str]:
        """What computes, for GetInfo."""

    @contextmanager
    def admit(self, inputs: int) -> Iterator[None]:
        """Hold room for the inputs of the current call's message, within its client's limits.

        Raises DomainError QUEUE_FULL or QUOTA_EXCEEDED with advice when to retry.
        """
        call = current_call()
        with self.pool.admit(inputs, call.client_id):
            taken = call.quotas.take(call.client_id, inputs)
            try:
                yield
            except DomainError as error:
                # What its client could not wait for was worked on; all else costs nothing.
                if error.reason is not Reason.DEADLINE_TOO_SHORT:
                    taken.give_back()
                raise
            except Exception:
                taken.give_back()
                raise

    def limits(self) -> model_pb2.Limits:
        """Every limit a request can run into. Services with a search add `max_search_steps`."""
        settings = self.settings
        return model_pb2.Limits(
            max_batch_inputs=settings.max_batch_inputs,
            max_request_bytes=settings.max_request_bytes,
            max_response_bytes=settings.max_request_bytes,
            max_pending_inputs=settings.max_pending_inputs,
            default_deadline=to_duration(settings.default_deadline_s),
        )

    def refresh(self) -> None:
        """Look for models; show in metrics what is served by now. Waits for no model."""
        self._noticed = self.repository.changes
        self.repository.look()
        self._agree()
        refs = [served.entry.ref for served in self.repository.served()]
        self.meter.show_models(refs)
        self.meter.begin_at_zero(self.api, SCHEMES, PHASES, {ref.name for ref in refs})

    def _agree(self) -> None:
        """Tell the other replicas what is warm here, once this one has begun to serve."""
        self._started = self._started or (self.usable and self.repository.settled)
        warm = self.repository.warm
        self.repository.agree(self._marks.exchange(warm, starting=not self._started))

    async def changed(self, seconds: float) -> None:
        """Until a model has become warm or is gone, or an unknown version was asked for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.repository.changes == self._noticed:
            await asyncio.sleep(min(_NOTICE_S, seconds))
            if self.repository.missed:
                return

    @property
    def usable(self) -> bool:
        """Whether at least one model answers; at the start, whether clients find the others too.

        That waits only so long: a version that is slow to load holds up nobody.
        """
        if not self._opened:
            settled = self.repository.ready and not self.repository.loading
            self._opened = settled or time.monotonic() - self._begun > _OTHERS_S
        return self._opened and bool(self.repository.served())

    async def resolve(self, ref: model_pb2.ModelRef) -> Served[M]:
        """The version that `ref` names; waits a while for one that is being loaded.

        Raises DomainError as `ModelRepository.resolve`.
        """
        until = time.monotonic() + min(_LOADING_S, current_call().time_left() / 2)
        while True:
            try:
                return self.repository.resolve(ref)
            except DomainError as error:
                if error.reason is not Reason.NOT_READY or time.monotonic() >= until:
                    raise
            await asyncio.sleep(_NOTICE_S)

    def drain(self) -> None:
        """Searches end within the grace, with what they have certified by then."""
        self.pool.end_by(time.monotonic() + _SHARE_OF_GRACE * self.settings.grace_seconds)

    def close(self) -> None:
        """Stop the workers and free the models."""
        self.pool.close()
        self.repository.clear()
        with suppress(OSError):
            self._marks.remove()

    async def ListModels(  # noqa: N802
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        """The models served, sorted by name, then version."""
        served = [
            s for s in self.repository.served() if request.name in ("", s.entry.manifest.name)
        ]
        return model_pb2.ListModelsResponse(
            models=[
                s.entry.manifest.to_info(latest=s is self.repository.latest(s.entry.manifest.name))
                for s in served
            ]
        )

    async def GetInfo(  # noqa: N802
        self, request: model_pb2.GetInfoRequest, context: Context
    ) -> model_pb2.GetInfoResponse:
        """What the service is and allows."""
        return model_pb2.GetInfoResponse(
            release=version("reaas"),
            service=self.descriptor.full_name,
            limits=self.limits(),
            backends=self.backends(),
            client_id=current_call().client_id,
        )


async def answer_each(
    unary: Callable[[Request, Context], Awaitable[Reply]],
    requests: AsyncIterator[Request],
    context: Context,
) -> AsyncIterator[Reply]:
    """The stream twin of `unary`: one reply for each request, in order."""
    async for request in requests:
        yield await unary(request, context)


def stage_timings(queue: float, preprocess: float, compute: float) -> model_pb2.StageTimings:
    """Seconds of each stage as the contract's StageTimings."""
    return model_pb2.StageTimings(
        queue=to_duration(queue),
        preprocess=to_duration(preprocess),
        compute=to_duration(compute),
    )


def to_duration(seconds: float) -> Duration:
    """Seconds as a protobuf Duration."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
