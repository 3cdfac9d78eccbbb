"""The counts of record, as the rebuild of the cache reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from funnelwatch.sinks.timescale.window_rows import count_row, row_key

if TYPE_CHECKING:
    from funnelwatch.schemas.counts import Counts
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

    def counted(self, topic: str) -> dict[int, Place]:
        """How far each partition of a topic is counted."""
        rows = self._database.query("cache_progress", {"topic": topic})
        return {row["partition"]: Place(row["topic_id"], row["next_offset"], row["counted"]) for row in rows}

    def read(self, from_ms: int, to_ms: int, funnel: str | None = None) -> Counts:
        """The tallies of windows that start in ``[from_ms, to_ms)``, of one funnel or of all."""
        rows = self._database.query("read_counts", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        return {row_key(row): list(count_row(row)) for row in rows}

    def lock(self, prefix: str) -> bool:
        """Become the only worker that copies to this cache; False where another is. Held until ``close``."""
        locked: bool = self._database.query("try_cache_lock", {"prefix": prefix})[0]["locked"]
        return locked

    def close(self) -> None:
        """Release the lock and close the connection; the next use opens a new one."""
        self._database.close()
