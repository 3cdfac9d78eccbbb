"""The batches that threads hand on: polled, then validated; and the assignments that they belong to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from funnelwatch.stream.intake.batches import RecordBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from funnelwatch.stream.intake.batches import Records, ValidatedBatch
    from funnelwatch.stream.intake.duplicates import SeenIds
    from funnelwatch.stream.intake.sessions import Sessions


@dataclass(slots=True, eq=False)
class PartitionAssignment:
    """A partition, from one assignment (or rewind) to the next.

    Attributes:
        partition: its number.
        topic_id: Kafka's id of the topic that it belonged to then.
        position: the next offset to be fetched.
        counted_from: what is before this is counted already, and read only for its event ids and sessions.
        handed_over: what is before this was handed over to be counted, or was counted at the assignment.
        seen: the ids of the duplicate horizon.
        sessions: the sessions that may still count; None: sessions are not counted.
        rejected: offsets before ``counted_from`` that were rejected: their ids are not counted.
        at_end: whether the last thing heard was that nothing is unread.
        watermark: the largest watermark of its batches since the assignment, ms. Kept by the one who counts.
        moved_s: monotonic time of the fetch that moved it on last, or of the assignment. Kept by the one who counts.
    """

    partition: int
    topic_id: str
    position: int
    counted_from: int
    seen: SeenIds
    rejected: frozenset[int] = frozenset()
    sessions: Sessions | None = None
    handed_over: int = field(init=False)
    at_end: bool = False
    watermark: int | None = None
    moved_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Counting goes on where it ended."""
        self.handed_over = self.counted_from


@dataclass(slots=True)
class PolledBatch:
    """The records of one round: at most one batch a partition to count, and batches to warm up with.

    Attributes:
        batches: to be counted.
        warm_up: counted already, read for their event ids and sessions.
        at_end: partitions with nothing unread after this.
        newly_assigned: whether a partition was assigned since the last fetch.
        is_full: whether it ended because it is large, so that there is a backlog.
        taken_s: monotonic time of the fetch.
    """

    batches: list[tuple[PartitionAssignment, RecordBatch]] = field(default_factory=list)
    warm_up: list[tuple[PartitionAssignment, RecordBatch]] = field(default_factory=list)
    at_end: list[PartitionAssignment] = field(default_factory=list)
    newly_assigned: bool = False
    is_full: bool = False
    taken_s: float = field(default_factory=time.monotonic)

    def __bool__(self) -> bool:
        """Whether there is anything to do at once."""
        return bool(self.batches or self.warm_up or self.newly_assigned)


def polled_batch(
    assignments: Iterable[PartitionAssignment],
    drain: Callable[[int], Records],
    *,
    newly_assigned: bool,
    is_full: bool,
) -> PolledBatch:
    """The records of partitions as batches that each start where the one before it ended.

    Args:
        assignments: the partitions that are assigned now.
        drain: the records of a partition that were taken.
        newly_assigned: whether a partition was assigned since the last poll.
        is_full: whether the poll ended because it is large.
    """
    assignments = list(assignments)
    polled = PolledBatch(newly_assigned=newly_assigned, is_full=is_full)
    for assigned in assignments:
        known, fresh = drain(assigned.partition).split(assigned.counted_from)
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


@dataclass(slots=True)
class ValidatedPoll:
    """A fetch of which every record is validated, and what was rejected is in the dead letters.

    Attributes:
        batches: at most one a partition.
        at_end: as in ``PolledBatch``.
        newly_assigned: as in ``PolledBatch``.
        is_full: as in ``PolledBatch``.
        taken_s: as in ``PolledBatch``.
    """

    batches: list[tuple[PartitionAssignment, ValidatedBatch]]
    at_end: list[PartitionAssignment]
    newly_assigned: bool
    is_full: bool
    taken_s: float

    @property
    def events(self) -> int:
        """How many events are accepted."""
        return sum(batch.accepted.offsets.size for _, batch in self.batches)


def flush_groups(polls: Sequence[ValidatedPoll]) -> Iterator[list[tuple[PartitionAssignment, list[ValidatedBatch]]]]:
    """Polls in a row, cut into groups that can be flushed at once: of each partition one assignment and its batches."""
    found: dict[int, tuple[PartitionAssignment, list[ValidatedBatch]]] = {}
    for poll in polls:
        for assigned, _ in poll.batches:
            before = found.get(assigned.partition)
            # A flush has one batch a partition, and another assignment starts from the progress: the group ends here.
            if before and before[0] is not assigned:
                yield list(found.values())
                found = {}
                break
        for assigned, batch in poll.batches:
            found.setdefault(assigned.partition, (assigned, []))[1].append(batch)
    if found:
        yield list(found.values())
