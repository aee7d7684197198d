"""What is watched while services are attacked: health from another process, memory, logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import yaml

from evaluation.services import ServiceProcess

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|\"exc_type\"|exc_info")


@dataclass
class Health:
    """Answers of a health probe."""

    probes: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class HealthProbe:
    """Asks `grpc.health.v1` every 50 ms, in a process that nothing else keeps busy."""

    def __init__(self, address: str) -> None:
        command = [sys.executable, "-m", "evaluation.hostile.probe", address]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def finish(self) -> Health:
        """Ends the probe; what it has seen."""
        printed, _ = self._process.communicate("end\n", timeout=60)
        found = json.loads(printed)
        latencies = np.array(found["latencies_s"] or [0.0]) * 1e3
        p50, p99 = np.percentile(latencies, [50, 99])
        return Health(
            len(latencies), found["failed"], float(p50), float(p99), float(latencies.max())
        )


class MemoryWatch(threading.Thread):
    """The most memory that a process had resident, looked at every 100 ms."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self.samples_mib: list[float] = []
        self.start()

    def run(self) -> None:
        """Looks until `finish`."""
        while not self._ended.wait(0.1):
            try:
                self.samples_mib.append(resident_mib(self._pid))
            except OSError:  # It is gone; whoever watches the process says so.
                return

    def finish(self) -> float:
        """MiB at most."""
        self._ended.set()
        self.join()
        return max(self.samples_mib, default=0.0)


def resident_mib(pid: int) -> float:
    """Memory of a process in MiB. Raises OSError where there is none."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class LogFindings:
    """What a log should not have."""

    tracebacks: int = 0
    canaries: dict[str, int] = field(default_factory=dict)
    longest_line: int = 0
    examples: list[str] = field(default_factory=list)


def read_log(service: ServiceProcess, canaries: list[str]) -> LogFindings:
    """Counts tracebacks and canaries in a service's log. Keys are named by their first letters."""
    found = LogFindings()
    with service.log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found.longest_line = max(found.longest_line, len(line))
            if _TRACEBACK.search(line):
                found.tracebacks += 1
                found.examples.append(line[:300])
            for canary in canaries:
                if canary in line:
                    name = canary[:14]
                    found.canaries[name] = found.canaries.get(name, 0) + 1
    del found.examples[5:]
    return found


def pod_limit_mib(service: str, root: Path = Path("deploy/k8s")) -> float:
    """Memory that the deployment allows a service's main container."""
    texts = (file.read_text() for file in sorted(root.rglob(f"{service}.yaml")))
    for document in (each for text in texts for each in yaml.safe_load_all(text)):
        if document["kind"] in ("Deployment", "StatefulSet"):
            containers = document["spec"]["template"]["spec"]["containers"]
            limit = str(containers[0]["resources"]["limits"]["memory"])
            return float(limit[:-2]) * _UNITS[limit[-2:]] / 2**20
    raise ValueError(f"no {service}.yaml below {root} has a Deployment")


def as_json(value: object) -> str:
    """A dataclass as indented JSON."""
    return json.dumps(asdict(value), indent=2, default=str)  # type: ignore[call-overload]


def pause_until(moment: float) -> None:
    """Sleeps until a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))
