"""One run: clients, a restart in between, bills, rules, dashboards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from reaas import Client
from reaas.compare import Meters, push
from reaas.datasets import load
from rich.console import Console

from evaluation.observe.bill import Line, lines, reconcile, table
from evaluation.observe.checks import Findings, check_dashboard, check_rules
from evaluation.observe.fleet import Fleet, running_fleet
from evaluation.observe.monitoring import (
    INTERVAL_S,
    Prometheus,
    running_prometheus,
    running_pushgateway,
)
from evaluation.observe.page import draw, write_page
from evaluation.observe.panels import dashboards
from evaluation.observe.replay import LIMITS, Device, Scale

_ROUNDS = 2
_RATE_S = 15 * INTERVAL_S  # Grafana takes four intervals; with a few more the lines are calmer.
_POINTS = 200


@dataclass(frozen=True)
class Outcome:
    """What a run found."""

    bills: list[Line]
    passed: int
    """Queries of rules and dashboards that had an answer."""
    problems: list[str]
    """The others, in words."""


def observe(models: Path, model: str, scale: Scale, out: Path, console: Console) -> Outcome:
    """Runs services, Prometheus and clients; writes pictures to `out`.

    Raises BillError, MeterMismatchError, MonitoringError, ServiceError or ReaasError.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-observe-")))
        console.print("starting two encoder replicas and the F2I service")
        fleet = stack.enter_context(running_fleet(models, LIMITS))
        gateway = stack.enter_context(running_pushgateway(directory))
        targets = {**fleet.targets, "pushgateway": [gateway]}
        prometheus = stack.enter_context(running_prometheus(targets, directory))
        prometheus.wait_for_scrape(after=time.time())
        begun = time.time()
        clients = {name: stack.enter_context(fleet.connect(name)) for name in LIMITS}
        devices = _devices(clients, model, scale)
        try:
            _replay(fleet, prometheus, devices, console)
        except Exception:
            console.print(fleet.log_tails(), markup=False, highlight=False)
            raise
        for device in devices:
            if (quality := device.quality()) is not None:
                push(gateway, device.client_id, model, [quality])
        return _look(prometheus, clients, begun, out, console)


def _devices(clients: Mapping[str, Client], model: str, scale: Scale) -> list[Device]:
    data = load(
        "digits",
        None,
        train_size=max(scale.train, 10),
        test_size=_ROUNDS * max(scale.reaas_test, scale.seaas_test),
        seed=1,
    )
    return [Device(name, client, model, data, scale) for name, client in clients.items()]


def _replay(fleet: Fleet, prometheus: Prometheus, devices: list[Device], console: Console) -> None:
    """All clients at once, round by round; an encoder replica is restarted before the second."""
    console.print("the clients train and certify")
    _round(devices)
    meters = Meters([service.metrics_url for service in fleet.services])
    for device in devices:
        meters.reconcile(device.client.ledger, device.client_id, before={})
    prometheus.wait_for_scrape(after=time.time())
    console.print("one encoder replica restarts; meanwhile the clients use the other")
    fleet.stop_encoder(1)
    restarting = fleet.start_encoder(1)
    _round(devices)
    restarting.wait_until_serving()


def _round(devices: list[Device]) -> None:
    with ThreadPoolExecutor(len(devices)) as pool:
        for done in [pool.submit(device.round) for device in devices]:
            done.result()


def _look(
    prometheus: Prometheus,
    clients: Mapping[str, Client],
    begun: float,
    out: Path,
    console: Console,
) -> Outcome:
    """The bill, every rule, every panel."""
    # Rules are evaluated after the scrape that they read.
    prometheus.wait_for_scrape(after=time.time())
    time.sleep(2 * INTERVAL_S)
    end = time.time()
    seconds = end - begun + 60  # From before the first process began.
    reconcile(prometheus, {name: client.ledger for name, client in clients.items()}, seconds)
    console.print("Prometheus has what the clients' ledgers say, to the byte and the query")
    bills = lines(prometheus, seconds)
    console.print(table(bills))
    findings = Findings()
    check_rules(prometheus, findings)
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for dashboard in dashboards(end - begun, _RATE_S):
        step = max(INTERVAL_S, (end - begun) / _POINTS)
        shown = check_dashboard(prometheus, dashboard, begun, end, step, findings)
        pictures.append(draw(dashboard, shown, out / f"{dashboard.name}.png"))
    write_page(pictures, out / "index.html")
    return Outcome(bills, findings.passed, findings.problems)
