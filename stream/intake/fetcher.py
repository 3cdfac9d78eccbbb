"""librdkafka fetches the events topic (and that of counters and timers) in whole batches.

The database's progress decides where a partition starts, not Kafka's committed offset. Before that offset the duplicate
horizon is read once more, to know its ids again; those records are not counted.

Everything here runs on one thread, the callbacks of a rebalance included, which librdkafka calls from within ``poll``.
The records do not come from ``poll``: C takes them from a queue of ours (``funnelwatch.stream.native.poll_buffer``).
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.sinks.retry import RetryPolicy, StoppedError
from funnelwatch.stream.intake.client import IntakeClient
from funnelwatch.stream.intake.consumer import OUT_OF_RANGE, WAITED_OUT, consumer_properties
from funnelwatch.stream.intake.horizons import ReadingHorizons
from funnelwatch.stream.intake.offsets import StartOffsets, out_of_range
from funnelwatch.stream.intake.polled_batch import polled_batch
from funnelwatch.stream.native.poll_buffer import AT_ONCE, PartitionQueue, PollBuffer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch
    from funnelwatch.stream.native.event_decoder import EventDecoder

log = logging.getLogger(__name__)
kafka_log = logging.getLogger("funnelwatch.stream.librdkafka")
"""The log of this client is shown; the others are silent, since all would log the same."""

LONGEST_TAKE_S = 0.05
"""The group's callbacks wait at most this long, s."""

IDLE_TAKE_S = 0.5
"""Likewise where all is read to its end. The first record ends it."""

MAX_POLL_BYTES = 32_000_000
"""A batch ends when its values have this many bytes, so that large values cannot fill the memory."""

CHECK_STOPPED_S = 5.0
"""A stopped partition is checked this often: a person may have corrected its progress, s."""


class Fetcher(IntakeClient):
    """A consumer of the events topic, or of that of the metrics. For one thread.

    Args:
        settings: the group, how much to fetch.
        topic_id: asks Kafka for the topic's id; asked at every assignment, since a topic can be made anew meanwhile.
        store: where the progress is.
        stopping: set when the worker stops.
        role: what the topic holds, "events" or "metrics"; its readers are a group of their own.
        decoder: decodes records as they come; None: they come as bytes.
        interval_s: how long a fetch collects records, s; None: for the flush interval of the settings.
        horizons: what is remembered of the records before a start; None: ids.
    """

    def __init__(
        self,
        settings: Settings,
        topic_id: Callable[[], str],
        store: CountStore,
        stopping: threading.Event,
        *,
        role: Literal["events", "metrics"] = "events",
        decoder: EventDecoder | None = None,
        interval_s: Callable[[], float] | None = None,
        horizons: ReadingHorizons | None = None,
    ) -> None:
        super().__init__(settings.events_topic if role == "events" else settings.metrics_topic)
        self._settings = settings
        self._interval_s = interval_s or (lambda: settings.flush_interval_s)
        self._stopping = stopping
        self._check_stopped_s = 0.0
        self._newly_assigned = False
        self._rewinds: SimpleQueue[PartitionAssignment] = SimpleQueue()
        self._buffer = PollBuffer(decoder)
        self._held = False
        self._joined = False
        self.changed_s: float | None = None
        properties = consumer_properties(settings, role, self._on_commit)
        self._queue = PartitionQueue(partial(Consumer, logger=kafka_log), properties)
        self._consumer = self._queue.consumer
        horizons = horizons or ReadingHorizons(int(settings.duplicate_horizon_s * 1000))
        self._starts = StartOffsets(horizons, self._topic, topic_id, store, self._consumer)

    @property
    def stopped(self) -> dict[int, str]:
        """Partitions that cannot go on without a person, and why."""
        return dict(self._starts.stopped)

    def fetch(self) -> PolledBatch:
        """The records that come within the interval; sooner if they are many.

        It is full if it did not take all of the interval.

        Raises:
            KafkaException: the consumer cannot go on; the worker must start anew.
        """
        self._join()
        self._resume()
        self._rewind()
        self._start_mended()
        self.commit(self._committed.due(self._assigned, time.monotonic()))
        self._buffer.begin()
        settings = self._settings
        if self._is_idle():
            self._take(IDLE_TAKE_S, most=1)
            if self._is_idle():
                return self._polled(is_full=False)
        deadline = time.monotonic() + self._interval_s()
        while not (is_full := self._buffer.records >= settings.flush_max_events or self._buffer.size >= MAX_POLL_BYTES):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._take(min(left, LONGEST_TAKE_S))
        return self._polled(is_full)

    def _join(self) -> None:
        """Join the group with the first poll: a member that does not poll yet would hold partitions and read none."""
        if not self._joined:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            self._joined = True

    def _is_idle(self) -> bool:
        """Whether there is nothing to do but to wait for the next record."""
        assigned = self._assigned.values()
        busy = self._buffer.records or self._newly_assigned or self._starts.stopped
        return bool(assigned) and not busy and all(one.at_end for one in assigned)

    def _take(self, timeout_s: float, most: int = AT_ONCE) -> None:
        """Take the records of the partitions that are assigned now, then serve the group's callbacks."""
        self._queue.forward(self._topic, self._assigned)
        self._queue.take(self._buffer, timeout_s, most)
        self._note_taken()
        # Last, so that a record which came past our queue is noticed before those behind it are handed over.
        while (message := self._consumer.poll(0)) is not None:
            error = message.error()
            if error is None:
                self._on_stray(message)
            else:  # of the group, or of the client
                self._on_error(message.partition(), error, message.offset() or 0)

    def _on_stray(self, message: Message) -> None:
        """Read a partition anew of which a record has come past our queue, before it was forwarded to it."""
        partition = message.partition()
        if partition in self._assigned:
            self.rewind(self._assigned[partition])
            self._rewind()

    def _note_taken(self) -> None:
        """Note how far the partitions are taken, and what came beside records."""
        for assigned in self._assigned.values():
            position = self._buffer.position(assigned.partition)
            if position > assigned.position:
                assigned.position, assigned.at_end = position, False
        for partition, error, offset in self._buffer.errors():
            self._on_error(partition, error, offset)

    def _polled(self, is_full: bool) -> PolledBatch:
        """The records that were taken, of the partitions that are assigned now."""
        polled = polled_batch(
            self._assigned.values(), self._buffer.drain, newly_assigned=self._newly_assigned, is_full=is_full
        )
        self._buffer.end()
        self._newly_assigned = False
        return polled

    def _on_error(self, partition: int | None, error: KafkaError, offset: int) -> None:
        assigned = None if partition is None else self._assigned.get(partition)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - it has no other name
            # Records that came after the end are known already.
            if assigned is not None and offset >= assigned.position:
                self._at_end(assigned, offset)
        elif error.code() in OUT_OF_RANGE and partition is not None:
            if assigned is not None:
                self._stop_partition(partition, out_of_range(self._topic, partition))
        elif error.retriable() or error.code() in WAITED_OUT:
            kafka_log.warning("Kafka: waiting: %s", error.str())
        else:
            raise KafkaException(error)

    @staticmethod
    def _at_end(assigned: PartitionAssignment, end: int) -> None:
        """Move on to the end of the log: behind the last record there may be offsets that no record has.

        A transaction ends with a marker, and records of an aborted one are never delivered. The event's offset is the
        one that librdkafka fetches next; that the last record is counted is no sign that nothing is unread.
        """
        assigned.at_end, assigned.position = True, end

    def _stop_partition(self, partition: int, why: str) -> None:
        self._starts.stop(partition, why)
        self._unassign(partition)
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        starts = self._start(numbers)
        # Before the first record can come; see ``PartitionQueue.forward``.
        self._queue.forward(self._topic, {*self._assigned, *numbers})
        consumer.incremental_assign([TopicPartition(self._topic, number, starts.get(number, 0)) for number in numbers])
        # librdkafka remembers that a partition was paused, also when it is given away and comes back: one that was lost
        # during a hold would stand still for ever.
        consumer.resume([TopicPartition(self._topic, number) for number in starts])
        consumer.pause([TopicPartition(self._topic, number) for number in numbers if number not in starts])
        self.changed_s = time.monotonic()
        log.info("assigned: partitions %s of %s", numbers, self._topic)
        if numbers:
            failpoint("assigned")

    def _start(self, numbers: Iterable[int]) -> dict[int, int]:
        """Where to fetch partitions from, waiting out an outage; one that is missing must not be fetched."""
        # A worker that is stopping fetches nothing any more; its partitions go back when the consumer closes.
        with contextlib.suppress(StoppedError):
            started = RetryPolicy(self._stopping)("starting partitions", lambda: self._starts.start(numbers))
            for assigned in started:
                self._assigned[assigned.partition] = assigned
                self._buffer.assign(assigned.partition, assigned.position)
            # Their last worker may have died between the database's commit and Kafka's.
            self._committed.want({one.partition: one.counted_from for one in started if one.counted_from > 0})
            self._newly_assigned = self._newly_assigned or bool(started)
            return {assigned.partition: assigned.position for assigned in started}
        return {}

    def _unassign(self, partition: int) -> None:
        self._assigned.pop(partition, None)
        self._buffer.drop(partition)

    def _start_mended(self) -> None:
        """Start stopped partitions whose progress a person has corrected; checked every few seconds."""
        if not self._starts.stopped or time.monotonic() < self._check_stopped_s:
            return
        self._check_stopped_s = time.monotonic() + CHECK_STOPPED_S
        try:
            mended = self._starts.mended()
        except Exception as error:
            if not is_transient(error):
                raise
            return
        for partition, offset in self._start(mended).items():
            log.warning("partition %s: its progress is corrected: counting goes on", partition)
            tp = TopicPartition(self._topic, partition, offset)
            # Not seek: a partition whose offset was out of range has no place to seek from.
            self._consumer.incremental_unassign([tp])
            self._consumer.incremental_assign([tp])
            self._consumer.resume([tp])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Records of them that are fetched and not yet flushed may be flushed still: the database decides who was first.
        for partition in partitions:
            self._unassign(partition.partition)
            self._starts.stopped.pop(partition.partition, None)
        self.changed_s = time.monotonic()
        log.info("revoked: partitions %s of %s", [partition.partition for partition in partitions], self._topic)

    def rewind(self, assigned: PartitionAssignment) -> None:
        """Read a partition anew from its progress; the next fetch does it. From any thread.

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
            self._unassign(partition)
            starts = self._start([partition])
            if partition in starts:
                self._consumer.seek(TopicPartition(self._topic, partition, starts[partition]))
            else:
                self._consumer.pause([TopicPartition(self._topic, partition)])

    def keep_alive(self) -> None:
        """Stay in the group while nothing can be taken in: hold until the next fetch, serve the group's callbacks."""
        self._join()
        self._held = True
        self._consumer.pause(self._consumer.assignment())
        for assigned in self._assigned.values():
            assigned.at_end = False  # not known while nothing is fetched; Kafka reports the end again after the hold
        # Records that were on their way, or of a partition that this very call assigns, are kept for the next fetch.
        self._take(0)

    def _resume(self) -> None:
        """Go on fetching after ``keep_alive``."""
        if self._held:
            self._consumer.resume([tp for tp in self._consumer.assignment() if tp.partition in self._assigned])
            self._held = False

    def close(self) -> None:
        """Leave the group."""
        self._queue.close()
