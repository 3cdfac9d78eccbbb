"""The parts of the dashboards: data sources, queries, variables, panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

if TYPE_CHECKING:
    from collections.abc import Sequence

DATABASE: Final = models.DataSourceRef(type_val="grafana-postgresql-datasource", uid="funnelwatch")
METRICS: Final = models.DataSourceRef(type_val="prometheus", uid="funnelwatch-metrics")

FUNNEL_UID, STEP_UID, ALERTS_UID, PIPELINE_UID = (
    f"funnelwatch-{name}" for name in ("funnel", "step", "alerts", "pipeline")
)

WIDTH: Final = 24
PERCENT, COUNT, SECONDS, MILLISECONDS = "percentunit", "short", "s", "ms"
NO_DATA: Final = "no counts in this range"


class SqlQuery(Dataquery):
    """A query of the database; the SDK has none for SQL."""

    def __init__(self, sql: str, ref: str, form: str) -> None:
        self.sql = sql
        self.ref = ref
        self.form = form

    def to_json(self) -> dict[str, object]:
        """As Grafana's SQL data sources keep it."""
        return {
            "refId": self.ref,
            "datasource": DATABASE,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.sql,
        }


class Made(Builder[Dataquery]):
    """A builder of what is made already, for where the SDK wants one."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """It."""
        return self._query


class SqlAnnotation(models.AnnotationTarget):
    """The query of an annotation, of which the SDK knows only Grafana's own kind."""

    def __init__(self, sql: str) -> None:
        super().__init__()
        self.sql = sql

    def to_json(self) -> dict[str, object]:
        """As Grafana keeps it."""
        return SqlQuery(self.sql, "Anno", "table").to_json()


class Annotated(Builder[models.AnnotationTarget]):
    """Its builder."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def build(self) -> models.AnnotationTarget:
        """It."""
        return SqlAnnotation(self.sql)


def begin(
    uid: str, title: str, text: str, *, variables: Sequence[dashboard.QueryVariable], refresh: str = "1m"
) -> dashboard.Dashboard:
    """A dashboard with what all have: time range, links to the others, and variables, in this order."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["funnelwatch"])
        .timezone("browser")
        .time("now-3h", "now")
        .refresh(refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("funnelwatch")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["funnelwatch"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def with_alerts(made: dashboard.Dashboard, sql: str) -> dashboard.Dashboard:
    """Shade the time of alerts in every panel."""
    return made.annotation(
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(DATABASE)
        .enable(True)
        .icon_color("red")
        .target(Annotated(sql))
    )


P = TypeVar("P", timeseries.Panel, table.Panel, stat.Panel, bargauge.Panel)


def _placed(panel: P, title: str, text: str, *, width: int, height: int) -> P:
    placed = panel.title(title).description(text).span(width).height(height).no_value(NO_DATA)
    return placed.thresholds(_thresholds("text"))


def _asking(panel: P, queries: Sequence[str], form: str) -> P:
    for ref, sql in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(Made(SqlQuery(sql, ref, form)))
    return panel.datasource(DATABASE)


def lines(
    title: str, text: str, queries: Sequence[str], unit: str, *, width: int = 12, height: int = 9
) -> timeseries.Panel:
    """Lines over time of some queries; a rate's axis begins at 0."""
    panel = _asking(_placed(timeseries.Panel(), title, text, width=width, height=height), queries, "time_series")
    return _styled(panel, unit)


def metrics(title: str, text: str, queries: dict[str, str], unit: str) -> timeseries.Panel:
    """Lines over time from Prometheus: legend to expression."""
    panel = _placed(timeseries.Panel(), title, text, width=12, height=8).datasource(METRICS)
    for ref, (legend, expression) in zip("ABCDEF", queries.items(), strict=False):
        panel = panel.with_target(
            prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend).datasource(METRICS)
        )
    return _styled(panel, unit)


def _styled(panel: timeseries.Panel, unit: str) -> timeseries.Panel:
    return (
        panel.unit(unit)
        .min(0)
        .line_width(2)
        .fill_opacity(0)
        .show_points(common_models.VisibilityMode.AUTO)
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )


def rows(title: str, text: str, query: str, *, width: int = 24, height: int = 8) -> table.Panel:
    """A table; columns that are named for a rate are percentages."""
    panel = _asking(_placed(table.Panel(), title, text, width=width, height=height), [query], "table")
    rate = models.DynamicConfigValue(id_val="unit", value=PERCENT)
    digits = models.DynamicConfigValue(id_val="decimals", value=1)
    return panel.override_by_regexp("/rate|survival|reached/", [rate, digits])


def bars(title: str, text: str, query: str, *, width: int = 10, height: int = 8) -> bargauge.Panel:
    """A bar for each row, full at 100 %."""
    panel = _asking(_placed(bargauge.Panel(), title, text, width=width, height=height), [query], "table")
    blue = dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("blue")
    return (
        panel.unit(PERCENT)
        .decimals(1)
        .min(0)
        .max(1)
        .color_scheme(blue)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().values(True))  # or Grafana shows the last only
    )


def number(
    title: str, text: str, query: str, unit: str, *, width: int = 6, bad_from: Sequence[tuple[float, str]] = ()
) -> stat.Panel:
    """One number, or one a row: green, and from each of some values on another colour; without values, of no colour."""
    panel = _asking(_placed(stat.Panel(), title, text, width=width, height=5), [query], "table").unit(unit)
    each_row = common.ReduceDataOptions().values(True)  # or Grafana shows the last only
    panel = panel.graph_mode(common_models.BigValueGraphMode.NONE).reduce_options(each_row)
    if not bad_from:
        plain = dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text")
        return panel.thresholds(_thresholds("text")).color_scheme(plain)
    return panel.thresholds(_thresholds("green", *bad_from))


def _thresholds(base: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Grafana's own default is red from 80 on, whatever the number means."""
    first = models.Threshold(value=None, color=base)
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([first, *(models.Threshold(value=value, color=colour) for value, colour in steps)])
    )


def dashed(panel: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Draw the series whose name fits thin and dashed: what was expected."""
    return panel.override_by_regexp(
        pattern,
        [
            models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [6, 6]}),
            models.DynamicConfigValue(id_val="custom.lineWidth", value=1),
        ],
    )


R = TypeVar("R", timeseries.Panel, table.Panel)


def repeated(panel: R) -> R:
    """Show the panel once for each dimension of the funnel, three beside each other."""
    return panel.span(WIDTH).repeat("dimension").repeat_direction("h").max_per_row(3)
