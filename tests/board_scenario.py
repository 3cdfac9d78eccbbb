"""A funnel as the board meets it: past weeks, an hour with incidents, and a worker's traces of going on."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.counts import CountRow, Counts, PartitionCounts, Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.redis.state import MoveMark
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import RateStore, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

MINUTE_MS = 60_000
WEEK_MS = 7 * 24 * 60 * MINUTE_MS
FUNNEL = "sign_up"
RATES = {"INPUT_PHONE_NUMBER": 0.93, "VERIFY_SMS_CODE": 0.81, "INPUT_NAME": 0.96, "INPUT_PASSWORD": 0.88}
RELOADS = {"INPUT_PHONE_NUMBER": 0.03, "VERIFY_SMS_CODE": 0.1, "INPUT_NAME": 0.02, "INPUT_PASSWORD": 0.05}
"""The share of a step's impressions that a session has seen before."""
SESSION_WINDOW_MS = 20 * MINUTE_MS
SHARES = {
    ("iOS", "Safari", "5.2.0"): 0.37,
    ("iOS", "Safari", "5.1.3"): 0.11,
    ("Android", "Chrome", "5.2.0"): 0.28,
    ("Android", "Chrome", "5.1.3"): 0.13,
    ("Desktop", "Firefox", ""): 0.06,
    ("Desktop", "Chrome", ""): 0.05,
}
SESSIONS = 900
"""Sign-ups that begin, a minute."""


@dataclass(frozen=True)
class Trouble:
    """A stretch of time in which a step loses successes on an os: [begin, end) in minutes before now."""

    step: str
    os: str
    loss: float
    begin: int
    end: int = 0


TROUBLES = (Trouble("VERIFY_SMS_CODE", "iOS", 0.42, 11), Trouble("INPUT_NAME", "Android", 0.22, 44, 35))


class Scenario:
    """Writes as a worker does, to the database and to Redis.

    Args:
        settings: where; the database is empty.
        now_ms: the time now.
        seed: of the traffic.
    """

    def __init__(self, settings: Settings, now_ms: int, seed: int = 5) -> None:
        self.settings = settings
        self.window_ms = settings.window_ms
        self.now = now_ms
        self.alerts: set[str] = set()
        """Ids of the alerts that there have been."""
        self._random = np.random.default_rng(seed)
        self._database = Database(settings.timescale_url, application="board scenario")
        self._copy = CountCache(
            settings.redis_url, settings.redis_prefix, settings.cache_horizon_s, settings.events_topic
        )
        migrate(self._database, settings.window_ms)
        declare(self._database, {FUNNEL: Funnel(tuple(RATES), session_window_ms=SESSION_WINDOW_MS)})
        self._store = CountStore(self._database)
        self._store.start(settings.events_topic, "id", {0: 0})

    def close(self) -> None:
        """Let the connections go."""
        self._copy.close()
        self._database.close()

    def fill(self, troubles: tuple[Trouble, ...] = TROUBLES, minutes: int = 65, weeks: int = 2) -> None:
        """The same time of past weeks, undisturbed, and the last minutes with their troubles; the last is open."""
        last = self.now - self.now % self.window_ms
        for week in range(weeks, 0, -1):
            begin, end = last - week * WEEK_MS - (minutes + 62) * MINUTE_MS, last - week * WEEK_MS + 62 * MINUTE_MS
            self.count({start: self._window(start, ()) for start in range(begin, end, self.window_ms)})
        begin = last - minutes * MINUTE_MS
        windows = {start: self._window(start, troubles) for start in range(begin, last, self.window_ms)}
        share = max(0.02, (self.now - last) / self.window_ms)
        windows[last] = {
            series: CountRow(*(int(n * share) for n in tally)) for series, tally in self._window(last, troubles).items()
        }
        self.count(windows)
        self.close_windows(last)
        self._copy.rebuild(self._rows(begin), self.now, self._places)

    def count(self, windows: dict[int, dict[Series, CountRow]], rejected: int = 0) -> None:
        """Add counts to windows: to the database, and the totals to Redis where the copy is there."""
        counts: Counts = {
            (start, series): list(tally) for start, tallies in windows.items() for series, tally in tallies.items()
        }
        [(_, _, at)] = self._places()
        events = sum(tally.events for tallies in windows.values() for tally in tallies.values())
        batch = PartitionCounts(
            0,
            at,
            at + events + rejected + 1,
            WindowCounts.of(counts),
            accepted=events,
            rejected=rejected,
            watermark=max(windows),
        )
        flushed = self._store.flush(self.settings.events_topic, "id", [batch])
        if self._copy.is_whole():
            self._copy.write(flushed.totals, self.now, [MoveMark(0, "id", at, batch.next_offset, owes=False)])

    def go_on(self, troubles: tuple[Trouble, ...] = ()) -> None:
        """One window later: the open one is counted whole and closed."""
        start = self.closed_through()
        self.count({start: self._window(start, troubles)})
        self.close_windows(start + self.window_ms)

    def trickle(self, troubles: tuple[Trouble, ...] = TROUBLES) -> None:
        """One second more of the open window; windows that have passed meanwhile are closed."""
        self.now = time.time_ns() // 1_000_000
        last = self.now - self.now % self.window_ms
        share = MINUTE_MS / 60 / self.window_ms
        part = {
            # One draw a row keeps its counts in order: no more successes than sessions.
            series: CountRow(*(int(n * share + drawn) for n in tally))
            for series, tally in self._window(last, troubles).items()
            for drawn in [self._random.random()]
        }
        self.count({last: part})
        if last > self.closed_through():
            self.close_windows(last)

    def close_windows(self, through: int, funnel: str = FUNNEL) -> None:
        """Windows that start before this are closed."""
        closer = ClosingStore(self._database)
        closer.start_closing(funnel, through)
        closer.finish_closing(funnel, through)

    def closed_through(self) -> int:
        """The start of the oldest open window."""
        rows = self._database.query("closed_through", {"funnel": FUNNEL})
        return int(rows[0]["closed_through_ms"])

    def forget_redis(self) -> None:
        """Redis loses all it has of this scenario."""
        self._copy.clear()

    def fill_redis(self) -> None:
        """Redis has it again."""
        self._copy.rebuild(self._rows(self.now - 65 * MINUTE_MS), self.now, self._places)

    def _places(self) -> list[tuple[int, str, int]]:
        return [(0, "id", self._store.start(self.settings.events_topic, "id", {0: 0})[0].next_offset)]

    def rates(self, **scope: str) -> dict[str, tuple[int, int]]:
        """Impressions and successes of each step in the newest two minutes of closed windows, from the database."""
        through = self.closed_through()
        found = RateStore(self._database).rates(Scope(FUNNEL, **scope), through - 2 * MINUTE_MS, through)
        return {rate.step: (rate.impressions, rate.successes) for rate in found}

    def alert(self, alert_id: str, sequence: int = 0, **fields: Any) -> None:
        """A message of an alert, as the detector keeps it."""
        self.alerts.add(alert_id)
        message = {
            "alert_id": alert_id,
            "sequence": sequence,
            "state": "firing",
            "reason": "FIRST_DROP",
            "rule": "ConversionDrop",
            "rule_version": "1",
            "severity": "critical",
            "funnel": FUNNEL,
            "step": "VERIFY_SMS_CODE",
            "dimensions": {"os": "iOS"},
            "basis": "window",
            "window_start": self.now - 2 * MINUTE_MS,
            "window_end": self.now - MINUTE_MS,
            "started_at": self.now - 3 * MINUTE_MS,
            "rate": 0.47,
            "expected_rate": 0.81,
            "expected_low": 0.78,
            "expected_high": 0.84,
            "impressions": 400,
            "successes": 188,
            "score": 9.0,
            "lost_conversions": 136.0,
            "labels": {},
            "annotations": {"summary": "VERIFY_SMS_CODE (iOS) converts 47.0 %, expected 81.0 %"},
            "where_dimension": "app_version",
            "where_value": "5.2.0",
            "where_share": 0.77,
            "steps": [],
            "silenced_by": "",
            **fields,
        }
        with closing(Database(self.settings.timescale_url)) as database:
            AlertStore(database).save(FUNNEL, message["window_start"], {}, [message])

    def _rows(self, from_ms: int) -> Iterator[tuple[int, Series, CountRow]]:
        return self._store.read(from_ms, self.now + 24 * 60 * MINUTE_MS)

    def _window(self, start: int, troubles: tuple[Trouble, ...]) -> dict[Series, CountRow]:
        ago = (self.now - start) / MINUTE_MS
        tallies = {}
        for (os, browser, version), share in SHARES.items():
            shown = int(self._random.poisson(SESSIONS * share * self.window_ms / MINUTE_MS))
            for step, rate in RATES.items():
                lost = [t.loss for t in troubles if t.step == step and t.os == os and t.end < ago <= t.begin]
                chance = (rate + 0.015 * (os == "Desktop")) * (1 - sum(lost))
                won = int(self._random.binomial(shown, chance))
                failed = int(self._random.binomial(shown - won, 0.6))
                people = shown - int(shown * RELOADS[step])
                made = min(won, people)
                tallies[Series.of(FUNNEL, step, os=os, browser=browser, app_version=version)] = CountRow(
                    shown, won, failed, won, failed, people, made, people, made
                )
                shown = won
        return tallies
