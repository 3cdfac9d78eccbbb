"""Which messages a route tells: a pure decision with a named reason."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import is_heartbeat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.alerts.routes import When


class Verdict(StrEnum):
    """Whether a message is told on a route, or why not."""

    TELL = "tell"
    TELL_IF_TOLD = "tell_if_told"
    """It resolves an alert and the filters do not want it: told all the same where its firing was, else not.

    That an alert which the filters do want resolved is told nowhere else either; the queue sees to it.
    """
    HEARTBEAT = "heartbeat"
    SILENCED = "silenced"
    FILTERED = "filtered"


def verdict(when: When, alert: Mapping[str, Any]) -> Verdict:
    """What a route with these filters does with a message."""
    if is_heartbeat(alert):
        return Verdict.HEARTBEAT
    resolved = alert["state"] == "resolved"
    if when.state and alert["state"] not in when.state:
        return Verdict.FILTERED
    if not _wanted(when, alert):
        return Verdict.TELL_IF_TOLD if resolved else Verdict.FILTERED
    if alert["silenced_by"] and not resolved:
        return Verdict.SILENCED
    return Verdict.TELL


def _wanted(when: When, alert: Mapping[str, Any]) -> bool:
    steps = {alert["step"], *alert["steps"]}
    return (
        (not when.severity or alert["severity"] in when.severity)
        and (not when.rule or alert["rule"] in when.rule)
        and (not when.funnel or alert["funnel"] in when.funnel)
        and (not when.step or not steps.isdisjoint(when.step))
        and all(alert["dimensions"].get(name) in values for name, values in when.dimensions.items())
    )
