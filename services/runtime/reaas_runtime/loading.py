"""Loads of model versions: each in a thread of its own, within a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from reaas_runtime.errors import DomainError
from reaas_runtime.version_files import Key, UnreadableError, broken

M = TypeVar("M")
LOAD = "load "
"""What the names of loads' threads begin with."""
# Models loaded at a time: a service starts in half the time, and what loading takes (hundreds of
# MB for certified constants) is there twice, not once for each model.
_LOADERS = 2
# A load that takes longer does not count any more: two slow ones hold up no third. And so many
# may be under way in all, those that were given up but do not end included.
_SLOW_S = 5.0
_MOST = 8
# After a failure that may pass by itself a version is tried again, later and later.
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0

_log = structlog.get_logger("reaas.models")
_given_up: ContextVar[threading.Event] = ContextVar("reaas_load_given_up")


def load_given_up() -> bool:
    """Inside a load: whether nobody waits for it any more."""
    asked = _given_up.get(None)
    return asked is not None and asked.is_set()


@dataclass(frozen=True)
class LoadLimits:
    """What one version may take."""

    seconds: float = 300.0
    """Until its load is given up: certified constants of the largest encoders take minutes."""
    model_bytes: int = 1 << 30
    """Of model.onnx: the largest encoders that a CPU serves have a few hundred MB."""


@dataclass(eq=False)
class _Load(Generic[M]):
    """One load under way."""

    key: Key
    begun: float
    given_up: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Failure:
    """When a version may be tried again; infinity: when its files change."""

    again_at: float
    wait: float


class Loads(Generic[M]):
    """Loads that are wanted and under way. `load` makes a version, `take` and `refuse` hear of it.

    `take` and `refuse` are called one at a time. A load that does not end in time is refused; what
    it makes later is thrown away. Threads are daemons: code that hangs outside of Python keeps
    neither the others nor the end of the process.
    """

    def __init__(
        self,
        load: Callable[[Key], M],
        take: Callable[[Key, M], None],
        refuse: Callable[[Key, DomainError], None],
        limits: LoadLimits,
    ) -> None:
        self._load, self._took, self._refused, self._limits = load, take, refuse, limits
        self._wanted: list[Key] = []
        self._under_way: dict[Key, _Load[M]] = {}
        self._stuck: set[_Load[M]] = set()
        self._failures: dict[Key, _Failure] = {}
        self._changed = threading.Condition()

    def want(self, key: Key) -> None:
        """Load `key`, from the start if it is being loaded."""
        with self._changed:
            self._drop(key)
            self._wanted.append(key)
            self._begin()

    def forget(self, key: Key) -> None:
        """The version is gone from the disk."""
        with self._changed:
            self._drop(key)
            self._failures.pop(key, None)
            self._begin()

    def retry_due(self) -> list[Key]:
        """Versions whose failure may have passed by now."""
        now = time.monotonic()
        with self._changed:
            busy = {*self._under_way, *self._wanted}
            due = (key for key, failure in self._failures.items() if now >= failure.again_at)
            return [key for key in due if key not in busy]

    def look_after(self) -> None:
        """Give up what takes too long, begin what waits."""
        now = time.monotonic()
        with self._changed:
            for load in list(self._under_way.values()):
                if now - load.begun > self._limits.seconds:
                    self._give_up(load)
            self._begin()

    def names(self) -> set[str]:
        """Names of models of which a version is being loaded."""
        with self._changed:
            return {name for name, _ in (*self._under_way, *self._wanted)}

    def wait(self) -> None:
        """Return when nothing is being loaded."""
        while True:
            self.look_after()
            with self._changed:
                if not (self._under_way or self._wanted):
                    return
                self._changed.wait(0.05)

    def clear(self) -> None:
        """Forget everything; what is under way is thrown away."""
        with self._changed:
            for key in [*self._under_way, *self._wanted]:
                self._drop(key)
            self._failures.clear()

    def _begin(self) -> None:
        """Start loads while there is room. Holds the lock."""
        now = time.monotonic()
        while self._wanted:
            quick = [load for load in self._under_way.values() if now - load.begun < _SLOW_S]
            if len(quick) >= _LOADERS or len(self._under_way) + len(self._stuck) >= _MOST:
                return
            load: _Load[M] = _Load(self._wanted.pop(0), now)
            self._under_way[load.key] = load
            name = f"{LOAD}{'/'.join(load.key)}"
            threading.Thread(target=self._run, args=(load,), name=name, daemon=True).start()

    def _run(self, load: _Load[M]) -> None:
        _given_up.set(load.given_up)
        made: M | None = None
        failed: DomainError | None = None
        again = False
        try:
            made = self._load(load.key)
        except DomainError as error:
            failed, again = error, isinstance(error, UnreadableError)
        except BaseException as error:  # a model is data: it must not stop the others
            if not load.given_up.is_set():
                name, version = load.key
                _log.exception("model could not be loaded", model=name, version=version)
            failed, again = broken(load.key, f"it could not be loaded: {_kind(error)}"), True
        with self._changed:
            self._stuck.discard(load)
            if self._under_way.get(load.key) is load:
                del self._under_way[load.key]
                if failed is None:
                    self._failures.pop(load.key, None)
                    self._took(load.key, made)  # type: ignore[arg-type]
                else:
                    self._fail(load.key, failed, again=again)
            self._begin()
            self._changed.notify_all()

    def _give_up(self, load: _Load[M]) -> None:
        self._drop(load.key)
        why = f"it was not loaded within {self._limits.seconds:g} s"
        self._fail(load.key, broken(load.key, why), again=False)
        self._changed.notify_all()

    def _drop(self, key: Key) -> None:
        """Wait no longer for `key`. Holds the lock."""
        self._wanted = [other for other in self._wanted if other != key]
        load = self._under_way.pop(key, None)
        if load is not None:
            load.given_up.set()
            self._stuck.add(load)

    def _fail(self, key: Key, error: DomainError, *, again: bool) -> None:
        last = self._failures.get(key)
        wait = _FIRST_RETRY_S if last is None else min(2 * last.wait, _LAST_RETRY_S)
        self._failures[key] = _Failure(time.monotonic() + wait if again else float("inf"), wait)
        self._refused(key, error)


def _kind(error: BaseException) -> str:
    return type(error).__name__
