"""Looks at the pipeline while a drill runs: how far it is, how long it stalls, whether Redis ever shows too much."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import redis

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.redis.cache import CountCache
from tests.drills.ledger import DIMENSIONS

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from tests.drills.fleet import Fleet
    from tests.drills.ledger import Ledger

LOOK_EVERY_S = 0.2
COMPARE_EVERY_S = 0.5

PROGRESS = "SELECT partition, next_offset FROM stream_progress WHERE topic = %s"
TOTALS = """
SELECT step, os, browser, app_version, coalesce(dimensions ->> 'country', ''), coalesce(dimensions ->> 'plan', ''),
    impressions + successes + failures
FROM conversion
WHERE funnel = %s AND window_start = to_timestamp(%s / 1000.0)
"""
"""Asked in plain SQL, not through the stores that are on trial."""


@dataclass(slots=True)
class Seen:
    """What was seen so far.

    Attributes:
        progress: partition to next offset, by the database.
        longest_stall_s: longest time during which a partition had unread records and did not move on.
        marked_stall_s: the same since ``Watch.mark``.
        most_lag: most records that were confirmed and not dealt with, over all partitions.
        lag: the same now.
        too_much: where Redis showed more than the database; each a sentence.
        compared: how often that was looked at.
        memory: process id to resident bytes when it was first seen and at the most.
    """

    progress: dict[int, int] = field(default_factory=dict)
    longest_stall_s: float = 0.0
    marked_stall_s: float = 0.0
    most_lag: int = 0
    lag: int = 0
    too_much: list[str] = field(default_factory=list)
    compared: int = 0
    memory: dict[int, list[int]] = field(default_factory=dict)


class Watch:
    """A thread that looks until it is stopped; servers may be away meanwhile."""

    def __init__(self, settings: Settings, ledger: Ledger, fleet: Fleet) -> None:
        self._settings = settings
        self._ledger = ledger
        self._fleet = fleet
        self._moved: dict[int, float] = {}
        self._stop = threading.Event()
        self._session: psycopg.Connection[tuple[object, ...]] | None = None
        self._cache = CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)
        self._compare_at = 0.0
        self._marked = 0.0
        self.seen = Seen()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def mark(self) -> None:
        """Measure ``marked_stall_s`` from now on."""
        self._marked = time.monotonic()
        self.seen.marked_stall_s = 0.0

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self._cache.close()
        if self._session is not None:
            self._session.close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._look_at_memory()
            # What Kafka has confirmed now, before the database is asked how much of it is counted.
            ends = dict(self._ledger.ends)
            try:
                self._look_at_progress()
                if time.monotonic() >= self._compare_at:
                    self._compare_at = time.monotonic() + COMPARE_EVERY_S
                    self._compare()
            except psycopg.Error:
                if self._session is not None:
                    self._session.close()
                    self._session = None
            except (redis.RedisError, OSError):
                pass
            self._measure(ends)

    def _connection(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._session is None or self._session.closed:
            self._session = psycopg.connect(
                revealed(self._settings.timescale_url),
                autocommit=True,
                connect_timeout=2,
                application_name="funnelwatch drill watch",
                options="-c statement_timeout=5000",
            )
        return self._session

    def _look_at_progress(self) -> None:
        rows = self._connection().execute(PROGRESS, [self._settings.events_topic]).fetchall()
        now = time.monotonic()
        for partition, offset in rows:
            assert isinstance(partition, int)
            assert isinstance(offset, int)
            if self.seen.progress.get(partition) != offset:
                self.seen.progress[partition] = offset
                self._moved[partition] = now

    def _measure(self, ends: dict[int, int]) -> None:
        now = time.monotonic()
        self.seen.lag = 0
        for partition, end in ends.items():
            behind = end - self.seen.progress.get(partition, 0)
            since = self._moved.setdefault(partition, now)
            if behind <= 0:
                self._moved[partition] = now
                continue
            self.seen.lag += behind
            self.seen.longest_stall_s = max(self.seen.longest_stall_s, now - since)
            self.seen.marked_stall_s = max(self.seen.marked_stall_s, now - max(since, self._marked))
        self.seen.most_lag = max(self.seen.most_lag, self.seen.lag)

    def _look_at_memory(self) -> None:
        for pid, size in self._fleet.memory().items():
            seen = self.seen.memory.setdefault(pid, [size, size])
            seen[1] = max(seen[1], size)

    def _compare(self) -> None:
        """Redis first, the database after: counts only grow, so Redis may never show more."""
        window = time.time_ns() // 1_000_000 // self._settings.window_ms * self._settings.window_ms
        for start in (window, window - self._settings.window_ms):
            cache = self._cache.read("sign_up", start)
            found = self._connection().execute(TOTALS, ["sign_up", start]).fetchall()
            counted = {tuple(row[:6]): row[6] for row in found}
            self.seen.compared += 1
            for series, tally in cache.items():
                in_database = counted.get((series.step, *map(series.value, DIMENSIONS)), 0)
                assert isinstance(in_database, int)
                if tally.events > in_database:
                    self.seen.too_much.append(
                        f"window {start} {tuple(series)}: Redis {tally.events}, database {in_database}"
                    )
