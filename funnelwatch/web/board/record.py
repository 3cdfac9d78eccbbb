"""Reads the board's data from the database: progress, alerts, the time line and the expected rates."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from funnelwatch.sinks.timescale.closing import IDLE_VALID_S
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.rates import Dimension, RateStore
from funnelwatch.web.board.expected import Ordinary, Place, expected_rates, needed
from funnelwatch.web.board.people import People, read_people

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database, Row
    from funnelwatch.sinks.timescale.rates import Rate
    from funnelwatch.web.board.query import BoardQuery

T = TypeVar("T")

BY_OS: tuple[Dimension, ...] = ("os",)
MOST_ALERTS = 50
ALERTS_EVERY_S = 60.0
"""Alerts are read again after a new message, and after this long."""
SLOW_S = 60.0
"""A time line that takes the database too long is asked for again after this long."""
SHARE_OF_SPAN = 6
"""A time line is read again after a sixth of one of its spans, and when a window has closed."""
PEOPLE_EVERY_S = 60.0
"""The funnel of people is read again when a window has closed, and after this long: sessions go on."""
RATE_OVER_S = 10.0
"""Events a second are those of about this long."""


@dataclass(frozen=True, slots=True)
class History:
    """The time line of one query: counts by span, step and os, and what is ordinary."""

    starts: tuple[int, ...]
    every_ms: int
    rates: tuple[Rate, ...]
    expected: dict[Place, list[Ordinary | None]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the events topic is counted.

    Attributes:
        next_offsets: by partition.
        watermark_ms: the least of the partitions that are not idle, or the largest of all where all are.
        idle: nothing is unread anywhere.
        per_second: events dealt with a second, lately; None while not known.
    """

    next_offsets: dict[int, int] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    watermark_ms: int | None = None
    idle: bool = False
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The result of the last reading of the database.

    Attributes:
        at_ms: when that was; 0: never.
        closed_through: of each funnel that there is; None while no window is closed.
        steps: declared steps, in order, of the funnels that are watched.
        alerts: newest first, of the funnels that are watched.
        histories: the time lines.
        people: the funnels of people, as messages.
        slow: the queries whose time line took too long, the last time that it was asked for.
        workers: by their heartbeats.
        funnels: how far each funnel is closed and evaluated.
    """

    window_ms: int
    at_ms: int = 0
    closed_through: dict[str, int | None] = field(default_factory=dict)
    steps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    alerts: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    histories: dict[BoardQuery, History] = field(default_factory=dict)
    people: dict[BoardQuery, People] = field(default_factory=dict)
    slow: frozenset[BoardQuery] = frozenset()
    workers: tuple[WorkerSeen, ...] = ()
    funnels: dict[str, FunnelSeen] = field(default_factory=dict)


class RecordReader:
    """Reads the database for all queries at once; for one thread."""

    def __init__(
        self,
        settings: Settings,
        database: Callable[[], AbstractContextManager[Database]],
        now_ms: Callable[[], int],
        queries: Callable[[], Collection[BoardQuery]],
    ) -> None:
        self._settings = settings
        self._topic = settings.events_topic
        self._database = database
        self._now_ms = now_ms
        self._queries = queries
        self._last = Record(settings.window_ms)
        self._alerts_version: tuple[int, frozenset[str]] | None = None
        self._alerts_at = 0.0
        self._dealt: list[tuple[float, int]] = []
        self._read: dict[BoardQuery, tuple[float, int | None]] = {}
        self._read_people: dict[BoardQuery, tuple[float, int]] = {}
        self._slow: dict[BoardQuery, float] = {}

    def read(self) -> Record:
        """Read the database.

        Raises:
            psycopg.Error: the database is away, or its tables have not been made yet.
        """
        queries = tuple(self._queries())
        funnels = frozenset(query.funnel for query in queries)
        with self._database() as database:
            rates, freshness = RateStore(database), FreshnessStore(database, self._topic)
            window_ms = rates.window_ms() or self._last.window_ms
            closed = {row["funnel"]: row["closed_through_ms"] for row in database.query("funnels")}
            steps = {
                funnel: tuple(row["step"] for row in database.query("board_steps", {"funnel": funnel}))
                for funnel in funnels
            }
            record = replace(
                self._last,
                window_ms=window_ms,
                closed_through=closed,
                steps=steps,
                alerts=self._alerts(database, funnels),
                progress=self._progress(database),
                histories=self._in_time(
                    queries,
                    self._last.histories,
                    lambda query: self._history(rates, query, window_ms, closed.get(query.funnel)),
                ),
                people=self._in_time(
                    queries,
                    self._last.people,
                    lambda query: self._people(
                        database, query, steps[query.funnel], window_ms, closed.get(query.funnel)
                    ),
                ),
                slow=frozenset(self._slow),
                workers=tuple(freshness.workers()),
                funnels={one.funnel: one for one in freshness.funnels()},
                at_ms=self._now_ms(),
            )
        for kept in (self._read, self._read_people, self._slow):
            for gone in set(kept) - set(queries):
                del kept[gone]
        self._last = record
        return record

    def _alerts(self, database: Database, funnels: frozenset[str]) -> dict[str, tuple[Row, ...]]:
        """Read again only after a new message, or after a minute."""
        version = database.query("board_messages")[0]["messages"], funnels
        if version == self._alerts_version and time.monotonic() - self._alerts_at < ALERTS_EVERY_S:
            return self._last.alerts
        since = self._now_ms() - 24 * 3_600_000
        found = {
            funnel: tuple(database.query("board_alerts", {"funnel": funnel, "from_ms": since, "limit": MOST_ALERTS}))
            for funnel in funnels
        }
        self._alerts_version, self._alerts_at = version, time.monotonic()
        return found

    def _progress(self, database: Database) -> Progress:
        rows = database.query("board_progress", {"topic": self._topic, "idle_valid_s": IDLE_VALID_S})
        totals = {name: sum(row[name] for row in rows) for name in ("accepted", "rejected", "duplicates")}
        now, dealt = time.monotonic(), sum(totals.values())
        self._dealt = [*(one for one in self._dealt if now - one[0] <= RATE_OVER_S and one[1] <= dealt), (now, dealt)]
        since, before = self._dealt[0]
        busy = [row["watermark_ms"] for row in rows if row["watermark_ms"] is not None and not row["idle"]]
        known = [row["watermark_ms"] for row in rows if row["watermark_ms"] is not None]
        return Progress(
            next_offsets={row["partition"]: row["next_offset"] for row in rows},
            **totals,
            watermark_ms=min(busy) if busy else max(known, default=None),
            idle=bool(rows) and all(row["idle"] for row in rows),
            per_second=(dealt - before) / (now - since) if now - since >= 1 else None,
        )

    def _in_time(
        self, queries: Collection[BoardQuery], known: Mapping[BoardQuery, T], read: Callable[[BoardQuery], T | None]
    ) -> dict[BoardQuery, T]:
        """What is read, or what is known: a query that takes too long does not keep the rest from the page."""
        found = {}
        for query in queries:
            answer = known.get(query)
            if time.monotonic() - self._slow.get(query, -SLOW_S) >= SLOW_S:
                try:
                    answer = read(query)
                    self._slow.pop(query, None)
                except psycopg.errors.QueryCanceled:
                    self._slow[query] = time.monotonic()
            if answer is not None:
                found[query] = answer
        return found

    def _people(
        self, database: Database, query: BoardQuery, steps: Sequence[str], window_ms: int, closed_through: int | None
    ) -> People:
        if closed_through is None:
            return {"why": "no window of this funnel is closed yet", "steps": []}
        last = self._last.people.get(query)
        read_at, closed_then = self._read_people.get(query, (-PEOPLE_EVERY_S, closed_through))
        age = time.monotonic() - read_at
        due = age >= query.every_ms(window_ms) / 1000 / SHARE_OF_SPAN and closed_then != closed_through
        if last is not None and not due and age < PEOPLE_EVERY_S:
            return last
        found = read_people(database, self._settings, query, steps, self._now_ms())
        self._read_people[query] = time.monotonic(), closed_through
        return found

    def _history(self, rates: RateStore, query: BoardQuery, window_ms: int, closed_through: int | None) -> History:
        every = query.every_ms(window_ms)
        now = self._now_ms()
        end = now - now % every + every
        starts = tuple(range(end - query.range_ms - query.range_ms % every, end, every))
        last = self._last.histories.get(query)
        read_at, closed_then = self._read.get(query, (0.0, None))
        fresh = time.monotonic() - read_at < every / 1000 / SHARE_OF_SPAN
        if (
            last is not None
            and last.starts == starts
            and fresh
            and (closed_then == closed_through or every > window_ms)
        ):
            return last
        found = tuple(rates.rates(query.scope, starts[0], end, by=BY_OS, every_ms=every))
        self._read[query] = time.monotonic(), closed_through
        return History(starts, every, found, self._expected(rates, query, starts, every))

    def _expected(
        self, rates: RateStore, query: BoardQuery, starts: tuple[int, ...], every: int
    ) -> dict[Place, list[Ordinary | None]]:
        last = self._last.histories.get(query)
        if last is not None and last.starts == starts:
            return last.expected
        past: dict[tuple[Any, ...], Rate] = {}
        for begin, end in needed(starts, every):
            for rate in rates.rates(query.scope, begin, end, by=BY_OS, every_ms=every):
                past[rate.start_ms, rate.step, rate.os] = rate
        return expected_rates(past.values(), starts, every)
