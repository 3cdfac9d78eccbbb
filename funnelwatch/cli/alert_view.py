"""An alert for a person, and for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from funnelwatch.format import clock, percent, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

COLOURS = {"firing": "red", "resolved": "green"}


def as_text(alert: Mapping[str, Any]) -> str:
    """A block: what, where, how bad, since when, which rule.

    Example::

        2026-11-22T12:04:00Z FIRING critical: sign_up VERIFY_SMS_CODE os=iOS (FIRST_DROP)
            rate 31.2 % where 70.1 % to 84.0 % is ordinary (expected 78.1 %), of 812 impressions
            since 2026-11-22T12:01:00Z, 380 conversions lost
            where: browser=Safari, 83 % of the loss
            look first: Does VERIFY_SMS_CODE still work in Safari? Try it there; look at the last front-end release.
            runbook: docs/operations.md
            window 2026-11-22T12:03:00Z to 2026-11-22T12:04:00Z, rule ConversionDrop, alert 5f3a message 0
    """
    state = click.style(alert["state"].upper(), fg=COLOURS.get(alert["state"]), bold=True)
    scope = "".join(f" {printable(name)}={printable(value)}" for name, value in sorted(alert["dimensions"].items()))
    step = f"{printable(alert['funnel'])} {printable(alert['step'])}{scope or ' (all together)'}"
    if alert["basis"] == "instrumentation":
        funnel = "" if alert["funnel"] == "*" else f" of {printable(alert['funnel'])}"
        step = f"{printable(alert['rule'])}{funnel}{scope}"
    low, high = percent(alert["expected_low"]), percent(alert["expected_high"])
    ordinary = f"where {low} to {high} is ordinary (expected {percent(alert['expected_rate'])})"
    lines = [
        f"{clock(alert['window_end'])} {state} {printable(alert['severity'])}: {step} ({printable(alert['reason'])})"
    ]
    if alert["basis"] == "instrumentation":
        summary = alert["annotations"].get("summary", "")
        lines += [printable(summary), f"since {clock(alert['started_at'])}"]
    else:
        lines += [
            f"rate {percent(alert['rate'])} {ordinary}, of {alert['impressions']:,} impressions",
            f"since {clock(alert['started_at'])}, {alert['lost_conversions']:,.0f} conversions lost",
        ]
    if steps := alert.get("steps"):
        lines.append(f"steps: {', '.join(map(printable, steps))}")
    if silence := alert.get("silenced_by"):
        lines.append(f"muted by silence {printable(silence)}: nobody is notified")
    if alert["where_dimension"]:
        where = f"{printable(alert['where_dimension'])}={printable(alert['where_value'])}"
        lines.append(f"where: {where}, {percent(alert['where_share'])} of the loss")
    lines += [
        f"{printable(name).replace('_', ' ')}: {printable(text)}"
        for name, text in sorted(alert["annotations"].items(), key=lambda one: (one[0] != "look_first", one))
        if text and name not in {"summary", "description"}  # they say in words what stands above
    ]
    lines.append(
        f"window {clock(alert['window_start'])} to {clock(alert['window_end'])}, rule {printable(alert['rule'])}, "
        f"alert {printable(alert['alert_id'])} message {alert['sequence']}"
    )
    return "\n    ".join(lines)
