"""One librdkafka producer with the background thread that serves it."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from funnelwatch.producers.client.reachability import Reachability
from funnelwatch.producers.kafka.clients import is_broken_for_good, producer_properties
from funnelwatch.schemas.codec import Encoder, Registry, RegistryRejected, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.producer")

POLL_S = 0.1
"""How long the thread waits for the next report, and so how soon it notices the end, in seconds."""

REGISTRY_RETRY_S = 5.0
"""Pause between attempts to reach the schema registry, in seconds."""

STATISTICS_MS = 200
"""How often librdkafka reports which brokers answer, which ``drain`` needs to know, in ms."""


class Connection:
    """A producer of one process, and the thread that takes in its reports.

    Args:
        settings: where Kafka and the registry are.
        buffer_events: the most events that wait in memory.
        delivery_timeout_s: an event not confirmed by then has failed, in seconds.
        on_delivery: called in the thread for every event, with its error or None.

    Attributes:
        encoder: makes the bytes of an event; of another framing once the registry has answered.
        metric_encoder: the same of a sample of a counter or timer.
        servers: the brokers, for messages.
        broken: whether every later event would fail as well, so that another connection is needed.
    """

    def __init__(
        self,
        settings: Settings,
        buffer_events: int,
        delivery_timeout_s: float,
        on_delivery: Callable[[KafkaError | None, Any], None],
    ) -> None:
        self.servers = settings.kafka_bootstrap_servers
        self.broken = False
        self.encoder = Encoder("FunnelEvent")
        self.metric_encoder = Encoder("Metric")
        self._registry = Registry(settings.schema_registry_url) if settings.schema_registry_url else None
        self._on_delivery = on_delivery
        self._reachability = Reachability(self.servers)
        properties = {
            **producer_properties(settings, buffer_events, delivery_timeout_s),
            "error_cb": self._reachability.failed,
            "stats_cb": self._reachability.measured,
            "statistics.interval.ms": STATISTICS_MS,
        }
        self._producer = Producer(properties, logger=QuietLog())
        self._room = threading.Event()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._serve, name="funnelwatch-producer", daemon=True)]
        if self._registry:
            self._threads.append(threading.Thread(target=self._register, name="funnelwatch-registry", daemon=True))
        for thread in self._threads:
            thread.start()

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | None,
        on_delivery: Callable[[KafkaError | None, Any], None] | None = None,
    ) -> None:
        """Put a message into the buffer; ``on_delivery``, where given, gets its report instead of the connection's own.

        Raises:
            BufferError: it is full.
            KafkaException: librdkafka does not take the event.
        """
        self._producer.produce(topic, value, key, on_delivery=on_delivery or self._reported)

    def wait_for_room(self) -> None:
        """Until reports have made room, or a moment at most."""
        self._room.clear()
        self._room.wait(POLL_S)

    def reachable(self, topic: str, timeout: float) -> bool:
        """Whether Kafka answers within ``timeout`` seconds and has the topic."""
        try:
            found = self._producer.list_topics(topic, timeout).topics[topic]
        except KafkaException:
            return False
        return found.error is None and bool(found.partitions)

    @property
    def trouble(self) -> str:
        """The last error of the connection to Kafka; empty while it works."""
        return self._reachability.trouble

    def drain(self, longest_s: float, give_up_at: float) -> None:
        """Wait for all reports as long as a broker answers.

        Args:
            longest_s: at most this long, in seconds.
            give_up_at: from here on (monotonic, s) only a broker that answers is waited for.
        """
        began = time.monotonic()
        while self._producer.flush(POLL_S):
            now = time.monotonic()
            if now - began >= longest_s or (now >= give_up_at and not self._reachability.answers(now - began)):
                return

    def flush(self, timeout: float) -> int:
        """Wait up to ``timeout`` seconds for all reports; how many are still out."""
        return int(self._producer.flush(timeout))

    def close(self, timeout: float) -> None:
        """Flush, fail what is still out after ``timeout`` seconds, and end the thread."""
        if self._producer.flush(timeout):
            self._producer.purge()
            self._producer.flush(POLL_S)
        self._end.set()
        # The registry's thread may wait for a registry that does not answer; it is a daemon and ends by itself.
        if self._threads[0] is not threading.current_thread():
            self._threads[0].join()

    def close_later(self) -> None:
        """End the thread when it has taken in what is still out; for a client that is broken for good."""
        self._producer.purge()
        self._end.set()

    def abandon(self) -> None:
        """Never touch the producer again, nor let Python free it.

        In a forked child its threads do not exist, and freeing it would wait for them for ever.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))

    def _reported(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self._reachability.worked()
        elif is_broken_for_good(error):
            self.broken = True
        self._on_delivery(error, message)

    def _serve(self) -> None:
        while not self._end.is_set():
            if self._producer.poll(POLL_S):
                self._room.set()
            self._reachability.log_outage()
        self._producer.flush(POLL_S)

    def _register(self) -> None:
        """Change to Confluent framing as soon as the registry gives the schemas an id."""
        event, metric = (Encoder(name, self._registry) for name in ("FunnelEvent", "Metric"))
        while not self._end.is_set():
            try:
                event.register()
                self.encoder = event
                metric.register()
                self.metric_encoder = metric
            except RegistryUnavailable as error:
                logger.warning("%s; events use single-object encoding until it does", error)
                self._end.wait(REGISTRY_RETRY_S)
            except RegistryRejected as error:
                logger.error("%s; events use single-object encoding", error)  # noqa: TRY400 - the message says it all
                return
            else:
                return


class QuietLog:
    """Takes librdkafka's log lines: failed attempts to connect are DEBUG, because ``Reachability`` logs the outage."""

    def log(self, level: int, message: str, facility: str, *rest: Any) -> None:
        """Pass one line on."""
        logger.log(logging.DEBUG if facility == "FAIL" else level, message, facility, *rest)
