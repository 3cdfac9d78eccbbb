"""A worker prepares its servers before anything starts: topics, tables, declared funnels, retention."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.times import iso
from funnelwatch.schemas.validation import Horizon
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.retention import Retention, countable_from, set_retention

if TYPE_CHECKING:
    import threading

    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.settings import Settings

log = logging.getLogger(__name__)


class Horizons:
    """Times before which nothing is counted any more, since its counts may be dropped.

    Attributes:
        events: shared with the validators of events, and of counters and timers.
    """

    def __init__(self) -> None:
        self.events = Horizon()

    def move(self, database: Database) -> None:
        """Reject from now on each record that would be added to counts that are dropped."""
        events_from = countable_from(database, wall_clock_ms())
        if events_from is not None and self.events.from_ms is None:
            log.info("retention: events before %s are rejected: their counts may be dropped", iso(events_from))
        self.events.from_ms = events_from


def prepare_servers(settings: Settings, funnels: Funnels, horizons: Horizons, stopping: threading.Event) -> None:
    """Make topics and tables where they are missing; waits for the servers.

    Raises:
        StoppedError: the worker is stopping.
        funnelwatch.sinks.timescale.migrations.WindowLengthError: the database counts in windows of another length.
    """
    retry = RetryPolicy(stopping)
    retry("Kafka: topics", lambda: ensure_topics(settings))
    database = Database(settings.timescale_url, application="funnelwatch migrations")
    try:
        retry("PostgreSQL: migrations", lambda: _prepare_database(database, settings, funnels, horizons))
    finally:
        database.close()


def _prepare_database(database: Database, settings: Settings, funnels: Funnels, horizons: Horizons) -> None:
    migrate(database, settings.window_ms)
    declare(database, funnels)
    kept = Retention(settings.keep_windows_days, settings.keep_5m_days, settings.keep_1h_days, settings.keep_1d_days)
    for level in set_retention(database, kept):
        log.info("retention: %s are kept for another time from now on: %s", level, kept)
    horizons.move(database)
