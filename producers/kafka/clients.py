"""The librdkafka properties that every producer of events shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


def producer_properties(settings: Settings, buffer_events: int, delivery_timeout_s: float) -> dict[str, Any]:
    """Properties of a producer that neither loses nor repeats nor reorders what it has taken.

    Messages carry the wall clock as Kafka timestamp, not the event's ts: brokers delete by that timestamp, so a
    backfill of old events would be gone before anyone read it. The event time is in the value.

    Args:
        settings: where Kafka is; properties of ``kafka_config`` win over those here.
        buffer_events: the most events that wait in memory.
        delivery_timeout_s: after this an event that no broker has confirmed counts as failed, in seconds.
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
