"""Starts the encoder and the F2I service as processes, for one evaluation."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reaas import Client
from reaas_runtime.keys import add_key

# Certified constants are computed at start: seconds, but a minute on a machine that is busy.
_STARTUP_S = 300.0
_STOP_S = 10.0
_TAIL_LINES = 25
_MODULES = {"encoder": "reaas_encoder", "f2i": "reaas_f2i", "pretrain": "reaas_pretrain.service"}
_BOTH = ("encoder", "f2i")


class ServiceError(Exception):
    """A service did not start, or ended by itself; the message has the end of its log."""


@dataclass(frozen=True)
class ServiceProcess:
    """One service, in a process group of its own."""

    name: str
    port: int
    metrics_port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """`host:port` of the gRPC endpoint."""
        return f"127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The Prometheus endpoint."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def log_tail(self) -> str:
        """The last lines of the service's log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"--- last lines of {self.log.name} ---", *lines[-_TAIL_LINES:]])

    def check_running(self) -> None:
        """Raises ServiceError where the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise ServiceError(f"{self.name} ended with status {status}\n{self.log_tail()}")

    def wait_until_serving(self) -> None:
        """Returns when the health service says SERVING. Raises ServiceError."""
        deadline = time.monotonic() + _STARTUP_S
        with grpc.insecure_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not _is_serving(health):
                self.check_running()
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"{self.name} is not serving after {_STARTUP_S:.0f} s\n{self.log_tail()}"
                    )
                time.sleep(0.1)

    def stop(self) -> None:
        """Interrupts the service (no drain: its only client is done), at last kills it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@dataclass(frozen=True)
class Services:
    """Both services, the API key of each client, and the file of the keys' hashes."""

    encoder: ServiceProcess
    f2i: ServiceProcess
    keys: dict[str, str]
    key_file: Path

    @property
    def metrics_urls(self) -> list[str]:
        """Both Prometheus endpoints."""
        return [self.encoder.metrics_url, self.f2i.metrics_url]

    def connect(self, client_id: str) -> Client:
        """A client of both services, with its own key."""
        return Client(self.encoder.address, self.f2i.address, api_key=self.keys[client_id])

    def log_tails(self) -> str:
        """The ends of both logs."""
        return f"{self.encoder.log_tail()}\n{self.f2i.log_tail()}"


@contextmanager
def running_services(models_dir: Path, client_ids: list[str]) -> Iterator[Services]:
    """Both services on free ports of this host, serving; stopped on the way out, whatever happens.

    Each client gets an API key of its own. Raises ServiceError where one does not come up.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-")))
        key_file = directory / "keys.txt"
        keys = {client: add_key(client, key_file) for client in client_ids}
        services = {}
        for name in _BOTH:
            services[name] = start_service(name, models_dir, directory, key_file=key_file)
            stack.callback(services[name].stop)
        for service in services.values():
            service.wait_until_serving()
        yield Services(services["encoder"], services["f2i"], keys, key_file)


def start_service(
    name: str,
    models_dir: Path,
    log_dir: Path,
    *,
    key_file: Path | None = None,
    port: int | None = None,
    metrics_port: int | None = None,
    arguments: Sequence[str] = (),
) -> ServiceProcess:
    """Starts a service on these ports (None: free ones); does not wait until it serves.

    `name` is `encoder`, `f2i` or `pretrain`; `arguments` are more of its own. `log_dir` takes its
    log. Without a key file every caller is let in; the port is on loopback.
    """
    port, metrics_port = port or free_port(), metrics_port or free_port()
    log = log_dir / f"{name}.log"
    common = {
        "--models-dir": models_dir,
        "--port": port,
        "--metrics-port": metrics_port,
        "--log-format": "console",
    }
    command = [sys.executable, "-m", _MODULES[name]]
    command += [str(part) for pair in common.items() for part in pair]
    command += ["--api-keys-file", str(key_file)] if key_file else ["--allow-anonymous"]
    command += arguments
    with log.open("ab") as sink:
        # A session of its own: Ctrl-C in the terminal reaches the evaluation, which stops services.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    return ServiceProcess(name, port, metrics_port, log, process)


def _is_serving(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        reply = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def free_port() -> int:
    """A port of this host that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
