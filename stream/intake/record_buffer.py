"""Messages as they are taken from librdkafka, until they are a polled batch."""

from __future__ import annotations

from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Message

from funnelwatch.stream.intake.batches import RecordBatch, Records
from funnelwatch.stream.intake.polled_batch import PolledBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment


MS = itemgetter(1)
"""The milliseconds of a message's timestamp; the other half names the clock."""

NONE = Records.of([])


NO_RECORD = -1
"""Stands for the partition of a message that is an error."""


def rows_of(messages: Sequence[Message]) -> Iterator[tuple[int, Sequence[Message]]]:
    """Messages cut into rows of one partition; ``NO_RECORD`` stands for the partition of errors."""
    if not messages:
        return
    numbers: Iterable[Any] = map(Message.partition, messages)
    if any(map(Message.error, messages)):
        numbers = (one.partition() if one.error() is None else NO_RECORD for one in messages)
    places = np.fromiter(numbers, np.int64, len(messages))
    # librdkafka delivers the messages of a partition in rows, so it is enough to cut where the number changes, and no
    # Python code runs per message.
    begins = np.flatnonzero(np.diff(places, prepend=NO_RECORD - 1)).tolist()
    for begin, end in pairwise((*begins, len(messages))):
        yield int(places[begin]), messages[begin:end]


class RecordBuffer:
    """The messages of one assignment until the poll is over.

    To map a method of ``Message`` is the fastest way that Python has to take them apart.

    Attributes:
        next_offset: the offset after the last one.
    """

    def __init__(self) -> None:
        self.next_offset = 0
        self._offsets: list[Ints] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._timestamps: list[Ints] = []

    def add(self, messages: Sequence[Message], position: int) -> tuple[int, int]:
        """Add messages, leaving out what is before the position; how many they are, and the bytes of their values."""
        count = len(messages)
        offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        if offsets[0] < position or (offsets[1:] < offsets[:-1]).any():
            # Some were on their way when the partition was rewound.
            kept = []
            for message, offset in zip(messages, offsets.tolist(), strict=True):
                if offset >= position:
                    kept.append(message)
                    position = offset + 1
            return self.add(kept, 0) if kept else (0, 0)
        self._offsets.append(offsets)
        self._keys.extend(map(Message.key, messages))
        self._values.extend(map(Message.value, messages))
        self._timestamps.append(np.fromiter(map(MS, map(Message.timestamp, messages)), np.int64, count))
        self.next_offset = int(offsets[-1]) + 1
        return count, sum(map(len, messages))

    def records(self) -> Records:
        """All of them."""
        offsets, timestamps = np.concatenate(self._offsets), np.concatenate(self._timestamps)
        return Records.of_columns(offsets, self._keys, self._values, timestamps)


class PollBuffer:
    """All messages that are taken until the poll is over. For the consumer's thread.

    Attributes:
        records: how many there are.
        bytes: the size of their values.
    """

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self._buffers: dict[PartitionAssignment, RecordBuffer] = {}

    def add(self, assigned: PartitionAssignment, row: Sequence[Message]) -> None:
        """Take messages of one assignment, in a row."""
        buffer = self._buffers.get(assigned) or RecordBuffer()
        taken, size = buffer.add(row, assigned.position)
        if taken:
            self._buffers[assigned] = buffer
            assigned.at_end = False
            assigned.position = buffer.next_offset
            self.records += taken
            self.bytes += size

    def drain(self, assignments: Iterable[PartitionAssignment], *, newly_assigned: bool, is_full: bool) -> PolledBatch:
        """The messages as batches that each start where the one before it ended; empties the buffer.

        Messages of other assignments are dropped: their partitions are revoked, and their new workers read them.
        """
        taken, self._buffers, self.records, self.bytes = self._buffers, {}, 0, 0
        assignments = list(assignments)
        polled = PolledBatch(newly_assigned=newly_assigned, is_full=is_full)
        for assigned in assignments:
            known, fresh = taken[assigned].records().split(assigned.counted_from) if assigned in taken else (NONE, NONE)
            if len(known):
                # Ids of records that were rejected are not known: their events did not count, and a replay must.
                batch = RecordBatch(
                    assigned.partition,
                    int(known.offsets[0]),
                    int(known.offsets[-1]) + 1,
                    known.without(assigned.rejected) if assigned.rejected else known,
                )
                polled.warm_up.append((assigned, batch))
            # Without records too: then transaction markers, or what compaction has removed, end the partition.
            if assigned.position > assigned.handed_over:
                end = assigned.position
                polled.batches.append((assigned, RecordBatch(assigned.partition, assigned.handed_over, end, fresh)))
                assigned.handed_over = end
        polled.at_end = [assigned for assigned in assignments if assigned.at_end]
        return polled
