"""The contracts of the count sinks: which calls they answer, and what a failed call leaves behind.

One contract test suite runs against every sink, those in memory included (``tests/integration/test_sink_contract.py``).
The receivers of alerts have a contract of their own (``funnelwatch.sinks.alerts.receiver``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.window_counts import WindowCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.counts import CountRow, PartitionCounts, Series
    from funnelwatch.sinks.redis.state import MoveMark


class MisplacedError(FunnelwatchError):
    """A batch does not begin where its partition is counted up to: the caller trims it, or reads again from there."""

    def __init__(self, partition: int, expected: int, start: int) -> None:
        self.partition = partition
        self.expected = expected
        self.is_gap = start > expected
        super().__init__(f"partition {partition} is counted up to {expected}, the batch begins at {start}")


class TopicRecreatedError(FunnelwatchError):
    """The recorded progress belongs to another topic of the same name, or is beyond the topic's end."""


@dataclass(slots=True)
class Flushed:
    """The result of a flush.

    Attributes:
        totals: the new totals of each row that the flush added to, for the cache.
        skipped: partitions whose batch was counted before.
        late: events in windows that are closed already.
    """

    totals: WindowCounts = field(default_factory=WindowCounts)
    skipped: list[int] = field(default_factory=list)
    late: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is counted.

    Attributes:
        next_offset: the first offset that is not counted.
        log_time: the largest Kafka timestamp of counted records, ms; None where no record is counted.
    """

    next_offset: int
    log_time: int | None


class CountSink(Protocol):
    """The counts of record: each accepted event exactly once, through crashes, rebalances and zombies.

    **A failed flush** leaves either all of its batches or none of them, together with the progress of their partitions.
    A caller that does not know which (the answer was lost) repeats the flush as it is: a batch that is counted already
    is skipped. So no error needs a repair, and two workers with the same records count them once.
    """

    def start(self, topic: str, topic_id: str, beginnings: dict[int, int]) -> dict[int, Progress]:
        """How far partitions are counted; a partition that was never counted starts at its beginning.

        Raises:
            TopicRecreatedError: the progress belongs to another topic of the same name.
        """

    def flush(self, topic: str, topic_id: str, batches: Sequence[PartitionCounts]) -> Flushed:
        """Add batches, at most one a partition, and move their partitions on.

        Raises:
            MisplacedError: a batch leaves a gap, or overlaps counted records in part; nothing is written.
            TopicRecreatedError: the progress belongs to another topic of the same name; nothing is written.
            Exception: as ``funnelwatch.sinks.errors`` classifies it; all is written, or nothing.
        """


class TotalsSink(Protocol):
    """A copy of the totals of recent windows, beside the counts of record: a cache.

    **A failed write** leaves any part of its totals, each as it was or raised. Totals are only raised, so a caller
    repeats the write, or copies the windows from the counts of record later. The copy never shows more than those.
    """

    def write(self, totals: WindowCounts, now_ms: int, marks: Sequence[MoveMark] = (), epoch: str = "") -> bool:
        """Raise the counts of recent windows to these totals, then move the marks of their partitions on.

        Returns:
            Whether each mark stood where it could; False if the copy lacks totals that the caller does not know of.

        Raises:
            funnelwatch.sinks.redis.state.IncompleteError: the copy has lost its data; nothing is written.
            Exception: as ``funnelwatch.sinks.errors`` classifies it; any part is written.
        """

    def read(self, funnel: str, window_ms: int) -> dict[Series, CountRow]:
        """The totals of one window; empty where the copy has none."""
