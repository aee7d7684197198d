"""A real Prometheus with the deployed rules, and the Pushgateway that clients report to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluation.services import free_port

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy/observability/prometheus"
INTERVAL_S = 1
"""Seconds between scrapes: a run is short, and each process must be seen after its last query."""
_START_S = 30.0
_ANSWER_S = 30.0
_INSTALL = "run scripts/install_prometheus.sh as root, or put {0} on the PATH"


class MonitoringError(Exception):
    """Prometheus or the Pushgateway is missing, does not start, or refuses a query."""


@dataclass(frozen=True)
class Series:
    """One time series: its labels, and (Unix time, value) points."""

    labels: Mapping[str, str]
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Prometheus:
    """The HTTP API of a Prometheus."""

    url: str

    def instant(self, expr: str, at: float | None = None) -> list[Series]:
        """Values of an expression now, or `at` a Unix time; an expression[1h] gives raw samples."""
        asked = {"query": expr} | ({} if at is None else {"time": str(at)})
        return _series(self._get("query", asked))

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Values of an expression from `start` to `end`, Unix times."""
        asked = {"query": expr, "start": str(start), "end": str(end), "step": str(step)}
        return _series(self._get("query_range", asked))

    def groups(self) -> list[dict[str, Any]]:
        """All rule groups, with the health of each rule."""
        return list(self._get("rules", {})["groups"])

    def values(self, label: str, metric: str | None = None) -> list[str]:
        """The values that a label has, of one metric or of all."""
        asked = {} if metric is None else {"match[]": metric}
        return list(self._get(f"label/{label}/values", asked))

    def wait_for_scrape(self, after: float, timeout_s: float = 30.0) -> None:
        """Returns when every target was scraped, or found down, later than `after`, Unix time."""
        deadline = time.monotonic() + timeout_s
        while not self._scraped(after):
            if time.monotonic() > deadline:
                raise MonitoringError(f"targets were not scraped within {timeout_s:g} s")
            time.sleep(INTERVAL_S / 4)

    def _scraped(self, after: float) -> bool:
        seen = self.instant("timestamp(up)")  # Of a selector: else it is the time of the query.
        return bool(seen) and all(series.last > after for series in seen)

    def _get(self, what: str, asked: Mapping[str, str]) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_S) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refused:
            reason = json.load(refused).get("error", refused.reason)
            raise MonitoringError(f"Prometheus refuses {asked}: {reason}") from refused


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, [_point(data["result"])])]
    return [
        Series(one["metric"], [_point(point) for point in one.get("values") or [one["value"]]])
        for one in data["result"]
    ]


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@contextmanager
def running_prometheus(targets: Mapping[str, list[str]], directory: Path) -> Iterator[Prometheus]:
    """Prometheus as deployed, with these targets for its jobs; jobs without targets are left out.

    Raises MonitoringError.
    """
    port = free_port()
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(derived_config(targets)), encoding="utf-8")
    arguments = {
        "config.file": config,
        "storage.tsdb.path": directory / "tsdb",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    url = f"http://127.0.0.1:{port}"
    with _running("prometheus", arguments, f"{url}/-/ready", directory):
        yield Prometheus(url)


@contextmanager
def running_pushgateway(directory: Path) -> Iterator[str]:
    """A Pushgateway; gives its `host:port`. Raises MonitoringError."""
    address = f"127.0.0.1:{free_port()}"
    arguments = {
        "web.listen-address": address,
        # Else Debian's build would bring back what was reported in earlier runs.
        "persistence.file": directory / "pushgateway.data",
        "log.level": "warn",
    }
    with _running("prometheus-pushgateway", arguments, f"http://{address}/-/ready", directory):
        yield address


def derived_config(targets: Mapping[str, list[str]]) -> dict[str, Any]:
    """The deployed configuration of one machine with other ports and a short interval."""
    config: dict[str, Any] = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text("utf-8"))
    config["global"] = {f"{what}_interval": f"{INTERVAL_S}s" for what in ("scrape", "evaluation")}
    config["rule_files"] = [str(DEPLOYED / pattern) for pattern in config["rule_files"]]
    jobs = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in jobs:
        job["static_configs"][0]["targets"] = targets[job["job_name"]]
    config["scrape_configs"] = jobs
    return config


@contextmanager
def _running(
    program: str, arguments: Mapping[str, object], ready_url: str, directory: Path
) -> Iterator[None]:
    found = shutil.which(program)
    if found is None:
        raise MonitoringError(f"{program} is not installed: {_INSTALL.format(program)}")
    log = directory / f"{program}.log"
    command = [found, *(f"--{name}={value}" for name, value in arguments.items())]
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C reaches the evaluation, which ends it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        _wait_until_ready(program, process, ready_url, log)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_START_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(program: str, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise MonitoringError(f"{program} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0):
            return True
    except OSError:
        return False
