"""From a run that succeeded to a version in the model repository, once.

The package's own export writes the version beside the run; from there it is copied into the
repository's volume and appears there by one rename. What is about to appear is on disk before it
does, so that a service that was killed in between finds its own version instead of making another.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from reaas_runtime import DomainError, ModelEntry, Reason
from reaas_runtime.manifest import NAME_PATTERN
from reaas_runtime.repository import read_entry

from reaas_pretrain.service.launcher import child_environment, last_words
from reaas_pretrain.service.recipes import Catalogue, image_arguments
from reaas_pretrain.service.run import Published, Run, RunState, now
from reaas_pretrain.service.store import TRAINING, RunStore, storage_error
from reaas_pretrain.versions import next_version

_EXPORT, _EXPORT_LOG = "export", "export.log"
_log = structlog.get_logger("reaas.runs")
Export = Callable[[Run, Path, str], Sequence[str]]


def export_command(store: RunStore, catalogue: Catalogue) -> Export:
    """The export of a run into a repository as a command line of this package."""

    def command(run: Run, repository: Path, version: str) -> Sequence[str]:
        training = store.directory(run.id) / TRAINING
        arguments = [sys.executable, "-m", "reaas_pretrain", "export", "--run", str(training)]
        arguments += ["--models", str(repository), "--version", version]
        return [*arguments, *image_arguments(run.spec, catalogue.data_root.resolve())]

    return command


class Publisher:
    """Publishes one run at a time: an export measures the encoder on many images."""

    def __init__(self, store: RunStore, models_dir: Path, export: Export) -> None:
        self._store = store
        self._models = models_dir
        self._export = export
        self._tasks: dict[str, asyncio.Task[Run]] = {}
        self._one = asyncio.Lock()

    async def publish(self, run_id: str, version: str) -> Run:
        """The run with its version; joins a publication under way, which goes on by itself.

        Raises DomainError RUN_NOT_FOUND, RUN_NOT_SUCCEEDED, INVALID_VERSION, VERSION_EXISTS,
        PUBLISH_FAILED, STORAGE_FULL.
        """
        self._check(self._store.get(run_id), version)
        task = self._tasks.get(run_id)
        if task is None:
            task = asyncio.create_task(self._publish(run_id, version))
            self._tasks[run_id] = task
            task.add_done_callback(lambda done: self._forget(run_id, done))
        run = await asyncio.shield(task)
        self._check(run, version)  # Whoever came first may have wanted another version.
        return run

    def close(self) -> None:
        """Stop what is under way; nothing of it has appeared in the repository."""
        for task in self._tasks.values():
            task.cancel()

    def _check(self, run: Run, version: str) -> None:
        if version and not re.fullmatch(NAME_PATTERN, version):
            raise DomainError(
                Reason.INVALID_VERSION,
                f"version {version!r} is not 1 to 63 letters, digits, '.', '_' or '-'",
                field="version",
                got=version,
            )
        if run.published is not None and version not in ("", run.published.version):
            raise DomainError(
                Reason.VERSION_EXISTS,
                f"run {run.id} is published as version {run.published.version!r} already",
                field="version",
                got=version,
                limit=run.published.version,
            )
        if run.state is not RunState.SUCCEEDED:
            raise DomainError(
                Reason.RUN_NOT_SUCCEEDED,
                f"run {run.id} is {run.state}: only one that succeeded can be published",
                field="run_id",
                got=run.state,
                limit=RunState.SUCCEEDED,
            )

    async def _publish(self, run_id: str, version: str) -> Run:
        async with self._one:
            run = self._store.get(run_id)
            if run.published is None and run.publishing is not None:
                run = self._recover(run, run.publishing)
            if run.published is not None:
                return run
            staging = self._store.directory(run_id) / _EXPORT
            chosen = version or next_version(self._models / run.model_name)
            try:
                entry = await self._exported(run, staging, chosen)
                return self._install(run, staging, entry)
            except OSError as error:
                raise storage_error("the version could not be written", error) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    async def _exported(self, run: Run, staging: Path, version: str) -> ModelEntry:
        """Run the export; its answer is checked as the services will check it."""
        shutil.rmtree(staging, ignore_errors=True)  # Left by a service that was killed.
        log = self._store.directory(run.id) / _EXPORT_LOG
        with log.open("wb") as output:
            command = self._export(run, staging, version)
            child = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, env=child_environment()
            )
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if status != 0:
            why = last_words(log) or f"status {status}"
            raise DomainError(
                Reason.PUBLISH_FAILED, f"run {run.id} could not be exported: {why}", field="run_id"
            )
        return read_entry(staging / run.model_name / version, run.model_name, version)

    def _install(self, run: Run, staging: Path, entry: ModelEntry) -> Run:
        """Make the version appear in the repository."""
        ref = entry.ref
        published = Published(name=ref.name, version=ref.version, digest=ref.digest, time=now())
        target = self._models / ref.name / ref.version
        if target.exists():
            raise _version_exists(target.name, ref.name)
        run = self._store.save(run.about_to_publish(published))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name that begins with a dot is none of the repository's versions.
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for file in (staging / ref.name / ref.version).iterdir():
                shutil.copy2(file, building)
            building.chmod(0o755)
            try:
                building.rename(target)
            except OSError as error:
                if target.exists():
                    raise _version_exists(target.name, ref.name) from error
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _log.info("run published", run=run.id, model=ref.name, version=ref.version)
        return self._store.save(run.was_published(published))

    def _recover(self, run: Run, intended: Published) -> Run:
        """Whether the version that was about to appear is there: then it is this run's."""
        directory = self._models / intended.name / intended.version
        try:
            entry = read_entry(directory, intended.name, intended.version)
        except DomainError:
            return run
        ours = entry.manifest.digest == intended.digest
        return self._store.save(run.was_published(intended)) if ours else run

    def _forget(self, run_id: str, done: asyncio.Task[Run]) -> None:
        del self._tasks[run_id]
        if not done.cancelled():
            done.exception()  # Whoever still waits is told; that nobody does is no error.


def _version_exists(version: str, name: str) -> DomainError:
    return DomainError(
        Reason.VERSION_EXISTS,
        f"model {name!r} has a version {version!r}, and published versions do not change",
        field="version",
        got=version,
    )
