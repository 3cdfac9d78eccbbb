"""The dashboards *Funnel*, *Step* and *Alerts*, for any dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from funnelwatch.deploy.grafana import parts, variables
from funnelwatch.deploy.grafana.statements import variable_of

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from grafana_foundation_sdk.builders.timeseries import Panel

    from funnelwatch.deploy.grafana.statements import Statements


def funnel(sql: Statements) -> Dashboard:
    """Steps, their rates against what is expected, by each dimension, and by several together."""
    made = parts.begin(
        parts.FUNNEL_UID,
        "Funnel",
        "How far people come in a funnel; how many are shown each step, how many make it, and where that differs.",
        variables=[
            variables.level(sql),
            variables.funnel(sql),
            variables.steps(sql),
            *variables.filters(sql),
            *variables.breakdowns(sql),
        ],
    )
    expected = "Dashed: the rate at the same time of the four weeks before. Only closed windows are shown."
    lines = [sql.of("rate_by_step"), sql.of("expected_by_step")]
    rates = parts.lines("Rate by step", expected, lines, parts.PERCENT, width=16, height=10)
    shown = [sql.of("impressions_by_step")]
    each, together = (sql.of("totals_by", by=variable) for variable in ("dimension", "by"))
    return (
        _with_people(parts.with_alerts(made, sql.of("alerts_as_annotations")), sql)
        .with_panel(
            parts.rows(
                "Steps",
                "Events, reloads included. survival: of those shown the step before, how many came here; reached: of "
                "those shown the first step.",
                sql.of("funnel_totals"),
            )
        )
        .with_panel(parts.dashed(rates, "/expected/"))
        .with_panel(parts.lines("Shown", "Impressions by step.", shown, parts.COUNT, width=8, height=10))
        .with_panel(parts.repeated(parts.rows("By ${dimension}", "In the whole range.", each, height=10)))
        .with_panel(
            parts.rows(
                "By ${by} together",
                "In the whole range, by the dimensions chosen under Break down by.",
                together,
                height=10,
            )
        )
    )


def _with_people(made: Dashboard, sql: Statements) -> Dashboard:
    """How far the sessions came that entered in the range, and of those that saw a step how many completed it."""
    by_sessions = parts.lines(
        "Rate by step, by sessions",
        "Of the sessions that first saw the step at this time, how many completed it. Each counts once: reloads do not "
        "lower the rate. Dashed: still open, some may complete it yet.",
        [sql.of("session_rate_by_step")],
        parts.PERCENT,
        width=24,
    )
    return (
        made.with_panel(
            parts.bars(
                "People: how far they come",
                "Of the sessions that entered in the range, the share that reached each step in order, and completed "
                "the last. Those that are still open may go on. The choice of steps does not apply.",
                sql.of("people_shares"),
            )
        )
        .with_panel(
            parts.rows(
                "People by step",
                "Sessions that entered in the range, with the dimensions at their entry. reached: their share of the "
                "first step; survival: of the step before; dropped: did not reach the next step, or complete the last; "
                "still open: entered so lately that they may go on.",
                sql.of("people_totals"),
                width=14,
            )
        )
        .with_panel(parts.dashed(by_sessions, "/still open/"))
    )


def step(sql: Statements) -> Dashboard:
    """The rate of one step with its interval, verdicts, cohorts, and by each dimension and several together."""
    made = parts.begin(
        parts.STEP_UID,
        "Step",
        "One step of a funnel over time, and what tells those apart who do not make it.",
        variables=[
            variables.level(sql),
            variables.funnel(sql),
            variables.step(sql),
            *variables.filters(sql),
            *variables.breakdowns(sql),
        ],
    )
    each, together = ([sql.of("rate_by", by=variable)] for variable in ("dimension", "by"))
    return (
        parts.with_alerts(made, sql.of("alerts_as_annotations"))
        .with_panel(_with_band([sql.of("rate_with_interval"), sql.of("expected_by_step")]))
        .with_panel(
            parts.lines(
                "Cohort rate",
                "Share of the impressions of a time that a success followed, at any time. Mature windows only.",
                [sql.of("cohort_rate")],
                parts.PERCENT,
            )
        )
        .with_panel(
            parts.lines(
                "Verdicts",
                "Failures that rise: people are rejected. No verdict: they do not get as far as answering.",
                [sql.of("verdicts")],
                parts.COUNT,
                width=24,
            )
        )
        .with_panel(
            parts.lines(
                "Time to convert",
                "Time from impression to success, where the app sends it. Less than 12.5 % off.",
                [sql.of("time_to_convert")],
                parts.MILLISECONDS,
                width=24,
            )
        )
        .with_panel(parts.repeated(parts.lines("Rate by ${dimension}", "Closed windows.", each, parts.PERCENT)))
        .with_panel(
            parts.lines(
                "Rate by ${by} together",
                "Closed windows, by the dimensions chosen under Break down by.",
                together,
                parts.PERCENT,
                width=24,
            )
        )
    )


def _with_band(queries: list[str]) -> Panel:
    """The rate within its 95 % interval, and what is expected."""
    text = "The band is the 95 % interval (Wilson). Dashed: the rate at the same time of the four weeks before."
    panel = parts.lines("Rate", text, queries, parts.PERCENT)
    hidden = DynamicConfigValue(id_val="custom.lineWidth", value=0)
    band = [
        hidden,
        DynamicConfigValue(id_val="custom.fillBelowTo", value="low"),
        DynamicConfigValue(id_val="custom.fillOpacity", value=20),
    ]
    return parts.dashed(panel, "/expected/").override_by_name("high", band).override_by_name("low", [hidden])


def at_its_time(dimensions: tuple[str, ...]) -> str:
    """A link from an alert to its step and dimensions, from an hour before the drop to an hour after it was over."""
    of_alert = "".join(f"&var-{variable_of(one)}=${{__data.fields.of_{one}}}" for one in dimensions)
    return (
        f"/d/{parts.STEP_UID}?var-funnel=${{__data.fields.funnel}}&var-step=${{__data.fields.step}}{of_alert}"
        "&from=${__data.fields.from_ms}&to=${__data.fields.to_ms}"
    )


def alerts(sql: Statements) -> Dashboard:
    """Alerts, each with a link to its step at its time."""
    made = parts.begin(
        parts.ALERTS_UID,
        "Alerts",
        "Alerts of the range. A click on a step shows it at the time of its alert.",
        variables=[variables.level(sql), variables.funnel(sql), variables.steps(sql), *variables.filters(sql)],
        refresh="30s",
    ).time("now-7d", "now")
    out_of_sight = [DynamicConfigValue(id_val="custom.hidden", value=True)]
    history = (
        parts.rows(
            "Alerts",
            "Each at its worst moment. started: begin of the drop; fired: when it was known.",
            sql.of("alerts_table"),
            height=12,
        )
        .data_links([DashboardLink("Show the step at this time").url(at_its_time(sql.dimensions))])
        .override_by_regexp("/^(funnel|of_.+|from_ms|to_ms)$/", out_of_sight)
    )
    return (
        made.with_panel(
            parts.number(
                "Firing now",
                "Alerts that are not resolved.",
                sql.of("alerts_firing"),
                parts.COUNT,
                bad_from=[(1, "red")],
            )
        )
        .with_panel(
            parts.rows("Lost", "Expected minus seen successes, by step.", sql.of("alerts_lost"), width=18, height=5),
        )
        .with_panel(history)
        .with_panel(parts.rows("Messages", "Everything that was published.", sql.of("alert_messages"), height=10))
    )
