"""How far behind the workers are: the ends of the events topic's partitions, from Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

TIMEOUT_S = 3.0


class LogEnds:
    """Asks Kafka where the partitions end; joins no group. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Consumer | None = None

    def read(self) -> dict[int, int]:
        """The offset after the last record of each partition; empty while the topic does not exist.

        Raises:
            confluent_kafka.KafkaException: no broker answers.
        """
        if self._consumer is None:
            self._consumer = Consumer(
                {
                    "log_level": 0,
                    **self._settings.kafka(
                        "consumer",
                        **{"group.id": f"{self._settings.consumer_group}-board", "enable.auto.commit": False},
                    ),
                }
            )
        topic = self._settings.events_topic
        known = self._consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        ends = {}
        for number in known:
            _, ends[number] = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
        return ends

    def close(self) -> None:
        """Let the connections go."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
