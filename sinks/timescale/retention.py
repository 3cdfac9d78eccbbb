"""How long counts are kept, level by level, and how rollups follow what changes.

The levels are the windows themselves and the rollups made of them, each of the finer one: 5 minutes, 1 hour, 1 day. A
rollup outlives what it is made of. With TimescaleDB the rollups are continuous aggregates and the extension's own jobs
refresh and drop; on plain PostgreSQL a worker materializes them (``materializing``) and moves what is no longer kept
into archives that they are made of as well (``archive``). Both answer the same.

No event may come for counts that are dropped already: a continuous aggregate would be made anew from what is left. So
windows must be kept longer than an event may be old; the settings insist on that. And because settings change, and
differ between workers, the database remembers how far back each level was ever dropped (``dropped_before``): nothing
that is made of the level is refreshed before that, and workers reject events that would be counted there
(``countable_from``).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale
from funnelwatch.sinks.timescale.refreshing import DEFAULT_PATIENCE, Patience, refresh_rollups, schedule_refreshes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row
    from funnelwatch.sinks.timescale.rates import Level

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

        A day is spared: what is older than the days goes sooner or later, by one clock or another.
        """
        aged = now_ms - (self.days - 1) * DAY_MS if self.days else None
        return max((at for at in (aged, self.dropped_ms) if at is not None), default=None)


def set_retention(database: Database, retention: Retention) -> list[Level]:
    """Keep each level for so long from now on; safe to call from many processes at once, and when nothing is new.

    Of several that say different things the last wins. Whatever has been dropped by then stays dropped, and stays
    noted: a level that is kept for longer again is whole from the same moment on as before.

    Returns:
        The levels for which this is new.

    Raises:
        RefreshBusyError: with TimescaleDB, a job refreshes what has to be rolled up before; nothing is changed yet.
    """
    kept: dict[Level, int] = dict(zip(LEVELS, astuple(retention), strict=True))
    with database.transaction() as cursor:
        extended, before = has_timescale(cursor), _kept(cursor)
    if extended and any(days and not 0 < before[level].days <= days for level, days in kept.items()):
        # What no refresh has reached yet would be dropped without ever being rolled up.
        refresh_rollups(database, Patience(SHORT_WAIT_S))
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


def refresh(database: Database, retry_policy: Patience = DEFAULT_PATIENCE) -> None:
    """Materialize all rollups now, instead of at the next job or round; after a backfill, or where none are run.

    Raises:
        RefreshBusyError: another refresh was in the way for longer than ``retry_policy`` allows.
    """
    with database.transaction() as cursor:
        extended = has_timescale(cursor)
    if extended:
        refresh_rollups(database, retry_policy)
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
    """Tell the extension's jobs how long a level is kept."""
    for relation in (RELATIONS[level], DURATIONS[level], *(METRICS if level == "windows" else ())):
        run(cursor, "drop_nothing", {"relation": relation})
        if days:
            run(cursor, "drop_after", {"relation": relation, "days": days})
