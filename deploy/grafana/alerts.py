"""The dashboard *Alerts*: what fired, when, where, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from funnelwatch.deploy.grafana import parts

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

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
