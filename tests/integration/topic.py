"""What a test reads from a topic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from funnelwatch.schemas.codec import Decoder
from tests.stack import wait_until

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


def read_messages(settings: Settings, topic: str, count: int, timeout_s: float = 90.0) -> list[Any]:
    """All that a topic has once there are ``count`` messages.

    Raises:
        TimeoutError: there are fewer.
    """
    own = {"group.id": f"{topic}-reader", "fetch.wait.max.ms": 10, "enable.auto.commit": False}
    consumer = Consumer(settings.kafka(**own, **{"enable.partition.eof": True}))
    partitions = set(consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    messages: list[Any] = []
    ended: set[int | None] = set()
    limit = time.monotonic() + timeout_s
    try:
        while len(messages) < count or ended != partitions:
            if time.monotonic() > limit:
                raise TimeoutError(f"{len(messages)} of {count} messages in {topic}")
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    messages.append(message)
                    ended.discard(message.partition())
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return messages


def read_events(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The decoded events of the topic of the events."""
    decode = Decoder("FunnelEvent")
    return [decode(message.value()) for message in read_messages(settings, settings.events_topic, count)]


def events_of(settings: Settings, session: str, least: int = 1) -> list[dict[str, Any]]:
    """The events of a session, once there are ``least``, on a topic that others write to as well.

    Raises:
        TimeoutError: there are fewer.
    """
    found: list[dict[str, Any]] = []

    def come() -> bool:
        found[:] = [event for event in read_events(settings, least) if event["sign_up_session_id"] == session]
        return len(found) >= least

    wait_until(come, f"{least} events of session {session}")
    return found
