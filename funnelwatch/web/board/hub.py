"""Reads the servers once for all open pages."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.freshness import stale_after_ms
from funnelwatch.web.board.cache import CachedWindows, CacheReader
from funnelwatch.web.board.current import current
from funnelwatch.web.board.lag import LogEnds
from funnelwatch.web.board.record import Record, RecordReader
from funnelwatch.web.board.source import Source
from funnelwatch.web.board.view import alerts_message, health_message, history_message, now_message
from funnelwatch.web.board.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.web.board.query import BoardQuery

MOST_CLIENTS = 200
MOST_QUERIES = 40
"""Different views at once: each has its own time line in the database."""
CACHE_EVERY_S = 1.0
RECORD_EVERY_S = 2.0
ENDS_EVERY_S = 5.0
SILENT_MS = 15_000
"""A server that has neither answered nor failed for this long hangs."""


class FullError(FunnelwatchError):
    """The limit of open pages is reached; the message names the limit."""


class Hub:
    """Reads the servers while pages are open, and rests otherwise.

    Args:
        settings: where everything is.
        database: lends a connection that may only read.
    """

    def __init__(self, settings: Settings, database: Callable[[], AbstractContextManager[Database]]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._watching: Counter[BoardQuery] = Counter()
        self._addresses: Counter[str] = Counter()
        self._most_of_address = settings.board_max_pages_per_address
        self._cache = CacheReader(settings, database, wall_clock_ms)
        self._ends = LogEnds(settings)
        self._windows: dict[BoardQuery, Windows] = {}
        self._made: dict[tuple[str, BoardQuery], tuple[Any, str]] = {}
        record = RecordReader(settings, database, wall_clock_ms, self._queries)
        self.record: Source[Record] = Source(
            "board record",
            record.read,
            Record(settings.window_ms),
            every_s=RECORD_EVERY_S,
            needed=lambda: self.watched,
        )
        self.cache: Source[dict[str, CachedWindows]] = Source(
            "board cache",
            self._read_cache,
            {},
            every_s=CACHE_EVERY_S,
            needed=lambda: self.watched,
            close=self._cache.close,
        )
        self.ends: Source[dict[int, int]] = Source(
            "board ends",
            self._ends.read,
            {},
            every_s=ENDS_EVERY_S,
            needed=lambda: self.watched,
            close=self._ends.close,
        )

    def admit(self, query: BoardQuery, address: str = "") -> None:
        """Whether there is room for one more.

        Args:
            query: what the page shows.
            address: the client's.

        Raises:
            FullError: too many pages are open, also of this address, or too many different views.
        """
        with self._lock:
            if address and self._addresses[address] >= self._most_of_address:
                raise FullError(f"{self._most_of_address} pages of your address are open, and there may be no more; "
                                "close one, or raise FUNNELWATCH_BOARD_MAX_PAGES_PER_ADDRESS")  # fmt: skip
            if self._watching.total() >= MOST_CLIENTS:
                raise FullError(f"{MOST_CLIENTS} pages are open, and there may be no more; close one")
            if query not in self._watching and len(self._watching) >= MOST_QUERIES:
                raise FullError(f"{MOST_QUERIES} different views are open, and there may be no more; close one")

    @contextmanager
    def watch(self, query: BoardQuery, address: str = "") -> Iterator[None]:
        """Keep the data of this query current while the block runs, for a page of this address."""
        with self._lock:
            self._watching[query] += 1
            self._addresses[address] += 1
            for source in (self.record, self.cache, self.ends):
                source.start()
        try:
            yield
        finally:
            with self._lock:
                self._watching[query] -= 1
                self._addresses[address] -= 1
                if not self._addresses[address]:
                    del self._addresses[address]
                if not self._watching[query]:
                    del self._watching[query]
                    self._windows.pop(query, None)
                    for key in [key for key in self._made if key[1] == query]:
                        del self._made[key]

    def messages(self, query: BoardQuery) -> dict[str, str]:
        """The parts of the page by name, JSON; made once for all who ask the same."""
        record, cache = self.record.answer, self.cache.answer.get(query.funnel)
        errors = {"TimescaleDB": self.record.error, "Redis": cache.error if cache else None, "Kafka": self.ends.error}
        # Where no Redis is configured, the newest windows come from the database alone.
        newest = "Redis" if self._settings.redis_url else "TimescaleDB"
        if not cache:
            errors[newest] = errors[newest] or self.cache.error
        for name, source in (("TimescaleDB", self.record), (newest, self.cache), ("Kafka", self.ends)):
            errors[name] = errors[name] or source.silence(wall_clock_ms(), SILENT_MS)
        if query in record.slow and not self.record.error:
            errors["TimescaleDB"] = "the time line, or the funnel of people, takes too long; choose a shorter range."
        versions = self.version
        parts = {"health": self._json("health", query, versions, lambda: self._health(query, record, errors))}
        closed = record.closed_through.get(query.funnel)
        if record.at_ms and (cache is not None or closed is None):
            parts["now"] = self._json(
                "now",
                query,
                versions,
                lambda: now_message(query, record, cache, self._windows.setdefault(query, Windows(query))),
            )
        if record.at_ms:
            history, people = record.histories.get(query), record.people.get(query)
            alerts = record.alerts.get(query.funnel)
            parts |= {
                "history": self._json("history", query, (history, closed), lambda: history_message(query, record)),
                "people": self._json("people", query, people, lambda: people),
                "alerts": self._json("alerts", query, alerts, lambda: alerts_message(query, record)),
            }
        return parts

    @property
    def watched(self) -> bool:
        """Whether any page is open."""
        return bool(self._watching)

    @property
    def version(self) -> tuple[int, int, int]:
        """Another one when anything may have changed."""
        return self.record.version, self.cache.version, self.ends.version

    def stop(self) -> None:
        """Stop reading."""
        for source in (self.record, self.cache, self.ends):
            source.stop()

    def _health(self, query: BoardQuery, record: Record, errors: dict[str, str | None]) -> dict[str, Any]:
        answered = {"Kafka": self.ends.answered_ms, "Redis": None}
        fresh = current(
            record,
            query.funnel,
            errors,
            answered,
            wall_clock_ms(),
            stale_ms=stale_after_ms(self._settings, record.window_ms),
            lag_known=bool(self.ends.answer) and not self.ends.error,
        )
        return {**health_message(record, self.ends.answer, errors), "freshness": fresh.as_object()}

    def _queries(self) -> list[BoardQuery]:
        with self._lock:
            return list(self._watching)

    def _read_cache(self) -> dict[str, CachedWindows]:
        record = self.record.answer
        found = {}
        for funnel in {query.funnel for query in self._queries()}:
            closed = record.closed_through.get(funnel)
            if closed is not None:
                found[funnel] = self._cache.read(funnel, closed, record.window_ms, record.progress.next_offsets)
        return found

    def _json(self, part: str, query: BoardQuery, version: Any, make: Callable[[], Any]) -> str:
        with self._lock:
            known = self._made.get((part, query))
        if known is not None and known[0] == version:
            return known[1]
        text = json.dumps(make(), separators=(",", ":"))
        with self._lock:
            if query in self._watching:
                self._made[part, query] = version, text
        return text
