"""Runs as they travel."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from reaas.v1 import model_pb2, pretrain_pb2
from reaas_runtime import DomainError, Reason

from reaas_pretrain.service.overrides import check_overrides
from reaas_pretrain.service.progress import Chunk, Row, epochs_done
from reaas_pretrain.service.run import Published, Run, RunState, Spec

_STATES = {
    RunState.QUEUED: pretrain_pb2.RUN_STATE_QUEUED,
    RunState.RUNNING: pretrain_pb2.RUN_STATE_RUNNING,
    RunState.SUCCEEDED: pretrain_pb2.RUN_STATE_SUCCEEDED,
    RunState.FAILED: pretrain_pb2.RUN_STATE_FAILED,
    RunState.CANCELLED: pretrain_pb2.RUN_STATE_CANCELLED,
}
_WANTED: dict[int, RunState | None] = {
    pretrain_pb2.RUN_STATE_UNSPECIFIED: None,
    **{number: state for state, number in _STATES.items()},
}


def to_message(run: Run, directory: Path) -> pretrain_pb2.Run:
    """A run with what its directory tells."""
    message = pretrain_pb2.Run(
        id=run.id,
        spec=_spec_message(run.spec),
        state=_STATES[run.seen_as],
        reason=run.reason,
        client_id=run.client_id,
        model_name=run.model_name,
        create_time=_timestamp(run.created),
        start_time=_timestamp(run.started),
        end_time=_timestamp(run.ended),
        restarts=run.restarts,
        epochs_done=epochs_done(directory),
        epochs=run.epochs,
        cancelling=run.cancelling,
    )
    if run.published is not None:
        message.published.CopyFrom(_published(run.published))
    return message


def to_spec(message: pretrain_pb2.RunSpec) -> Spec:
    """What a client asks for. Raises DomainError INVALID_RECIPE."""
    if message.epochs < 0:
        raise DomainError(
            Reason.INVALID_RECIPE,
            f"spec.epochs is {message.epochs}: 0 (the recipe's) or more",
            field="spec.epochs",
            got=message.epochs,
            limit=">= 0",
        )
    check_overrides(message.overrides)
    return Spec(
        recipe=message.recipe,
        overrides=dict(sorted(message.overrides.items())),
        dataset=message.dataset,
        epochs=message.epochs,
        seed=message.seed if message.HasField("seed") else None,
        source=message.source,
    )


def to_state(number: int) -> RunState | None:
    """The state that a client wants to see; None: all. Raises DomainError INVALID_PAGE."""
    if number not in _WANTED:
        raise DomainError(
            Reason.INVALID_PAGE, f"state {number} is not known", field="state", got=number
        )
    return _WANTED[number]


def progress_event(row: Row) -> pretrain_pb2.WatchRunResponse:
    """A row of progress as watchers are told."""
    progress = pretrain_pb2.RunProgress(epoch=row.epoch, values=row.values)
    return pretrain_pb2.WatchRunResponse(progress=progress)


def log_event(chunk: Chunk) -> pretrain_pb2.WatchRunResponse:
    """Output as watchers are told."""
    log = pretrain_pb2.LogChunk(text=chunk.text, end=chunk.end)
    return pretrain_pb2.WatchRunResponse(log=log)


def _spec_message(spec: Spec) -> pretrain_pb2.RunSpec:
    return pretrain_pb2.RunSpec(
        recipe=spec.recipe,
        overrides=spec.overrides,
        dataset=spec.dataset,
        epochs=spec.epochs,
        seed=spec.seed,
        source=spec.source,
    )


def _published(published: Published) -> pretrain_pb2.PublishedModel:
    ref = model_pb2.ModelRef(
        name=published.name, version=published.version, digest=published.digest
    )
    return pretrain_pb2.PublishedModel(model=ref, time=_timestamp(published.time))


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
