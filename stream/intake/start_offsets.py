"""Where partitions start: what the database says is counted, and what Kafka says is there.

A partition for which the two do not fit is stopped until a person has said what is to be done (``funnelwatch rebuild
progress``); when they fit again it can start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition

from funnelwatch.sinks.base import TopicRecreatedError
from funnelwatch.sinks.timescale.progress import Standing, stand
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore

log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 10.0


class StartOffsets:
    """Finds out where partitions start, and keeps those that cannot. For the consumer's thread.

    Args:
        settings: the duplicate horizon.
        topic: the topic.
        topic_id: asks Kafka for the topic's id; asked at every start, since a topic can be made anew meanwhile.
        store: where the progress is.
        consumer: asked where logs begin and end.

    Attributes:
        stopped: partitions that cannot go on without a person, and why.
    """

    def __init__(
        self, settings: Settings, topic: str, topic_id: Callable[[], str], store: CountStore, consumer: Consumer
    ) -> None:
        self.stopped: dict[int, str] = {}
        self._topic = topic
        self._horizon_ms = int(settings.duplicate_horizon_s * 1000)
        self._topic_id = topic_id
        self._store = store
        self._consumer = consumer

    def start(self, numbers: Iterable[int]) -> list[PartitionAssignment]:
        """Those of some partitions that can be counted; each is to be fetched from its position on.

        Raises:
            psycopg.OperationalError, KafkaException: an outage.
        """
        numbers = list(numbers)
        topic_id = self._topic_id() if numbers else ""
        started = []
        for number in numbers:
            try:
                started.append(self._start(number, topic_id))
            except TopicRecreatedError as error:
                self.stop(number, str(error))
            else:
                self.stopped.pop(number, None)
        return started

    def _start(self, number: int, topic_id: str) -> PartitionAssignment:
        tp = TopicPartition(self._topic, number)
        beginning, end = self._consumer.get_watermark_offsets(tp, timeout=METADATA_TIMEOUT_S)
        progress = self._store.start(self._topic, topic_id, {number: beginning})[number]
        position = progress.next_offset
        # Beyond the end there is nothing to warm up for: Kafka is to say that the offset is out of range.
        if self._horizon_ms and progress.log_time is not None and position <= end:
            wanted = TopicPartition(self._topic, number, max(0, progress.log_time - self._horizon_ms))
            found = self._consumer.offsets_for_times([wanted], timeout=METADATA_TIMEOUT_S)[0]
            if found.error is not None:
                raise KafkaException(found.error)
            if 0 <= found.offset < position:
                position = max(found.offset, beginning)
        rejected = self._store.rejected_offsets(self._topic, number, position) if self._horizon_ms else frozenset()
        return PartitionAssignment(
            number, topic_id, position, progress.next_offset, SeenIds(self._horizon_ms), rejected
        )

    def stop(self, number: int, why: str) -> None:
        """Note that a partition cannot go on, and say so."""
        log.error("STOPPED: %s", why)
        self.stopped[number] = why

    def mended(self) -> list[int]:
        """The stopped partitions whose progress fits the log again.

        Raises:
            psycopg.OperationalError, KafkaException: an outage.
        """
        if not self.stopped:
            return []
        topic_id = self._topic_id()
        recorded = self._store.recorded(self._topic, list(self.stopped))
        return [number for number, progress in recorded.items() if self._fits(number, topic_id, progress)]

    def _fits(self, number: int, topic_id: str, progress: tuple[str, int]) -> bool:
        log_range = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, number), timeout=METADATA_TIMEOUT_S
        )
        return stand(topic_id, progress, log_range) is Standing.IN_ORDER


def out_of_range(topic: str, partition: int) -> str:
    """What to tell a person whose log does not have the offset that is next to be counted."""
    return (
        f"partition {partition} of {topic} is counted up to an offset that the log does not have: it was trimmed by "
        f"its retention before it was counted, or made anew. Run 'funnelwatch rebuild progress --topic {topic} "
        f"--partition {partition}' to go on from where the log begins; the worker then goes on by itself"
    )
