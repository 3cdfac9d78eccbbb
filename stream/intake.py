"""The events topic, fetched by librdkafka in whole batches.

Where a partition starts is said by the database's progress, not by Kafka's committed offset. Before that place, the
duplicate horizon is read once more, to know its ids again; that is not counted.

Everything here runs on one thread, the callbacks of a rebalance included, which librdkafka calls from within
``consume``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sinks.timescale.counts import TopicRecreatedError
from sinks.timescale.database import is_outage
from stream.counting import Record, RecordBatch
from stream.duplicates import SeenIds
from stream.faults import point
from stream.outage import StoppedError, until_done

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from funnelwatch.settings import Settings
    from sinks.timescale.counts import CountStore

log = logging.getLogger(__name__)

CONSUME_AT_ONCE = 2_000
"""Messages asked for in one call: enough to make the call cheap, few enough not to wait for."""

MAX_FETCH_BYTES = 32_000_000
"""A fetch ends when its values have this many bytes, so that large values cannot fill the memory."""

METADATA_TIMEOUT_S = 10.0

OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - they have no other name

WAITED_OUT = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    # An outage of the database while partitions were being started; the consumer joins again by itself.
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
)
"""Errors that librdkafka recovers from, though it does not call them retriable."""


@dataclass(slots=True, eq=False)
class Assigned:
    """A partition, from one assignment (or rewind) to the next.

    Attributes:
        partition: its number.
        topic_id: Kafka's id of the topic that it belonged to then.
        position: the next offset to be fetched.
        counted_from: what is before this is counted already, and read only for its event ids.
        handed_over: what is before this was handed over to be counted, or was counted at the assignment.
        seen: the ids of the duplicate horizon.
        refused: offsets before ``counted_from`` that were refused: their ids are not counted.
        at_end: whether the last thing heard was that nothing is unread.
        watermark: the largest watermark of its batches since the assignment, ms. Kept by the one who counts.
        moved_s: monotonic time of the fetch that moved it on last, or of the assignment. Kept by the one who counts.
    """

    partition: int
    topic_id: str
    position: int
    counted_from: int
    seen: SeenIds
    refused: frozenset[int] = frozenset()
    handed_over: int = field(init=False)
    at_end: bool = False
    watermark: int | None = None
    moved_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Counting goes on where it ended."""
        self.handed_over = self.counted_from


@dataclass(slots=True)
class Fetch:
    """What one round brought: at most one batch a partition to count, and batches to warm up with.

    Attributes:
        batches: to be counted.
        warm_up: counted already, read for their event ids.
        at_end: partitions with nothing unread after this.
        newly_assigned: whether a partition was assigned since the last fetch.
        taken_s: monotonic time of the fetch.
    """

    batches: list[tuple[Assigned, RecordBatch]] = field(default_factory=list)
    warm_up: list[tuple[Assigned, RecordBatch]] = field(default_factory=list)
    at_end: list[Assigned] = field(default_factory=list)
    newly_assigned: bool = False
    taken_s: float = field(default_factory=time.monotonic)

    def __bool__(self) -> bool:
        """Whether there is anything to do at once."""
        return bool(self.batches or self.warm_up or self.newly_assigned)


class Fetcher:
    """A consumer of the events topic. For one thread.

    Args:
        settings: the topic, the group, how much to fetch.
        topic_id: asks Kafka for the topic's id; asked at every assignment, since a topic can be made anew meanwhile.
        store: where the progress is.
        stopping: set when the worker stops.
    """

    def __init__(
        self, settings: Settings, topic_id: Callable[[], str], store: CountStore, stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._topic = settings.events_topic
        self._topic_id = topic_id
        self._store = store
        self._stopping = stopping
        self._assigned: dict[int, Assigned] = {}
        self._stopped: dict[int, str] = {}
        self._newly_assigned = False
        self._rewinds: SimpleQueue[Assigned] = SimpleQueue()
        self._records: dict[Assigned, list[Record]] = {}
        self._taken = 0
        self._taken_bytes = 0
        self.changed_s: float | None = None
        session_ms = int(settings.session_timeout_s * 1000)
        self._consumer = Consumer(
            settings.kafka(
                **{
                    "group.id": f"{settings.consumer_group}-events",
                    "client.id": "funnelwatch-intake",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    # Never guess: where a partition starts is known, and an offset that the log does not have is
                    # a fault that a person must look at.
                    "auto.offset.reset": "error",
                    "session.timeout.ms": session_ms,
                    "heartbeat.interval.ms": max(100, session_ms // 5),
                    # By default a full queue makes the fetcher rest for a second; measured, that costs a factor of 5.
                    "fetch.queue.backoff.ms": 2,
                    "fetch.wait.max.ms": 10,
                    "queued.max.messages.kbytes": 65_536,
                    # A topic that is made while we wait is noticed soon.
                    "topic.metadata.refresh.interval.ms": 30_000,
                }
            ),
            logger=log,
        )
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    @property
    def assigned(self) -> list[int]:
        """The partitions that this worker has now."""
        return sorted(self._assigned)

    @property
    def stopped(self) -> dict[int, str]:
        """Partitions that cannot go on without a person, and why."""
        return dict(self._stopped)

    def fetch(self) -> Fetch:
        """What comes within the flush interval; sooner if it is much.

        Raises:
            KafkaException: the consumer cannot go on; the worker must start anew.
        """
        self._rewind()
        settings = self._settings
        deadline = time.monotonic() + settings.flush_interval_s
        while self._taken < settings.flush_max_events and self._taken_bytes < MAX_FETCH_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._take(self._consumer.consume(CONSUME_AT_ONCE, min(left, 0.05)))
        return self._fetched()

    def _take(self, messages: Iterable[Message]) -> None:
        """Sort messages by the assignment that they belong to, before the next call may change the assignment."""
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_error(message, error)
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            assigned = self._assigned.get(partition)
            if assigned is None or offset < assigned.position:
                continue  # revoked or stopped; or on its way when the partition was set back
            assigned.at_end = False
            assigned.position = offset + 1
            record = Record(offset, message.key(), message.value(), message.timestamp()[1])
            self._records.setdefault(assigned, []).append(record)
            self._taken += 1
            self._taken_bytes += len(message)

    def _fetched(self) -> Fetch:
        """What was taken, as batches that each start where the one before it ended."""
        taken, self._records, self._taken, self._taken_bytes = self._records, {}, 0, 0
        fetch = Fetch(newly_assigned=self._newly_assigned)
        self._newly_assigned = False
        for assigned, records in taken.items():
            if self._assigned.get(assigned.partition) is not assigned:
                continue  # revoked meanwhile: whoever has it now reads them
            partition, counted_from = assigned.partition, assigned.counted_from
            known = [record for record in records if record.offset < counted_from]
            fresh = records[len(known) :]
            known = [record for record in known if record.offset not in assigned.refused]
            if known:
                fetch.warm_up.append((assigned, RecordBatch(partition, known[0].offset, known[-1].offset + 1, known)))
            if fresh:
                end = fresh[-1].offset + 1
                fetch.batches.append((assigned, RecordBatch(partition, assigned.handed_over, end, fresh)))
                assigned.handed_over = end
        fetch.at_end = [assigned for assigned in self._assigned.values() if assigned.at_end]
        return fetch

    def _on_error(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - it has no other name
            if partition in self._assigned:
                self._assigned[partition].at_end = True
        elif error.code() in OUT_OF_RANGE and partition is not None:
            if partition in self._assigned:
                self._stop_partition(partition, out_of_range(self._topic, partition))
        elif error.retriable() or error.code() in WAITED_OUT:
            log.warning("Kafka: waiting: %s", error.str())
        else:
            raise KafkaException(error)

    def _stop_partition(self, partition: int, why: str) -> None:
        log.error("STOPPED: %s", why)
        self._stopped[partition] = why
        self._assigned.pop(partition, None)
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        starts = self._starts(numbers)
        consumer.incremental_assign([TopicPartition(self._topic, number, starts.get(number, 0)) for number in numbers])
        # librdkafka remembers that a partition was paused, also when it is given away and comes back: one that was lost
        # during a hold would stand still for ever.
        consumer.resume([TopicPartition(self._topic, number) for number in starts])
        consumer.pause([TopicPartition(self._topic, number) for number in numbers if number not in starts])
        self.changed_s = time.monotonic()
        log.info("assigned: partitions %s", numbers)
        if numbers:
            point("assigned")

    def _starts(self, numbers: list[int]) -> dict[int, int]:
        """Find out where partitions start, waiting out an outage; one that is missing must not be fetched."""
        # A worker that is stopping fetches nothing any more; its partitions go back when the consumer closes.
        with contextlib.suppress(StoppedError):
            return until_done(
                lambda: self._start(numbers),
                what="starting partitions",
                is_outage=lambda error: is_outage(error) or isinstance(error, KafkaException),
                stopping=self._stopping,
            )
        return {}

    def _start(self, numbers: list[int]) -> dict[int, int]:
        """Make the ``Assigned`` of partitions; the offsets to fetch from, of those that can be counted."""
        horizon_ms = int(self._settings.duplicate_horizon_s * 1000)
        topic_id = self._topic_id() if numbers else ""
        starts: dict[int, int] = {}
        for number in numbers:
            tp = TopicPartition(self._topic, number)
            beginning, end = self._consumer.get_watermark_offsets(tp, timeout=METADATA_TIMEOUT_S)
            try:
                progress = self._store.start(self._topic, topic_id, {number: beginning})[number]
            except TopicRecreatedError as error:
                self._stopped[number] = str(error)
                log.error("STOPPED: %s", error)  # noqa: TRY400 - a person reads this, not a traceback
                continue
            position = progress.next_offset
            # Beyond the end there is nothing to warm up for: Kafka is to say that the offset is out of range.
            if horizon_ms and progress.log_time is not None and position <= end:
                wanted = TopicPartition(self._topic, number, max(0, progress.log_time - horizon_ms))
                found = self._consumer.offsets_for_times([wanted], timeout=METADATA_TIMEOUT_S)[0]
                if found.error is not None:
                    raise KafkaException(found.error)
                if 0 <= found.offset < position:
                    position = max(found.offset, beginning)
            self._stopped.pop(number, None)
            refused = self._store.refused_offsets(self._topic, number, position) if horizon_ms else frozenset()
            self._assigned[number] = Assigned(
                number, topic_id, position, progress.next_offset, SeenIds(horizon_ms), refused
            )
            self._newly_assigned = True
            starts[number] = position
        return starts

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # What of them is fetched and not yet flushed may be flushed still: the database decides who was first.
        for partition in partitions:
            self._assigned.pop(partition.partition, None)
            self._stopped.pop(partition.partition, None)
        self.changed_s = time.monotonic()
        log.info("revoked: partitions %s", [partition.partition for partition in partitions])

    def rewind(self, assigned: Assigned) -> None:
        """Read a partition anew from where it is counted up to; taken up by the next fetch. From any thread.

        Does nothing where the assignment is no longer that one.
        """
        self._rewinds.put(assigned)

    def _rewind(self) -> None:
        while not self._rewinds.empty():
            assigned = self._rewinds.get()
            partition = assigned.partition
            if self._assigned.get(partition) is not assigned:
                continue
            log.warning("partition %s: reading anew from where it is counted up to", partition)
            del self._assigned[partition]
            starts = self._starts([partition])
            if partition in starts:
                self._consumer.seek(TopicPartition(self._topic, partition, starts[partition]))
            else:
                self._consumer.pause([TopicPartition(self._topic, partition)])

    def keep_alive(self) -> None:
        """Stay in the group while nothing can be taken in: hold the fetch, serve the group's callbacks."""
        self._consumer.pause(self._consumer.assignment())
        for assigned in self._assigned.values():
            assigned.at_end = False  # not known while nothing is asked for; Kafka says so again after the hold
        # What was on its way, or is of a partition that was assigned by this very call, is kept for the next fetch.
        self._take(self._consumer.consume(CONSUME_AT_ONCE, 0))

    def resume(self) -> None:
        """Go on fetching after ``keep_alive``."""
        self._consumer.resume([tp for tp in self._consumer.assignment() if tp.partition in self._assigned])

    def commit(self, next_offsets: dict[int, int]) -> None:
        """Tell Kafka how far partitions are counted: for lag tools, nothing here depends on it. From any thread."""
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except (KafkaException, RuntimeError) as error:  # RuntimeError: the consumer is closed
            log.debug("offsets were not committed: %s", error)

    def places(self, topic: str, positions: Mapping[int, int] | None = None) -> dict[tuple[str, int], tuple[int, int]]:
        """Position and end of partitions, by topic and partition: what the broker says now. From any thread.

        Args:
            topic: any topic.
            positions: partition to position, as somebody else reads it; None: the partitions of this consumer.

        Raises:
            KafkaException: Kafka does not answer.
        """
        if positions is None:
            positions = {assigned.partition: assigned.position for assigned in list(self._assigned.values())}
        found = {}
        for partition, position in positions.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=METADATA_TIMEOUT_S)
            found[topic, partition] = position, end
        return found

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._consumer.list_topics(self._settings.events_topic, timeout=timeout_s)

    def lag(self) -> dict[int, int]:
        """Unread records of each assigned partition, as far as the last fetch told. From any thread."""
        lags: dict[int, int] = {}
        for assigned in list(self._assigned.values()):
            tp = TopicPartition(self._topic, assigned.partition)
            _, end = self._consumer.get_watermark_offsets(tp, cached=True)
            if end >= 0:
                lags[assigned.partition] = max(0, end - assigned.position)
        return lags

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def out_of_range(topic: str, partition: int) -> str:
    """What to tell a person whose log does not have the offset that is next to be counted."""
    return (
        f"partition {partition} of {topic} is counted up to an offset that the log does not have: it was trimmed by "
        f"its retention before it was counted, or made anew. Run 'funnelwatch rebuild progress --partition "
        f"{partition}' to go on from where the log begins, then restart the worker"
    )
