"""The librdkafka properties that every producer shares, and the errors after which a client must be made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

BROKEN = {KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.UNKNOWN_PRODUCER_ID}
"""Errors of a message that every later message of the same client would get as well."""


def producer_properties(settings: Settings, buffer_events: int, delivery_timeout_s: float) -> dict[str, Any]:
    """Properties of a producer that neither loses nor repeats nor reorders its messages.

    Messages carry the wall clock as Kafka timestamp, not the event's ts. Brokers delete by that timestamp: they would
    delete a backfill of old events before anyone reads it. The event time is in the value.

    Args:
        settings: where Kafka is; properties of ``kafka_config`` win over those here.
        buffer_events: most messages that wait in memory.
        delivery_timeout_s: a message that no broker acknowledges within this has failed, s.
    """
    properties = {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.num.messages": 10_000,
        # The partitioner of Java clients, so that an app in any language puts a session on the same partition.
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": buffer_events,
        "queue.buffering.max.kbytes": 1_048_576,
        "delivery.timeout.ms": int(delivery_timeout_s * 1000),
    }
    return settings.kafka("producer", **properties)


def is_broken_for_good(error: KafkaError) -> bool:
    """Whether an error means that the client must be made anew.

    After requests that timed out librdkafka asks for a new epoch of its producer id. If the broker's answer is lost,
    the broker may call the client fenced from then on.
    """
    return bool(error.fatal()) or error.code() in BROKEN
