"""The deployed dashboards as data: every panel, its queries with their variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[2] / "deploy/observability/grafana/dashboards"
_LABEL_VALUES = re.compile(r"label_values\((?P<metric>[\w:]+), *(?P<label>\w+)\)")


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    expr: str
    legend: str
    instant: bool

    def name_of(self, labels: Mapping[str, str]) -> str:
        """What a series is called in the panel."""
        if self.legend == "__auto":
            return ", ".join(value for name, value in labels.items() if name != "__name__")
        return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str
    description: str
    kind: str
    """Grafana's name: timeseries, stat, bargauge, table, heatmap."""
    unit: str
    width: int
    """Of 24."""
    targets: list[Target]
    columns: list[str]
    """What a table calls the values of its targets."""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    title: str
    description: str
    panels: list[Panel]
    variables: list[tuple[str, str]]
    """Metric and label that the choices of each variable come from."""


def dashboards(range_s: float, rate_s: float) -> list[Dashboard]:
    """All deployed dashboards, for a time range and a rate interval in seconds."""
    return [
        _dashboard(path, range_s, rate_s)
        for path in sorted(DASHBOARDS.glob("*.json"), key=lambda path: path.name)
    ]


def _dashboard(path: Path, range_s: float, rate_s: float) -> Dashboard:
    made = json.loads(path.read_text(encoding="utf-8"))
    variables = made["templating"]["list"]
    fill = {variable["name"]: variable.get("allValue", "") for variable in variables}
    fill |= {"__range": f"{max(1, round(range_s))}s", "__rate_interval": f"{round(rate_s)}s"}
    return Dashboard(
        path.stem,
        made["title"],
        made["description"],
        list(_panels(made["panels"], fill)),
        [
            (found["metric"], found["label"])
            for variable in variables
            if (found := _LABEL_VALUES.fullmatch(str(variable["query"])))
        ],
    )


def _panels(panels: list[dict[str, Any]], fill: Mapping[str, str]) -> Iterator[Panel]:
    for panel in panels:
        if panel["type"] == "row":
            yield from _panels(panel["panels"], fill)
            continue
        yield Panel(
            panel["title"],
            panel["description"],
            panel["type"],
            panel["fieldConfig"]["defaults"]["unit"],
            panel["gridPos"]["w"],
            [_target(target, fill) for target in panel["targets"]],
            _columns(panel.get("transformations", [])),
        )


def _columns(transformations: list[dict[str, Any]]) -> list[str]:
    """The names that `organize` gives to the values, in the order of the targets."""
    for transformation in transformations:
        names = transformation["options"].get("renameByName", {})
        columns = [name for old, name in names.items() if old.startswith("Value #")]
        if columns:
            return columns
    return []


def _target(target: dict[str, Any], fill: Mapping[str, str]) -> Target:
    expr = re.sub(r"\$(\w+)", lambda found: fill[found[1]], target["expr"])
    return Target(expr, target["legendFormat"], bool(target["instant"]))
