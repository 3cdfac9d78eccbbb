"""Observes the pipeline from outside: counts and lag, rates from Redis, alerts from their topic."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.codec import Decoder, Undecodable
from funnelwatch.schemas.funnels import SIGN_UP
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings

FUNNEL = "sign_up"
OSES = ("iOS", "Android", "Desktop")
SHOWN_WINDOWS = 2
MATURE_MS = 60_000
"""Nearly every success has come so long after its impression: until then a cohort's rate still grows."""

Rates = dict[tuple[str, str], tuple[int, int]]
"""Step and os to impressions and successes."""


@dataclass(slots=True)
class Received:
    """An alert as it came from the topic, and when (Unix time, s)."""

    alert: dict[str, Any]
    at: float


@dataclass(slots=True)
class Counted:
    """The progress and counts of the events topic in the database."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0

    @property
    def done(self) -> int:
        """Records that are dealt with, each once."""
        return self.accepted + self.rejected + self.duplicates


@dataclass(slots=True)
class Seen:
    """The latest of everything; read by the screen."""

    counted: Counted = field(default_factory=Counted)
    closed_through: float | None = None
    evaluated_through: float | None = None
    rates: Rates = field(default_factory=dict)
    expected: Rates = field(default_factory=dict)
    alerts: list[Received] = field(default_factory=list)


class Watch:
    """Reads the pipeline's results, as its users do."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.timescale_url, application="funnelwatch demo")
        self._counts = CountStore(self._database)
        self._cache = CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)
        self._stop = threading.Event()
        self._subscriber = threading.Thread(target=self._subscribe, name="alerts", daemon=True)
        self.seen = Seen()

    def start(self) -> None:
        """Subscribe to the alerts."""
        self._subscriber.start()

    def stop(self) -> None:
        """Let all connections go."""
        self._stop.set()
        if self._subscriber.is_alive():
            self._subscriber.join(10)
        self._cache.close()
        self._database.close()

    def read(self) -> Seen:
        """Read counts, progress and rates.

        Raises:
            psycopg.OperationalError, redis.RedisError: a server is away.
        """
        seen = self.seen
        seen.counted = Counted(**self._counts.dealt_with(self._settings.events_topic))
        progress = [row for row in self._database.query("funnels") if row["funnel"] == FUNNEL]
        seen.closed_through = progress[0]["closed_through_ms"] if progress else None
        evaluated = self._database.query("detector_progress", {"funnel": FUNNEL})
        seen.evaluated_through = evaluated[0]["last_window_ms"] if evaluated else None
        windows = mature_windows(seen.closed_through, self._settings.window_ms)
        seen.rates = _by_step_and_os(
            (series.step, series.value("os"), tally.impressions, tally.cohort_successes)
            for tallies in self._cache.read_many(FUNNEL, windows).values()
            for series, tally in tallies.items()
        )
        return seen

    def counted(self) -> int:
        """How many events are in the windows of the database, by adding them all up."""
        return self._counts.counted()

    def learn_expected(self, until_ms: int) -> None:
        """Keep the rates of the whole history as the expected rates."""
        rows = self._counts.read(0, until_ms, FUNNEL)
        self.seen.expected = _by_step_and_os(
            (series.step, series.value("os"), tally.impressions, tally.cohort_successes) for _, series, tally in rows
        )

    def dead_letters(self) -> int:
        """How many records of the events topic are in the dead letters, each counted once, from the topic itself."""
        letters: set[tuple[bytes, ...]] = set()

        def note(message: Any) -> None:
            headers = dict(message.headers() or [])
            letters.add((headers["topic"], headers["partition"], headers["offset"]))

        self._read_all(self._settings.dead_letters_topic, note)
        return len(letters)

    def _read_all(self, topic: str, note: Callable[[Any], None], quiet_s: float = 3.0) -> None:
        """Read a topic from its beginning until nothing more comes."""
        consumer = self._consumer(topic)
        try:
            last = time.monotonic()
            while time.monotonic() - last < quiet_s:
                for message in consumer.consume(1000, 0.2):
                    if message.error() is None:
                        note(message)
                        last = time.monotonic()
        finally:
            consumer.close()

    def _consumer(self, topic: str) -> Consumer:
        """A consumer of all partitions of a topic from their beginning, in no group."""
        consumer = Consumer(
            self._settings.kafka(
                "consumer", **{"group.id": "funnelwatch-demo", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
            )
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return consumer

    def _subscribe(self) -> None:
        decode = Decoder("Alert")
        consumer = self._consumer(self._settings.alerts_topic)
        known: set[tuple[str, int]] = set()
        while not self._stop.is_set():
            for message in consumer.consume(100, 0.2):
                if message.error() is not None:
                    continue
                try:
                    alert = decode(message.value())
                except Undecodable:
                    continue
                if not is_heartbeat(alert) and (alert["alert_id"], alert["sequence"]) not in known:
                    known.add((alert["alert_id"], alert["sequence"]))
                    self.seen.alerts.append(Received(alert, time.time()))
        consumer.close()


def mature_windows(closed_through_ms: float | None, window_ms: int) -> list[int]:
    """Starts of the newest windows whose impressions have had MATURE_MS to convert; none before a window has closed.

    Successes counted by their own time belong to earlier impressions: right after a change of traffic their quotient
    is no rate, and may exceed 1.
    """
    if closed_through_ms is None:
        return []
    end = int(closed_through_ms) - MATURE_MS
    latest = end - end % window_ms
    return [latest - i * window_ms for i in range(1, SHOWN_WINDOWS + 1)]


def _by_step_and_os(rows: Any) -> Rates:
    rates: Rates = {}
    for step, os, impressions, successes in rows:
        kept = rates.get((step, os), (0, 0))
        rates[step, os] = (kept[0] + impressions, kept[1] + successes)
    return rates


def steps() -> tuple[str, ...]:
    """The funnel's steps, in order."""
    return SIGN_UP
