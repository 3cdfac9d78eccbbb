"""Retention of resolved alerts and their notifications.

A firing alert is never deleted, nor a message that waits to be published or sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

LONGEST_DAYS: Final = 500_000
"""Longest span that a date can go back."""

AT_ONCE: Final = 1_000
"""Most alerts or notifications that one transaction deletes."""


def forget_alerts(database: Database, now_ms: int, days: int, max_age_days: float) -> int:
    """Delete alerts, notifications and silences that ended more than ``days`` ago.

    Records that keep a replay from counting twice, and revisions of late windows, outlive every event that may come.

    Args:
        database: whose alerts.
        now_ms: the wall clock, ms.
        days: retention, days; 0: for ever.
        max_age_days: an older event is rejected, days.

    Returns:
        The number of deleted alerts and notifications.
    """
    if not days:
        return 0
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    before = now - timedelta(days=min(days, LONGEST_DAYS))
    # One day more: an event's time may be ahead of the clock.
    no_event_before = now - timedelta(days=min(max(days, max_age_days + 1), LONGEST_DAYS))
    gone = 0
    for name in ("forget_notifications", "forget_alerts"):
        while rows := len(database.query(name, {"before": before, "limit": AT_ONCE})):
            gone += rows
    with database.transaction() as cursor:
        run(cursor, "forget_silences", {"before": before})
        for name in ("forget_late_windows", "forget_replays"):
            run(cursor, name, {"before": no_event_before})
    return gone
