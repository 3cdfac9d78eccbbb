"""A test alert."""

from __future__ import annotations

from typing import Any

from funnelwatch.schemas.times import MINUTE_MS


def sample(state: str, now_ms: int) -> dict[str, Any]:
    """A message of the Alert schema, "firing" or "resolved", as of now; all test messages concern one alert."""
    start = now_ms - now_ms % MINUTE_MS - 2 * MINUTE_MS
    return {
        "alert_id": "funnelwatch-notify-test",
        "sequence": int(state == "resolved"),
        "state": state,
        "reason": "RECOVERED" if state == "resolved" else "FIRST_DROP",
        "rule": "FunnelwatchTest",
        "rule_version": "test",
        "severity": "warning",
        "funnel": "sign_up",
        "step": "VERIFY_SMS_CODE",
        "dimensions": {"os": "iOS"},
        "basis": "window",
        "window_start": start,
        "window_end": start + MINUTE_MS,
        "started_at": start,
        "rate": 0.41,
        "expected_rate": 0.68,
        "expected_low": 0.61,
        "expected_high": 0.75,
        "impressions": 500,
        "successes": 205,
        "score": 9.5,
        "lost_conversions": 135.0,
        "labels": {"test": "true"},
        "annotations": {
            "summary": "This is a test of a route of funnelwatch: nothing is wrong.",
            "look_first": "Nothing to do.",
        },
        "where_dimension": "app_version",
        "where_value": "5.2.0",
        "where_share": 0.8,
        "steps": ["VERIFY_SMS_CODE"],
        "series": [{"step": "VERIFY_SMS_CODE", "dimensions": {"os": "iOS"}}],
        "silenced_by": "",
    }
