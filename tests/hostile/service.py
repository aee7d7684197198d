"""A service as a process of its own, as an attacker meets it; its memory and its log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

MIB = 1 << 20
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
_START = """
import functools, logging, sys
from reaas.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from reaas.v1.f2i_pb2_grpc import add_F2IServiceServicer_to_server
import reaas_runtime.process as process
from reaas_runtime import ServiceSettings
if {debug}:
    process.configure_logs = functools.partial(process.configure_logs, level=logging.DEBUG)
{service}
sys.exit(process.run_service(Settings, Service, add, sys.argv[1:]))
"""
TOY = """
from tests.runtime.toy import Toy as Service
Settings, add = ServiceSettings, add_EncoderServiceServicer_to_server
"""
F2I = """
from reaas_f2i import F2IServicer as Service, F2ISettings as Settings
add = add_F2IServiceServicer_to_server
"""


class Attacked:
    """A service in a process: its ports, memory and log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.key = ""
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._listening.wait(60), self.log
        started = next(json.loads(line) for line in self.lines if '"listening"' in line)
        self.port = int(started["address"].rpartition(":")[2])
        self.metrics_port = int(started["metrics_port"])
        self.wait_until_serving()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Bytes that it has in memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return 1024 * int(found[1])

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def wait_until_serving(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.health() == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.05)
        raise AssertionError(f"not serving: {self.log}")

    def health(self) -> int | None:
        """Status of a new connection's probe; None where nobody answers."""
        with grpc.insecure_channel(self.address, UNLIMITED) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)
            except grpc.RpcError:
                return None

    def _read(self) -> None:
        assert self.process.stderr is not None
        try:
            for line in self.process.stderr:
                self.lines.append(line)
                if '"listening"' in line:
                    self._listening.set()
        except ValueError:
            return  # Closed, at the end of the test.


@contextmanager
def attacked(
    service: str, models_dir: Path, *flags: str, debug: bool = False
) -> Iterator[Attacked]:
    """`service` (TOY or F2I) with `flags`, serving; killed at the end."""
    code = _START.replace("{debug}", str(debug)).replace("{service}", service)
    command = [sys.executable, "-c", code, "--models-dir", str(models_dir)]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2", *flags]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("REAAS_", "GRPC_"))}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
    try:
        yield Attacked(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
