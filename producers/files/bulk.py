"""Many events onto Kafka, as fast as one process can: never dropped, never more in memory than the buffer."""

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
"""Progress is told, and failures are looked for, about this often, in seconds."""

LAST_FLUSH_S = 10.0
"""How long an interrupted run waits for what it has taken, in seconds."""


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of the events.

    Attributes:
        produced: confirmed by Kafka.
        failed: taken, but not confirmed.
        seconds: how long it took.
        interrupted: whether it was ended by Ctrl-C.
        error: why an event failed; None where none did.
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
    The first event that fails, after the delivery timeout of 60 s, ends the run: the rest would fail as well.

    Args:
        settings: where Kafka is, and the topic.
        events: records of the schema, valid ones.
        progress: told the number of events taken so far, about five times a second while events flow.

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
    """A producer, what it has taken and what has failed."""

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
        """Let Ctrl-C and SIGTERM come between two events only: else one may be on its way and not counted as taken."""
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
        """Take one event, as soon as there is room."""
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
        """Wait until each event is confirmed or has failed; what is out after the timeout fails."""
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
