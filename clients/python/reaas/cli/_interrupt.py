"""Ctrl-C between two messages instead of within one: what is under way is paid, so it is kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
_ENDING = (
    b"\nreaas: ends after the images under way (Ctrl-C again: at once); the same command goes on"
    b" from there\n"
)


@contextmanager
def paid_steps() -> Iterator[_Steps]:
    """Within it, Ctrl-C ends `steps(...)` after the step under way; a second one ends at once."""
    steps = _Steps()
    if threading.current_thread() is not threading.main_thread():
        yield steps  # Signals are the main thread's.
        return
    before = signal.signal(signal.SIGINT, steps.ask)
    try:
        yield steps
    finally:
        signal.signal(signal.SIGINT, before)


class _Steps:
    def __init__(self) -> None:
        self._asked = False

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        """The items; raises KeyboardInterrupt before the next one where Ctrl-C was pressed."""
        for item in items:
            if self._asked:
                raise KeyboardInterrupt
            yield item

    def ask(self, _: int, __: FrameType | None) -> None:
        """The signal handler."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        # Not through sys.stderr, which may be in the middle of a line of its own.
        os.write(2, _ENDING)
