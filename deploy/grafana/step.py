"""The dashboard *Step*: one step, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from funnelwatch.deploy.grafana import parts

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from grafana_foundation_sdk.builders.timeseries import Panel


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
                "Of those shown the step at a time, how many made it, whenever that was. Mature windows only.",
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
            "How long those took who made it, from impression to success, where the app says so. Less than 12.5 % off.",
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
