"""The fuzzer: hostile messages, metadata and frames on all ports of all services at once."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import aio
from reaas_runtime.keys import add_key

from evaluation.hostile.frames import hostile_bytes, raw_exchange
from evaluation.hostile.messages import mutated, spoilt
from evaluation.hostile.targets import CANARIES, Method, metadata, methods
from evaluation.hostile.watching import (
    Health,
    HealthProbe,
    LogFindings,
    MemoryWatch,
    pod_limit_mib,
    read_log,
)
from evaluation.services import ServiceProcess, start_service

SERVICES = ("encoder", "f2i", "pretrain")
# Services bound what one key may get wrong in a second; a fuzzer is many clients.
_KEYS = 64
_AT_ONCE = 8
_PATIENCE_S = 3.0
_RAW_SHARE, _METRICS_SHARE = 0.2, 0.02
_METRICS_REQUESTS = (b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 9000, b"\xff" * 9)
# What gRPC's client says of itself, with the code of a fault of the service.
_OWN_WORDS = ("Invalid metadata", "Internal error from Core")
# C-core refuses headers that it cannot parse with INTERNAL, before any code of a service runs.
_REFUSED_BELOW = ("raw: Error parsing '", "raw: Illegal header ")
_FAULTS = ("INTERNAL", "UNKNOWN")
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass
class Attacked:
    """What became of one service."""

    service: str
    requests: int
    statuses: dict[str, int]
    died: bool
    health: Health
    most_mib: float
    limit_mib: float
    log: LogFindings
    faults: dict[str, str] = field(default_factory=dict)
    """Details of an INTERNAL or UNKNOWN, to the path and seed that show it."""

    @property
    def broken_promises(self) -> list[str]:
        """What is not as promised, in words."""
        count = sum(n for status, n in self.statuses.items() if status in _FAULTS)
        checks = {
            "died": self.died,
            f"{count} INTERNAL or UNKNOWN": bool(count),
            f"{self.log.tracebacks} tracebacks in the log": bool(self.log.tracebacks),
            f"canaries in the log: {self.log.canaries}": bool(self.log.canaries),
            f"{self.most_mib:.0f} MiB": self.most_mib > self.limit_mib,
            f"{self.health.failed} probes failed": bool(self.health.failed),
            f"health p99 {self.health.p99_ms:.0f} ms": self.health.p99_ms > 200,
            f"health at most {self.health.max_ms:.0f} ms": self.health.max_ms > 1000,
        }
        return [said for said, broken in checks.items() if broken]


@dataclass
class FuzzReport:
    """One run of the fuzzer."""

    seed: int
    requests: int
    services: list[Attacked]


def fuzz(requests: int, seed: int, models_dir: Path) -> FuzzReport:
    """Starts the services, sends `requests` in all, and looks at what they became."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-fuzz-")))
        key_file = directory / "keys.txt"
        keys = [add_key(f"client-{n}", key_file, ["operator"]) for n in range(_KEYS)]
        services = [_start(name, models_dir, directory, key_file) for name in SERVICES]
        for service in services:
            stack.callback(service.stop)
        for service in services:
            service.wait_until_serving()
        share = requests // len(services)
        # One after the other: what one of them does is not the others' doing.
        found = [attack(service, share, seed, keys) for service in services]
        return FuzzReport(seed, requests, found)


def _start(name: str, models: Path, directory: Path, key_file: Path) -> ServiceProcess:
    extra: list[str] = []
    if name == "pretrain":
        (directory / "data" / "set").mkdir(parents=True)
        extra = ["--runs-dir", str(directory / "runs"), "--data-root", str(directory / "data")]
    return start_service(name, models, directory, key_file=key_file, arguments=extra)


def attack(service: ServiceProcess, requests: int, seed: int, keys: list[str]) -> Attacked:
    """Sends hostile requests to one service that runs, and looks at what became of it."""
    probe, memory = HealthProbe(service.address), MemoryWatch(service.process.pid)
    attacker = _Attacker(service, seed, keys)
    asyncio.run(attacker.send(requests))
    secrets = [*CANARIES, *(key.removeprefix("reaas_") for key in keys)]
    return Attacked(
        service.name,
        requests,
        dict(attacker.statuses.most_common()),
        service.process.poll() is not None,
        probe.finish(),
        memory.finish(),
        pod_limit_mib(service.name),
        read_log(service, secrets),
        attacker.faults,
    )


class _Attacker:
    """Sends request number n of a seed: the same ones each time."""

    def __init__(self, service: ServiceProcess, seed: int, keys: list[str]) -> None:
        self._service, self._seed, self._keys = service, seed, keys
        self._methods = methods(service.name)
        self.statuses: Counter[str] = Counter()
        self.faults: dict[str, str] = {}

    async def send(self, requests: int) -> None:
        """All of them, a few at once."""
        numbers = iter(range(requests))
        async with aio.insecure_channel(self._service.address, _OPTIONS) as channel:

            async def caller() -> None:
                for number in numbers:
                    if self._service.process.poll() is not None:
                        return
                    await self._request(channel, number)

            await asyncio.gather(*(caller() for _ in range(_AT_ONCE)))

    async def _request(self, channel: aio.Channel, number: int) -> None:
        rng = random.Random(f"{self._seed} {self._service.name} {number}")
        kind = rng.random()
        if kind < _RAW_SHARE:
            data = hostile_bytes(rng, rng.choice(self._keys))
            for status, said in await _raw(self._service.port, data):
                self._count(status, f"raw: {said}", number)
        elif kind < _RAW_SHARE + _METRICS_SHARE:
            for status, _ in await _raw(self._service.metrics_port, rng.choice(_METRICS_REQUESTS)):
                self.statuses[f"metrics {status}"] += 1
        else:
            method = self._methods[min(int(rng.expovariate(0.5)), len(self._methods) - 1)]
            status, said = await _call(channel, method, rng, self._keys)
            self._count(status, f"{method.path}: {said}", number)

    def _count(self, status: str, said: str, number: int) -> None:
        if status == "INTERNAL" and said.startswith(_REFUSED_BELOW):
            status = "headers refused by gRPC itself"
        self.statuses[status] += 1
        if status in _FAULTS:
            self.faults.setdefault(said, f"seed {self._seed} number {number}")


async def _raw(port: int, data: bytes) -> list[tuple[str, str]]:
    return await raw_exchange("127.0.0.1", port, data, patience_s=0.3)


async def _each(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def _call(
    channel: aio.Channel, method: Method, rng: random.Random, keys: list[str]
) -> tuple[str, str]:
    """One call by gRPC itself, with any bytes as its message: status and details."""
    seed = rng.choice(method.seeds)
    data = mutated(seed, rng).SerializeToString()
    if rng.random() < 0.15:
        data = spoilt(data, rng)
    try:
        call: Any = channel.stream_stream(method.path)(
            _each([data] * (rng.choice((0, 1, 3)) if method.streams else 1)),
            timeout=rng.choice((_PATIENCE_S, _PATIENCE_S, 0.05)),
            metadata=metadata(rng, keys),
        )
    except (ValueError, TypeError) as refused:  # By gRPC's own client.
        return "not sent", str(refused)
    try:
        read = 0
        async for _ in call:
            read += 1
            if read == 3 or (method.path.endswith("/Watch") and read):
                call.cancel()
        status = await call.code()
        said = await call.details() or ""
        return ("not sent" if said in _OWN_WORDS else status.name), said
    except aio.AioRpcError as error:
        if error.details() in _OWN_WORDS:
            return "not sent", error.details() or ""
        return error.code().name, error.details() or ""
    except asyncio.CancelledError:
        return "CANCELLED", ""
