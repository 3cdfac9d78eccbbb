"""The events topic (and that of counters and timers), fetched by librdkafka in whole batches.

Where a partition starts is said by the database's progress, not by Kafka's committed offset. Before that place, the
duplicate horizon is read once more, to know its ids again; that is not counted.

Everything here runs on one thread, the callbacks of a rebalance included, which librdkafka calls from within
``consume``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from itertools import pairwise
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.failpoints import point
from funnelwatch.sinks.retry import RetryPolicy, StoppedError
from funnelwatch.stream.intake.commits import CommittedOffsets
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch
from funnelwatch.stream.intake.record_buffer import RecordBuffer
from funnelwatch.stream.intake.start_offsets import METADATA_TIMEOUT_S, StartOffsets, out_of_range
from funnelwatch.stream.intake.validator import RecordBatch, Records

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore

log = logging.getLogger(__name__)
kafka_log = logging.getLogger("funnelwatch.stream.librdkafka")
"""Of the one client that tells what librdkafka says; the others are silent, since all would say the same."""

CONSUME_AT_ONCE = 2_000
"""Messages asked for in one call: enough to make the call cheap, few enough not to wait for."""

NONE = Records.of([])
NO_RECORD = -1
"""Stands for the partition of a message that is an error."""

MAX_FETCH_BYTES = 32_000_000
"""A fetch ends when its values have this many bytes, so that large values cannot fill the memory."""

LOOK_AT_STOPPED_S = 5.0
"""Whether a person has set the progress of a stopped partition right is looked at this often, s."""

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


class Fetcher:
    """A consumer of the events topic, or of that of the metrics. For one thread.

    Args:
        settings: the group, how much to fetch.
        topic_id: asks Kafka for the topic's id; asked at every assignment, since a topic can be made anew meanwhile.
        store: where the progress is.
        stopping: set when the worker stops.
        role: what the topic holds, "events" or "metrics"; its readers are a group of their own.
    """

    def __init__(
        self,
        settings: Settings,
        topic_id: Callable[[], str],
        store: CountStore,
        stopping: threading.Event,
        role: Literal["events", "metrics"] = "events",
    ) -> None:
        self._settings = settings
        self._topic = settings.events_topic if role == "events" else settings.metrics_topic
        self._stopping = stopping
        self._assigned: dict[int, PartitionAssignment] = {}
        self._look_at_stopped_s = 0.0
        self._newly_assigned = False
        self._rewinds: SimpleQueue[PartitionAssignment] = SimpleQueue()
        self._piles: dict[PartitionAssignment, RecordBuffer] = {}
        self._taken = 0
        self._taken_bytes = 0
        self._held = False
        self._told = CommittedOffsets()
        self.changed_s: float | None = None
        session_ms = int(settings.session_timeout_s * 1000)
        self._consumer = Consumer(
            settings.kafka(
                "consumer",
                **{
                    "group.id": f"{settings.consumer_group}-{role}",
                    "client.id": "funnelwatch-intake",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "on_commit": self._on_commit,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    # Never guess: where a partition starts is known, and an offset that the log does not have is
                    # a fault that a person must look at.
                    "auto.offset.reset": "error",
                    "session.timeout.ms": session_ms,
                    "heartbeat.interval.ms": max(100, session_ms // 5),
                    # By default a full queue makes the fetcher rest for a second; measured, that costs a factor of 5.
                    "fetch.queue.backoff.ms": 2,
                    "queued.max.messages.kbytes": 65_536,
                    # By default 100,000 a partition: no event comes sooner for it, and each has memory of its own.
                    "queued.min.messages": 20_000,
                    # A topic that is made while we wait is noticed soon.
                    "topic.metadata.refresh.interval.ms": 30_000,
                },
            ),
            logger=kafka_log,
        )
        self._starts = StartOffsets(settings, self._topic, topic_id, store, self._consumer)
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    @property
    def assigned(self) -> list[int]:
        """The partitions that this worker has now."""
        return sorted(self._assigned)

    def assignments(self) -> dict[int, PartitionAssignment]:
        """The partitions that this worker has now, each with its assignment. From any thread."""
        return dict(self._assigned)

    @property
    def stopped(self) -> dict[int, str]:
        """Partitions that cannot go on without a person, and why."""
        return dict(self._starts.stopped)

    def fetch(self) -> PolledBatch:
        """What comes within the flush interval; sooner if it is much.

        It is full if it did not take all of the interval.

        Raises:
            KafkaException: the consumer cannot go on; the worker must start anew.
        """
        self._resume()
        self._rewind()
        self._start_mended()
        self.commit(self._told.due(self._assigned, time.monotonic()))
        settings = self._settings
        deadline = time.monotonic() + settings.flush_interval_s
        while not (is_full := self._taken >= settings.flush_max_events or self._taken_bytes >= MAX_FETCH_BYTES):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._take(self._consumer.consume(CONSUME_AT_ONCE, min(left, 0.05)))
        return self._fetched(is_full)

    def _take(self, messages: Sequence[Message]) -> None:
        """Sort messages by the assignment that they belong to, before the next call may change the assignment."""
        if not messages:
            return
        numbers: Iterable[Any] = map(Message.partition, messages)
        if any(map(Message.error, messages)):
            numbers = (one.partition() if one.error() is None else NO_RECORD for one in messages)
        places = np.fromiter(numbers, np.int64, len(messages))
        # Messages of a partition come in rows.
        begins = np.flatnonzero(np.diff(places, prepend=NO_RECORD - 1)).tolist()
        for begin, end in pairwise((*begins, len(messages))):
            row, partition = messages[begin:end], int(places[begin])
            if partition == NO_RECORD:
                for message in row:
                    self._on_error(message, cast("KafkaError", message.error()))
            elif partition in self._assigned:
                self._take_row(self._assigned[partition], row)

    def _take_row(self, assigned: PartitionAssignment, row: Sequence[Message]) -> None:
        pile = self._piles.get(assigned) or RecordBuffer()
        taken, size = pile.add(row, assigned.position)
        if taken:
            self._piles[assigned] = pile
            assigned.at_end = False
            assigned.position = pile.next_offset
            self._taken += taken
            self._taken_bytes += size

    def _fetched(self, is_full: bool) -> PolledBatch:
        """What was taken, as batches that each start where the one before it ended."""
        taken, self._piles, self._taken, self._taken_bytes = self._piles, {}, 0, 0
        fetch = PolledBatch(newly_assigned=self._newly_assigned, is_full=is_full)
        self._newly_assigned = False
        # What is revoked meanwhile is left out: whoever has it now reads it.
        for assigned in self._assigned.values():
            known, fresh = taken[assigned].records().split(assigned.counted_from) if assigned in taken else (NONE, NONE)
            if len(known):
                batch = RecordBatch(
                    assigned.partition,
                    int(known.offsets[0]),
                    int(known.offsets[-1]) + 1,
                    known.without(assigned.rejected) if assigned.rejected else known,
                )
                fetch.warm_up.append((assigned, batch))
            # Without records too: then transaction markers, or what compaction has removed, end the partition.
            if assigned.position > assigned.handed_over:
                end = assigned.position
                fetch.batches.append((assigned, RecordBatch(assigned.partition, assigned.handed_over, end, fresh)))
                assigned.handed_over = end
        fetch.at_end = [assigned for assigned in self._assigned.values() if assigned.at_end]
        return fetch

    def _on_error(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - it has no other name
            if partition in self._assigned:
                self._at_end(self._assigned[partition], message)
        elif error.code() in OUT_OF_RANGE and partition is not None:
            if partition in self._assigned:
                self._stop_partition(partition, out_of_range(self._topic, partition))
        elif error.retriable() or error.code() in WAITED_OUT:
            kafka_log.warning("Kafka: waiting: %s", error.str())
        else:
            raise KafkaException(error)

    @staticmethod
    def _at_end(assigned: PartitionAssignment, message: Message) -> None:
        """Move on to the end of the log: behind the last record there may be offsets that no record has.

        A transaction ends with a marker, and records of an aborted one are never delivered. The event's offset is the
        one that librdkafka fetches next; that the last record is counted is no sign that nothing is unread.
        """
        assigned.at_end = True
        end = message.offset()
        if end is not None and end > assigned.position:
            assigned.position = end

    def _stop_partition(self, partition: int, why: str) -> None:
        self._starts.stop(partition, why)
        self._assigned.pop(partition, None)
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        starts = self._start(numbers)
        consumer.incremental_assign([TopicPartition(self._topic, number, starts.get(number, 0)) for number in numbers])
        # librdkafka remembers that a partition was paused, also when it is given away and comes back: one that was lost
        # during a hold would stand still for ever.
        consumer.resume([TopicPartition(self._topic, number) for number in starts])
        consumer.pause([TopicPartition(self._topic, number) for number in numbers if number not in starts])
        self.changed_s = time.monotonic()
        log.info("assigned: partitions %s of %s", numbers, self._topic)
        if numbers:
            point("assigned")

    def _start(self, numbers: Iterable[int]) -> dict[int, int]:
        """Where to fetch partitions from, waiting out an outage; one that is missing must not be fetched."""
        # A worker that is stopping fetches nothing any more; its partitions go back when the consumer closes.
        with contextlib.suppress(StoppedError):
            started = RetryPolicy(self._stopping)("starting partitions", lambda: self._starts.start(numbers))
            self._assigned |= {assigned.partition: assigned for assigned in started}
            # Who had them before may have died between the database's commit and Kafka's.
            self._told.want({one.partition: one.counted_from for one in started if one.counted_from > 0})
            self._newly_assigned = self._newly_assigned or bool(started)
            return {assigned.partition: assigned.position for assigned in started}
        return {}

    def _start_mended(self) -> None:
        """Take up stopped partitions whose progress a person has set right; asked for every few seconds."""
        if not self._starts.stopped or time.monotonic() < self._look_at_stopped_s:
            return
        self._look_at_stopped_s = time.monotonic() + LOOK_AT_STOPPED_S
        try:
            mended = self._starts.mended()
        except Exception as error:
            if not is_transient(error):
                raise
            return
        for partition, offset in self._start(mended).items():
            log.warning("partition %s: its progress is set right: counting goes on", partition)
            tp = TopicPartition(self._topic, partition, offset)
            # Not seek: a partition whose offset was out of range has no place to seek from.
            self._consumer.incremental_unassign([tp])
            self._consumer.incremental_assign([tp])
            self._consumer.resume([tp])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # What of them is fetched and not yet flushed may be flushed still: the database decides who was first.
        for partition in partitions:
            self._assigned.pop(partition.partition, None)
            self._starts.stopped.pop(partition.partition, None)
        self.changed_s = time.monotonic()
        log.info("revoked: partitions %s of %s", [partition.partition for partition in partitions], self._topic)

    def rewind(self, assigned: PartitionAssignment) -> None:
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
            starts = self._start([partition])
            if partition in starts:
                self._consumer.seek(TopicPartition(self._topic, partition, starts[partition]))
            else:
                self._consumer.pause([TopicPartition(self._topic, partition)])

    def keep_alive(self) -> None:
        """Stay in the group while nothing can be taken in: hold until the next fetch, serve the group's callbacks."""
        self._held = True
        self._consumer.pause(self._consumer.assignment())
        for assigned in self._assigned.values():
            assigned.at_end = False  # not known while nothing is asked for; Kafka says so again after the hold
        # What was on its way, or is of a partition that was assigned by this very call, is kept for the next fetch.
        self._take(self._consumer.consume(CONSUME_AT_ONCE, 0))

    def _resume(self) -> None:
        """Go on fetching after ``keep_alive``."""
        if self._held:
            self._consumer.resume([tp for tp in self._consumer.assignment() if tp.partition in self._assigned])
            self._held = False

    def commit(self, next_offsets: dict[int, int]) -> None:
        """Tell Kafka how far partitions are counted, until it confirms it. From any thread.

        It is for lag tools and ``funnelwatch doctor``; nothing here depends on it.
        """
        if not next_offsets:
            return
        self._told.want(next_offsets, time.monotonic())
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except (KafkaException, RuntimeError) as error:  # RuntimeError: the consumer is closed
            log.debug("offsets were not committed: %s", error)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            self._told.confirm({one.partition: one.offset for one in partitions if one.error is None})

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
        self._consumer.list_topics(self._topic, timeout=timeout_s)

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
