"""The components of a worker, wired together from settings. Each has a thread, and database connections of its own."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from funnelwatch.alert_rules.loader import LiveRules
from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder, Registry
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.schemas.validation import Limits
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.cache import CacheSource
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.heartbeats import HeartbeatStore
from funnelwatch.sinks.timescale.keeping import forget_alerts
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.pipeline import PipelineStore
from funnelwatch.sinks.timescale.retention import drop_expired
from funnelwatch.sinks.timescale.series import SeriesStore
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from funnelwatch.sinks.timescale.silences import SilenceStore
from funnelwatch.stream.aggregate.aggregator import Aggregator
from funnelwatch.stream.aggregate.cache_debt import CacheDebt
from funnelwatch.stream.aggregate.cache_rebuild import CacheRebuild
from funnelwatch.stream.aggregate.isolation import Isolation, admitted_apart
from funnelwatch.stream.aggregate.metric_aggregator import MetricAggregator
from funnelwatch.stream.aggregate.metric_validator import MetricValidator
from funnelwatch.stream.closing.closer import Closer
from funnelwatch.stream.detector.detection import Detection
from funnelwatch.stream.detector.pipeline_monitor import PipelineMonitor
from funnelwatch.stream.intake.dead_letters import DeadLetters
from funnelwatch.stream.intake.fetcher import Fetcher
from funnelwatch.stream.intake.horizons import ReadingHorizons
from funnelwatch.stream.intake.validation import Validation
from funnelwatch.stream.intake.validator import EventValidator
from funnelwatch.stream.worker.contacts import Contacts
from funnelwatch.stream.worker.kafka_admin import KafkaAdmin
from funnelwatch.stream.worker.lifecycle import Component
from funnelwatch.stream.worker.preparation import Horizons, prepare_servers
from funnelwatch.stream.worker.status import WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.redis.cache import CountCache

T = TypeVar("T")

IDLE_SESSION_S = 90.0
"""The database ends a session that holds a lock and is silent for this long: its process is frozen, and another worker
closes windows, monitors the pipeline or rebuilds the cache. Longer than such a session waits for Kafka, 35 s."""


class WorkerComponents:
    """All components of a worker; ``Lifecycle`` starts those in ``all`` in their order, and stops them in reverse.

    Rules and funnels are read at once, so that a bad file ends the worker before anything starts.

    Attributes:
        stopping: set when the worker stops; each wait for a server ends then.
        status: the condition of the worker, for people and probes.
        cache_rebuild: fills the cache; None: no Redis is configured.
        all: the components that are started and stopped, in the order of their start.

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
        self.horizons = Horizons()
        self.reading = ReadingHorizons.of(settings, self.funnels)
        self.cache_debt = CacheDebt()
        self.all: list[Component[Any]] = []
        # The order of these lines is the order of the start. The heartbeat stops last, so that others do not take this
        # worker for ended while it still counts; consumers start before whatever asks them for their partitions.
        self.kafka = self._add("kafka", "kafka", self._make_kafka)
        self.contacts = self._add("contacts", "database", self._make_contacts)
        self.validator = self._add("validator", "intake", self._make_validator)
        self.fetcher = self._add("fetcher", "intake", self._make_fetcher, "the events")
        self.validation = self._add("validation", "intake", self._make_validation, "the dead letters")
        self.aggregator = self._add("aggregator", "count", self._make_aggregator)
        self.cache_rebuild = self._add_cache_rebuild()
        self.metric_fetcher = self._add(
            "metric_fetcher", "metrics", self._make_metric_fetcher, "the counters and timers"
        )
        self.metric_aggregator = self._add(
            "metric_aggregator", "metrics", self._make_metric_aggregator, "the dead letters of counters and timers"
        )
        self.closer = self._add("closer", "close", self._make_closer, "the closed windows")
        self.maintenance = self._add("maintenance", "maintenance", self._make_maintenance)
        self.detection = self._add("detection", "detect", self._make_detection, "the alerts")
        self.monitor = self._add("monitor", "detect", self._make_monitor)
        self.status = WorkerStatus(self.rules, self.fetcher, self.metric_fetcher, self.cache_rebuild)

    def _add(self, name: str, thread: str, make: Callable[[ExitStack], T], kafka_client: str = "") -> Component[T]:
        component = Component(name, thread, make, kafka_client=kafka_client)
        self.all.append(component)
        return component

    def _add_cache_rebuild(self) -> Component[CacheRebuild] | None:
        cache = count_cache(self.settings)
        if cache is None:
            return None
        return self._add("cache_rebuild", "cache", partial(self._make_cache_rebuild, cache))

    def prepare(self) -> None:
        """Make topics and tables where they are missing; see ``prepare_servers``."""
        prepare_servers(self.settings, self.funnels, self.horizons, self.stopping)

    def lag(self) -> dict[int, int]:
        """Unread records by partition; none while there is no fetcher. From any thread."""
        fetcher = self.fetcher.if_running
        return fetcher.lag() if fetcher else {}

    def counted(self) -> int:
        """The events that were counted so far. From any thread."""
        aggregator = self.aggregator.if_running
        return aggregator.counted if aggregator else 0

    def _flush_interval_s(self) -> float:
        aggregator = self.aggregator.if_running
        return aggregator.interval_s if aggregator else self.settings.flush_interval_s

    def _assigned(self) -> int:
        fetcher = self.fetcher.if_running
        return len(fetcher.assigned) if fetcher else 0

    def _database(self, role: str, resources: ExitStack, idle_session_s: float = 0.0) -> Database:
        url, application = self.settings.timescale_url, f"funnelwatch {role}"
        database = Database(url, application=application, idle_session_s=idle_session_s)
        resources.callback(database.close)
        return database

    def _make_kafka(self, _: ExitStack) -> KafkaAdmin:
        return KafkaAdmin(self.settings)

    def _make_contacts(self, resources: ExitStack) -> Contacts:
        database = self._database("heartbeat", resources)
        contacts = Contacts(
            settings=self.settings,
            admin=self.kafka.running.client,
            heartbeats=HeartbeatStore(database),
            freshness=FreshnessStore(database, self.settings.events_topic),
            assigned=self._assigned,
            problem=self.status.problem,
        )
        resources.callback(contacts.end)
        return contacts

    def _make_fetcher(self, resources: ExitStack) -> Fetcher:
        topic_id = partial(self.kafka.running.topic_id, self.settings.events_topic)
        store = CountStore(self._database("intake", resources))
        fetcher = Fetcher(
            self.settings,
            topic_id,
            store,
            self.stopping,
            decoder=self.validator.running.decoder,
            interval_s=self._flush_interval_s,
            horizons=self.reading,
        )
        resources.callback(fetcher.close)
        return fetcher

    def _make_validator(self, resources: ExitStack) -> EventValidator:
        settings = self.settings
        store = SeriesStore(self._database("series", resources), self.funnels, SeriesLimits.of(settings, self.funnels))
        return EventValidator(
            decode=Decoder("FunnelEvent", self.registry),
            funnels=self.funnels,
            limits=Limits.of(settings, self.horizons.events, self.funnels),
            max_value_bytes=settings.max_value_bytes,
            admit=partial(admitted_apart, store.admit),
        )

    def _make_validation(self, _: ExitStack) -> Validation:
        return Validation(
            validator=self.validator.running,
            dead_letters=DeadLetters(self.settings),
            stopping=self.stopping,
            keep_alive=self.fetcher.running.keep_alive,
        )

    def _make_aggregator(self, resources: ExitStack) -> Aggregator:
        settings, fetcher = self.settings, self.fetcher.running
        if cache := count_cache(settings):
            resources.callback(cache.close)
        return Aggregator(
            settings=settings,
            store=CountStore(self._database("aggregate", resources), self.reading.behind_ms / 1000),
            cache=cache,
            debt=self.cache_debt,
            rewind=fetcher.rewind,
            commit=fetcher.commit,
            stopping=self.stopping,
            isolation=Isolation(settings, partial(DeadLetters, settings), Decoder("FunnelEvent", self.registry)),
        )

    def _make_cache_rebuild(self, cache: CountCache, resources: ExitStack) -> CacheRebuild:
        resources.callback(cache.close)
        return CacheRebuild(
            settings=self.settings,
            # Closing the connection lets its lock go, so that another worker goes on with the copy.
            source=CacheSource(self._database("cache", resources, IDLE_SESSION_S)),
            cache=cache,
            debt=self.cache_debt,
            assigned=self.fetcher.running.assignments,
        )

    def _make_metric_fetcher(self, resources: ExitStack) -> Fetcher:
        topic_id = partial(self.kafka.running.topic_id, self.settings.metrics_topic)
        store = CountStore(self._database("metrics intake", resources))
        fetcher = Fetcher(self.settings, topic_id, store, self.stopping, role="metrics")
        resources.callback(fetcher.close)
        return fetcher

    def _make_metric_aggregator(self, resources: ExitStack) -> MetricAggregator:
        settings = self.settings
        return MetricAggregator(
            settings=settings,
            fetcher=self.metric_fetcher.running,
            validator=MetricValidator(
                decode=Decoder("Metric", self.registry),
                limits=Limits.of(settings, self.horizons.events),
                max_value_bytes=settings.max_value_bytes,
            ),
            store=MetricStore(self._database("metrics", resources), settings.duplicate_horizon_s),
            dead_letters=DeadLetters(settings, settings.metrics_topic),
            stopping=self.stopping,
        )

    def _make_closer(self, resources: ExitStack) -> Closer:
        return Closer(
            settings=self.settings,
            store=ClosingStore(self._database("closer", resources, IDLE_SESSION_S)),
            partitions=self.kafka.running.partitions,
            registry=self.registry,
            stopping=self.stopping,
            declared=self.funnels,
        )

    def _make_maintenance(self, resources: ExitStack) -> Callable[[], None]:
        """Materializes rollups, drops counts that are no longer kept, and deletes alerts that ended long ago."""
        database = self._database("maintenance", resources)

        def once() -> None:
            self.horizons.move(database)
            materialize(database, wall_clock_ms(), go_on=lambda: not self.stopping.is_set())
            drop_expired(database, wall_clock_ms())
            forget_alerts(database, wall_clock_ms(), self.settings.keep_alerts_days, self.settings.max_age_days)

        return once

    def _make_detection(self, resources: ExitStack) -> Detection:
        database = self._database("detect", resources)
        return Detection(
            settings=self.settings,
            rules=self.rules,
            counts=SeriesCounts(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            registry=self.registry,
            declared=self.funnels,
        )

    def _make_monitor(self, resources: ExitStack) -> PipelineMonitor:
        database = self._database("pipeline monitor", resources, IDLE_SESSION_S)
        detection = self.detection.running
        return PipelineMonitor(
            settings=self.settings,
            rules=self.rules,
            store=PipelineStore(database),
            metrics=MetricStore(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            partitions=self.kafka.running.partitions,
            publish=detection.publisher.publish,
            send=detection.publisher.send,
        )
