"""How long counts are kept, level by level, and how rollups follow what changes.

The levels are the windows and the rollups of 5 minutes, 1 hour and 1 day, each computed from the finer level. A rollup
outlives its source. With TimescaleDB the rollups are continuous aggregates, and the extension's own jobs refresh and
drop; on plain PostgreSQL a worker materializes them (``materializing``) and moves expired counts into archives, which
the rollups include (``archive``). Both answer the same.

Retention must exceed the maximum event age, or a continuous aggregate would be recomputed from the remaining counts
when an event comes for dropped ones; the settings enforce that. Settings change, and differ between workers, so the
database records how far back each level was ever dropped (``dropped_before``): no rollup of the level is refreshed
before that, and workers reject events that would count there (``countable_from``).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from funnelwatch.schemas.times import DAY_MS
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale
from funnelwatch.sinks.timescale.refreshing import DEFAULT_WAIT, RefreshWait, refresh_rollups, schedule_refreshes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row
    from funnelwatch.sinks.timescale.rates import Level

DAY: Final = timedelta(days=1)

LEVELS: Final[tuple[Level, ...]] = ("windows", "5m", "1h", "1d")
"""The levels, finest first."""

RELATIONS: Final = {"windows": "window_counts", "5m": "counts_5m", "1h": "counts_1h", "1d": "counts_1d"}
"""Level to table, view or continuous aggregate."""

DURATIONS: Final = {"windows": "window_durations", "5m": "durations_5m", "1h": "durations_1h", "1d": "durations_1d"}
"""The same of the histograms of durations, which are kept as long as the counts."""


METRICS: Final = ("metric_counts", "metric_durations")
"""Counters and timers, which have no rollups, and are kept as long as windows."""

SHORT_WAIT_S: Final = 30.0
"""A refresh before a level is kept for less waits for jobs no longer than this; who wants that tries again, s."""

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
class Kept:
    """What is kept of a level.

    Attributes:
        days: for how long now; 0: for ever.
        dropped_ms: what starts before this may have been dropped when it was kept for less, ms; None: nothing was.
    """

    days: int
    dropped_ms: int | None

    def whole_from(self, now_ms: int) -> int | None:
        """The time from which on all of it is there, ms; None: nothing of it was ever dropped for its age.

        One day is added to the days, since counts expire by the clocks of several machines.
        """
        aged = now_ms - (self.days - 1) * DAY_MS if self.days else None
        return max((at for at in (aged, self.dropped_ms) if at is not None), default=None)


def set_retention(database: Database, retention: Retention) -> list[Level]:
    """Set the retention of each level. Idempotent, and safe to call from many processes at once.

    If processes set different values, the last one wins. Dropped counts stay dropped and recorded: a longer retention
    does not move the moment from which a level is complete.

    Returns:
        The levels whose retention has changed.

    Raises:
        RefreshBusyError: with TimescaleDB, a job refreshes a rollup that this call must refresh; nothing is changed.
    """
    kept: dict[Level, int] = dict(zip(LEVELS, astuple(retention), strict=True))
    with database.transaction() as cursor:
        extended, before = has_timescale(cursor), _kept(cursor)
    if extended and any(days and not 0 < before[level].days <= days for level, days in kept.items()):
        # Counts that no refresh has reached would be dropped before they are rolled up.
        refresh_rollups(database, RefreshWait(SHORT_WAIT_S))
    with database.transaction() as cursor:
        run(cursor, "lock_migrations")
        changed = [
            level for level, days in kept.items() if run(cursor, "set_retention", {"level": level, "days": days})
        ]
        if extended and changed:
            for level in changed:
                _schedule_dropping(cursor, level, kept[level])
            schedule_refreshes(cursor, changed, anew=True)
    return changed


def refresh(database: Database, wait: RefreshWait = DEFAULT_WAIT) -> None:
    """Materialize all rollups now: after a backfill, or where no job or worker does so.

    Raises:
        RefreshBusyError: another refresh has taken longer than ``wait`` allows.
    """
    with database.transaction() as cursor:
        extended = has_timescale(cursor)
    if extended:
        refresh_rollups(database, wait)
    else:
        materialize(database, database.query("database_clock")[0]["now_ms"])


def read_kept(database: Database) -> dict[Level, Kept]:
    """What is kept of each level, finest first."""
    with database.transaction() as cursor:
        kept = _kept(cursor)
    return {level: kept[level] for level in LEVELS}


def kept_from(database: Database, now_ms: int) -> dict[Level, int | None]:
    """Level to the time from which on all of it is there, ms; None: nothing of it was ever dropped for its age."""
    return {level: kept.whole_from(now_ms) for level, kept in read_kept(database).items()}


def windows_kept_from(database: Database, now_ms: int) -> int | None:
    """Windows that start from here on are all there, ms; None: no window was ever dropped for its age."""
    return kept_from(database, now_ms)["windows"]


def countable_from(database: Database, now_ms: int) -> tuple[int | None, int | None]:
    """From when on events, and samples of counters and timers, can still be counted, ms; None: from any time on.

    What is older would be added to counts that are gone. On plain PostgreSQL events of that age are added to what is
    archived, unless that is forgotten. Two days are spared, so that a refresh reaches every bucket that they change.
    """
    with database.transaction() as cursor:
        extended, kept = has_timescale(cursor), _kept(cursor)
    windows, events = kept["windows"].whole_from(now_ms), kept["windows" if extended else "1d"].whole_from(now_ms)
    return (
        None if events is None else events + 2 * DAY_MS,
        None if windows is None else windows + 2 * DAY_MS,
    )


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
                if days := kept[level].days:
                    _each(cursor, level, queries, today - days * DAY)
            if not kept["windows"].days:
                return moved
            end = today - kept["windows"].days * DAY
            _each(cursor, "windows", ("forget_metrics",), end)
            oldest = run(cursor, "oldest_day")[0]["day"]
            if oldest is None or oldest >= end:
                return moved
            for query in ("archive_windows", "archive_durations_windows"):
                run(cursor, query, {"before": min(oldest + DAY, end)})
            moved += 1


def _each(cursor: Cursor[Row], level: str, queries: Iterable[str], before: datetime) -> None:
    """Take what starts before a time from a level, and note that it is gone."""
    for query in queries:
        run(cursor, query, {"before": before})
    run(cursor, "note_dropped", {"level": level, "before": before})


def _kept(cursor: Cursor[Row]) -> dict[str, Kept]:
    """Level to what is kept of it."""
    return {row["level"]: Kept(row["days"] or 0, row["dropped_ms"]) for row in run(cursor, "kept")}


def _schedule_dropping(cursor: Cursor[Row], level: Level, days: int) -> None:
    """Set the extension's job that drops a level."""
    for relation in (RELATIONS[level], DURATIONS[level], *(METRICS if level == "windows" else ())):
        run(cursor, "drop_nothing", {"relation": relation})
        if days:
            run(cursor, "drop_after", {"relation": relation, "days": days})
