"""The dashboard *Funnel*: all steps at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.deploy.grafana import parts

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


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
