"""Work that is called off from outside: asked inside of bounds, not only between them.

A single bound can take minutes. What has been certified before it stays certified, so a search that
is called off in the middle of one answers with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from reaas_bounds.errors import CalledOffError

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("reaas_bounds_called_off", default=None)


@contextmanager
def interruptible(called_off: Callable[[], bool]) -> Iterator[None]:
    """Within it ``called_off`` is asked many times a second; once True, work ends.

    Searches (``certify_ball``, ``certify_margins``) then return what they have certified, with
    ``converged`` False; everything else raises ``CalledOffError``. Of this thread only.
    """
    token = _asked.set(called_off)
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it nothing is called off: closed forms, which every answer has."""
    token = _asked.set(None)
    try:
        yield
    finally:
        _asked.reset(token)


def checkpoint() -> None:
    """Inside of long loops. Raises CalledOffError once the work is called off."""
    asked = _asked.get()
    if asked is not None and asked():
        raise CalledOffError
