"""How long finished alerts and what was sent of them are kept.

An alert that fires is never deleted, nor a message that is still to be published or sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

LONGEST_DAYS: Final = 500_000
"""Longer than this no calendar goes back."""

AT_ONCE: Final = 1_000
"""Alerts, or notifications, that one transaction deletes."""


def forget_alerts(database: Database, now_ms: int, days: int, max_age_days: float) -> int:
    """Delete alerts that ended more than ``days`` ago, and what was sent and silenced as long ago.

    What keeps a replay from counting twice, and a late window's revisions, is kept as long as such an event may come.

    Args:
        database: whose alerts.
        now_ms: the wall clock, ms.
        days: how long they are kept; 0: for ever.
        max_age_days: an older event is rejected, days.

    Returns:
        How many alerts and notifications were deleted.
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
