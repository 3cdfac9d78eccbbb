"""The offsets at which partitions start, by the database's progress, and those that are committed to Kafka.

A partition whose progress does not fit the log is stopped until a person decides (``funnelwatch rebuild progress``);
when they fit again it can start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from funnelwatch.sinks.base import TopicRecreatedError
from funnelwatch.sinks.timescale.progress import Standing, stand
from funnelwatch.stream.intake.polled_batch import PartitionAssignment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from confluent_kafka import Consumer

    from funnelwatch.sinks.timescale.counts import CountStore
    from funnelwatch.stream.intake.horizons import ReadingHorizons

log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 10.0

COMMIT_AGAIN_S = 5.0
"""An offset that Kafka has not confirmed is committed again after this, s."""
LONG_AGO_S = float("-inf")


class StartOffsets:
    """Finds the offsets at which partitions start, and keeps those that cannot. For the consumer's thread.

    Args:
        horizons: what is remembered of the records before a start.
        topic: the topic.
        topic_id: asks Kafka for the topic's id; asked at every start, since a topic can be made anew meanwhile.
        store: where the progress is.
        consumer: asked where logs begin and end.

    Attributes:
        stopped: partitions that cannot go on without a person, and why.
    """

    def __init__(
        self,
        horizons: ReadingHorizons,
        topic: str,
        topic_id: Callable[[], str],
        store: CountStore,
        consumer: Consumer,
    ) -> None:
        self.stopped: dict[int, str] = {}
        self._topic = topic
        self._horizons = horizons
        self._topic_id = topic_id
        self._store = store
        self._consumer = consumer

    def start(self, numbers: Iterable[int]) -> list[PartitionAssignment]:
        """The starts of those partitions that can be counted; the fetcher fetches each from its position on.

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
        # Beyond the end there is nothing to warm up for: the fetch reports that the offset is out of range.
        behind_ms = self._horizons.behind_ms
        if behind_ms and progress.log_time is not None and position <= end:
            wanted = TopicPartition(self._topic, number, max(0, progress.log_time - behind_ms))
            found = self._consumer.offsets_for_times([wanted], timeout=METADATA_TIMEOUT_S)[0]
            if found.error is not None:
                raise KafkaException(found.error)
            if 0 <= found.offset < position:
                position = max(found.offset, beginning)
        rejected = self._store.rejected_offsets(self._topic, number, position) if behind_ms else frozenset()
        seen, sessions = self._horizons.memory()
        return PartitionAssignment(number, topic_id, position, progress.next_offset, seen, rejected, sessions)

    def stop(self, number: int, why: str) -> None:
        """Note and log that a partition cannot go on."""
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


class CommittedOffsets:
    """Offsets to commit until Kafka confirms them, by partition, each with the time (s) of its last commit.

    A commit that is lost with a broker is repeated, and so is one that a worker that died did not get to: otherwise lag
    tools and ``funnelwatch doctor`` would show records as unread until the next one comes. Pure; from any thread.
    """

    def __init__(self) -> None:
        self._wanted: dict[int, tuple[int, float]] = {}

    def want(self, next_offsets: Mapping[int, int], now_s: float = LONG_AGO_S) -> None:
        """Note offsets that were committed just now; without a time, those that are to be committed yet."""
        self._wanted.update({partition: (offset, now_s) for partition, offset in next_offsets.items()})

    def confirm(self, next_offsets: Mapping[int, int]) -> None:
        """Forget what Kafka knows by now; a later offset of the same partition is still to be confirmed."""
        for partition, offset in next_offsets.items():
            if self._wanted.get(partition, (None, 0.0))[0] == offset:
                self._wanted.pop(partition, None)

    def due(self, assigned: Collection[int], now_s: float) -> dict[int, int]:
        """The offsets to commit again now, of the partitions that this worker has; other workers commit the others."""
        # Copies, since the callback of a commit may confirm from another thread meanwhile.
        for partition in [partition for partition in self._wanted.copy() if partition not in assigned]:
            self._wanted.pop(partition, None)
        old = self._wanted.copy().items()
        return {partition: offset for partition, (offset, at_s) in old if now_s - at_s >= COMMIT_AGAIN_S}


def places_of(consumer: Consumer, topic: str, positions: Mapping[int, int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Position and end of partitions, by topic and partition; asks the broker.

    Raises:
        KafkaException: Kafka does not answer.
    """
    # One request for all of them; a time of -1 asks for the end.
    wanted = [TopicPartition(topic, partition, OFFSET_END) for partition in positions]
    ends = consumer.offsets_for_times(wanted, timeout=METADATA_TIMEOUT_S) if wanted else []
    for end in ends:
        if end.error is not None:
            raise KafkaException(end.error)
    return {(topic, end.partition): (positions[end.partition], end.offset) for end in ends}


def lag_of(consumer: Consumer, topic: str, assignments: Iterable[PartitionAssignment]) -> dict[int, int]:
    """Records that nobody has read to count them, by partition, as of the last fetch: no broker is asked."""
    lags: dict[int, int] = {}
    for assigned in assignments:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, assigned.partition), cached=True)
        if end >= 0:
            lags[assigned.partition] = max(0, end - max(assigned.position, assigned.counted_from))
    return lags


def out_of_range(topic: str, partition: int) -> str:
    """The message to a person whose log does not have the offset that is next to be counted."""
    return (
        f"partition {partition} of {topic} is counted up to an offset that the log does not have: it was trimmed by "
        f"its retention before it was counted, or made anew. Run 'funnelwatch rebuild progress --topic {topic} "
        f"--partition {partition}' to go on from where the log begins; the worker then goes on by itself"
    )
