"""Produces many events as fast as one process can, drops none, and keeps at most a buffer of them in memory."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from funnelwatch.producers.kafka.acked import AckedProducer, Message
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
"""Period of progress reports, s."""

LAST_FLUSH_S = 10.0
"""How long an interrupted run waits for acknowledgements, s."""


@dataclass(frozen=True, slots=True)
class Produced:
    """Outcome of a run.

    Attributes:
        produced: acknowledged by Kafka.
        failed: taken, but not acknowledged.
        seconds: duration, s.
        interrupted: whether Ctrl-C ended the run.
        error: why an event failed; None where none has.
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
    """Produce events, keyed by session, in their order; when the buffer is full, wait.

    The iterable may pace itself: events go out within milliseconds of being yielded.
    The first event that fails, after the delivery timeout of 60 s, ends the run, since the rest would fail as well.

    Args:
        settings: where Kafka is, and the topic.
        events: records of the schema, valid ones.
        progress: called with the number of events taken so far, about five times a second while events flow.

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
    """A producer, how many events it has taken, and which have failed."""

    def __init__(self, settings: Settings) -> None:
        self._producer = AckedProducer(
            settings,
            "funnelwatch-producer",
            buffer_messages=BUFFER_EVENTS,
            timeout_s=DELIVERY_TIMEOUT_S,
            logger=logger,
            # Only failures are reported one by one: a call for each success would take as long as sending it.
            properties={"delivery.report.only.error": True},
        )
        self._topic = settings.events_topic
        self._progress_at = time.monotonic()
        self._taking = self._interrupted = False
        self.taken = 0
        self.failures: list[KafkaError] = []

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM interrupt between two events only, so that every event sent is counted as taken."""
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
        """Take one event as soon as there is room."""
        self._taking = True
        while not self.failures and not self._interrupted:
            try:
                if self._producer.try_put(Message(self._topic, key, value), self._report):
                    self.taken += 1
                    break
            except KafkaException as error:
                self.taken += 1  # and lost: it counts as failed
                self.failures.append(error.args[0])
        self._taking = False
        if self._interrupted:
            raise KeyboardInterrupt
        if (now := time.monotonic()) - self._progress_at > PROGRESS_S:
            self._progress_at = now
            self._producer.serve()
            if progress:
                progress(self.taken)

    def finish(self, timeout_s: float | None) -> None:
        """Wait until each event is acknowledged or has failed; one that is open after the timeout fails."""
        try:
            self._producer.finish(timeout_s)
        except KeyboardInterrupt:
            self._producer.give_up()
            raise

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.failures.append(error)
