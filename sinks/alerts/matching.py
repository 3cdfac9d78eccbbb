"""Decides which messages a route sends: a pure function that returns a named reason."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import is_heartbeat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.alerts.routes import When


class Verdict(StrEnum):
    """Whether a route sends a message, or why not."""

    NOTIFY = "notify"
    NOTIFY_IF_NOTIFIED = "notify_if_notified"
    """The message resolves an alert, and the filters exclude it: sent only where its firing message was sent.

    The queue applies the same rule to a resolved message that the filters include.
    """
    HEARTBEAT = "heartbeat"
    SILENCED = "silenced"
    FILTERED = "filtered"


def verdict(when: When, alert: Mapping[str, Any]) -> Verdict:
    """The verdict of a route with these filters on a message."""
    if is_heartbeat(alert):
        return Verdict.HEARTBEAT
    resolved = alert["state"] == "resolved"
    if when.state and alert["state"] not in when.state:
        return Verdict.FILTERED
    if not _wanted(when, alert):
        return Verdict.NOTIFY_IF_NOTIFIED if resolved else Verdict.FILTERED
    if alert["silenced_by"] and not resolved:
        return Verdict.SILENCED
    return Verdict.NOTIFY


def _wanted(when: When, alert: Mapping[str, Any]) -> bool:
    steps = {alert["step"], *alert["steps"]}
    return (
        (not when.severity or alert["severity"] in when.severity)
        and (not when.rule or alert["rule"] in when.rule)
        and (not when.funnel or alert["funnel"] in when.funnel)
        and (not when.step or not steps.isdisjoint(when.step))
        and all(alert["dimensions"].get(name) in values for name, values in when.dimensions.items())
    )
