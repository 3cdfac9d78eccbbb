"""Reading whole topics in the end, with a plain consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

AT_ONCE = 5_000
TIMEOUT_S = 30.0
WAIT_S = 0.1
"""One call waits this long for as many messages as it may bring, even when the end has come, s."""


def everything(settings: Settings, topic: str) -> Iterator[Message]:
    """Every message that a topic has now, each partition in order.

    Raises:
        KafkaException: Kafka does not answer.
    """
    consumer = Consumer(
        settings.kafka(
            "consumer",
            **{
                "group.id": "funnelwatch-drill-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            },
        )
    )
    try:
        partitions = list(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        yield from _to_end(consumer, len(partitions))
    finally:
        consumer.close()


def _to_end(consumer: Consumer, partitions: int) -> Iterator[Message]:
    ended: set[int | None] = set()
    while len(ended) < partitions:
        messages = consumer.consume(AT_ONCE, WAIT_S)
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
