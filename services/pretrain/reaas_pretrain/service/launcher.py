"""What the service needs of the place where runs are computed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from reaas_pretrain.service.run import Run

# How Python and click print an error: its kind, a colon, a sentence.
_ERROR = re.compile(r"\b\w*(Error|Exception): \S")
_LONGEST_WORDS = 1 << 14


class End(StrEnum):
    """How the process of a run ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    """By an error of its own: another attempt would end the same way."""
    DIED = "DIED"
    """It was killed, or is gone without a word: another attempt goes on from the checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended, and why as far as anybody knows."""

    end: End
    reason: str = ""


@dataclass(frozen=True)
class Waiting:
    """A run that was started and does not compute yet, and why."""

    reason: str


class LaunchError(Exception):
    """The place cannot be asked, or refuses; the message says why. Trying again may help."""


class Launcher(Protocol):
    """Computes runs. Every method blocks, may raise LaunchError, and may be repeated at will.

    What it knows of a run it can find again after the service was killed.
    """

    name: str
    """As the settings name it."""
    outlives_service: bool
    """Whether runs go on while the service is stopped."""

    def start(self, run: Run) -> None:
        """Begin `run`, or go on from its checkpoint; nothing where its process is there."""

    def look(self, run: Run) -> Outcome | Waiting | None:
        """How the process of a run that was started ended; None while it is there and computes."""

    def stop(self, run: Run, *, force: bool) -> None:
        """Ask the process of a run to end, or end it (`force`); nothing where there is none."""


def child_environment() -> dict[str, str]:
    """Of a process of this package: without the service's settings; output at once, not folded."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REAAS_")}
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def last_words(log: Path) -> str:
    """The line of a process's output that says what went wrong: its last error, else its last line.

    A launcher like torchrun prints a page of its own behind the error.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST_WORDS))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    spoken = [line.strip() for line in lines if line.strip()]
    errors = [line for line in spoken if _ERROR.search(line)]
    return next(reversed(errors or spoken), "")
