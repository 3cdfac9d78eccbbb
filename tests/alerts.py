"""Alert messages for tests, and their way onto the topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.codec import Encoder
from funnelwatch.sinks.alerts.sample import sample
from tests.traffic import now_ms

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


def alert(state: str = "firing", **changes: Any) -> dict[str, Any]:
    """A message of now, with some fields changed."""
    return {**sample(state, now_ms()), "alert_id": "a-1", "rule": "ConversionDrop", "labels": {}, **changes}


def publish(settings: Settings, *alerts: dict[str, Any]) -> None:
    """Put messages on the topic of alerts and wait until Kafka has them."""
    ensure_topics(settings)
    encode = Encoder("Alert")
    producer = Producer(settings.kafka(**{"enable.idempotence": True}))
    for one in alerts:
        producer.produce(settings.alerts_topic, encode(one), one["alert_id"])
    assert producer.flush(30) == 0
