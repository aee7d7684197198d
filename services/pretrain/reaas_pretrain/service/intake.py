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

    def __init__(self, store: RunStore, catalogue: Catalogue, max_queued: int) -> None:
        self._store = store
        self._catalogue = catalogue
        self._max_queued = max_queued

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
        self._check_room()
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

    def _check_room(self) -> None:
        waiting = len(self._store.runs(RunState.QUEUED))
        if waiting >= self._max_queued:
            raise DomainError(
                Reason.QUEUE_FULL,
                f"{waiting} runs are waiting, the most is {self._max_queued}",
                got=waiting,
                limit=self._max_queued,
                retry_after_s=60.0,
            )
