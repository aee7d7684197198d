"""The services of one run: two encoder replicas, one F2I, a key for each client."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reaas import Client
from reaas_runtime.keys import add_key

from evaluation.services import ServiceProcess, start_service

_REPLICAS = 2


@dataclass
class Fleet:
    """Running services. Replicas keep their ports over a restart, as a pod keeps its name."""

    encoders: list[ServiceProcess]
    f2i: ServiceProcess
    keys: Mapping[str, str]
    models: Path
    key_file: Path
    directory: Path

    @property
    def services(self) -> list[ServiceProcess]:
        """All processes."""
        return [*self.encoders, self.f2i]

    @property
    def targets(self) -> dict[str, list[str]]:
        """What Prometheus scrapes: job -> host:port of each replica."""
        return {
            "reaas-encoder": [f"127.0.0.1:{encoder.metrics_port}" for encoder in self.encoders],
            "reaas-f2i": [f"127.0.0.1:{self.f2i.metrics_port}"],
        }

    def connect(self, client_id: str) -> Client:
        """A client of all replicas."""
        replicas = ",".join(encoder.address for encoder in self.encoders)
        return Client(f"ipv4:{replicas}", self.f2i.address, api_key=self.keys[client_id])

    def stop_encoder(self, index: int) -> None:
        """Ends one replica; the others go on."""
        self.encoders[index].stop()

    def start_encoder(self, index: int) -> ServiceProcess:
        """Starts it anew on its old ports; does not wait until it serves."""
        old = self.encoders[index]
        self.encoders[index] = _start_encoder(
            self.models, self.directory, self.key_file, index, old.port, old.metrics_port
        )
        return self.encoders[index]

    def stop(self) -> None:
        """Ends all of them."""
        for service in self.services:
            service.stop()

    def log_tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(service.log_tail() for service in self.services)


@contextmanager
def running_fleet(models: Path, limits: Mapping[str, Sequence[str]]) -> Iterator[Fleet]:
    """The services, serving; stopped on the way out. `limits`: of each client, may be none.

    Raises ServiceError where one does not come up.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-")))
        key_file = directory / "keys.txt"
        keys = {client: add_key(client, key_file, limits=own) for client, own in limits.items()}
        encoders = [
            _start_encoder(models, directory, key_file, index) for index in range(_REPLICAS)
        ]
        f2i = start_service("f2i", models, directory, key_file=key_file)
        fleet = Fleet(encoders, f2i, keys, models, key_file, directory)
        stack.callback(fleet.stop)
        for service in fleet.services:
            service.wait_until_serving()
        yield fleet


def _start_encoder(
    models: Path,
    directory: Path,
    key_file: Path,
    index: int,
    port: int | None = None,
    metrics_port: int | None = None,
) -> ServiceProcess:
    logs = directory / f"encoder-{index}"
    logs.mkdir(exist_ok=True)
    return start_service(
        "encoder", models, logs, key_file=key_file, port=port, metrics_port=metrics_port
    )
