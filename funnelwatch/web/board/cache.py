"""The newest windows of the funnels that are watched: from Redis, or from the database.

The database is read where Redis does not have them, and always where no Redis is configured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.schemas.times import MINUTE_MS
from funnelwatch.sinks.redis.cache import REDIS_ERRORS
from funnelwatch.sinks.redis.client import explain
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.sinks.timescale.counts import CountStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from funnelwatch.schemas.counts import CountRow, Series
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.redis.state import CacheState
    from funnelwatch.sinks.timescale.database import Database

    Windows = Mapping[int, Mapping[Series, CountRow]]

LEAST_MS = 2 * MINUTE_MS
"""A rate "now" is of the closed windows of at least this long, and of at least one."""
MOST_MS = 15 * MINUTE_MS
"""And of at most this long, where fewer have too few impressions."""
SETTLED_S = 15.0
"""A closed window may still change by late events; it is read again after this long."""
MOST_OPEN = 3
"""Open windows that are read."""
WITHOUT_REDIS_S = 5.0
"""The database is asked instead of Redis at most this often."""
BEHIND_S = 10.0
"""Redis is behind the database after this long without catching up once: a flush reaches it in less."""


@dataclass(frozen=True, slots=True)
class CachedWindows:
    """The newest windows of one funnel.

    Attributes:
        windows: start (ms) to tallies; those that have none are there, empty.
        from_database: Redis did not have them, or none is configured.
        uses_redis: a Redis is configured.
        error: why not; None if it is merely that they are older than what it keeps, or that none is configured.
    """

    windows: Windows
    from_database: bool = False
    uses_redis: bool = True
    error: str | None = None


class CacheReader:
    """Reads the newest windows; for one thread at a time."""

    def __init__(
        self,
        settings: Settings,
        database: Callable[[], AbstractContextManager[Database]],
        now_ms: Callable[[], int],
    ) -> None:
        self._copy = count_cache(settings)
        self._database = database
        self._now_ms = now_ms
        self._kept: dict[bool, dict[tuple[str, int], tuple[float, Mapping[Series, CountRow]]]] = {True: {}, False: {}}
        self._behind_since: float | None = None
        self._instead: dict[str, tuple[float, CachedWindows]] = {}

    def read(
        self, funnel: str, closed_through: int, window_ms: int, counted: Mapping[int, int] | None = None
    ) -> CachedWindows:
        """The windows of ``MOST_MS`` before ``closed_through``, and the open ones that there can be now.

        Args:
            funnel: which.
            closed_through: windows that start before this are closed, ms.
            window_ms: length of a window.
            counted: partition to the offset up to which the database has counted, read before this call.

        Raises:
            psycopg.Error: Redis does not have them, and the database does not answer.
        """
        starts, settled = wanted(closed_through, window_ms, self._now_ms()), closed_through - window_ms
        problem: str | None = None
        if self._copy is not None and starts[0] >= self._copy.oldest(self._now_ms()):
            try:
                state = self._copy.state()
                if not state.is_whole(starts[0]):
                    problem = "Redis is not complete; a worker that counts fills it again"
                elif self._is_behind(state, counted or {}):
                    problem = (
                        "Redis is behind the database: a worker does not reach it, or has no FUNNELWATCH_REDIS_URL"
                    )
                else:
                    return CachedWindows(self._windows(funnel, starts, settled))
            except REDIS_ERRORS as error:
                self._copy.close()
                problem = f"Redis cannot be used: {explain(error)}"
        read_at, kept = self._instead.get(funnel, (-WITHOUT_REDIS_S, CachedWindows({})))
        if time.monotonic() - read_at < WITHOUT_REDIS_S:
            return kept
        windows = self._windows(funnel, starts, settled, from_database=True)
        found = CachedWindows(windows, from_database=True, uses_redis=self._copy is not None, error=problem)
        self._instead[funnel] = time.monotonic(), found
        return found

    def _is_behind(self, state: CacheState, counted: Mapping[int, int]) -> bool:
        """Whether workers count that do not write to Redis: they cannot tell it that it lacks something."""
        marks = {partition: mark.offset for partition, mark in state.marks.items()}
        if all(marks.get(partition, 0) >= offset for partition, offset in counted.items()):
            self._behind_since = None
            return False
        if self._behind_since is None:
            self._behind_since = time.monotonic()
        return time.monotonic() - self._behind_since >= BEHIND_S

    def close(self) -> None:
        """Let the connections go."""
        if self._copy is not None:
            self._copy.close()

    def _windows(self, funnel: str, starts: list[int], settled: int, *, from_database: bool = False) -> Windows:
        """The windows; those that start before ``settled`` are read again only now and then."""
        now, kept = time.monotonic(), self._kept[from_database]
        for gone in [key for key in kept if key[0] == funnel and key[1] not in starts]:
            del kept[gone]
        stale = [
            start
            for start in starts
            if start >= settled or now - kept.get((funnel, start), (-SETTLED_S, {}))[0] >= SETTLED_S
        ]
        read = self._from_database if from_database else self._from_redis
        for start, tallies in read(funnel, stale).items():
            kept[funnel, start] = now, tallies
        return {start: kept[funnel, start][1] for start in starts}

    def _from_redis(self, funnel: str, starts: list[int]) -> Windows:
        return {} if self._copy is None else self._copy.read_many(funnel, starts)

    def _from_database(self, funnel: str, starts: list[int]) -> Windows:
        windows: dict[int, dict[Series, CountRow]] = {start: {} for start in starts}
        with self._database() as database:
            for start, series, tally in CountStore(database).read(starts[0], starts[-1] + 1, funnel):
                if start in windows:
                    windows[start][series] = tally
        return windows


def wanted(closed_through: int, window_ms: int, now_ms: int) -> list[int]:
    """The starts of the windows to read: closed ones, oldest first, then open ones."""
    closed = max(1, MOST_MS // window_ms)
    opened = min(MOST_OPEN, max(1, -(-(now_ms - closed_through) // window_ms)))
    return [closed_through + at * window_ms for at in range(-closed, opened)]


def of_now(windows: Iterable[int], closed_through: int, window_ms: int, impressions: Callable[[int], int]) -> list[int]:
    """The newest closed windows that a rate "now" is of: the fewest with enough impressions.

    Args:
        windows: starts of windows, ms.
        closed_through: those that start before this are closed.
        window_ms: length of a window.
        impressions: of the step that is shown least, in a window.

    Returns:
        Starts, newest first.
    """
    taken: list[int] = []
    seen = 0
    for start in sorted((start for start in windows if start < closed_through), reverse=True):
        if len(taken) * window_ms >= LEAST_MS and seen >= ENOUGH:
            break
        taken.append(start)
        seen += impressions(start)
    return taken


ENOUGH = 100
"""Impressions with which a rate "now" is content."""
