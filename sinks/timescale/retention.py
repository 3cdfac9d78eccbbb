"""How long counts are kept, level by level, and how rollups follow what changes.

The levels are the windows themselves and the rollups made of them, each of the finer one: 5 minutes, 1 hour, 1 day. A
rollup outlives what it is made of. With TimescaleDB the rollups are continuous aggregates and the extension's own jobs
refresh and drop; on plain PostgreSQL a worker materializes them (``materializing``) and moves what is no longer kept
into archives that they are made of as well (``archive``). Both answer the same.

No event may come for counts that are dropped already: a continuous aggregate would be made anew from what is left. So
windows must be kept longer than an event may be old; the settings insist on that.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sinks.timescale.database import run
from sinks.timescale.materializing import materialize
from sinks.timescale.migrations import has_timescale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Cursor

    from sinks.timescale.database import Database, Row
    from sinks.timescale.rates import Level

DAY: Final = timedelta(days=1)
DAY_MS: Final = 86_400_000

LEVELS: Final[tuple[Level, ...]] = ("windows", "5m", "1h", "1d")
"""The levels, finest first."""

RELATIONS: Final = {"windows": "window_counts", "5m": "counts_5m", "1h": "counts_1h", "1d": "counts_1d"}
"""Level to table, view or continuous aggregate."""

DURATIONS: Final = {"windows": "window_durations", "5m": "durations_5m", "1h": "durations_1h", "1d": "durations_1d"}
"""The same of the histograms of durations, which are kept as long as the counts."""


METRICS: Final = ("metric_counts", "metric_durations")
"""Counters and timers, which have no rollups, and are kept as long as windows."""

AGED: Final = (
    ("1d", ("forget_1d", "forget_durations_1d")),
    ("1h", ("archive_1h", "archive_durations_1h")),
    ("5m", ("archive_5m", "archive_durations_5m")),
)
"""Level to what is done with what is older than it is kept, on plain PostgreSQL; the coarsest first."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each level is kept, days; 0: for ever. A rollup is kept at least as long as what it is made of."""

    windows: int = 0
    five_minutes: int = 0
    hours: int = 0
    days: int = 0


@dataclass(frozen=True, slots=True)
class Refresh:
    """When a rollup is refreshed, and up to where: what is still being counted is left to be added at each query."""

    source: str
    end_offset: str
    every: str


REFRESHES: Final[Mapping[str, Refresh]] = {
    "5m": Refresh("windows", "1 hour", "5 minutes"),
    "1h": Refresh("5m", "3 hours", "15 minutes"),
    "1d": Refresh("1h", "2 days", "1 hour"),
}
"""As migrations 010 and 016 schedule them."""


def set_retention(database: Database, retention: Retention) -> list[str]:
    """Keep each level for so long from now on; safe to call from many processes at once, and when nothing is new.

    Returns:
        The levels for which this is new.
    """
    with database.transaction() as cursor:
        run(cursor, "lock_migrations")
        changed: list[str] = [
            level
            for level, days in zip(LEVELS, astuple(retention), strict=True)
            if run(cursor, "set_retention", {"level": level, "days": days})
        ]
        if has_timescale(cursor):
            kept = dict(zip(LEVELS, astuple(retention), strict=True))
            for level in changed:
                _schedule(cursor, level, kept[level])
    return changed


def refresh(database: Database) -> None:
    """Materialize all rollups now, instead of at the next job or round; after a backfill, or where none are run."""
    with database.transaction() as cursor:
        extended = has_timescale(cursor)
        kept = _kept(cursor)
    if not extended:
        materialize(database, database.query("database_clock")[0]["now_ms"])
        return
    for level, plan in REFRESHES.items():
        parameters = {"from_days": _whole_from(kept[plan.source]), "end_offset": plan.end_offset}
        bounds = database.query("refresh_range", parameters)[0]
        with database.outside_transaction() as cursor:
            for relations in (RELATIONS, DURATIONS):
                run(cursor, "refresh", {"relation": relations[level], **bounds})


def kept_from(database: Database, now_ms: int) -> dict[Level, int | None]:
    """Level to the time from which on all of it is there, ms; None: nothing of it was ever dropped for its age."""
    with database.transaction() as cursor:
        kept = _kept(cursor)
    whole = {level: _whole_from(kept[level]) for level in LEVELS}
    return {level: None if days is None else now_ms - days * DAY_MS for level, days in whole.items()}


def windows_kept_from(database: Database, now_ms: int) -> int | None:
    """Windows that start from here on are all there, ms; None: no window was ever dropped for its age."""
    return kept_from(database, now_ms)["windows"]


def archive(database: Database, now_ms: int) -> int:
    """On plain PostgreSQL: move what is no longer kept into the archives, a day at a time. Does nothing otherwise.

    Args:
        database: whose counts.
        now_ms: the wall clock, ms.

    Returns:
        How many days of windows were moved by this call; another worker may be at it.
    """
    today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moved = 0
    while True:
        with database.transaction() as cursor:
            if has_timescale(cursor) or not run(cursor, "lock_archive")[0]["locked"]:
                return moved
            run(cursor, "counting_ourselves")
            kept = _kept(cursor)
            for level, queries in AGED:
                for query in queries if kept[level] else ():
                    run(cursor, query, {"before": today - kept[level] * DAY})
            if not kept["windows"]:
                return moved
            run(cursor, "forget_metrics", {"before": today - kept["windows"] * DAY})
            oldest = run(cursor, "oldest_day")[0]["day"]
            end = today - kept["windows"] * DAY
            if oldest is None or oldest >= end:
                return moved
            for query in ("archive_windows", "archive_durations_windows"):
                run(cursor, query, {"before": min(oldest + DAY, end)})
            moved += 1


def _kept(cursor: Cursor[Row]) -> dict[str, int]:
    """Level to days; 0: for ever."""
    return {row["level"]: row["days"] or 0 for row in run(cursor, "kept")}


def _whole_from(days: int) -> int | None:
    """How many days back a level that is kept for so long has lost nothing; None: to its beginning."""
    return days - 1 if days else None


def _schedule(cursor: Cursor[Row], level: str, days: int) -> None:
    """Tell the extension's jobs how long a level is kept, and from where its rollups can be made."""
    for relation in (RELATIONS[level], DURATIONS[level], *(METRICS if level == "windows" else ())):
        run(cursor, "drop_nothing", {"relation": relation})
        if days:
            run(cursor, "drop_after", {"relation": relation, "days": days})
    for relations in (RELATIONS, DURATIONS):
        for rollup, plan in REFRESHES.items():
            if plan.source == level:
                parameters = {
                    "relation": relations[rollup],
                    "from_days": _whole_from(days),
                    "end_offset": plan.end_offset,
                    "every": plan.every,
                }
                run(cursor, "unschedule_refresh", parameters)
                run(cursor, "schedule_refresh", parameters)
