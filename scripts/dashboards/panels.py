"""The few kinds of panels that all dashboards are made of, and the variables that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
Panel: TypeAlias = Builder[models.Panel]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and what its series are called."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class About:
    """What every panel says of itself; `unit` is Grafana's name of it."""

    title: str
    description: str
    unit: str = "short"
    decimals: int | None = None


def series(
    about: About, *queries: Query, stacked: bool = False, width: int = 12
) -> timeseries.Panel:
    """Lines over time, with the last and the largest value of each in the legend."""
    panel = (
        timeseries.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .min(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return panel.targets(_ranges(queries))


def number(about: About, expr: str, width: int = 6) -> stat.Panel:
    """One number for the whole time range."""
    panel = (
        stat.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .no_value("no data")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets([_instant(Query(expr))])
    )
    return panel if about.decimals is None else panel.decimals(about.decimals)


def bars(about: About, query: Query, width: int = 12) -> bargauge.Panel:
    """One bar for each series: its value over the whole time range."""
    return (
        bargauge.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .min(0)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets([_instant(query)])
    )


def rows(
    about: About,
    columns: dict[str, Query],
    width: int = WIDTH,
    units: Mapping[str, str] | None = None,
) -> table.Panel:
    """A table: one line for each set of labels, one column for each query.

    ``units``: of columns that are in another unit than ``about.unit``.
    """
    targets: list[Builder[Dataquery]] = [
        _instant(query).format(PromQueryFormat.TABLE).ref_id(chr(ord("A") + index))
        for index, query in enumerate(columns.values())
    ]
    names = {f"Value #{chr(ord('A') + index)}": name for index, name in enumerate(columns)}
    if len(columns) == 1:
        names["Value"] = next(iter(columns))
    panel = (
        table.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .targets(targets)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "renameByName": names},
            )
        )
    )
    for name, unit in (units or {}).items():
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def buckets(about: About, expr: str, width: int = 12) -> heatmap.Panel:
    """A histogram over time: `expr` gives its buckets by `le`."""
    query = _range(Query(expr, "{{le}}")).ref_id("A").format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .calculate(False)
        .targets([query])
    )


def choice(name: str, label: str, metric: str, everything: str = ".*") -> dashboard.QueryVariable:
    """A variable with the values of a label of `metric`; at first `everything`, a pattern."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def board(uid: str, title: str, description: str, since: str) -> dashboard.Dashboard:
    """An empty dashboard on a Prometheus data source that its reader can choose."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["reaas"])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )


def with_rows(
    made: dashboard.Dashboard, content: Mapping[str, Sequence[Panel]]
) -> dashboard.Dashboard:
    """``made`` with a titled row for each entry of ``content``."""
    for title, panels in content.items():
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def _range(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range()


def _ranges(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [_range(query).ref_id(chr(ord("A") + index)) for index, query in enumerate(queries)]


def _instant(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).instant().ref_id("A")
