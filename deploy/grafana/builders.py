"""The dashboards *Funnel*, *Step*, *Alerts* and *Pipeline*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from funnelwatch.deploy.grafana import parts

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from grafana_foundation_sdk.builders.timeseries import Panel


def funnel() -> Dashboard:
    """Steps, their rates against what is expected, and by os, browser and app version."""
    made = parts.begin(
        parts.FUNNEL_UID,
        "Funnel",
        "The steps of a funnel: how many are shown each, how many make it, and where that differs.",
        variables=["funnel", "level", "steps", *parts.DIMENSIONS],
    )
    expected = "Dashed: the rate at the same time of the four weeks before. Only closed windows are shown."
    rates = parts.lines(
        "Rate by step", expected, ["rate_by_step", "expected_by_step"], parts.PERCENT, width=16, height=10
    )
    return (
        parts.with_alerts(made)
        .with_panel(
            parts.rows(
                "Steps",
                "survival: of those shown the step before, how many came here; reached: of those shown the first step.",
                "funnel_totals",
            )
        )
        .with_panel(parts.dashed(rates, "/expected/"))
        .with_panel(
            parts.lines("Shown", "Impressions by step.", ["impressions_by_step"], parts.COUNT, width=8, height=10)
        )
        .with_panel(parts.rows("By OS", "In the whole range.", "totals_by_os", width=8, height=10))
        .with_panel(parts.rows("By browser", "In the whole range.", "totals_by_browser", width=8, height=10))
        .with_panel(parts.rows("By app version", "In the whole range.", "totals_by_app_version", width=8, height=10))
    )


def step() -> Dashboard:
    """The rate of one step with its interval, verdicts, cohorts, and lines by os, browser and app version."""
    made = parts.begin(
        parts.STEP_UID,
        "Step",
        "One step of a funnel over time, and what tells those apart who do not make it.",
        variables=["funnel", "level", "step", *parts.DIMENSIONS],
    )
    made = (
        parts.with_alerts(made)
        .with_panel(_with_band(parts.PERCENT))
        .with_panel(
            parts.lines(
                "Cohort rate",
                "Share of the impressions of a time that a success followed, at any time. Mature windows only.",
                ["cohort_rate"],
                parts.PERCENT,
            )
        )
        .with_panel(
            parts.lines(
                "Verdicts",
                "Failures that rise: people are rejected. No verdict: they do not get as far as answering.",
                ["verdicts"],
                parts.COUNT,
                width=24,
            )
        )
    )
    made = made.with_panel(
        parts.lines(
            "Time to convert",
            "Time from impression to success, where the app sends it. Less than 12.5 % off.",
            ["time_to_convert"],
            parts.MILLISECONDS,
            width=24,
        )
    )
    for name, title in zip(parts.DIMENSIONS, ("OS", "browser", "app version"), strict=True):
        made = made.with_panel(
            parts.lines(f"Rate by {title}", "Closed windows.", [f"rate_by_{name}"], parts.PERCENT, width=8)
        )
    return made


def _with_band(unit: str) -> Panel:
    """The rate within its 95 % interval, and what is expected."""
    text = "The band is the 95 % interval (Wilson). Dashed: the rate at the same time of the four weeks before."
    panel = parts.lines("Rate", text, ["rate_with_interval", "expected_by_step"], unit)
    hidden = DynamicConfigValue(id_val="custom.lineWidth", value=0)
    band = [
        hidden,
        DynamicConfigValue(id_val="custom.fillBelowTo", value="low"),
        DynamicConfigValue(id_val="custom.fillOpacity", value=20),
    ]
    return parts.dashed(panel, "/expected/").override_by_name("high", band).override_by_name("low", [hidden])


AT_ITS_TIME = (
    f"/d/{parts.STEP_UID}?var-funnel=${{__data.fields.funnel}}&var-step=${{__data.fields.step}}"
    "&var-os=${__data.fields.of_os}&var-browser=${__data.fields.of_browser}"
    "&var-app_version=${__data.fields.of_app_version}"
    "&from=${__data.fields.from_ms}&to=${__data.fields.to_ms}"
)
"""The dashboard of the alert's step and dimensions, from an hour before the drop to an hour after it was over."""


def alerts() -> Dashboard:
    """Alerts, each with a link to its step at its time."""
    made = parts.begin(
        parts.ALERTS_UID,
        "Alerts",
        "Alerts of the range. A click on a step shows it at the time of its alert.",
        variables=["funnel", "level", "steps"],
        refresh="30s",
    ).time("now-7d", "now")
    out_of_sight = [DynamicConfigValue(id_val="custom.hidden", value=True)]
    history = (
        parts.rows(
            "Alerts",
            "Each at its worst moment. started: begin of the drop; fired: when it was known.",
            "alerts_table",
            height=12,
        )
        .data_links([DashboardLink("Show the step at this time").url(AT_ITS_TIME)])
        .override_by_regexp("/^(funnel|of_.*|from_ms|to_ms)$/", out_of_sight)
    )
    return (
        made.with_panel(
            parts.number(
                "Firing now", "Alerts that are not resolved.", "alerts_firing", parts.COUNT, bad_from=[(1, "red")]
            )
        )
        .with_panel(
            parts.rows("Lost", "Expected minus seen successes, by step.", "alerts_lost", width=18, height=5),
        )
        .with_panel(history)
        .with_panel(parts.rows("Messages", "Everything that was published.", "alert_messages", height=10))
    )


EACH = "[$__rate_interval]"


def pipeline() -> Dashboard:
    """Lag, watermark, throughput, dead letters: from the database, and from the workers' metrics."""
    made = parts.begin(
        parts.PIPELINE_UID,
        "Pipeline",
        "Does everything get counted, and how far is it? The lower half needs Prometheus to scrape the workers.",
        variables=["level"],
        refresh="30s",
    )
    p95 = f"histogram_quantile(0.95, sum by (le) (rate(funnelwatch_flush_seconds_bucket{EACH})))"
    return (
        made.with_panel(
            parts.number(
                "Newest closed window",
                "How long ago it ended. A minute or two is ordinary; hours mean that the pipeline is behind.",
                "closed_age",
                parts.SECONDS,
                width=8,
                bad_from=[(300, "orange"), (900, "red")],
            )
        )
        .with_panel(parts.number("Records", "Since the tables were made.", "dealt", parts.COUNT, width=16))
        .with_panel(
            parts.lines("Events", "By their own time, a second.", ["events_per_second"], "eps", width=24, height=8)
        )
        .with_panel(
            parts.lines(
                "Counters", "Counters beside the funnel, a second, all dimensions together.", ["counters"], "ops"
            )
        )
        .with_panel(
            parts.lines(
                "Timers",
                "90 % took less, all dimensions together. Less than 12.5 % off.",
                ["timers"],
                parts.MILLISECONDS,
            )
        )
        .with_panel(parts.rows("Partitions", "How far each is counted.", "partitions", width=12))
        .with_panel(parts.rows("Revised windows", "Closed windows that late events changed.", "revised", width=12))
        .with_panel(
            parts.metrics(
                "Lag",
                "Records that no worker has fetched yet.",
                {"partition {{partition}}": "sum by (partition) (funnelwatch_lag_records)"},
                parts.COUNT,
            )
        )
        .with_panel(
            parts.metrics(
                "Watermark",
                "How far event time is behind the clock, and the longest time that something unread was not read.",
                {
                    "watermark age": "max(funnelwatch_watermark_age_seconds)",
                    "standstill": "max(funnelwatch_standstill_seconds)",
                },
                parts.SECONDS,
            )
        )
        .with_panel(
            parts.metrics(
                "Throughput",
                "Records a second, by what became of them.",
                {
                    "counted": f"sum(rate(funnelwatch_events_accepted_total{EACH}))",
                    "duplicates": f"sum(rate(funnelwatch_events_duplicate_total{EACH}))",
                    "late": f"sum(rate(funnelwatch_events_late_total{EACH}))",
                },
                "eps",
            )
        )
        .with_panel(
            parts.metrics(
                "Dead letters",
                "Rejected records a second, by reason.",
                {"{{reason}}": f"sum by (reason) (rate(funnelwatch_events_rejected_total{EACH}))"},
                "eps",
            )
        )
        .with_panel(parts.metrics("Flush", "95 % of flushes take less.", {"p95": p95}, parts.SECONDS))
        .with_panel(
            parts.metrics(
                "Retries",
                "Attempts that an outage made fail, a second.",
                {"{{what}}": f"sum by (what) (rate(funnelwatch_retries_total{EACH}))"},
                "ops",
            )
        )
    )
