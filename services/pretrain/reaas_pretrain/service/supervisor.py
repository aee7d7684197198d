"""Brings runs through their life: starts those that wait, looks after those that run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from reaas_runtime import Background, DomainError

from reaas_pretrain.service.launcher import End, Launcher, LaunchError, Outcome, Waiting
from reaas_pretrain.service.run import Run, RunState
from reaas_pretrain.service.settings import PretrainSettings
from reaas_pretrain.service.store import RunStore

_ENDED = {End.SUCCEEDED: RunState.SUCCEEDED, End.FAILED: RunState.FAILED}
# Seconds until a launcher that refused is asked again: clusters and disks do not heal faster.
_LAUNCH_AGAIN_S = 10.0

_log = structlog.get_logger("reaas.runs")


class Supervisor:
    """One task that looks at all runs again and again; every decision is on disk before it acts.

    So a service that was killed at any moment goes on where it was: the launcher finds the
    processes that are still there, and what died meanwhile is begun again from its checkpoint.
    """

    def __init__(
        self,
        store: RunStore,
        launcher: Launcher,
        settings: PretrainSettings,
        on_time: Callable[[Run, float], None],
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._settings = settings
        self._on_time = on_time
        self._stopped_at: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether runs are looked after."""
        return self._task is not None and not self._task.done()

    def start(self, background: Background) -> None:
        """Begin, in the running event loop, as work that the service cannot live without."""
        self._task = background.start("supervisor of runs", self._run())

    def wake(self) -> None:
        """Look now: there is something to do."""
        self._wake.set()

    def cancel(self, run_id: str) -> Run:
        """Ask for the end of a run; one that has ended stays as it is. Raises DomainError."""
        run = self._store.get(run_id)
        if run.has_ended or run.cancelling:
            return run
        if run.state is RunState.QUEUED:
            return self._store.save(run.over(RunState.CANCELLED, "cancelled while it waited"))
        run = self._store.save(run.cancel_requested())
        self.wake()
        return run

    def close(self) -> None:
        """Stop looking. Runs that cannot go on alone are ended, and go on at the next start."""
        if self._task is not None:
            self._task.cancel()
        if not self._launcher.outlives_service:
            running = self._store.runs(RunState.RUNNING)
            for run in running:
                try:
                    self._store.save(self._put_back(run))
                except DomainError as error:  # It is found dead at the next start.
                    _log.error("run not put back", run=run.id, why=error.message)
            self._end_processes(running)

    async def _run(self) -> None:
        last = time.monotonic()
        while True:
            now = time.monotonic()
            for run in self._store.runs(RunState.RUNNING):
                if not run.waits:
                    self._on_time(run, now - last)
            last = now
            self._wake.clear()
            try:
                await self._look()
            except Exception:  # A full disk or a lost cluster: the next look may do better.
                _log.exception("runs could not be looked after")
            try:
                async with asyncio.timeout(self._settings.supervise_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        for run in self._store.runs(RunState.RUNNING):
            await self._follow(run.id)
        for run in reversed(self._store.runs(RunState.QUEUED)):
            if len(self._store.runs(RunState.RUNNING)) >= self._settings.max_running:
                break
            if time.monotonic() >= self._not_before.get(run.id, 0.0):
                await self._launch(run.id)

    async def _launch(self, run_id: str) -> None:
        run = self._store.get(run_id)
        if run.state is not RunState.QUEUED:  # Cancelled while another one was launched.
            return
        launched = self._store.save(run.launched())
        try:
            await asyncio.to_thread(self._launcher.start, launched)
        except LaunchError as error:
            self._not_before[run.id] = time.monotonic() + _LAUNCH_AGAIN_S
            run = self._store.get(run.id)
            if run.cancelling:
                self._store.save(run.over(RunState.CANCELLED))
            else:
                self._store.save(run.requeued(str(error), restart=False))

    async def _follow(self, run_id: str) -> None:
        try:
            outcome = await asyncio.to_thread(self._launcher.look, self._store.get(run_id))
        except LaunchError as error:
            _log.warning("run cannot be looked at", run=run_id, why=str(error))
            return
        run = self._store.get(run_id)  # It may have been cancelled meanwhile.
        if isinstance(outcome, Outcome):
            self._stopped_at.pop(run_id, None)
            self._store.save(self._after(run, outcome))
            return
        self._note(run, outcome)
        if run.cancelling:
            await self._press(run)

    def _note(self, run: Run, outcome: Waiting | None) -> None:
        """Whether its process has begun, where that has changed."""
        if outcome is not None:
            changed = run.waiting(outcome.reason)
        elif run.waits:
            changed = run.launched()
        else:
            return
        if changed != run:
            self._store.save(changed)

    async def _press(self, run: Run) -> None:
        """Ask the process of a cancelled run to end; after the grace, end it."""
        asked = self._stopped_at.setdefault(run.id, time.monotonic())
        force = time.monotonic() - asked > self._settings.cancel_grace_s
        try:
            await asyncio.to_thread(self._launcher.stop, run, force=force)
        except LaunchError as error:
            _log.warning("run cannot be stopped", run=run.id, why=str(error))

    def _after(self, run: Run, outcome: Outcome) -> Run:
        if outcome.end is End.SUCCEEDED or not (run.cancelling or outcome.end is End.DIED):
            return run.over(_ENDED[outcome.end], outcome.reason)
        if run.cancelling:
            return run.over(RunState.CANCELLED, "cancelled while it ran")
        most = self._settings.max_restarts
        if run.restarts >= most:
            return run.over(RunState.FAILED, f"{outcome.reason}, after {most} restarts")
        again = f"{outcome.reason}; it goes on from its last checkpoint"
        return run.requeued(f"{again} (restart {run.restarts + 1} of {most})", restart=True)

    def _put_back(self, run: Run) -> Run:
        if run.cancelling:
            return run.over(RunState.CANCELLED, "cancelled while it ran")
        return run.requeued("the service was stopped; it goes on at the next start", restart=False)

    def _end_processes(self, runs: list[Run]) -> None:
        """SIGTERM, a grace, SIGKILL; blocking."""
        for run in runs:
            self._launcher.stop(run, force=False)
        deadline = time.monotonic() + self._settings.cancel_grace_s
        left = runs
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [run for run in left if self._launcher.look(run) is None]
        for run in left:
            self._launcher.stop(run, force=True)
