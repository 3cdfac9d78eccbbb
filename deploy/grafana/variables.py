"""The variables of the dashboards: which funnel, steps and dimensions a person looks at, and the level that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from funnelwatch.deploy.grafana.parts import DATABASE
from funnelwatch.deploy.grafana.statements import variable_of

if TYPE_CHECKING:
    from funnelwatch.deploy.grafana.statements import Statements

NO_FILTER: Final = "NULL"
"""All, as SQL: without it Grafana would write every value into every query."""


def _variable(name: str, label: str, sql: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATABASE)
        .query(cast("Any", sql))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.DISABLED)
    )


def _of_series(name: str, label: str, sql: str) -> dashboard.QueryVariable:
    """A variable whose query reads series: its options depend on the funnel, not on the range."""
    return _variable(name, label, sql).refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)


def _several(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).current(everything)


def _hidden(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    """Hide a variable and keep it out of the URL, where a value could be of another range or funnel."""
    variable._internal.skip_url_sync = True  # noqa: SLF001 - the builder has no method for it
    return variable.hide(models.VariableHide.HIDE_VARIABLE)


def level(sql: Statements) -> dashboard.QueryVariable:
    """The level that panels read; an old one beside a new range would have them read 130,000 rows."""
    return _hidden(_variable("level", "Level", sql.of("level")))


def funnel(sql: Statements) -> dashboard.QueryVariable:
    """One funnel."""
    return _variable("funnel", "Funnel", sql.of("funnels"))


def step(sql: Statements) -> dashboard.QueryVariable:
    """One step."""
    return _variable("step", "Step", sql.of("steps"))


def steps(sql: Statements) -> dashboard.QueryVariable:
    """Several steps."""
    return _several(step(sql)).all_value(NO_FILTER)


def filters(sql: Statements) -> list[dashboard.QueryVariable]:
    """One for each dimension: several of its values."""
    return [
        _several(_of_series(variable_of(one), label(one), sql.of("values", dimension=one))).all_value(NO_FILTER)
        for one in sql.dimensions
    ]


def breakdowns(sql: Statements) -> list[dashboard.QueryVariable]:
    """The dimensions of the funnel, hidden, for which panels are repeated; and those to break down by together."""
    dimensions = sql.of("dimensions")
    first = list(sql.dimensions[:2])
    return [
        _hidden(_several(_of_series("dimension", "Dimension", dimensions))),
        _of_series("by", "Break down by", dimensions)
        .multi(True)
        .current(models.VariableOption(selected=True, text=first, value=first)),
    ]


def label(dimension: str) -> str:
    """The name of a dimension as people read it."""
    return "OS" if dimension == "os" else dimension.replace("_", " ").capitalize()
