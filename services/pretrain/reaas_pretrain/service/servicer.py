"""PretrainService: who may do what, and the way from requests to runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import grpc
from reaas.v1 import model_pb2, pretrain_pb2, pretrain_pb2_grpc
from reaas_runtime import (
    Call,
    ConfigurationError,
    DomainError,
    Meter,
    Reason,
    Servicer,
    current_call,
    to_duration,
)
from reaas_runtime.identity import ANONYMOUS, OPERATOR

from reaas_pretrain.images import SOURCES
from reaas_pretrain.service.intake import Intake
from reaas_pretrain.service.launcher import Launcher
from reaas_pretrain.service.local import LocalLauncher, train_command
from reaas_pretrain.service.messages import to_message, to_spec, to_state
from reaas_pretrain.service.metrics import RunMetrics
from reaas_pretrain.service.publisher import Publisher, export_command
from reaas_pretrain.service.recipes import Catalogue
from reaas_pretrain.service.run import Run
from reaas_pretrain.service.settings import PretrainSettings
from reaas_pretrain.service.store import RunStore
from reaas_pretrain.service.supervisor import Supervisor
from reaas_pretrain.service.watching import Watcher

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE, _LONGEST_PAGE = 100, 1000


class PretrainServicer(Servicer, pretrain_pb2_grpc.PretrainServiceServicer):
    """Answers for the runs on disk; a supervisor brings them through their life."""

    descriptor = pretrain_pb2.DESCRIPTOR.services_by_name["PretrainService"]

    def __init__(self, settings: PretrainSettings, meter: Meter) -> None:
        for name in ("data_root", "recipes_dir"):
            if not getattr(settings, name).is_dir():
                raise ConfigurationError(f"{name} {getattr(settings, name)} is not a directory")
        self.settings = settings
        self.meter = meter
        self.store = RunStore(settings.runs_dir)
        self.catalogue = Catalogue(settings.recipes_dir, settings.data_root)
        self.intake = Intake(self.store, self.catalogue, settings.max_queued)
        self.metrics = RunMetrics(meter, self.store)
        self.launcher = make_launcher(settings, self.store, self.catalogue)
        self.supervisor = Supervisor(self.store, self.launcher, settings, self.metrics.ran)
        self.publisher = Publisher(
            self.store, settings.models_dir, export_command(self.store, self.catalogue)
        )
        self._stopping = asyncio.Event()
        self._watchers = 0

    async def start(self) -> None:
        """Read the runs and begin to look after them."""
        self.store.open()
        self.supervisor.start(self.background)

    def refresh(self) -> None:
        """Nothing: recipes and data sets are looked at when they are named."""

    @property
    def usable(self) -> bool:
        """Whether runs are looked after."""
        return self.supervisor.alive

    def drain(self) -> None:
        """End the watchers' streams; they come back to the next service."""
        self._stopping.set()

    def close(self) -> None:
        """Stop the runs that cannot go on alone; they go on at the next start."""
        self.publisher.close()
        self.supervisor.close()
        self.store.close()

    async def CreateRun(  # noqa: N802
        self, request: pretrain_pb2.CreateRunRequest, context: Context
    ) -> pretrain_pb2.CreateRunResponse:
        """Queue a run."""
        call = self._operator()
        run = self.intake.take(call.client_id, request.request_id, to_spec(request.spec))
        self.supervisor.wake()
        return pretrain_pb2.CreateRunResponse(run=self._message(run))

    async def GetRun(  # noqa: N802
        self, request: pretrain_pb2.GetRunRequest, context: Context
    ) -> pretrain_pb2.GetRunResponse:
        """One run as it is now."""
        self._operator()
        return pretrain_pb2.GetRunResponse(run=self._message(self.store.get(request.run_id)))

    async def ListRuns(  # noqa: N802
        self, request: pretrain_pb2.ListRunsRequest, context: Context
    ) -> pretrain_pb2.ListRunsResponse:
        """A page of runs, the newest first; the token is the last id of the page before."""
        self._operator()
        if not 0 <= request.page_size <= _LONGEST_PAGE:
            raise DomainError(
                Reason.INVALID_PAGE,
                f"page_size is {request.page_size}: 0 to {_LONGEST_PAGE}",
                field="page_size",
                got=request.page_size,
                limit=_LONGEST_PAGE,
            )
        size, before = request.page_size or _PAGE, request.page_token
        wanted = to_state(request.state)
        runs = [run for run in self.store.runs() if wanted in (None, run.seen_as)]
        rest = [run for run in runs if not before or run.id < before]
        page = rest[:size]
        return pretrain_pb2.ListRunsResponse(
            runs=[self._message(run) for run in page],
            next_page_token=page[-1].id if len(rest) > size else "",
        )

    async def WatchRun(  # noqa: N802
        self, request: pretrain_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[pretrain_pb2.WatchRunResponse]:
        """A run as it goes on."""
        self._operator()
        watcher = Watcher(
            self.store, request.run_id, request.after_epoch, max(0, request.log_offset)
        )
        with self._watching():
            async for event in watcher.events(self.settings.watch_s, self._stopping):
                yield event

    async def CancelRun(  # noqa: N802
        self, request: pretrain_pb2.CancelRunRequest, context: Context
    ) -> pretrain_pb2.CancelRunResponse:
        """End a run that has not ended."""
        self._operator()
        run = self.supervisor.cancel(request.run_id)
        return pretrain_pb2.CancelRunResponse(run=self._message(run))

    async def PublishRun(  # noqa: N802
        self, request: pretrain_pb2.PublishRunRequest, context: Context
    ) -> pretrain_pb2.PublishRunResponse:
        """Publish a run that succeeded."""
        self._operator()
        run = await self.publisher.publish(request.run_id, request.version)
        return pretrain_pb2.PublishRunResponse(run=self._message(run))

    async def ListRecipes(  # noqa: N802
        self, request: pretrain_pb2.ListRecipesRequest, context: Context
    ) -> pretrain_pb2.ListRecipesResponse:
        """What a run can be made from."""
        self._operator()
        recipes = [
            pretrain_pb2.RecipeInfo(
                name=name, description=recipe.description, settings_json=recipe.model_dump_json()
            )
            for name, recipe in self.catalogue.recipes()
        ]
        return pretrain_pb2.ListRecipesResponse(
            recipes=recipes, datasets=self.catalogue.datasets(), sources=SOURCES
        )

    async def GetInfo(  # noqa: N802
        self, request: model_pb2.GetInfoRequest, context: Context
    ) -> model_pb2.GetInfoResponse:
        """What the service is and allows."""
        limits = model_pb2.Limits(
            max_request_bytes=self.settings.max_request_bytes,
            max_response_bytes=self.settings.max_request_bytes,
            default_deadline=to_duration(self.settings.default_deadline_s),
        )
        return model_pb2.GetInfoResponse(
            release=version("reaas"),
            service=self.descriptor.full_name,
            limits=limits,
            backends=[self.launcher.name],
            client_id=current_call().client_id,
        )

    def _operator(self) -> Call:
        """The call, of a client that may run pre-trainings. Raises DomainError."""
        call = current_call()
        anonymous = call.client_id == ANONYMOUS and self.settings.anonymous_operator
        if OPERATOR in call.roles or anonymous:
            return call
        raise DomainError(
            Reason.PERMISSION_DENIED,
            f"client {call.client_id!r} has no role {OPERATOR!r} in the key file",
            field="metadata.authorization",
            got=call.client_id,
            limit=OPERATOR,
        )

    def _message(self, run: Run) -> pretrain_pb2.Run:
        return to_message(run, self.store.directory(run.id))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        most = self.settings.max_watchers
        if self._watchers >= most:
            raise DomainError(
                Reason.QUEUE_FULL,
                f"{most} watchers are there, which is the most",
                limit=most,
                retry_after_s=10.0,
            )
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1


def make_launcher(settings: PretrainSettings, store: RunStore, catalogue: Catalogue) -> Launcher:
    """The launcher that the settings name. Raises ConfigurationError."""
    if settings.launcher == "kubernetes":
        try:
            # Imported here: the client is an extra, and takes a second.
            from reaas_pretrain.service.kubernetes_connect import connect
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"launcher is kubernetes, but {error.name} is missing: install reaas[pretrain-k8s]"
            ) from error
        return connect(settings, store)
    return LocalLauncher(store, train_command(store, catalogue, settings.threads))
