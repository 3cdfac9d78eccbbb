"""The counts of record, as the rebuild of the cache reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.series import SeriesNames

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database


class Place(NamedTuple):
    """How far a partition is counted.

    Attributes:
        topic_id: Kafka's id of the topic.
        offset: the records before it are counted.
        any: whether any record is counted.
    """

    topic_id: str
    offset: int
    any: bool


class CacheSource:
    """Reads counts and progress over a connection of its own; for one thread.

    Args:
        database: should end idle sessions, so that a frozen worker loses the lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = SeriesNames(database)

    def counted(self, topic: str) -> dict[int, Place]:
        """How far each partition of a topic is counted."""
        rows = self._database.query("cache_progress", {"topic": topic})
        return {row["partition"]: Place(row["topic_id"], row["next_offset"], row["counted"]) for row in rows}

    def read(self, from_ms: int, to_ms: int, funnel: str | None = None) -> WindowCounts:
        """The tallies of windows that start in ``[from_ms, to_ms)``, of one funnel or of all."""
        rows = self._database.query("counts_by_window", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        if not rows:
            return WindowCounts()
        series = [np.array(row["series"], np.int64) for row in rows]
        names = self._names.known(number for row in rows for number in row["series"])
        windows = np.repeat([row["window_ms"] for row in rows], [part.size for part in series])
        counts = [np.array([row[name] for name in CountRow._fields], np.int64).T for row in rows]
        numbers = np.concatenate(series)
        order = np.lexsort((numbers, windows))
        return WindowCounts(names, windows[order], numbers[order], np.concatenate(counts)[order])

    def lock(self, prefix: str) -> bool:
        """Become the only worker that copies to this cache; False where another is. Held until ``close``."""
        locked: bool = self._database.query("try_cache_lock", {"prefix": prefix})[0]["locked"]
        return locked

    def close(self) -> None:
        """Release the lock and close the connection; the next use opens a new one."""
        self._database.close()
