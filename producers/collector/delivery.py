"""Publishes the collector's events; a request is answered once Kafka has acknowledged them, or has not in time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.client.connection import Connection
from funnelwatch.producers.kafka.acked import Message, Outcomes
from funnelwatch.schemas.metrics import series_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from funnelwatch.schemas.settings import Settings

__all__ = ["GRACE_S", "Delivery", "Message"]

logger = logging.getLogger("funnelwatch.collector")

GRACE_S = 2.0
"""How much longer than the delivery timeout to wait, s: librdkafka checks for timeouts about once a second."""


class Delivery:
    """A connection to Kafka that reports for each message whether all replicas in sync have acknowledged it.

    Args:
        settings: where Kafka is; how many events may wait, and how long.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout_s = settings.collector_delivery_timeout_s
        self._connection = self._connect()
        # librdkafka's own words for a full queue name no setting.
        waiting = f"{settings.collector_max_waiting} events wait for Kafka already"
        self._full = KafkaError(KafkaError._QUEUE_FULL, waiting)  # noqa: SLF001 - it has no other name

    def event(self, event: Mapping[str, Any]) -> Message:
        """The message of an event that has been checked."""
        return Message(self._settings.events_topic, event["sign_up_session_id"], self._connection.encoder(event))

    def metric(self, sample: Mapping[str, Any]) -> Message:
        """The message of a sample of a counter or timer that has been checked."""
        key = series_name(sample["name"], sample["dimensions"])
        return Message(self._settings.metrics_topic, key, self._connection.metric_encoder(sample))

    async def deliver(self, messages: Sequence[Message]) -> list[str | None]:
        """Send messages, and wait until Kafka has acknowledged each, or has not in time.

        A message that is reported as not acknowledged may be in the topic all the same, where only the acknowledgement
        was lost. The sender sends it again with the same event_id, so that it counts once.

        Returns:
            For each message None where it is acknowledged, else why not.
        """
        loop = asyncio.get_running_loop()
        complete = asyncio.Event()

        def on_complete() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(complete.set)

        outcomes, connection = Outcomes(on_complete), self._connection
        for message in messages:
            report = outcomes.expect()
            try:
                connection.produce(message.topic, message.key, message.value, report)
            except BufferError:
                report(self._full, None)
            except KafkaException as error:
                report(error.args[0], None)
        outcomes.seal()
        try:
            await asyncio.wait_for(complete.wait(), self._timeout_s + GRACE_S)
        except TimeoutError:
            logger.warning("Kafka at %s has not acknowledged all events in time", connection.servers)
        if outcomes.is_broken:
            self._renew(connection)
        return [None if error is None else error.str() for error in outcomes.errors()]

    def reachable(self, timeout_s: float) -> bool:
        """Whether Kafka answers, and has the topic."""
        return self._connection.reachable(self._settings.events_topic, timeout_s)

    def close(self) -> None:
        """Wait for messages under way, at most for the delivery timeout, and close the connection."""
        self._connection.close(self._timeout_s)

    def _connect(self) -> Connection:
        return Connection(self._settings, self._settings.collector_max_waiting, self._timeout_s, _ignore)

    def _renew(self, broken: Connection) -> None:
        """Replace a connection that is broken for good."""
        if self._connection is broken:
            logger.warning("Kafka at %s takes no message from this client any more; connecting anew", broken.servers)
            self._connection = self._connect()
            broken.close_later()


def _ignore(error: KafkaError | None, message: Any) -> None:
    """Each request has reports of its own."""
