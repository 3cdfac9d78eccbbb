"""The dashboard *Pipeline*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.deploy.grafana import parts, variables

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from funnelwatch.deploy.grafana.statements import Statements

EACH = "[$__rate_interval]"


def pipeline(sql: Statements) -> Dashboard:
    """Lag, watermark, throughput, dead letters: from the database, and from the workers' metrics."""
    made = parts.begin(
        parts.PIPELINE_UID,
        "Pipeline",
        "Does everything get counted, and how far is it? The lower half needs Prometheus to scrape the workers.",
        variables=[variables.level(sql)],
        refresh="30s",
    )
    p95 = f"histogram_quantile(0.95, sum by (le) (rate(funnelwatch_flush_seconds_bucket{EACH})))"
    return (
        made.with_panel(
            parts.number(
                "Newest closed window",
                "How long ago it ended. A minute or two is ordinary; hours mean that the pipeline is behind.",
                sql.of("closed_age"),
                parts.SECONDS,
                width=8,
                bad_from=[(300, "orange"), (900, "red")],
            )
        )
        .with_panel(parts.number("Records", "Since the tables were made.", sql.of("dealt"), parts.COUNT, width=16))
        .with_panel(
            parts.lines(
                "Events", "By their own time, a second.", [sql.of("events_per_second")], "eps", width=24, height=8
            )
        )
        .with_panel(
            parts.lines(
                "Counters",
                "Counters beside the funnel, a second, all dimensions together.",
                [sql.of("counters")],
                "ops",
            )
        )
        .with_panel(
            parts.lines(
                "Timers",
                "90 % took less, all dimensions together. Less than 12.5 % off.",
                [sql.of("timers")],
                parts.MILLISECONDS,
            )
        )
        .with_panel(parts.rows("Partitions", "How far each is counted.", sql.of("partitions"), width=12))
        .with_panel(
            parts.rows("Revised windows", "Closed windows that late events changed.", sql.of("revised"), width=12)
        )
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
