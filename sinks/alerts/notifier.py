"""The notifier: reads ``funnel.alerts``, queues what each route is to tell, and runs a route worker for each route.

It has no offsets of its own. It reads the topic from its beginning whenever it starts (it is compacted: about a message
an alert) and the log knows what was queued before; so no offset can expire, and a topic that was made again is no
special case. Any number of notifiers may run: all of them queue, each message once; one of them runs a route's worker.
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

DAY_MS = 86_400_000

ASK_KAFKA_EVERY_S = 10.0
COUNT_EVERY = 10
"""Of the moments without a new message (some five a second) this many pass until what waits is counted anew."""

LANES_WAIT_S = 30.0
"""Route workers of known routes begin after this at the latest, s, while the topic is read."""


class Notifier:
    """Tells alerts on routes; ``run`` is for one thread, ``stop`` for any.

    Args:
        settings: where Kafka and the database are.
        routes: where to.
        now_ms: the wall clock, ms.
        backoff: the route_workers' pauses after failures.
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
        """End soon: after the attempts that are under way."""
        self._stopping.set()

    def run(self) -> None:
        """Notify until stopped.

        Raises:
            WindowLengthError, psycopg.Error: the database is not to be used, which waiting does not mend.
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
        # Route workers wait until all is read: an alert that is over by then, or muted, is not sent as firing. While
        # Kafka or the schema registry is away, route workers send what was queued before.
        overdue = threading.Timer(LANES_WAIT_S, self._start_route_workers)
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
        """Queue what comes, until stopped."""
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
        """Queue what the topic has now; partition to the offset that comes next."""
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
        """Queue one message, if anybody is to be told; then it is read."""
        self._queue_it(message)
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        read[partition] = offset + 1

    def _queue_it(self, message: Message) -> None:
        value = message.value()
        if value is None:  # a tombstone: the topic is compacted
            return
        try:
            alert = self._wait_for("schema registry", lambda: self._decode(value))
        except Undecodable as error:
            where = f"{message.topic()}, partition {message.partition()}, offset {message.offset()}"
            log.warning("passed over, no alert: %s: %s", where, legible(str(error)))
            return
        wanted = self._wanted(alert, message.timestamp()[1])
        if wanted:
            try:
                new = self._wait_for("PostgreSQL: queue", lambda: self._queue.queue(alert, wanted))
            except psycopg.Error as error:
                # Anybody may write to the topic: a message that the database rejects must not stop those behind it.
                if classify(error) is not ErrorClass.REJECTED:
                    raise
                said = legible(f"alert {alert['alert_id']}: {error}", 500)
                log.error("passed over, the database rejects it: %s", said)  # noqa: TRY400
                return
            for route in new:
                self._route_workers[route].wake()

    def _wanted(self, alert: dict[str, Any], published_ms: int) -> list[Queued]:
        wanted = []
        forgotten_ms = self._forgotten_ms()
        for route in self._routes:
            if published_ms < forgotten_ms and self._since[route.name] < forgotten_ms:
                # What was sent of it may be deleted: queued again it would be sent again.
                metrics.PASSED.labels(route.name, "too_old").inc()
                continue
            decided = verdict(route.when, alert)
            resolved = alert["state"] == "resolved"
            if decided in {Verdict.TELL, Verdict.TELL_IF_TOLD}:
                over = resolved and published_ms < self._since[route.name]
                known = resolved and not (route.tells_resolved_alone and decided is Verdict.TELL)
                wanted.append(Queued(route.name, only_if_known=known, noted_as="history" if over else None))
            elif decided is not Verdict.HEARTBEAT:
                metrics.PASSED.labels(route.name, str(decided)).inc()
                if resolved or decided is Verdict.SILENCED:  # what waits of the alert is no longer to be told
                    wanted.append(Queued(route.name, only_if_known=True, noted_as=str(decided)))
        return wanted

    def _forgotten_ms(self) -> int:
        """The log may lack what is older, ms: workers delete it after ``keep_alerts_days``, by clocks of their own."""
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
        """Note now and then that Kafka answers: no message may as well mean that it does not."""
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
