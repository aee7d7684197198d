"""Runs as a caller gets them: frozen, and none of it gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from reaas._errors import InvalidArgumentError
from reaas._model import ModelRef, member
from reaas.v1 import pretrain_pb2


class RunError(InvalidArgumentError):
    """There is no such run, or what was asked does not fit its state: `reason` says which."""


class RunState(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Run:
    """A pre-training run as it was when the service answered."""

    id: str
    recipe: str
    overrides: Mapping[str, str]
    """Keys of the recipe to TOML values."""
    dataset: str
    source: str
    state: RunState
    reason: str
    """Why it is in this state; empty where nothing needs saying."""
    client_id: str
    model_name: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    restarts: int
    """How often it was begun again after its process had died."""
    epochs_done: int
    epochs: int
    cancelling: bool
    published: ModelRef | None
    """The version in the model repository, once there is one."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen any more, but for publishing."""
        return self.state not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True)
class RunProgress:
    """Numbers of one epoch, for example "loss"."""

    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunOutput:
    """Lines that a run has printed."""

    text: str


@dataclass(frozen=True)
class Recipe:
    """A recipe that runs can be made from."""

    name: str
    description: str
    settings_json: str


@dataclass(frozen=True)
class Recipes:
    """What runs can be made from."""

    recipes: tuple[Recipe, ...]
    datasets: tuple[str, ...]
    """Directories of images below the service's data root."""
    sources: tuple[str, ...]
    """Data sets that a directory may have."""


Event = Run | RunProgress | RunOutput
_STATES: dict[pretrain_pb2.RunState, RunState] = {
    pretrain_pb2.RUN_STATE_QUEUED: RunState.QUEUED,
    pretrain_pb2.RUN_STATE_RUNNING: RunState.RUNNING,
    pretrain_pb2.RUN_STATE_SUCCEEDED: RunState.SUCCEEDED,
    pretrain_pb2.RUN_STATE_FAILED: RunState.FAILED,
    pretrain_pb2.RUN_STATE_CANCELLED: RunState.CANCELLED,
}


def state_number(state: str | None) -> pretrain_pb2.RunState:
    """A state as it travels; None: any. Raises InvalidArgumentError."""
    if state is None:
        return pretrain_pb2.RUN_STATE_UNSPECIFIED
    wanted = member(RunState, state, "state")
    return next(number for number, known in _STATES.items() if known is wanted)


def read_event(event: pretrain_pb2.WatchRunResponse) -> Event:
    """What a watcher is told."""
    if event.HasField("progress"):
        return RunProgress(event.progress.epoch, dict(event.progress.values))
    if event.HasField("log"):
        return RunOutput(event.log.text)
    return read_run(event.run)


def read_run(run: pretrain_pb2.Run) -> Run:
    """A run that travelled."""
    published = run.published.model
    ref = ModelRef(published.name, published.version, published.digest)
    return Run(
        id=run.id,
        recipe=run.spec.recipe,
        overrides=dict(run.spec.overrides),
        dataset=run.spec.dataset,
        source=run.spec.source,
        state=_STATES[run.state],
        reason=run.reason,
        client_id=run.client_id,
        model_name=run.model_name,
        created=_time(run.create_time),
        started=_time(run.start_time) if run.HasField("start_time") else None,
        ended=_time(run.end_time) if run.HasField("end_time") else None,
        restarts=run.restarts,
        epochs_done=run.epochs_done,
        epochs=run.epochs,
        cancelling=run.cancelling,
        published=ref if run.HasField("published") else None,
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
