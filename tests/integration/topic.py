"""What a test reads from a topic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from schemas.codec import Decoder

if TYPE_CHECKING:
    from funnelwatch.settings import Settings


def read_messages(settings: Settings, topic: str, count: int, timeout_s: float = 30.0) -> list[Any]:
    """The first ``count`` messages of a topic, and no more than a second of others after them.

    Raises:
        TimeoutError: there are fewer.
    """
    consumer = Consumer(
        settings.kafka(**{"group.id": f"{topic}-reader", "fetch.wait.max.ms": 10, "enable.auto.commit": False})
    )
    partitions = consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    messages: list[Any] = []
    end = time.monotonic() + timeout_s
    try:
        while len(messages) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(messages)} of {count} messages in {topic}")
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    raise KafkaException(message.error())
                messages.append(message)
        messages += consumer.consume(10_000, 1.0)
    finally:
        consumer.close()
    return messages


def read_events(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The decoded events of the topic of the events."""
    decode = Decoder("FunnelEvent")
    return [decode(message.value()) for message in read_messages(settings, settings.events_topic, count)]
