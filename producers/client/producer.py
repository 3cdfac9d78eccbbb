"""``FunnelProducer``: how an app puts its events on Kafka without ever waiting for it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.client.connection import Connection
from funnelwatch.producers.client.step import StepShown
from funnelwatch.producers.kafka.clients import is_broken_for_good
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.events import FunnelEvent, Phase, Status, fault, new_event_id, now_ms
from funnelwatch.schemas.metrics import Metric, MetricKind, series_name
from funnelwatch.schemas.metrics import fault as metric_fault
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.schemas.whole import whole_event, whole_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

logger = logging.getLogger("funnelwatch.producer")

WhenFull = Literal["drop", "block", "raise"]

REPORT_EVERY_S = 10.0
"""Lost events are logged at most this often, with their number."""

CLOSE_TIMEOUT_S = 10.0
"""How long the interpreter's exit waits for the last events, in seconds."""


class BufferFull(FunnelwatchError):  # noqa: N818 - what it is, not whose fault
    """The buffer has no room for another event (``when_full="raise"``)."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that did not reach Kafka, and why.

    Attributes:
        sign_up_session_id: the session it belongs to; of a counter or timer the series, such as ``sms_sent{os="iOS"}``.
        reason: BUFFER_FULL, or the name of librdkafka's error, like _MSG_TIMED_OUT.
        detail: the error in words.
    """

    sign_up_session_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ProducerStats:
    """How many events, since the producer was made (in this process).

    ``emitted == delivered + failed + buffered``; what was dropped was never emitted.
    """

    emitted: int
    delivered: int
    failed: int
    dropped: int
    buffered: int


class FunnelProducer:
    """Puts the events of an app on Kafka: idempotent, acknowledged by all replicas, keyed by session.

    Use one per process, from any thread::

        producer = FunnelProducer()
        with producer.step(session_id, "VERIFY_SMS_CODE", os="iOS", app_version="5.1.0") as step:
            step.success() if code_is_right() else step.failure()

    ``emit`` never waits for the network: events go into a bounded buffer that a background thread empties. The
    connection is made with the first event; a process that forks (gunicorn, multiprocessing) gets a new one, with
    counters at zero, in the child, and the parent's buffer stays the parent's.

    What is in the buffer when the interpreter exits is flushed for up to 10 s. With a schema registry, events take
    Confluent framing as soon as the registry has answered, and single-object encoding before that: readers take both,
    and a registry that is away holds up nobody's sign-up.

    Args:
        settings: where Kafka is and the topic's name; by default those of the environment.
        when_full: what ``emit`` does when the buffer is full because Kafka is away or too slow: "drop" the event and
            count it (a sign-up goes on), "block" until there is room, "raise" ``BufferFull``.
        buffer_events: size of the buffer, in events.
        delivery_timeout_s: an event that Kafka has not confirmed by then counts as failed, in seconds.
        on_error: called with each event that was dropped or failed, mostly from the background thread; must be quick.
        defaults: fields that every event shares, such as ``funnel`` or ``app_version``.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        when_full: WhenFull = "drop",
        buffer_events: int = 100_000,
        delivery_timeout_s: float = 120.0,
        on_error: Callable[[Undelivered], None] | None = None,
        **defaults: Any,
    ) -> None:
        if when_full not in ("drop", "block", "raise"):
            raise ValueError(f"when_full: {when_full!r} is not one of drop, block, raise")
        self._settings = settings or load_settings()
        self._when_full = when_full
        self._buffer_events = buffer_events
        self._delivery_timeout_s = delivery_timeout_s
        self._on_error = on_error
        self._defaults = defaults
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False
        self._emitted = self._delivered = self._failed = self._dropped = 0
        self._last_loss: Undelivered | None = None
        self._reported, self._report_at = 0, 0.0
        _producers.add(self)

    def emit(self, event: FunnelEvent | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put an event into the buffer.

        Args:
            event: a whole event; or None, or a mapping, to be completed by ``fields``.
            **fields: fields of ``FunnelEvent``. Absent ones take their defaults: a random event_id, ts now, the
                funnel sign_up.

        Returns:
            Whether it was taken; False when it was dropped because the buffer is full.

        Raises:
            ValueError: a field cannot be so; the message names it.
            BufferFull: the buffer is full and ``when_full`` is "raise".
            RuntimeError: the producer is closed.
        """
        given = event.record() if isinstance(event, FunnelEvent) else event or {}
        record = whole_event({"funnel": "sign_up", **self._defaults, **given, **fields})
        if "event_id" not in record:
            record["event_id"] = new_event_id()
        if "ts" not in record:
            record["ts"] = now_ms()
        connection = self._connected()
        value = connection.encoder(record)
        if wrong := fault(record):
            raise ValueError(wrong)
        return self._send(connection, self._settings.events_topic, record["sign_up_session_id"], value)

    def counter(self, name: str, by: int = 1, /, **dimensions: str) -> bool:
        """Something beside the funnel happened: ``counter("sms_sent", os="iOS")``. As ``emit`` otherwise.

        Args:
            name: of the counter: letters, digits, underscores and colons.
            by: how many times, 0 to 1,000,000,000.
            **dimensions: what it is counted by; few values each, no ids.
        """
        return self.record(name=name, kind=MetricKind.COUNTER, value=by, dimensions=dimensions)

    def timer(self, name: str, ms: float, /, **dimensions: str) -> bool:
        """Something beside the funnel took so long: ``timer("sms_delivery", 850, os="iOS")``. As ``emit`` otherwise.

        Args:
            name: of the timer: letters, digits, underscores and colons.
            ms: how long, in milliseconds, 0 to 1,000,000,000; rounded.
            **dimensions: what it is told by; few values each, no ids.
        """
        return self.record(name=name, kind=MetricKind.TIMER, value=round(ms), dimensions=dimensions)

    def record(self, metric: Metric | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put a sample of a counter or timer into the buffer; fields, answer and errors as of ``emit``.

        Args:
            metric: a whole sample; or None, or a mapping, to be completed by ``fields``.
            **fields: fields of ``Metric``. Absent ones take their defaults: a random event_id, ts now, value 1.
        """
        given = metric.record() if isinstance(metric, Metric) else metric or {}
        record = whole_metric({"value": 1, **given, **fields})
        if "event_id" not in record:
            record["event_id"] = new_event_id()
        if "ts" not in record:
            record["ts"] = now_ms()
        connection = self._connected()
        value = connection.metric_encoder(record)
        if wrong := metric_fault(record):
            raise ValueError(wrong)
        key = series_name(record["name"], record.get("dimensions") or {})
        return self._send(connection, self._settings.metrics_topic, key, value)

    def step(self, session_id: str, step: str, **fields: Any) -> StepShown:
        """A step that is shown and judged within one block; see ``StepShown``."""
        return StepShown(self, session_id, step, fields)

    def impression(self, session_id: str, step: str, **fields: Any) -> int:
        """A step was shown; for a web server, where the verification is another request.

        Returns:
            The event's ts in ms: keep it (in the web session, or a hidden field) and give it to ``verification``.
        """
        ts = int(fields.pop("ts", None) or now_ms())
        self.emit(sign_up_session_id=session_id, step=step, phase=Phase.IMPRESSION, ts=ts, **fields)
        return ts

    def verification(
        self, session_id: str, step: str, status: Status | str, *, shown_at: int | None = None, **fields: Any
    ) -> None:
        """The server has judged the input of a step.

        Args:
            session_id: the session of the impression.
            step: the step of the impression.
            status: SUCCESS or FAILURE.
            shown_at: what ``impression`` returned, ms; None where it is unknown, and so is the duration. Where the
                clocks of two servers differ so much that the duration would be negative, it is 0.
            **fields: other fields of ``FunnelEvent``.
        """
        ts = int(fields.pop("ts", None) or now_ms())
        if shown_at is not None:
            fields["duration_ms"] = max(0, ts - shown_at)
        fields |= {"sign_up_session_id": session_id, "step": step, "status": status, "ts": ts}
        self.emit(phase=Phase.POST_VERIFICATION, **fields)

    def stats(self) -> ProducerStats:
        """The counters."""
        with self._lock:
            buffered = self._emitted - self._delivered - self._failed
            return ProducerStats(self._emitted, self._delivered, self._failed, self._dropped, buffered)

    def flush(self, timeout: float = CLOSE_TIMEOUT_S) -> int:
        """Wait until every event taken so far is delivered or has failed.

        Args:
            timeout: at most this long, in seconds.

        Returns:
            How many still wait: 0 when all is done.
        """
        return self._connection.flush(timeout) if self._connection else 0

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Flush, then end; what still waits after ``timeout`` seconds counts as failed. A second call does nothing."""
        with self._lock:
            connection, self._connection, self._closed = self._connection, None, True
        if connection:
            connection.close(timeout)
        self._report_losses(force=True)

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close."""
        self.close()

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
            raise ValueError(f"contexts: the event is too large for Kafka: {error.str()}") from None
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

    def _report_losses(self, *, force: bool = False) -> None:
        """Say how many events were lost, not too often."""
        now = time.monotonic()
        with self._lock:
            lost, last = self._failed + self._dropped, self._last_loss
            if last is None or lost == self._reported or (now < self._report_at and not force):
                return
            new, self._reported, self._report_at = lost - self._reported, lost, now + REPORT_EVERY_S
        logger.warning("%d events did not reach Kafka; last: %s, %s", new, last.reason, last.detail)

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
    for producer in list(_producers):
        producer.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
