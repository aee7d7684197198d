"""One run as it is kept on disk, and the changes that its life allows."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class RunState(StrEnum):
    """Where a run is in its life."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class _Record(BaseModel):
    # What is on disk was written by this program: anything else is damage, hence strict.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(_Record):
    """What the client asked for."""

    recipe: str
    overrides: dict[str, str] = {}
    dataset: str = ""
    epochs: int = 0
    seed: int | None = None
    source: str = ""


class Published(_Record):
    """A version in the model repository."""

    name: str
    version: str
    digest: str
    time: datetime


class Run(_Record):
    """One run. A change makes a new object; `RunStore.save` makes it last."""

    id: str
    client_id: str
    request_id: str = ""
    spec: Spec
    model_name: str
    epochs: int
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    state: RunState = RunState.QUEUED
    reason: str = ""
    restarts: int = 0
    """All of them, for people."""
    fruitless: int = 0
    """Restarts since the last epoch that was new: these are limited."""
    epochs_at_restart: int = 0
    cancelling: bool = False
    waits: bool = False
    """RUNNING, but its process was not begun by the place that it was given to."""
    publishing: Published | None = None
    """What was about to appear in the model repository: after a crash, it is looked for there."""
    published: Published | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen any more, but for publishing."""
        return self.state not in (RunState.QUEUED, RunState.RUNNING)

    @property
    def seen_as(self) -> RunState:
        """The state for people: what was given to a place that has no room for it waits."""
        return RunState.QUEUED if self.waits else self.state

    def launched(self) -> Run:
        """Its process is about to begin."""
        reason = self.reason if self.cancelling else ""
        started = self.started or now()
        return self._with(state=RunState.RUNNING, reason=reason, started=started, waits=False)

    def waiting(self, reason: str) -> Run:
        """Its process is not there yet: that time is no running time."""
        reason = self.reason if self.cancelling else reason
        started = self.started if self.restarts else None
        return self._with(waits=True, reason=reason, started=started)

    def requeued(self, reason: str) -> Run:
        """It waits for another attempt that is no fault of its own."""
        return self._with(state=RunState.QUEUED, reason=reason, waits=False)

    def restarted(self, reason: str, epochs_done: int) -> Run:
        """It waits for another attempt after its process died, with so many epochs behind it."""
        return self._with(
            state=RunState.QUEUED,
            reason=reason,
            restarts=self.restarts + 1,
            fruitless=self.fruitless_by(epochs_done) + 1,
            epochs_at_restart=epochs_done,
            waits=False,
        )

    def fruitless_by(self, epochs_done: int) -> int:
        """Restarts since the last new epoch, where so many are done now."""
        return 0 if epochs_done > self.epochs_at_restart else self.fruitless

    def cancel_requested(self) -> Run:
        """Somebody asked for its end."""
        return self._with(cancelling=True, reason="cancel asked for")

    def over(self, state: RunState, reason: str = "") -> Run:
        """It has ended."""
        return self._with(state=state, reason=reason, ended=now(), cancelling=False, waits=False)

    def about_to_publish(self, published: Published) -> Run:
        """`published` is about to appear in the model repository."""
        return self._with(publishing=published)

    def was_published(self, published: Published) -> Run:
        """`published` is in the model repository."""
        return self._with(publishing=None, published=published)

    def _with(self, **changes: object) -> Run:
        return self.model_copy(update=changes)


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)
