"""The heartbeat of the alerting: an alert that always fires, so that its absence is noticed. Pure.

As with the Watchdog of Prometheus, a dead man's switch raises the alarm when it stops. It is unrelated to funnels; it
is published only while rules, database and Kafka work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.alert_ids import alert_id

if TYPE_CHECKING:
    from collections.abc import Mapping

WATCHDOG = "Watchdog"
SEVERITY = "none"
"""No rule can have it, so it distinguishes the heartbeat from alerts."""


def is_heartbeat(alert: Mapping[str, Any]) -> bool:
    """Whether a message is the heartbeat of the alerting instead of an alert."""
    return bool(alert["severity"] == SEVERITY)


def heartbeat(now: int, every_ms: int, rules_version: str) -> dict[str, Any]:
    """The heartbeat of the period that contains ``now``; it is the same from every worker.

    Args:
        now: the wall clock, ms.
        every_ms: length of a period; the sequence counts periods since the epoch.
        rules_version: of all rules that are in use.
    """
    number = now // every_ms
    start = number * every_ms
    return {
        "alert_id": alert_id(WATCHDOG, "*", "*", {}, 0),
        "sequence": number % 2**31,
        "state": "firing",
        "reason": "HEARTBEAT",
        "rule": WATCHDOG,
        "rule_version": rules_version,
        "severity": SEVERITY,
        "funnel": "*",
        "step": "*",
        "dimensions": {},
        "basis": "instrumentation",
        "window_start": start,
        "window_end": start + every_ms,
        "started_at": start,
        "rate": 1.0,
        "expected_rate": 1.0,
        "expected_low": 1.0,
        "expected_high": 1.0,
        "impressions": 0,
        "successes": 0,
        "score": 0.0,
        "lost_conversions": 0.0,
        "labels": {"every_s": f"{every_ms / 1000:g}"},
        "annotations": {
            "summary": "The alerting works: it has read its rules, its database and Kafka just now.",
            "look_first": "If these stop: are the workers up? `funnelwatch doctor`, then their logs.",
        },
        "where_dimension": "",
        "where_value": "",
        "where_share": 0.0,
        "steps": [],
        "series": [],
        "silenced_by": "",
    }
