"""Produces many events as fast as one process can: drops none, and keeps no more in memory than the buffer."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from funnelwatch.producers.kafka.clients import producer_properties
from funnelwatch.schemas.codec import Encoder, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from confluent_kafka import KafkaError

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.producer")

BUFFER_EVENTS = 100_000
DELIVERY_TIMEOUT_S = 60.0
PROGRESS_S = 0.2
"""Interval of progress reports and of checks for failures, about, s."""

LAST_FLUSH_S = 10.0
"""The time that an interrupted run waits for its events to be confirmed, s."""


@dataclass(frozen=True, slots=True)
class Produced:
    """The outcome of a run.

    Attributes:
        produced: confirmed by Kafka.
        failed: sent, but not confirmed.
        seconds: duration of the run.
        interrupted: whether Ctrl-C ended it.
        error: the reason why an event failed; None where none did.
    """

    produced: int
    failed: int
    seconds: float
    interrupted: bool = False
    error: str | None = None


def produce_events(
    settings: Settings,
    events: Iterable[Mapping[str, Any]],
    progress: Callable[[int], None] | None = None,
) -> Produced:
    """Produce events, keyed by session, in their order; wait while the buffer is full.

    The iterable may pace itself: events go out within milliseconds of being yielded.
    The first event that fails, after the delivery timeout of 60 s, ends the run: the rest would fail as well.

    Args:
        settings: address of Kafka, and the topic.
        events: valid records of the schema.
        progress: called with the number of events so far, about five times a second.

    Raises:
        ValueError: an event does not fit the schema; those before it are produced.
        funnelwatch.schemas.codec.RegistryUnavailable: the schema could not be registered.
    """
    registry = Registry(settings.schema_registry_url) if settings.schema_registry_url else None
    encoder = Encoder("FunnelEvent", registry)
    if registry:
        encoder.register()
    run = _Run(settings)
    started, interrupted = time.monotonic(), False
    try:
        with run.interruptible():
            for event in events:
                run.put(encoder(event), event["sign_up_session_id"], progress)
                if run.failures:
                    break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        run.finish(LAST_FLUSH_S if interrupted or run.failures else None)
    if progress:
        progress(run.taken)
    failed = len(run.failures)
    why = run.failures[0].str() if failed else None
    return Produced(run.taken - failed, failed, time.monotonic() - started, interrupted, why)


class _Run:
    """A producer, with the numbers of its events and failures."""

    def __init__(self, settings: Settings) -> None:
        properties = producer_properties(settings, BUFFER_EVENTS, DELIVERY_TIMEOUT_S)
        # Only failures are reported one by one: a call for each success would take as long as sending it.
        self._producer = Producer({**properties, "delivery.report.only.error": True}, logger=logger)
        self._topic = settings.events_topic
        self._told = time.monotonic()
        self._taking = self._interrupted = False
        self.taken = 0
        self.failures: list[KafkaError] = []

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM interrupt only between two events: else an event could be sent and not counted."""
        untouched = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        ours = {number: own for number, own in untouched.items() if signal.getsignal(number) is own}
        if threading.current_thread() is not threading.main_thread():
            ours = {}

        def interrupt(number: int, frame: FrameType | None) -> None:
            if not self._taking:
                raise KeyboardInterrupt
            self._interrupted = True

        for number in ours:
            signal.signal(number, interrupt)
        try:
            yield
        finally:
            for number, before in ours.items():
                signal.signal(number, before)

    def put(self, value: bytes, key: str, progress: Callable[[int], None] | None) -> None:
        """Send one event, as soon as there is room."""
        self._taking = True
        while not self.failures and not self._interrupted:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._report)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self.taken += 1  # and lost: it counts as failed
                self.failures.append(error.args[0])
            else:
                self.taken += 1
                break
        self._taking = False
        if self._interrupted:
            raise KeyboardInterrupt
        if (now := time.monotonic()) - self._told > PROGRESS_S:
            self._told = now
            self._producer.poll(0)
            if progress:
                progress(self.taken)

    def finish(self, timeout_s: float | None) -> None:
        """Wait until each event is confirmed or has failed; events that are open after the timeout fail."""
        try:
            if timeout_s is None:
                self._producer.flush()
            elif self._producer.flush(timeout_s):
                self._purge()
        except KeyboardInterrupt:
            self._purge()
            raise

    def _purge(self) -> None:
        self._producer.purge()
        self._producer.flush(1)

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.failures.append(error)
