"""Runs every rule and every panel against a live Prometheus: none may fail or be empty."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evaluation.observe.monitoring import MonitoringError, Prometheus, Series
from evaluation.observe.panels import Dashboard, Panel, Target

_METRIC = re.compile(r"\b(?:up|(?:reaas|grpc_server|process)[_:][\w:]+)\b(?!\s*=)")
FIRING_IN_HEALTH = {"ReaasQuotaNear": "the guest uses up its quota on purpose"}
"""Alerts that may be pending or firing at the end of a run, and why."""
ABSENT_IN_HEALTH = {
    "reaas_tls_certificate_expiry_timestamp_seconds": "the services of a run speak plain text",
}
"""Metrics of alerts that a run does not have, and why."""


@dataclass(frozen=True)
class Shown:
    """A panel, and for each of its targets the series that it shows."""

    panel: Panel
    series: list[tuple[Target, list[Series]]]


class Findings:
    """What was wrong, in words."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.passed = 0

    def check(self, what: str, series: Iterable[Series]) -> None:
        """Counts one query; it must have shown a number."""
        if any(math.isfinite(value) for one in series for _, value in one.points):
            self.passed += 1
        else:
            self.problems.append(f"{what} is empty")

    def failed(self, what: str, error: object) -> None:
        """Counts one query that failed."""
        self.problems.append(f"{what}: {error}")


def check_rules(prometheus: Prometheus, findings: Findings) -> None:
    """Every recording rule has values; every alert can fire, and only the expected ones do."""
    known = set(prometheus.values("__name__"))
    for group in prometheus.groups():
        for rule in group["rules"]:
            name = rule["name"]
            if rule["health"] != "ok":
                findings.failed(f"rule {name}", rule.get("lastError") or rule["health"])
            elif rule["type"] == "recording":
                labels = _matchers(rule.get("labels") or {})
                findings.check(f"rule {name}{labels}", prometheus.instant(f"{name}{labels}"))
            else:
                _check_alert(rule["query"], name, rule["state"], known, findings)


def _check_alert(expr: str, name: str, state: str, known: set[str], findings: Findings) -> None:
    unknown = set(_METRIC.findall(_without_strings(expr))) - known - set(ABSENT_IN_HEALTH)
    if unknown:
        findings.failed(f"alert {name}", f"no such metric: {', '.join(sorted(unknown))}")
    elif state == "firing" and name not in FIRING_IN_HEALTH:
        findings.failed(f"alert {name}", "fires, though all is well")
    else:
        findings.passed += 1


def _without_strings(expr: str) -> str:
    return re.sub(r'"[^"]*"', '""', expr)


def _matchers(labels: Mapping[str, str]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def check_dashboard(
    prometheus: Prometheus,
    dashboard: Dashboard,
    start: float,
    end: float,
    step: float,
    findings: Findings,
) -> list[Shown]:
    """Every query of every panel and variable, from `start` to `end`, Unix times."""
    for metric, label in dashboard.variables:
        if not prometheus.values(label, metric):
            findings.failed(dashboard.title, f"no values of {label} for a variable")
    shown = []
    for panel in dashboard.panels:
        found = []
        for target in panel.targets:
            what = f"{dashboard.title} / {panel.title}: {target.expr}"
            try:
                series = (
                    prometheus.instant(target.expr, end)
                    if target.instant
                    else prometheus.over(target.expr, start, end, step)
                )
            except MonitoringError as error:
                findings.failed(what, error)
                continue
            findings.check(what, series)
            found.append((target, series))
        shown.append(Shown(panel, found))
    return shown
