"""Runs as processes beside the service; they outlive it if it is killed, and are found again.

A process holds a lock on a file in its run's directory, inherited from the service that started it:
the lock says whether it is alive, however many services came and went since, and no other process
can be taken for it. A shell around it leaves the exit status in a file.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reaas_runtime.cpus import available_cpus

from reaas_pretrain.checkpoint import CHECKPOINT
from reaas_pretrain.service.launcher import (
    End,
    LaunchError,
    Outcome,
    child_environment,
    last_words,
)
from reaas_pretrain.service.recipes import Catalogue, image_arguments
from reaas_pretrain.service.run import Run
from reaas_pretrain.service.store import OUTPUT, RECIPE, TRAINING, RunStore

Command = Callable[[Run], Sequence[str]]
LOCK, STATUS = "process.lock", "status"
_KEEP_STATUS = '"$@"; echo $? > "$0"'
# What a shell adds to the number of the signal that ended its command.
_SIGNALLED = 128


def train_command(store: RunStore, catalogue: Catalogue, threads: int) -> Command:
    """The training of a run as a command line of this package; resumes where there is a state."""

    def command(run: Run) -> Sequence[str]:
        directory = store.directory(run.id).resolve()
        images = image_arguments(run.spec, catalogue.data_root.resolve())
        out = directory / TRAINING
        arguments = [sys.executable, "-m", "reaas_pretrain", "train"]
        arguments += ["--recipe", str(directory / RECIPE), *images, "--out", str(out)]
        arguments += ["--threads", str(threads or available_cpus())]
        arguments += ["--resume"] if (out / CHECKPOINT).exists() else []
        return arguments

    return command


class LocalLauncher:
    """Runs as child processes, each in a session of its own (Linux: it reads /proc)."""

    name = "local"
    outlives_service = False

    def __init__(self, store: RunStore, command: Command) -> None:
        self._store = store
        self._command = command
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run: Run) -> None:
        """As `Launcher.start`."""
        directory = self._store.directory(run.id)
        try:
            with (directory / LOCK).open("w") as lock:
                if not _take(lock.fileno()):
                    return
                (directory / STATUS).unlink(missing_ok=True)
                self._children[run.id] = self._spawn(run, directory, lock.fileno())
        except OSError as error:
            raise LaunchError(f"its process cannot be started: {error}") from error

    def look(self, run: Run) -> Outcome | None:
        """As `Launcher.look`."""
        child = self._children.get(run.id)
        if child is not None and child.poll() is None:
            return None
        directory = self._store.directory(run.id)
        if _held(directory / LOCK):
            return None
        self._children.pop(run.id, None)
        return _outcome(directory)

    def stop(self, run: Run, *, force: bool) -> None:
        """As `Launcher.stop`."""
        number = signal.SIGKILL if force else signal.SIGTERM
        for group in {_group(pid) for pid in _holders(self._store.directory(run.id) / LOCK)}:
            if group not in (None, os.getpgrp()):
                _signal_group(group, number)

    def _spawn(self, run: Run, directory: Path, lock: int) -> subprocess.Popen[bytes]:
        command = ["/bin/sh", "-c", _KEEP_STATUS, str((directory / STATUS).resolve())]
        with (directory / OUTPUT).open("ab") as output:
            return subprocess.Popen(
                [*command, *self._command(run)],
                cwd=directory,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )


def _outcome(directory: Path) -> Outcome:
    """How a process that is gone ended."""
    try:
        status = int((directory / STATUS).read_text())
    except (OSError, ValueError):
        return Outcome(End.DIED, "its process was killed")
    if status == 0:
        return Outcome(End.SUCCEEDED)
    if status > _SIGNALLED:
        return Outcome(End.DIED, f"its process was killed by signal {status - _SIGNALLED}")
    said = last_words(directory / OUTPUT)
    return Outcome(End.FAILED, said or f"its process ended with status {status}")


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(lock: Path) -> bool:
    """Whether a process of the run is alive."""
    if not lock.exists():
        return False
    with lock.open() as file:
        return not _take(file.fileno())


def _holders(lock: Path) -> Iterator[int]:
    """Processes that hold the lock file open, but for this one."""
    if not _held(lock):
        return
    wanted = lock.stat()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid() and _has_open(process, (wanted.st_dev, wanted.st_ino)):
            yield int(process.name)


def _has_open(process: Path, wanted: tuple[int, int]) -> bool:
    try:
        statuses = [os.stat(file) for file in (process / "fd").iterdir()]
    except OSError:  # It ended meanwhile, or belongs to somebody else.
        return False
    return any((status.st_dev, status.st_ino) == wanted for status in statuses)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _signal_group(group: int | None, number: signal.Signals) -> None:
    if group is not None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
