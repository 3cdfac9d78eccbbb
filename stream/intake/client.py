"""The client of an intake as other threads use it: its partitions, its lag, its commits."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition

from funnelwatch.stream.intake.offsets import CommittedOffsets, lag_of, places_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer, KafkaError

    from funnelwatch.stream.intake.polled_batch import PartitionAssignment

log = logging.getLogger(__name__)


class IntakeClient:
    """The part of a fetcher that other threads use.

    Args:
        topic: the topic that it reads.
    """

    _consumer: Consumer

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._assigned: dict[int, PartitionAssignment] = {}
        self._committed = CommittedOffsets()

    @property
    def assigned(self) -> list[int]:
        """The partitions that this worker has now."""
        return sorted(self._assigned)

    def assignments(self) -> dict[int, PartitionAssignment]:
        """The partitions that this worker has now, each with its assignment. From any thread."""
        return dict(self._assigned)

    def commit(self, next_offsets: dict[int, int]) -> None:
        """Commit to Kafka how far partitions are counted, until it confirms it. From any thread.

        It is for lag tools and ``funnelwatch doctor``; nothing here depends on it.
        """
        if not next_offsets:
            return
        self._committed.want(next_offsets, time.monotonic())
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except (KafkaException, RuntimeError) as error:  # RuntimeError: the consumer is closed
            log.debug("offsets were not committed: %s", error)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            self._committed.confirm({one.partition: one.offset for one in partitions if one.error is None})

    def places(self, topic: str, positions: Mapping[int, int] | None = None) -> dict[tuple[str, int], tuple[int, int]]:
        """Position and end of partitions, by topic and partition: as the broker answers now. From any thread.

        Args:
            topic: any topic.
            positions: partition to position, as another consumer reads it; None: the partitions of this consumer.

        Raises:
            KafkaException: Kafka does not answer.
        """
        if positions is None:
            positions = {assigned.partition: assigned.position for assigned in list(self._assigned.values())}
        return places_of(self._consumer, topic, positions)

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._consumer.list_topics(self._topic, timeout=timeout_s)

    def lag(self) -> dict[int, int]:
        """Unread records of each assigned partition, as of the last fetch. From any thread."""
        return lag_of(self._consumer, self._topic, list(self._assigned.values()))
