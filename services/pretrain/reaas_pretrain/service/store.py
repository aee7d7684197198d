"""The runs on disk: one directory each, every change written in one step.

<runs_dir>/<run id>/run.json      the run
                    recipe.toml   what it computes
                    training/     what the trainer writes: checkpoint.pt, log.csv
                    output.log    what its process prints
                    cancelled     empty: its end was asked for
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from pydantic import ValidationError
from reaas_runtime import ConfigurationError, DomainError, Reason

from reaas_pretrain.service.run import Run, RunState

RUN, RECIPE, TRAINING, OUTPUT = "run.json", "recipe.toml", "training", "output.log"
_CANCELLED = "cancelled"
_ID = re.compile(r"\d{8}-\d{6}-\d{6}")
_TICK = timedelta(microseconds=1)
_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = structlog.get_logger("reaas.runs")


class RunStore:
    """All runs below `root`. Use from one thread; files are small and changes are few.

    Memory follows the disk: what could not be written has not happened; `keep` is the exception.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs: dict[str, Run] = {}
        self._broken: dict[str, str] = {}
        self._unwritten: set[str] = set()
        self._lock: int | None = None

    def open(self) -> None:
        """Read every run. Raises ConfigurationError where the directory is not ours to use."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ConfigurationError(
                f"runs_dir {self.root} is in use by another service"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"runs_dir {self.root} cannot be used: {error.strerror}"
            ) from error
        for directory in sorted(self.root.iterdir()):
            if _ID.fullmatch(directory.name):
                self._read(directory)
            elif _ID.fullmatch(directory.name.removeprefix(".")):
                shutil.rmtree(directory)  # A run that was not made to its end.

    def close(self) -> None:
        """Let another service use the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def directory(self, run_id: str) -> Path:
        """Where a run lies."""
        return self.root / run_id

    def new_id(self, created: datetime) -> str:
        """An id larger than all others, fit for the name of a file or a Kubernetes object."""
        newest = max((*self._runs, *self._broken), default="")
        while (run_id := f"{created:%Y%m%d-%H%M%S-%f}") <= newest:
            # The clock was set back, or has not moved on.
            created = datetime.strptime(f"{newest}+0000", "%Y%m%d-%H%M%S-%f%z") + _TICK
        return run_id

    def create(self, run: Run, recipe_toml: str) -> None:
        """Add a run: its directory appears at once or not at all. Raises DomainError."""
        building = self.root / f".{run.id}"
        try:
            building.mkdir()
            replace_text(building / RECIPE, recipe_toml)
            replace_text(building / RUN, run.model_dump_json(indent=2))
            building.rename(self.directory(run.id))
            _sync(self.root)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise storage_error("the run could not be made", error) from error
        self._runs[run.id] = run

    def keep(self, run: Run) -> Run:
        """Replace a run, also where the disk refuses: it is written as soon as there is room.

        For a cancel, which makes room. A service that dies meanwhile finds it by an empty file, for
        which a full disk has room mostly.
        """
        with suppress(OSError):
            (self.directory(run.id) / _CANCELLED).touch()
        try:
            return self.save(run)
        except DomainError as error:
            if run.id not in self._unwritten:
                _log.warning("run is written later", run=run.id, state=run.state, why=error.message)
            self._unwritten.add(run.id)
            self._runs[run.id] = run
            return run

    def write_kept(self) -> None:
        """Write what could not be written before, where it can be now."""
        for run_id in sorted(self._unwritten):
            try:
                self.save(self._runs[run_id])
            except DomainError:
                return

    def save(self, run: Run) -> Run:
        """Replace a run; returns it. Raises DomainError where the disk refuses."""
        try:
            replace_text(self.directory(run.id) / RUN, run.model_dump_json(indent=2))
        except OSError as error:
            raise storage_error(f"run {run.id} could not be saved", error) from error
        if run.seen_as is not self._runs[run.id].seen_as:
            _log.info("run", run=run.id, state=run.seen_as, why=run.reason, client=run.client_id)
        self._runs[run.id] = run
        self._unwritten.discard(run.id)
        return run

    def get(self, run_id: str) -> Run:
        """One run. Raises DomainError RUN_NOT_FOUND or RUN_BROKEN."""
        if run_id in self._broken:
            raise DomainError(Reason.RUN_BROKEN, self._broken[run_id], field="run_id", got=run_id)
        if run_id not in self._runs:
            raise DomainError(
                Reason.RUN_NOT_FOUND, f"there is no run {run_id!r}", field="run_id", got=run_id
            )
        return self._runs[run_id]

    def runs(self, state: RunState | None = None) -> list[Run]:
        """All runs, or those in `state`: the newest first."""
        newest_first = [self._runs[key] for key in sorted(self._runs, reverse=True)]
        return [run for run in newest_first if state is None or run.state is state]

    def by_request(self, client_id: str, request_id: str) -> Run | None:
        """The run that a client made under this request id."""
        wanted = (client_id, request_id)
        runs = self._runs.values()
        return next((run for run in runs if (run.client_id, run.request_id) == wanted), None)

    def _read(self, directory: Path) -> None:
        file = directory / RUN
        try:
            run = Run.model_validate_json(file.read_bytes())
            if run.id != directory.name:
                raise ValueError(f"it is about run {run.id}")
        except (OSError, ValueError) as error:
            why = _first_fault(error) if isinstance(error, ValidationError) else str(error)
            message = f"run {directory.name} cannot be read: {file.name}: {why}"
            _log.error("run broken", run=directory.name, why=message)
            self._broken[directory.name] = message
        else:
            cancelled = (directory / _CANCELLED).exists() and not run.has_ended
            self._runs[run.id] = _cancelled(run) if cancelled else run


def _cancelled(run: Run) -> Run:
    """A run whose cancel was asked for, but could not be written into its file."""
    if run.state is RunState.QUEUED:
        return run.over(RunState.CANCELLED, "cancelled while it waited")
    return run.cancel_requested()


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old text or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def storage_error(what: str, error: OSError) -> DomainError:
    """`error` as the caller is told."""
    full = error.errno in _FULL
    reason = Reason.STORAGE_FULL if full else Reason.INTERNAL
    return DomainError(reason, f"{what}: {error.strerror}", field="runs_dir")


def _sync(directory: Path) -> None:
    """Make a rename in `directory` last through a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
