"""Events to Kafka, answered when Kafka has acknowledged them, or has not in time."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException

from funnelwatch.producers.client.connection import Connection, broken_for_good
from funnelwatch.schemas.metrics import series_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import KafkaError

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.collector")

GRACE_S = 2.0
"""Librdkafka looks for what has timed out about once a second."""


class Message(NamedTuple):
    """What goes onto Kafka."""

    topic: str
    key: str
    value: bytes


class Delivery:
    """A connection to Kafka that tells of each event whether it has been acknowledged by all replicas.

    Args:
        settings: where Kafka is; how many events may wait, and how long.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout_s = settings.collector_delivery_timeout_s
        self._connection = self._connect()

    def event(self, event: Mapping[str, Any]) -> Message:
        """The message of an event that has been checked."""
        return Message(self._settings.events_topic, event["sign_up_session_id"], self._connection.encoder(event))

    def metric(self, sample: Mapping[str, Any]) -> Message:
        """The message of a sample of a counter or timer that has been checked."""
        key = series_name(sample["name"], sample["dimensions"])
        return Message(self._settings.metrics_topic, key, self._connection.metric_encoder(sample))

    async def deliver(self, messages: Sequence[Message]) -> list[str | None]:
        """Send messages, and wait until Kafka has each of them, or has not taken it in time.

        A message that is said not to be acknowledged may be on the topic all the same, when only the acknowledgement
        was lost: it has to be sent again with the same event_id, by which it is counted once.

        Returns:
            For each message None where it is acknowledged, else why not.
        """
        batch = _Batch(len(messages))
        connection = self._connection
        for index, message in enumerate(messages):
            try:
                connection.produce(*message, partial(batch.told, index))
            except BufferError:
                batch.done(index, f"{self._settings.collector_max_waiting} events wait for Kafka already")
            except KafkaException as error:
                batch.told(index, error.args[0], None)
        try:
            await asyncio.wait_for(asyncio.shield(batch.complete), self._timeout_s + GRACE_S)
        except TimeoutError:
            logger.warning("Kafka at %s has not said what became of events", connection.servers)
        if batch.broken:
            self._renew(connection)
        return batch.outcomes()

    def reachable(self, timeout_s: float) -> bool:
        """Whether Kafka answers, and has the topic."""
        return self._connection.reachable(self._settings.events_topic, timeout_s)

    def close(self) -> None:
        """Wait for what is on its way, no longer than an event may take, and end."""
        self._connection.close(self._timeout_s)

    def _connect(self) -> Connection:
        return Connection(self._settings, self._settings.collector_max_waiting, self._timeout_s, _ignore)

    def _renew(self, broken: Connection) -> None:
        """Another connection for one that is broken for good."""
        if self._connection is broken:
            logger.warning("Kafka at %s takes nothing from this client any more; connecting anew", broken.servers)
            self._connection = self._connect()
            broken.close_later()


class _Batch:
    """What has become of messages that were sent together.

    Attributes:
        complete: done when it is known of all.
        broken: whether one of them found the client broken for good.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._outcomes: list[str | None] = ["Kafka has not acknowledged it in time"] * count
        self._out = count
        self.broken = False
        self._loop = asyncio.get_running_loop()
        self.complete: asyncio.Future[None] = self._loop.create_future()
        if not count:
            self.complete.set_result(None)

    def told(self, index: int, error: KafkaError | None, message: Any) -> None:
        """Librdkafka's report, from the thread that serves it."""
        if error is not None and broken_for_good(error):
            self.broken = True
        self.done(index, error.str() if error else None)

    def done(self, index: int, outcome: str | None) -> None:
        """What became of one message."""
        with self._lock:
            self._outcomes[index] = outcome
            self._out -= 1
            last = not self._out
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._complete)

    def outcomes(self) -> list[str | None]:
        """What is known by now."""
        with self._lock:
            return list(self._outcomes)

    def _complete(self) -> None:
        if not self.complete.done():
            self.complete.set_result(None)


def _ignore(error: KafkaError | None, message: Any) -> None:
    """Each batch has a report of its own."""
