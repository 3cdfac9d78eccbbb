"""The acknowledged producer: a call returns once Kafka has acknowledged each message, or reports which it has not.

Every program that must not lose a message publishes through ``AckedProducer``. The client of an app does not: it must
never block (``funnelwatch.producers.client``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from funnelwatch.producers.kafka.clients import is_broken_for_good, producer_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from funnelwatch.schemas.settings import Settings

log = logging.getLogger(__name__)

BUFFER_MESSAGES = 100_000
DELIVERY_TIMEOUT_S = 30.0

GRACE_S = 5.0
"""How much longer than the delivery timeout to wait for reports, s: librdkafka checks about once a second."""

ROOM_S = 0.1
"""How long one attempt waits for room in a full buffer, s."""

OnDelivery = Callable[[KafkaError | None, Any], None]

UNACKNOWLEDGED = KafkaError(KafkaError._TIMED_OUT, "Kafka has not acknowledged it in time")  # noqa: SLF001


class Message(NamedTuple):
    """A message to publish."""

    topic: str
    key: str | bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]] | None = None


class Outcomes:
    """The outcomes of messages that were sent together. Thread-safe.

    Args:
        on_complete: called once every outcome is known, after ``seal``, from the thread that learns of the last one.
    """

    def __init__(self, on_complete: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._errors: list[KafkaError | None] = []
        self._open = 0
        self._sealed = False
        self._on_complete = on_complete
        self.is_broken = False
        """Whether an error means that the client must be made anew."""

    def expect(self) -> OnDelivery:
        """Expect one more outcome; the result takes librdkafka's report."""
        with self._lock:
            index = len(self._errors)
            self._errors.append(UNACKNOWLEDGED)
            self._open += 1

        def report(error: KafkaError | None, _message: Any) -> None:
            with self._lock:
                self._errors[index] = error
                self._open -= 1
                self.is_broken = self.is_broken or (error is not None and is_broken_for_good(error))
                complete = self._sealed and not self._open
            if complete:
                self._on_complete()

        return report

    def seal(self) -> None:
        """Expect no more."""
        with self._lock:
            self._sealed = True
            complete = not self._open
        if complete:
            self._on_complete()

    def errors(self) -> list[KafkaError | None]:
        """For each message None where Kafka has acknowledged it, else why not, as far as it is known."""
        with self._lock:
            return list(self._errors)


class AckedProducer:
    """Publishes messages and returns once all replicas in sync have them. For one thread at a time.

    A message that is reported as not acknowledged may be in the topic all the same, where only the acknowledgement was
    lost. A caller publishes it again, and its readers drop duplicates.

    Args:
        settings: where Kafka is.
        client_id: the name that the broker shows.
        buffer_messages: most messages that wait in memory.
        timeout_s: a message that is not acknowledged within this has failed, s.
        logger: takes librdkafka's log; None: the outcomes alone report errors.
        properties: further properties of librdkafka.
    """

    def __init__(
        self,
        settings: Settings,
        client_id: str,
        *,
        buffer_messages: int = BUFFER_MESSAGES,
        timeout_s: float = DELIVERY_TIMEOUT_S,
        logger: logging.Logger | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        quiet = {} if logger else {"log_level": 0, "error_cb": lambda _: None}
        self._timeout_s = timeout_s
        self._logger = logger
        self._properties = {
            **producer_properties(settings, buffer_messages, timeout_s),
            "client.id": client_id,
            **quiet,
            **(properties or {}),
        }
        self._producer = self._new_producer()

    def ask_kafka(self, topic: str, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: Kafka does not answer.
        """
        self._producer.list_topics(topic, timeout=timeout_s)

    def publish(self, messages: Iterable[Message]) -> None:
        """Publish messages in their order; returns once Kafka has acknowledged all.

        Raises:
            KafkaException: at least one is not acknowledged; publish all again.
        """
        failed = next((error for error in self.outcomes(messages) if error is not None), None)
        if failed is not None:
            raise KafkaException(failed)

    def outcomes(self, messages: Iterable[Message]) -> list[KafkaError | None]:
        """Publish messages in their order; for each None where Kafka has acknowledged it, else why not."""
        outcomes = Outcomes()
        for message in messages:
            report = outcomes.expect()
            try:
                while not self.try_put(message, report):
                    pass
            except KafkaException as error:
                report(error.args[0], None)
        outcomes.seal()
        self._producer.flush(self._timeout_s + GRACE_S)
        if outcomes.is_broken:
            log.warning("Kafka takes no message from this client any more; connecting anew")
            self._producer.purge()
            self._producer = self._new_producer()
        return outcomes.errors()

    def try_put(self, message: Message, on_delivery: OnDelivery) -> bool:
        """Put one message into the buffer; False where there is still no room after a short wait.

        Raises:
            KafkaException: librdkafka rejects the message, which is not sent.
        """
        topic, key, value, headers = message
        try:
            self._producer.produce(topic, value, key, headers=headers or [], on_delivery=on_delivery)
        except BufferError:
            self._producer.poll(ROOM_S)
            return False
        return True

    def serve(self) -> None:
        """Call the reports that have come."""
        self._producer.poll(0)

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait until each message is acknowledged or has failed; one that is open after the timeout fails."""
        if timeout_s is None:
            self._producer.flush()
        elif self._producer.flush(timeout_s):
            self.give_up()

    def give_up(self) -> None:
        """Fail each message that is not acknowledged yet."""
        self._producer.purge()
        self._producer.flush(1)

    def _new_producer(self) -> Producer:
        return Producer(self._properties, logger=self._logger) if self._logger else Producer(self._properties)
