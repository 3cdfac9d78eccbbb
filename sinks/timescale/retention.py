"""How long counts are kept, level by level, on both databases.

The levels are the windows and the rollups of 5 minutes, 1 hour and 1 day, each computed from the finer level. A rollup
outlives its source: a worker drops counts only once the next level stands in its table up to there, and from then on
those buckets of the next level are final (``retention.dropped_before``). TimescaleDB drops whole chunks. A new setting
drops nothing for ``REGRET_MS``, so that a mistyped one can be taken back.

Retention must exceed the maximum event age, which the settings enforce. They change, and differ between workers, so the
database records how far back each level was ever dropped, and workers reject events that would count there
(``countable_from``).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from funnelwatch.schemas.times import DAY_MS, MINUTE_MS
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.migrations import has_timescale

if TYPE_CHECKING:
    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row
    from funnelwatch.sinks.timescale.rates import Level

DAY: Final = timedelta(days=1)

REGRET_MS: Final = 10 * MINUTE_MS
"""A level whose setting is younger than this is not dropped, ms."""

LEVELS: Final[tuple[Level, ...]] = ("windows", "5m", "1h", "1d")
"""The levels, finest first."""

RELATIONS: Final = {"windows": "window_counts", "5m": "rollup_5m", "1h": "rollup_1h", "1d": "rollup_1d"}
"""Level to its table."""


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
        dropped_ms: what starts before this is dropped, ms; None: nothing is.
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
    """
    kept = dict(zip(LEVELS, astuple(retention), strict=True))
    with database.transaction() as cursor:
        run(cursor, "lock_migrations")
        return [level for level, days in kept.items() if run(cursor, "set_retention", {"level": level, "days": days})]


def read_kept(database: Database) -> dict[Level, Kept]:
    """What is kept of each level, finest first."""
    kept = {row["level"]: Kept(row["days"] or 0, row["dropped_ms"]) for row in database.query("kept")}
    return {level: kept[level] for level in LEVELS}


def kept_from(database: Database, now_ms: int) -> dict[Level, int | None]:
    """Level to the time from which on all of it is there, ms; None: nothing of it was ever dropped for its age."""
    return {level: kept.whole_from(now_ms) for level, kept in read_kept(database).items()}


def windows_kept_from(database: Database, now_ms: int) -> int | None:
    """Windows that start from here on are all there, ms; None: no window was ever dropped for its age."""
    return kept_from(database, now_ms)["windows"]


def countable_from(database: Database, now_ms: int) -> int | None:
    """From when on events, and samples of counters and timers, can still be counted, ms; None: from any time on.

    What is older would be added to windows that are gone, and the rollups above them are final. Two days are spared, so
    that no worker that learns late of a drop counts there.
    """
    windows = windows_kept_from(database, now_ms)
    return None if windows is None else windows + 2 * DAY_MS


def drop_expired(database: Database, now_ms: int) -> int:
    """Drop what is no longer kept, the finest level first, a day in one transaction; with TimescaleDB all old chunks.

    A level whose rollup lags behind is dropped by a later call, once ``materialize`` has caught up; a level whose
    retention was set less than ``REGRET_MS`` ago is dropped by a later call, too.

    Args:
        database: whose counts.
        now_ms: the wall clock, ms.

    Returns:
        The number of days of counts that this call dropped, over all levels; a chunk counts as all days of its range.
        0 while another worker is dropping.
    """
    today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    dropped = 0
    for level in LEVELS:
        while True:
            with database.transaction() as cursor:
                days = _drop(cursor, level, today, now_ms)
            dropped += days
            if not days:
                break
    return dropped


def _drop(cursor: Cursor[Row], level: Level, today: datetime, now_ms: int) -> int:
    """Drop the oldest day of a level that is no longer kept, or with TimescaleDB all its chunks that are not.

    Returns:
        How many days were dropped; 0 where there are none, or another worker drops.
    """
    if not run(cursor, "lock_dropping")[0]["locked"]:
        return 0
    run(cursor, "counting_ourselves")
    [keep] = [row for row in run(cursor, "kept") if row["level"] == level]
    if not keep["days"] or now_ms < keep["set_ms"] + REGRET_MS:
        return 0
    end = today - keep["days"] * DAY
    for row in run(cursor, "rolled_up_through", {"level": level}):
        if row["through_ms"] is None:
            return 0
        end = min(end, datetime.fromtimestamp(row["through_ms"] // DAY_MS * DAY_MS / 1000, tz=UTC))
    if has_timescale(cursor):
        return _drop_chunks(cursor, level, end)
    found = run(cursor, "oldest_counts", {"before": end})[0]
    oldest = min((at for at in (found[level], found["metrics"] if level == "windows" else None) if at), default=None)
    if oldest is None:
        run(cursor, "note_dropped", {"level": level, "before": end})
        return 0
    before = min(oldest + DAY, end)
    for query in (f"drop_{level}", *(["drop_metrics"] if level == "windows" else [])):
        run(cursor, query, {"before": before})
    run(cursor, "note_dropped", {"level": level, "before": before})
    return 1


def _drop_chunks(cursor: Cursor[Row], level: Level, end: datetime) -> int:
    """Drop the chunks of a level that end before a time; returns how many days they span."""
    relations = [RELATIONS[level], *(["metric_counts"] if level == "windows" else [])]
    days = run(cursor, "days_of_chunks", {"relations": relations, "before": end})[0]["days"]
    for relation in relations:
        run(cursor, "drop_chunks", {"relation": relation, "before": end})
    run(cursor, "note_dropped", {"level": level, "before": end})
    return int(days)
