"""The notifier: reads ``funnel.alerts``, queues messages for each route, and runs a route worker for each route.

The notifier commits no offsets. At each start it reads the whole topic, which is compacted to about one message an
alert, and the log shows which messages were queued before. So no offset can expire, and a recreated topic is no special
case. Any number of notifiers may run: together they queue each message once, and one of them serves each route.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from confluent_kafka import KafkaException

from funnelwatch.producers.kafka.topic_reader import FOR_GOOD, NoSuchTopicError, TopicReader
from funnelwatch.schemas.codec import Decoder, Registry, Undecodable
from funnelwatch.schemas.texts import legible
from funnelwatch.schemas.times import DAY_MS
from funnelwatch.sinks.alerts import metrics
from funnelwatch.sinks.alerts.matching import Verdict, verdict
from funnelwatch.sinks.alerts.route_worker import RouteWorker
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.retry import RetryPolicy, StoppedError
from funnelwatch.sinks.servers import DATABASE, KAFKA, servers
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.notifications import NotificationQueue, Queued, RouteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.alerts.receiver import Receiver
    from funnelwatch.sinks.retry import Backoff

log = logging.getLogger(__name__)

T = TypeVar("T")


ASK_KAFKA_EVERY_S = 10.0
COUNT_EVERY = 10
"""Waiting messages are counted again after so many polls without a message, about five a second."""

ROUTES_WAIT_S = 30.0
"""Route workers of known routes start after this at the latest, s, while the topic is read."""


class Notifier:
    """Sends alerts to routes; ``run`` is for one thread, ``stop`` for any.

    Args:
        settings: where Kafka and the database are.
        routes: the receivers.
        now_ms: the wall clock, ms.
        backoff: pauses of the route workers after failures.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Sequence[Receiver],
        now_ms: Callable[[], int],
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._database = Database(settings.timescale_url, application="funnelwatch notify")
        self._queue = NotificationQueue(self._database)
        url = settings.schema_registry_url
        self._decode = Decoder("Alert", Registry(url) if url else None)
        self._route_workers = {
            route.name: RouteWorker(route, RouteStore(settings.timescale_url, route.name), now_ms, backoff)
            for route in routes
        }
        self._route_workers_run = False
        self._starting = threading.Lock()
        self._since: dict[str, int] = {}
        self._now_ms = now_ms
        self._stopping = threading.Event()
        self._retry = RetryPolicy(self._stopping)

    def stop(self) -> None:
        """Stop after the attempts that are under way."""
        self._stopping.set()

    def run(self) -> None:
        """Notify until stopped.

        Raises:
            WindowLengthError, psycopg.Error: the database cannot be used, and waiting cannot help.
            KafkaException: Kafka rejects this client for good.
        """
        try:
            self._work()
        except StoppedError:
            pass
        finally:
            for route_worker in self._route_workers.values():
                route_worker.stop()
            for route_worker in self._route_workers.values():
                route_worker.join()
            self._database.close()

    def _work(self) -> None:
        new = self._wait_for("PostgreSQL: routes", self._start)
        # Route workers wait until the topic is read, so that no alert is sent as firing that is resolved or muted by
        # then. While Kafka or the schema registry is away, they send the messages that were queued before.
        overdue = threading.Timer(ROUTES_WAIT_S, self._start_route_workers)
        try:
            with TopicReader(self._settings, self._settings.alerts_topic) as reader:
                if not new:
                    overdue.start()
                read = self._wait_for("Kafka: the alerts so far", lambda: self._catch_up(reader))
                log.info("%d messages read; routes: %s", sum(read.values()), ", ".join(self._route_workers))
                self._start_route_workers()
                self._wait_for("Kafka: new alerts", lambda: self._follow(reader, read))
        finally:
            overdue.cancel()

    def _follow(self, reader: TopicReader, read: dict[int, int]) -> None:
        """Queue new messages until stopped."""
        quiet = 0
        for message in reader.follow(lambda line: log.warning("%s", line), positions=read, from_beginning=True):
            if self._stopping.is_set():
                return
            if message is not None:
                self._take(message, read)
            quiet = quiet + 1 if message is None else 0
            if quiet % COUNT_EVERY == 1:
                self._count()
                self._ask_kafka(reader)

    def _start(self) -> set[str]:
        migrate(self._database, self._settings.window_ms)
        new, self._since = self._queue.start(list(self._route_workers))
        return new

    def _start_route_workers(self) -> None:
        with self._starting:
            for route_worker in (
                () if self._route_workers_run or self._stopping.is_set() else self._route_workers.values()
            ):
                route_worker.start()
            self._route_workers_run = True

    def _catch_up(self, reader: TopicReader) -> dict[int, int]:
        """Queue the messages that the topic has now; partition to its next offset."""
        read: dict[int, int] = {}
        try:
            for message in reader.to_end():
                if self._stopping.is_set():
                    raise StoppedError("catching up")
                self._take(message, read)
        except NoSuchTopicError:
            log.warning("%s does not exist yet (a worker makes it)", self._settings.alerts_topic)
        return read

    def _take(self, message: Message, read: dict[int, int]) -> None:
        """Queue one message for the routes that send it; then it counts as read."""
        self._queue_message(message)
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        read[partition] = offset + 1

    def _queue_message(self, message: Message) -> None:
        value = message.value()
        if value is None:  # a tombstone: the topic is compacted
            return
        try:
            alert = self._wait_for("schema registry", lambda: self._decode(value))
        except Undecodable as error:
            where = f"{message.topic()}, partition {message.partition()}, offset {message.offset()}"
            log.warning("skipped, no alert: %s: %s", where, legible(str(error)))
            return
        wanted = self._wanted(alert, message.timestamp()[1])
        if wanted:
            try:
                new = self._wait_for("PostgreSQL: queue", lambda: self._queue.queue(alert, wanted))
            except psycopg.Error as error:
                # Anybody may write to the topic: a message that the database rejects must not block later messages.
                if classify(error) is not ErrorClass.REJECTED:
                    raise
                what = legible(f"alert {alert['alert_id']}: {error}", 500)
                log.error("skipped, the database rejects it: %s", what)  # noqa: TRY400
                return
            for route in new:
                self._route_workers[route].wake()

    def _wanted(self, alert: dict[str, Any], published_ms: int) -> list[Queued]:
        wanted = []
        forgotten_ms = self._forgotten_ms()
        for route in self._routes:
            if published_ms < forgotten_ms and self._since[route.name] < forgotten_ms:
                # The log of this alert may be deleted: a message queued now might be sent a second time.
                metrics.SKIPPED.labels(route.name, "too_old").inc()
                continue
            decided = verdict(route.when, alert)
            resolved = alert["state"] == "resolved"
            if decided in {Verdict.NOTIFY, Verdict.NOTIFY_IF_NOTIFIED}:
                over = resolved and published_ms < self._since[route.name]
                known = resolved and not (route.wants_only_resolved and decided is Verdict.NOTIFY)
                wanted.append(Queued(route.name, only_if_known=known, noted_as="history" if over else None))
            elif decided is not Verdict.HEARTBEAT:
                metrics.SKIPPED.labels(route.name, str(decided)).inc()
                if resolved or decided is Verdict.SILENCED:  # waiting messages of the alert are obsolete
                    wanted.append(Queued(route.name, only_if_known=True, noted_as=str(decided)))
        return wanted

    def _forgotten_ms(self) -> int:
        """The log may lack older alerts, ms: workers delete them after ``keep_alerts_days``, by clocks of their own."""
        days = self._settings.keep_alerts_days
        return self._now_ms() - (days - 1) * DAY_MS if days else 0

    def _count(self) -> None:
        try:
            waiting = self._queue.waiting()
        except Exception as error:
            if not is_transient(error):
                raise
            for route in self._route_workers:
                metrics.note_waiting(route, None, 0.0)
            return
        servers.answered(DATABASE)
        for route in self._route_workers:
            metrics.note_waiting(route, *waiting.get(route, (0, 0.0)))

    def _ask_kafka(self, reader: TopicReader) -> None:
        """Check now and then that Kafka answers: silence may also mean that it is away."""
        if servers.silent_s(KAFKA) < ASK_KAFKA_EVERY_S:
            return
        with contextlib.suppress(KafkaException):
            reader.partitions()
            servers.answered(KAFKA)

    def _wait_for(self, what: str, operation: Callable[[], T]) -> T:
        return self._retry(what, operation, is_retried=_is_retried)


def _is_retried(error: Exception) -> bool:
    """Whether to wait: not where Kafka denies the topic, since a notifier has nothing else to do meanwhile."""
    if isinstance(error, KafkaException) and (error.args[0].code() in FOR_GOOD or error.args[0].fatal()):
        return False
    return is_transient(error)
