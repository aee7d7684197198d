"""Mixed load on replicas of both services, of which one at a time is killed, stopped or drained."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import reaas
from numpy.typing import NDArray

from evaluation.hostile.watching import resident_mib
from evaluation.services import ServiceProcess, start_service

_REPLICAS = 2
_CALLERS = 6
_IMAGES = 24
_METHODS = ("lipschitz", "ibp", "auto")
_KINDS = ("encode", "encode_stream", "perturb", "perturb_margins")
_SETTLE_S = 2.0
# What a process may grow by from the middle of the run to its end: caches of allocators, no leak.
_GROWTH_MIB = 64.0


@dataclass
class ChaosReport:
    """What became of the calls."""

    seconds: float
    calls: dict[str, int] = field(default_factory=dict)
    """Answered, by kind."""
    wrong: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """By error."""
    faults: dict[str, int] = field(default_factory=dict)
    """What was done to replicas."""
    slowest_s: float = 0.0
    growth_mib: dict[str, float] = field(default_factory=dict)
    """Of replicas that lived through the second half, and of this client."""

    @property
    def whole(self) -> bool:
        """Nothing lost, nothing wrong, no growth."""
        grown = any(growth > _GROWTH_MIB for growth in self.growth_mib.values())
        return not self.lost and not self.wrong and not grown


@dataclass(frozen=True)
class _Answers:
    """The right answers, from before the first fault."""

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    ref: reaas.ModelRef
    radii: dict[str, NDArray[np.float64]]
    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]
    by_margins: NDArray[np.float64]


class _Replicas:
    """Replicas of one service; the same ports from start to end."""

    def __init__(self, name: str, models_dir: Path, directory: Path, stack: ExitStack) -> None:
        self.name, self._models, self._stack = name, models_dir, stack
        self._logs = [directory / f"{name}-{number}" for number in range(_REPLICAS)]
        for log in self._logs:
            log.mkdir()
        self.replicas = [self._start(number) for number in range(_REPLICAS)]

    @property
    def address(self) -> str:
        return "ipv4:" + ",".join(replica.address for replica in self.replicas)

    def wait(self) -> None:
        for replica in self.replicas:
            replica.wait_until_serving()

    def kill(self, number: int) -> None:
        self.replicas[number].process.kill()
        self._again(number)

    def drain(self, number: int) -> None:
        self.replicas[number].process.send_signal(signal.SIGTERM)
        self._again(number)

    def stop(self, number: int, seconds: float) -> None:
        pid = self.replicas[number].process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        self.replicas[number].wait_until_serving()

    def _again(self, number: int) -> None:
        old = self.replicas[number]
        old.process.wait()
        self.replicas[number] = self._start(number, old.port)
        self.replicas[number].wait_until_serving()

    def _start(self, number: int, port: int | None = None) -> ServiceProcess:
        replica = start_service(self.name, self._models, self._logs[number], port=port)
        self._stack.callback(replica.stop)
        return replica


def run_chaos(models_dir: Path, model: str, seconds: float, stopped_s: float) -> ChaosReport:
    """Faults in turn for `seconds`, each replica stopped for `stopped_s` at a time."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-chaos-")))
        services = [_Replicas(name, models_dir, directory, stack) for name in ("encoder", "f2i")]
        for service in services:
            service.wait()
        options = reaas.ChannelOptions(retry_for_s=30.0)
        client = stack.enter_context(
            reaas.Client(services[0].address, services[1].address, options=options)
        )
        answers = _ask_once(client, model)
        report, ended = ChaosReport(seconds), threading.Event()
        memory = _Memory(services)
        with ThreadPoolExecutor(_CALLERS) as callers:
            load = [callers.submit(_call_on, client, answers, report, ended, n)
                    for n in range(_CALLERS)]  # fmt: skip
            try:
                _faults(services, report, seconds, stopped_s, memory)
            finally:
                ended.set()
            for caller in load:
                caller.result()
        report.growth_mib = memory.growth()
        return report


def _faults(
    services: list[_Replicas],
    report: ChaosReport,
    seconds: float,
    stopped_s: float,
    memory: _Memory,
) -> None:
    until = time.monotonic() + seconds
    done: Counter[str] = Counter()
    turns = itertools.product(("stopped", "killed", "drained"), range(_REPLICAS), services)
    for fault, number, service in itertools.cycle(list(turns)):
        if time.monotonic() >= until:
            break
        time.sleep(_SETTLE_S)
        memory.look(time.monotonic() > until - seconds / 2)
        if fault == "stopped":
            service.stop(number, stopped_s)
        elif fault == "killed":
            service.kill(number)
        else:
            service.drain(number)
        done[f"{service.name} {fault}"] += 1
    memory.look(True)
    report.faults = dict(done)


def _ask_once(client: reaas.Client, model: str) -> _Answers:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (_IMAGES, 32, 32, 3), np.uint8)
    features = client.encode(images, model)
    normals = rng.standard_normal((_IMAGES, 2, features.values.shape[1]))
    offsets = np.full((_IMAGES, 2), 1.0)
    radii = {
        method: client.perturb(images, np.ones(_IMAGES), features.model, method).radius
        for method in _METHODS
    }
    margins = client.perturb_margins(images, normals, offsets, features.model, "lipschitz")
    return _Answers(
        images, features.values, features.model, radii, normals, offsets, margins.radius
    )


_LOCK = threading.Lock()


def _call_on(
    client: reaas.Client, right: _Answers, report: ChaosReport, ended: threading.Event, caller: int
) -> None:
    """One caller: a call of each kind in turn, every answer compared bit for bit."""
    rng = np.random.default_rng(100 + caller)
    for kind in itertools.cycle(_KINDS):
        if ended.is_set():
            return
        chosen = rng.integers(0, _IMAGES, 4)
        begun = time.monotonic()
        try:
            same = _ANSWERED[kind](client, right, chosen, _METHODS[int(rng.integers(3))])
        except reaas.ReaasError as error:
            with _LOCK:
                said = f"{kind}: {type(error).__name__}: {error}"
                report.lost[said] = report.lost.get(said, 0) + 1
            continue
        with _LOCK:
            report.calls[kind] = report.calls.get(kind, 0) + 1
            report.wrong += not same
            report.slowest_s = max(report.slowest_s, time.monotonic() - begun)


Chosen = NDArray[np.int64]


def _encode(client: reaas.Client, right: _Answers, chosen: Chosen, _: str) -> bool:
    values = client.encode(right.images[chosen], right.ref).values
    return values.tobytes() == right.features[chosen].tobytes()


def _stream(client: reaas.Client, right: _Answers, chosen: Chosen, _: str) -> bool:
    batches = [right.images[chosen[:2]], right.images[chosen[2:]]]
    values = np.concatenate([found.values for found in client.encode_stream(batches, right.ref)])
    return values.tobytes() == right.features[chosen].tobytes()


def _perturb(client: reaas.Client, right: _Answers, chosen: Chosen, method: str) -> bool:
    found = client.perturb(right.images[chosen], np.ones(len(chosen)), right.ref, method)
    return np.array_equal(found.radius, right.radii[method][chosen])


def _margins(client: reaas.Client, right: _Answers, chosen: Chosen, _: str) -> bool:
    found = client.perturb_margins(
        right.images[chosen], right.normals[chosen], right.offsets[chosen], right.ref, "lipschitz"
    )
    return np.array_equal(found.radius, right.by_margins[chosen])


_ANSWERED: dict[str, Callable[[reaas.Client, _Answers, Chosen, str], bool]] = {
    "encode": _encode,
    "encode_stream": _stream,
    "perturb": _perturb,
    "perturb_margins": _margins,
}


class _Memory:
    """Resident memory of each process, from the middle of the run to its end."""

    def __init__(self, services: list[_Replicas]) -> None:
        self._services = services
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def look(self, second_half: bool) -> None:
        """Once between two faults."""
        if not second_half:
            return
        pids = {"client": os.getpid()} | {
            f"{service.name} {replica.process.pid}": replica.process.pid
            for service in self._services
            for replica in service.replicas
        }
        for name, pid in pids.items():
            self._last[name] = resident_mib(pid)
            self._first.setdefault(name, self._last[name])

    def growth(self) -> dict[str, float]:
        """MiB that each process has grown by."""
        return {name: last - self._first[name] for name, last in self._last.items()}
