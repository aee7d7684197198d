"""From a checked request to a queued run, once however often it is sent."""

from __future__ import annotations

import re

from reaas_runtime import DomainError, Reason

from reaas_pretrain.service.recipes import Catalogue
from reaas_pretrain.service.run import Run, RunState, Spec, now
from reaas_pretrain.service.store import RunStore

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{0,64}")


class Intake:
    """Makes runs, as long as there is room in the queue."""

    def __init__(
        self, store: RunStore, catalogue: Catalogue, max_queued: int, max_queued_per_client: int
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._max_queued = max_queued
        self._max_queued_per_client = max_queued_per_client

    def take(self, client_id: str, request_id: str, spec: Spec) -> Run:
        """The run that `spec` asks for: a new one, or that of the same request before.

        Raises DomainError INVALID_REQUEST_ID, REQUEST_ID_REUSED, INVALID_RECIPE, INVALID_DATASET,
        QUEUE_FULL, STORAGE_FULL.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            raise DomainError(
                Reason.INVALID_REQUEST_ID,
                "request_id is not at most 64 letters, digits, '.', '_' or '-'",
                field="request_id",
                got=request_id,
            )
        known = self._store.by_request(client_id, request_id) if request_id else None
        if known is None:
            return self._make(client_id, request_id, spec)
        if known.spec != spec:
            raise DomainError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {request_id!r} made run {known.id}, which has another spec",
                field="request_id",
                got=request_id,
            )
        return known

    def _make(self, client_id: str, request_id: str, spec: Spec) -> Run:
        chosen = self._catalogue.choose(spec)
        self._catalogue.check_images(spec)
        self._check_room(client_id)
        created = now()
        run = Run(
            id=self._store.new_id(created),
            client_id=client_id,
            request_id=request_id,
            spec=spec,
            model_name=chosen.recipe.name,
            epochs=chosen.recipe.schedule.epochs,
            created=created,
        )
        self._store.create(run, chosen.toml)
        return run

    def _check_room(self, client_id: str) -> None:
        waiting = self._store.runs(RunState.QUEUED)
        own = sum(run.client_id == client_id for run in waiting)
        if own >= self._max_queued_per_client:
            raise _full(f"{own} runs of client {client_id!r}", own, self._max_queued_per_client)
        if len(waiting) >= self._max_queued:
            raise _full(f"{len(waiting)} runs", len(waiting), self._max_queued)


def _full(what: str, got: int, most: int) -> DomainError:
    message = f"{what} are waiting, the most is {most}"
    return DomainError(Reason.QUEUE_FULL, message, got=got, limit=most, retry_after_s=60.0)
