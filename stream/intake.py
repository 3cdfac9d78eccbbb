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
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sinks.timescale.counts import TopicRecreatedError
from sinks.timescale.database import is_outage
from stream.counting import Record, RecordBatch
from stream.duplicates import SeenIds
from stream.outage import StoppedError, until_done

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from funnelwatch.settings import Settings
    from sinks.timescale.counts import CountStore

log = logging.getLogger(__name__)

CONSUME_AT_ONCE = 2_000
"""Messages asked for in one call: enough to make the call cheap, few enough not to wait for."""

MAX_FETCH_BYTES = 32_000_000
"""A fetch ends when its values have this many bytes, so that large values cannot fill the memory."""

METADATA_TIMEOUT_S = 10.0


@dataclass(slots=True, eq=False)
class Assigned:
    """A partition, from one assignment (or rewind) to the next.

    Attributes:
        partition: its number.
        position: the next offset to be fetched.
        counted_from: what is before this is counted already, and read only for its event ids.
        seen: the ids of the duplicate horizon.
        last_record_s: monotonic time of the last record, or of the assignment.
        at_end: whether the last thing heard was that nothing is unread.
        idle: whether it was reported as idle since its last record.
    """

    partition: int
    position: int
    counted_from: int
    seen: SeenIds
    last_record_s: float = field(default_factory=time.monotonic)
    at_end: bool = False
    idle: bool = False


@dataclass(slots=True)
class Fetch:
    """What one round brought: at most one batch a partition to count, batches to warm up with, partitions now idle."""

    batches: list[tuple[Assigned, RecordBatch]] = field(default_factory=list)
    warm_up: list[tuple[Assigned, RecordBatch]] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.batches or self.warm_up or self.idle)


class Fetcher:
    """A consumer of the events topic. For one thread."""

    def __init__(self, settings: Settings, topic_id: str, store: CountStore, stopping: threading.Event) -> None:
        self._settings = settings
        self._topic = settings.events_topic
        self._topic_id = topic_id
        self._store = store
        self._stopping = stopping
        self._assigned: dict[int, Assigned] = {}
        self._stopped: dict[int, str] = {}
        self._rewinds: dict[int, int] = {}
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
        messages: list[Message] = []
        size = 0
        while len(messages) < settings.flush_max_events and size < MAX_FETCH_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            got = self._consumer.consume(CONSUME_AT_ONCE, min(left, 0.05))
            size += sum(len(message) for message in got)
            messages += got
        return self._sorted(messages)

    def _sorted(self, messages: Iterable[Message]) -> Fetch:
        """The messages by partition, as batches that each start where the last one ended."""
        records: dict[int, list[Record]] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_error(message, error)
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            record = Record(offset, message.key(), message.value(), message.timestamp()[1])
            records.setdefault(partition, []).append(record)
        fetch = Fetch()
        now = time.monotonic()
        for partition, got in records.items():
            assigned = self._assigned.get(partition)
            if assigned is None:
                continue  # revoked between the fetch and here
            assigned.last_record_s, assigned.at_end, assigned.idle = now, False, False
            known = [record for record in got if record.offset < assigned.counted_from]
            fresh = got[len(known) :]
            if known:
                end = known[-1].offset + 1
                fetch.warm_up.append((assigned, RecordBatch(partition, assigned.position, end, known)))
                assigned.position = end
            if fresh:
                start = max(assigned.position, assigned.counted_from)
                end = fresh[-1].offset + 1
                fetch.batches.append((assigned, RecordBatch(partition, start, end, fresh)))
                assigned.position = end
        for assigned in self._assigned.values():
            quiet = now - assigned.last_record_s
            if assigned.at_end and not assigned.idle and quiet >= self._settings.idle_timeout_s:
                assigned.idle = True
                fetch.idle.append(assigned.partition)
        return fetch

    def _on_error(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        assert partition is not None
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - it has no other name
            if partition in self._assigned:
                self._assigned[partition].at_end = True
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            self._stop_partition(
                partition,
                f"partition {partition} of {self._topic} is counted up to an offset that the log does not have: it "
                f"was trimmed by its retention before it was counted, or made anew. Run 'funnelwatch rebuild "
                f"progress --partition {partition}' to go on from where the log begins",
            )
        elif error.fatal() or not error.retriable():
            if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._ALL_BROKERS_DOWN):  # noqa: SLF001
                log.warning("Kafka: waiting: %s", error.str())
            else:
                raise KafkaException(error)
        else:
            log.warning("Kafka: waiting: %s", error.str())

    def _stop_partition(self, partition: int, why: str) -> None:
        log.error("STOPPED: %s", why)
        self._stopped[partition] = why
        self._assigned.pop(partition, None)
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        starts: dict[int, int] = {}
        # A worker that is stopping fetches nothing any more; its partitions go back when the consumer closes.
        with contextlib.suppress(StoppedError):
            starts = until_done(
                lambda: self._start(numbers),
                what="starting partitions",
                is_outage=lambda error: is_outage(error) or isinstance(error, KafkaException),
                stopping=self._stopping,
            )
        consumer.incremental_assign([TopicPartition(self._topic, number, starts.get(number, 0)) for number in numbers])
        for number in numbers:
            if number not in self._assigned:
                consumer.pause([TopicPartition(self._topic, number)])
        log.info("assigned: partitions %s", numbers)

    def _start(self, numbers: list[int]) -> dict[int, int]:
        """Find out where partitions start, and make their ``Assigned``; the offsets to fetch from."""
        horizon_ms = int(self._settings.duplicate_horizon_s * 1000)
        starts: dict[int, int] = {}
        for number in numbers:
            tp = TopicPartition(self._topic, number)
            beginning, _ = self._consumer.get_watermark_offsets(tp, timeout=METADATA_TIMEOUT_S)
            try:
                progress = self._store.start(self._topic, self._topic_id, {number: beginning})[number]
            except TopicRecreatedError as error:
                self._stopped[number] = str(error)
                log.error("STOPPED: %s", error)  # noqa: TRY400 - a person reads this, not a traceback
                continue
            position = progress.next_offset
            if horizon_ms and progress.log_time is not None:
                wanted = TopicPartition(self._topic, number, max(0, progress.log_time - horizon_ms))
                found = self._consumer.offsets_for_times([wanted], timeout=METADATA_TIMEOUT_S)[0].offset
                if 0 <= found < position:
                    position = max(found, beginning)
            self._stopped.pop(number, None)
            self._assigned[number] = Assigned(number, position, progress.next_offset, SeenIds(horizon_ms))
            starts[number] = position
        return starts

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # What of them is fetched and not yet flushed may be flushed still: the database decides who was first.
        for partition in partitions:
            self._assigned.pop(partition.partition, None)
            self._stopped.pop(partition.partition, None)
        log.info("revoked: partitions %s", [partition.partition for partition in partitions])

    def rewind(self, partition: int) -> None:
        """Read a partition anew from where it is counted up to; taken up by the next fetch. From any thread."""
        self._rewinds[partition] = self._rewinds.get(partition, 0) + 1

    def _rewind(self) -> None:
        while self._rewinds:
            partition, _ = self._rewinds.popitem()
            if partition not in self._assigned:
                continue
            log.warning("partition %s: reading anew from where it is counted up to", partition)
            tp = [TopicPartition(self._topic, partition)]
            del self._assigned[partition]
            self._consumer.incremental_unassign(tp)
            self._on_assign(self._consumer, tp)

    def keep_alive(self) -> None:
        """Stay in the group while nothing can be taken in: hold the fetch, serve the group's callbacks."""
        held = self._consumer.assignment()
        self._consumer.pause(held)
        late = self._consumer.consume(CONSUME_AT_ONCE, 0)
        if any(message.error() is None for message in late):
            # They were on their way when the fetch was held; they are read again.
            for partition in {message.partition() for message in late if message.error() is None}:
                assert partition is not None
                self.rewind(partition)

    def resume(self) -> None:
        """Go on fetching after ``keep_alive``."""
        self._consumer.resume([tp for tp in self._consumer.assignment() if tp.partition in self._assigned])

    def commit(self, next_offsets: dict[int, int]) -> None:
        """Tell Kafka how far partitions are counted: for lag tools, nothing here depends on it. From any thread."""
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("offsets were not committed: %s", error)

    def lag(self) -> dict[int, int]:
        """Unread records of each assigned partition, as far as the last fetch told."""
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


def topic_id(metadata: Any, topic: str) -> str:
    """Kafka's id of a topic, from ``AdminClient.describe_topics``; it tells a topic from an earlier of its name."""
    return str(metadata[topic].topic_id)
