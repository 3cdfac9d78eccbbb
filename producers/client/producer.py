"""``FunnelProducer``: how an app puts its events on Kafka without ever waiting for it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal

from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.client.connection import Connection
from funnelwatch.producers.client.emitter import Emitter
from funnelwatch.producers.client.outcomes import TOO_LARGE, BufferFull, ProducerStats, Undelivered
from funnelwatch.producers.kafka.clients import is_broken_for_good
from funnelwatch.schemas.events import event_error
from funnelwatch.schemas.metrics import metric_error, series_name
from funnelwatch.schemas.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("funnelwatch.producer")

WhenFull = Literal["drop", "block", "raise"]

REPORT_EVERY_S = 10.0
"""Lost events are logged at most this often, with their number."""

FLUSH_TIMEOUT_S = 10.0
"""How long ``flush`` waits by default, in seconds."""

PURGED = "_PURGE_"
"""Librdkafka's errors of events that were still in the buffer, or on their way, when the producer closed."""


class FunnelProducer(Emitter):
    """Puts the events of an app on Kafka: idempotent, acknowledged by all replicas, keyed by session.

    Use one per process, from any thread::

        producer = FunnelProducer()
        with producer.step(session_id, "VERIFY_SMS_CODE", os="iOS", app_version="5.1.0") as step:
            step.success() if code_is_right() else step.failure()

    ``emit`` never waits for the network: events go into a bounded buffer that a background thread empties. The
    connection is made with the first event; a process that forks (gunicorn, multiprocessing) gets a new one, with
    counters at zero, in the child, and the parent's buffer stays the parent's.

    ``close`` flushes the buffer, and so does the exit of the interpreter. Both wait for a broker that answers, up to
    ``delivery_timeout_s``, and give up on one that does not after ``unreachable_wait_s``. One line in the log says how
    many events were lost. With a schema registry, events take Confluent framing as soon as the registry has answered,
    and single-object encoding before that: readers take both, and a registry that is away delays no event.

    Args:
        settings: where Kafka is and the topic's name; by default those of the environment.
        when_full: what ``emit`` does when the buffer is full because Kafka is away or too slow: "drop" the event and
            count it (a sign-up goes on), "block" until there is room, "raise" ``BufferFull``.
        buffer_events: size of the buffer, in events.
        delivery_timeout_s: an event that Kafka has not confirmed by then counts as failed, in seconds.
        unreachable_wait_s: how long ``close`` and the interpreter's exit wait while no broker answers, in seconds; by
            default the setting ``producer_unreachable_wait_s``, 0.7, with which a process exits within 2 s. A batch
            job that must survive a restart of Kafka takes a longer time.
        on_error: called with each event that was dropped or failed, mostly from the background thread; must be quick.
        funnel: the funnel of every event that names none.
        contexts: other values to keep with every event.
        **dimensions: os, browser, app_version and further dimensions of every event that does not have its own.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        when_full: WhenFull = "drop",
        buffer_events: int = 100_000,
        delivery_timeout_s: float = 120.0,
        unreachable_wait_s: float | None = None,
        on_error: Callable[[Undelivered], None] | None = None,
        funnel: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> None:
        super().__init__({"funnel": funnel, "contexts": contexts, **dimensions})
        if when_full not in ("drop", "block", "raise"):
            raise ValueError(f"when_full: {when_full!r} is not one of drop, block, raise")
        self._settings = settings or load_settings()
        self._when_full = when_full
        self._buffer_events = buffer_events
        self._delivery_timeout_s = delivery_timeout_s
        wait = self._settings.producer_unreachable_wait_s if unreachable_wait_s is None else unreachable_wait_s
        self._unreachable_wait_s = wait
        self._on_error = on_error
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False
        self._emitted = self._delivered = self._failed = self._dropped = 0
        self._last_loss: Undelivered | None = None
        self._reported, self._report_at = 0, 0.0
        _producers.add(self)

    def stats(self) -> ProducerStats:
        """The counters."""
        with self._lock:
            buffered = self._emitted - self._delivered - self._failed
            return ProducerStats(self._emitted, self._delivered, self._failed, self._dropped, buffered)

    def flush(self, timeout: float = FLUSH_TIMEOUT_S) -> int:
        """Wait until every event taken so far is delivered or has failed.

        Args:
            timeout: at most this long, in seconds, whether a broker answers or not.

        Returns:
            How many still wait: 0 when all is done.
        """
        return self._connection.flush(timeout) if self._connection else 0

    def close(self, timeout: float | None = None) -> None:
        """Flush, then end; events that still wait count as failed. A second call does nothing.

        Args:
            timeout: wait exactly up to this long, in seconds, whether a broker answers or not. None: wait as long as a
                broker answers, up to ``delivery_timeout_s``, and ``unreachable_wait_s`` where none does.
        """
        self._close(timeout, time.monotonic() + self._unreachable_wait_s)

    def _take_event(self, record: dict[str, Any]) -> bool:
        connection = self._connected()
        value = connection.encoder(record)
        if wrong := event_error(record):
            raise ValueError(wrong)
        return self._send(connection, self._settings.events_topic, record["sign_up_session_id"], value)

    def _take_metric(self, record: dict[str, Any]) -> bool:
        connection = self._connected()
        value = connection.metric_encoder(record)
        if wrong := metric_error(record):
            raise ValueError(wrong)
        key = series_name(record["name"], record.get("dimensions") or {})
        return self._send(connection, self._settings.metrics_topic, key, value)

    def _close(self, timeout: float | None, give_up_at: float) -> None:
        """Close; without a timeout, stop waiting at ``give_up_at`` (monotonic, s) unless a broker answers."""
        with self._lock:
            connection, self._connection, self._closed = self._connection, None, True
        if connection and timeout is None:
            connection.drain(self._delivery_timeout_s, give_up_at)
            timeout = 0.0
        if connection:
            connection.close(timeout or 0.0)
        self._report_last_losses(connection)

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and not connection.broken:
            return connection
        if connection is not None:
            self._leave(connection)
        with self._lock:
            if self._closed:
                raise RuntimeError("the producer is closed")
            if self._connection is None:
                self._connection = Connection(
                    self._settings, self._buffer_events, self._delivery_timeout_s, self._delivered_or_failed
                )
            return self._connection

    def _send(self, connection: Connection, topic: str, key: str, value: bytes) -> bool:
        with self._lock:
            self._emitted += 1  # before the event can be delivered, so that buffered is never negative
        while True:
            try:
                connection.produce(topic, key, value)
            except BufferError:
                if self._when_full == "block":
                    connection.wait_for_room()
                    continue
                self._take_back()
                if self._when_full == "raise":
                    raise BufferFull(f"{self._buffer_events} events wait for {connection.servers}") from None
                self._lose(Undelivered(key, "BUFFER_FULL", f"{self._buffer_events} events wait"), dropped=True)
                return False
            except KafkaException as error:
                self._not_sent(connection, key, error.args[0])
            return True

    def _not_sent(self, connection: Connection, key: str, error: KafkaError) -> None:
        """Librdkafka rejected an event outright: it is too large, or the client is broken for good."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._take_back()
            raise ValueError(TOO_LARGE) from None
        self._lose(Undelivered(key, error.name(), error.str()))
        if is_broken_for_good(error):
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        """The next event gets a new connection."""
        with self._lock:
            if self._connection is not connection:
                return
            self._connection = None
        connection.close_later()

    def _take_back(self) -> None:
        with self._lock:
            self._emitted -= 1

    def _delivered_or_failed(self, error: KafkaError | None, message: Any) -> None:
        """Librdkafka's report on one event, from the background thread."""
        if error is None:
            with self._lock:
                self._delivered += 1
        else:
            key = (message.key() or b"").decode(errors="replace")
            self._lose(Undelivered(key, error.name(), error.str()))

    def _lose(self, undelivered: Undelivered, *, dropped: bool = False) -> None:
        with self._lock:
            if dropped:
                self._dropped += 1
            else:
                self._failed += 1
            self._last_loss = undelivered
        if self._on_error:
            try:
                self._on_error(undelivered)
            except Exception:
                logger.exception("on_error of the producer failed")
        self._report_losses()

    def _report_losses(self) -> None:
        """Log how many events were lost, not too often, and not while closing, which logs one line at its end."""
        now = time.monotonic()
        if self._closed or now < self._report_at:
            return
        self._report_at = now + REPORT_EVERY_S
        if new := self._new_losses():
            logger.warning("%d events did not reach Kafka; last: %s, %s", new[0], new[1].reason, new[1].detail)

    def _report_last_losses(self, connection: Connection | None) -> None:
        """Log the losses that no line has named yet, with the reason."""
        new = self._new_losses()
        if not new:
            return
        count, last = new
        why = f"{last.reason}, {last.detail}"
        if connection and last.reason.startswith(PURGED):
            why = connection.trouble or "no broker answered in time"
        servers = self._settings.kafka_bootstrap_servers
        logger.warning("%d events lost: the producer closed before Kafka at %s had them; %s", count, servers, why)

    def _new_losses(self) -> tuple[int, Undelivered] | None:
        with self._lock:
            new, last = self._failed + self._dropped - self._reported, self._last_loss
            self._reported += new
        return (new, last) if new and last else None

    def _after_fork(self) -> None:
        """In a forked child: a new lock, no connection, counters at zero."""
        if self._connection:
            self._connection.abandon()
        self._lock = threading.Lock()
        self._connection = None
        self._emitted = self._delivered = self._failed = self._dropped = 0
        self._last_loss, self._reported = None, 0


_producers: weakref.WeakSet[FunnelProducer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for producer in list(_producers):
        producer._after_fork()  # noqa: SLF001 - this module's own


@atexit.register
def _close_all() -> None:
    began = time.monotonic()
    for producer in list(_producers):
        # All share one wait: librdkafka's threads serve the others meanwhile.
        producer._close(None, began + producer._unreachable_wait_s)  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_after_fork_in_child)
