"""What the intake hands over: fetches, and the assignments that their batches belong to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.counting import RecordBatch
    from stream.duplicates import SeenIds


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
