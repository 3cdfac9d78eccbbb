"""One look at the servers for all who watch: however many pages are open, each is asked once."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.events import now_ms
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
    from funnelwatch.web.board.question import Question

MOST_CLIENTS = 200
MOST_QUESTIONS = 40
"""Different views at once: each has its own time line in the database."""
CACHE_EVERY_S = 1.0
RECORD_EVERY_S = 2.0
ENDS_EVERY_S = 5.0
SILENT_MS = 15_000
"""A server that has neither answered nor failed for this long hangs."""


class FullError(FunnelwatchError):
    """As many pages are open as there may be; the message says so."""


class Hub:
    """Looks while anybody watches, and rests when nobody does.

    Args:
        settings: where everything is.
        database: lends a connection that may only read.
    """

    def __init__(self, settings: Settings, database: Callable[[], AbstractContextManager[Database]]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._watching: Counter[Question] = Counter()
        self._addresses: Counter[str] = Counter()
        self._most_of_address = settings.board_max_pages_per_address
        self._cache = CacheReader(settings, database, now_ms)
        self._ends = LogEnds(settings)
        self._windows: dict[Question, Windows] = {}
        self._made: dict[tuple[str, Question], tuple[Any, str]] = {}
        record = RecordReader(settings, database, now_ms, self._questions)
        self.record: Source[Record] = Source(
            "board record",
            record.look,
            Record(settings.window_ms),
            every_s=RECORD_EVERY_S,
            needed=lambda: self.watched,
        )
        self.cache: Source[dict[str, CachedWindows]] = Source(
            "board cache",
            self._look_at_cache,
            {},
            every_s=CACHE_EVERY_S,
            needed=lambda: self.watched,
            close=self._cache.close,
        )
        self.ends: Source[dict[int, int]] = Source(
            "board ends",
            self._ends.look,
            {},
            every_s=ENDS_EVERY_S,
            needed=lambda: self.watched,
            close=self._ends.close,
        )

    def admit(self, question: Question, address: str = "") -> None:
        """Whether there is room for one more.

        Args:
            question: what the page shows.
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
            if question not in self._watching and len(self._watching) >= MOST_QUESTIONS:
                raise FullError(f"{MOST_QUESTIONS} different views are open, and there may be no more; close one")

    @contextmanager
    def watch(self, question: Question, address: str = "") -> Iterator[None]:
        """Keep looking for this question's sake, on a page of this address."""
        with self._lock:
            self._watching[question] += 1
            self._addresses[address] += 1
            for source in (self.record, self.cache, self.ends):
                source.start()
        try:
            yield
        finally:
            with self._lock:
                self._watching[question] -= 1
                self._addresses[address] -= 1
                if not self._addresses[address]:
                    del self._addresses[address]
                if not self._watching[question]:
                    del self._watching[question]
                    self._windows.pop(question, None)
                    for key in [key for key in self._made if key[1] == question]:
                        del self._made[key]

    def messages(self, question: Question) -> dict[str, str]:
        """The parts of the page by name, JSON; made once for all who ask the same."""
        record, cache = self.record.answer, self.cache.answer.get(question.funnel)
        faults = {"TimescaleDB": self.record.fault, "Redis": cache.fault if cache else None, "Kafka": self.ends.fault}
        if not cache and self.cache.fault:
            faults["Redis"] = self.cache.fault
        for name, source in (("TimescaleDB", self.record), ("Redis", self.cache), ("Kafka", self.ends)):
            faults[name] = faults[name] or source.silence(now_ms(), SILENT_MS)
        if question in record.slow and not self.record.fault:
            faults["TimescaleDB"] = "the time line takes too long; choose a shorter one."
        versions = self.version
        parts = {"health": self._json("health", question, versions, lambda: self._health(question, record, faults))}
        closed = record.closed_through.get(question.funnel)
        if record.at_ms and (cache is not None or closed is None):
            parts["now"] = self._json(
                "now",
                question,
                versions,
                lambda: now_message(question, record, cache, self._windows.setdefault(question, Windows(question))),
            )
        if record.at_ms:
            history, alerts = record.histories.get(question), record.alerts.get(question.funnel)
            parts |= {
                "history": self._json(
                    "history", question, (history, closed), lambda: history_message(question, record)
                ),
                "alerts": self._json("alerts", question, alerts, lambda: alerts_message(question, record)),
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
        """Look no more."""
        for source in (self.record, self.cache, self.ends):
            source.stop()

    def _health(self, question: Question, record: Record, faults: dict[str, str | None]) -> dict[str, Any]:
        answered = {"Kafka": self.ends.answered_ms, "Redis": None}
        fresh = current(
            record,
            question.funnel,
            faults,
            answered,
            now_ms(),
            stale_ms=stale_after_ms(self._settings, record.window_ms),
            lag_known=bool(self.ends.answer) and not self.ends.fault,
        )
        return {**health_message(record, self.ends.answer, faults), "freshness": fresh.as_object()}

    def _questions(self) -> list[Question]:
        with self._lock:
            return list(self._watching)

    def _look_at_cache(self) -> dict[str, CachedWindows]:
        record = self.record.answer
        found = {}
        for funnel in {question.funnel for question in self._questions()}:
            closed = record.closed_through.get(funnel)
            if closed is not None:
                found[funnel] = self._cache.read(funnel, closed, record.window_ms)
        return found

    def _json(self, part: str, question: Question, version: Any, make: Callable[[], Any]) -> str:
        with self._lock:
            known = self._made.get((part, question))
        if known is not None and known[0] == version:
            return known[1]
        text = json.dumps(make(), separators=(",", ":"))
        with self._lock:
            if question in self._watching:
                self._made[part, question] = version, text
        return text
