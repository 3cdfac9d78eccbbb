"""The parts of a worker, put together from settings. Each thread has a database connection of its own."""

from __future__ import annotations

import logging
import threading
from functools import cached_property, partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from funnelwatch.alert_rules.live import LiveRules
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder, Registry
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.schemas.times import iso
from funnelwatch.schemas.validation import Horizon, Limits
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.cache import CacheSource
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.heartbeats import HeartbeatStore
from funnelwatch.sinks.timescale.keeping import forget_alerts
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.pipeline import PipelineStore
from funnelwatch.sinks.timescale.refreshing import follow_dropped
from funnelwatch.sinks.timescale.retention import Retention, archive, countable_from, set_retention
from funnelwatch.sinks.timescale.series import SeriesStore
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from funnelwatch.sinks.timescale.silences import SilenceStore
from funnelwatch.stream.aggregate.aggregator import Aggregator
from funnelwatch.stream.aggregate.cache_debt import CacheDebt
from funnelwatch.stream.aggregate.cache_rebuild import CacheRebuild
from funnelwatch.stream.aggregate.isolation import Isolation, admitted_apart
from funnelwatch.stream.aggregate.metric_aggregator import MetricAggregator
from funnelwatch.stream.aggregate.metric_validator import MetricValidator
from funnelwatch.stream.aggregate.remembered import Remembered
from funnelwatch.stream.closing.closer import Closer
from funnelwatch.stream.detector.detection import Detection
from funnelwatch.stream.detector.pipeline_monitor import PipelineMonitor
from funnelwatch.stream.intake.dead_letters import DeadLetters
from funnelwatch.stream.intake.fetcher import Fetcher
from funnelwatch.stream.intake.validating import Validation
from funnelwatch.stream.intake.validator import EventValidator
from funnelwatch.stream.worker.contacts import Contacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings

log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 10.0

PARTITIONS_KEPT_S = 10.0
"""A partition that is added to a topic is noticed within this by whoever closes windows, s; by librdkafka in 30 s."""

LOOK_TIMEOUT_S = 3.0
CLIENTS = {
    "fetcher": "the events",
    "judging": "the dead letters",
    "metric_fetcher": "the counters and timers",
    "metric_aggregator": "the dead letters of counters and timers",
    "closer": "the closed windows",
    "detection": "the alerts",
}
"""Each part that has a client of Kafka's, and what it is for."""

CLOSER_IDLE_S = 90.0
"""The closer asks the database every second, except while it waits for Kafka, 35 s at the most; one that is silent for
this long is frozen, and loses the closer's lock so that another worker closes, s."""


class WorkerComponents:
    """What a worker is made of.

    Rules and funnels are read at once, so that a bad file is told before anything starts; servers are waited for.

    Raises:
        funnelwatch.alert_rules.loader.RuleFileError: a rule file cannot be used.
        funnelwatch.schemas.funnels.FunnelsFileError: the funnels file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self.rules = LiveRules(settings.rules_path)
        self.funnels = load_funnels(settings.funnels_path)
        self.registry = Registry(settings.schema_registry_url) if settings.schema_registry_url else None
        self.horizon, self.metrics_horizon = Horizon(), Horizon()
        self._databases: list[Database] = []

    def prepare(self) -> None:
        """Make topics and tables where they are missing; waits for the servers.

        Raises:
            StoppedError: the worker is stopping.
            funnelwatch.sinks.timescale.migrations.WindowLengthError: the database counts in windows of another length.
        """
        retry = RetryPolicy(self.stopping)
        retry("Kafka: topics", lambda: ensure_topics(self.settings))
        database = self._database("migrations")
        retry("PostgreSQL: migrations", lambda: self._prepare_database(database))

    def _prepare_database(self, database: Database) -> None:
        settings = self.settings
        migrate(database, settings.window_ms)
        declare(database, self.funnels)
        kept = Retention(
            settings.keep_windows_days, settings.keep_5m_days, settings.keep_1h_days, settings.keep_1d_days
        )
        for level in set_retention(database, kept):
            log.info("retention: %s are kept for another time from now on: %s", level, kept)
        self._move_horizons(database)

    def _move_horizons(self, database: Database) -> None:
        """Reject from now on what would be added to counts that are dropped."""
        events_from, metrics_from = countable_from(database, wall_clock_ms())
        if events_from is not None and self.horizon.from_ms is None:
            log.info("retention: events before %s are rejected: their counts may be dropped", iso(events_from))
        self.horizon.from_ms, self.metrics_horizon.from_ms = events_from, metrics_from

    def _database(self, role: str, idle_session_s: float = 0.0) -> Database:
        database = Database(
            self.settings.timescale_url, application=f"funnelwatch {role}", idle_session_s=idle_session_s
        )
        self._databases.append(database)
        return database

    @cached_property
    def admin(self) -> AdminClient:
        """Kafka's administration."""
        return AdminClient(self.settings.kafka(**{"client.id": "funnelwatch-admin", "log_level": 0}))

    def topic_id(self, topic: str = "") -> str:
        """Kafka's id of a topic, by default that of the events, now: it tells it from an earlier one of its name.

        Raises:
            KafkaException: Kafka cannot be asked.
        """
        topic = topic or self.settings.events_topic
        described = self.admin.describe_topics(TopicCollection([topic]), request_timeout=METADATA_TIMEOUT_S)
        return str(described[topic].result().topic_id)

    @cached_property
    def partitions(self) -> Callable[[], int]:
        """How many partitions the events topic has; several threads ask several times a second."""
        topic = self.settings.events_topic

        def ask() -> int:
            return len(self.admin.list_topics(topic, timeout=METADATA_TIMEOUT_S).topics[topic].partitions)

        return Remembered(ask, PARTITIONS_KEPT_S)

    @cached_property
    def fetcher(self) -> Fetcher:
        """The intake's consumer."""
        return Fetcher(self.settings, self.topic_id, CountStore(self._database("intake")), self.stopping)

    @cached_property
    def judge(self) -> EventValidator:
        """What decides about an event."""
        settings = self.settings
        store = SeriesStore(self._database("series"), self.funnels, SeriesLimits.of(settings))
        return EventValidator(
            decode=Decoder("FunnelEvent", self.registry),
            funnels=self.funnels,
            limits=self._limits(self.horizon),
            max_value_bytes=settings.max_value_bytes,
            admit=partial(admitted_apart, store.admit),
        )

    def _limits(self, horizon: Horizon) -> Limits:
        return Limits.of(self.settings, horizon)

    @cached_property
    def judging(self) -> Validation:
        """What judges the intake's fetches."""
        return Validation(
            judge=self.judge,
            dead_letters=DeadLetters(self.settings),
            stopping=self.stopping,
            keep_alive=self.fetcher.keep_alive,
        )

    @cached_property
    def aggregator(self) -> Aggregator:
        """What counts the judged fetches."""
        settings = self.settings
        return Aggregator(
            settings=settings,
            store=CountStore(self._database("aggregate"), settings.duplicate_horizon_s),
            cache=self._cache(),
            debt=self.cache_debt,
            rewind=self.fetcher.rewind,
            commit=self.fetcher.commit,
            stopping=self.stopping,
            isolation=Isolation(settings, partial(DeadLetters, settings), Decoder("FunnelEvent", self.registry)),
        )

    def _cache(self) -> CountCache:
        settings = self.settings
        return CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s, settings.events_topic)

    @cached_property
    def cache_debt(self) -> CacheDebt:
        """What the cache in Redis lacks."""
        return CacheDebt()

    @cached_property
    def cache_rebuild(self) -> CacheRebuild:
        """What makes the cache in Redis complete."""
        return CacheRebuild(
            settings=self.settings,
            source=CacheSource(self._database("cache", CLOSER_IDLE_S)),
            cache=self._cache(),
            debt=self.cache_debt,
            assigned=self.fetcher.assignments,
        )

    @cached_property
    def metric_fetcher(self) -> Fetcher:
        """The consumer of counters and timers."""
        store = CountStore(self._database("metrics intake"))
        topic_id = partial(self.topic_id, self.settings.metrics_topic)
        return Fetcher(self.settings, topic_id, store, self.stopping, "metrics")

    @cached_property
    def metric_aggregator(self) -> MetricAggregator:
        """What counts the metrics topic."""
        settings = self.settings
        return MetricAggregator(
            settings=settings,
            fetcher=self.metric_fetcher,
            judge=MetricValidator(
                decode=Decoder("Metric", self.registry),
                limits=self._limits(self.metrics_horizon),
                max_value_bytes=settings.max_value_bytes,
            ),
            store=MetricStore(self._database("metrics"), settings.duplicate_horizon_s),
            dead_letters=DeadLetters(settings, settings.metrics_topic),
            stopping=self.stopping,
        )

    @cached_property
    def closer(self) -> Closer:
        """What closes windows."""
        return Closer(
            settings=self.settings,
            store=ClosingStore(self._database("closer", CLOSER_IDLE_S)),
            partitions=self.partitions,
            registry=self.registry,
            stopping=self.stopping,
            declared=self.funnels,
        )

    @cached_property
    def maintenance(self) -> Callable[[], None]:
        """Archives and materializes counts on plain PostgreSQL, and deletes alerts that ended long ago.

        Keeps refreshes within what is not dropped.
        """
        database = self._database("maintenance")

        def once() -> None:
            follow_dropped(database)
            self._move_horizons(database)
            archive(database, wall_clock_ms())
            materialize(database, wall_clock_ms(), go_on=lambda: not self.stopping.is_set())
            forget_alerts(database, wall_clock_ms(), self.settings.keep_alerts_days, self.settings.max_age_days)

        return once

    @cached_property
    def detection(self) -> Detection:
        """What judges closed windows."""
        database = self._database("detect")
        return Detection(
            settings=self.settings,
            rules=self.rules,
            counts=SeriesCounts(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            registry=self.registry,
            declared=self.funnels,
        )

    @cached_property
    def monitor(self) -> PipelineMonitor:
        """What watches the pipeline as a whole."""
        database = self._database("pipeline monitor", CLOSER_IDLE_S)
        return PipelineMonitor(
            settings=self.settings,
            rules=self.rules,
            store=PipelineStore(database),
            metrics=MetricStore(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            partitions=self.partitions,
            publish=self.detection.publish,
            send=self.detection.send,
        )

    @cached_property
    def contacts(self) -> Contacts:
        """Regular contact with the servers, and this worker's heartbeat."""
        database = self._database("heartbeat")
        return Contacts(
            settings=self.settings,
            admin=lambda: self.admin,
            heartbeats=HeartbeatStore(database),
            freshness=FreshnessStore(database, self.settings.events_topic),
            assigned=lambda: len(self.fetcher.assigned) if "fetcher" in vars(self) else 0,
        )

    def silent_clients(self) -> list[str]:
        """What those clients of Kafka are for that get no answer now, of those that there are. From any thread."""
        silent = []
        for part, what in CLIENTS.items():
            if part in vars(self):
                try:
                    vars(self)[part].ask_kafka(LOOK_TIMEOUT_S)
                except KafkaException:
                    silent.append(what)
                except RuntimeError:  # it is closed: the worker is stopping
                    continue
        return silent

    def kafka_answers(self) -> bool:
        """Whether a client that is made for the question gets an answer."""
        client = AdminClient(self.settings.kafka(**{"client.id": "funnelwatch-look", "log_level": 0}))
        try:
            return bool(client.list_topics(self.settings.events_topic, timeout=LOOK_TIMEOUT_S).brokers)
        except KafkaException:
            return False

    def close(self) -> None:
        """Let the database connections go."""
        for database in self._databases:
            database.close()
