"""Recounting a range of windows from the log, and the correction of the counts that follows from it: pure.

The protocol that makes a repair exact while workers go on counting:

1. One snapshot of the database gives, as of one moment, the counts C of the range and how far each partition was
   counted, its fence F. A flush moves both in one transaction, so they belong together.
2. The log is counted again up to F, by the rules of the workers: R. No lock is held; it may take hours.
3. ``R - C`` is what was wrong at that moment. It is added to the counts in one transaction. Whatever workers have added
   meanwhile stays added, since additions commute: no flush waits for more than that transaction, and no late event
   for the range is lost or counted twice.

What the workers rejected then stays rejected, by the dead letters, even if it would be accepted now: it is not counted
until it is replayed, and the replayed record stands in the log itself. So a record that would be rejected *now* without
being among the dead letters was counted: then the rules have changed, and to count on would lose it (``disputed``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from funnelwatch.schemas.times import HOUR_MS
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.validator import NEVER_EVENTS, EventValidator

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from funnelwatch.schemas.counts import CountKey, Counts, DurationKey, Durations
    from funnelwatch.stream.intake.duplicates import SeenIds
    from funnelwatch.stream.intake.horizons import ReadingHorizons
    from funnelwatch.stream.intake.sessions import Sessions

K = TypeVar("K", "CountKey", "DurationKey")


BEHIND_MS = HOUR_MS
"""An event that is further ahead of Kafka's clock than ``max_future_s`` was accepted only if a worker read it late; a
worker that was behind by as much as this is allowed for, ms."""

RejectedAt = tuple[int, int, int]
"""Partition, offset and Kafka timestamp (ms) of a record that was rejected."""


def log_needed_from(from_ms: int, max_future_ms: int, horizon_ms: int) -> int:
    """The Kafka timestamp from which on the log is needed to recount windows from ``from_ms`` on.

    What is counted in a window has at least its time (a verification counts for a cohort before its own time, never
    after it), so it was written at most ``max_future_ms`` before, and what it may repeat or continue at most a horizon
    earlier.
    """
    return from_ms - max_future_ms - BEHIND_MS - horizon_ms


def first_whole(log_begins_ms: int, max_future_ms: int, horizon_ms: int, window_ms: int) -> int:
    """The first window that a log which begins at this Kafka timestamp still holds whole, ms."""
    at = log_begins_ms + max_future_ms + BEHIND_MS + horizon_ms
    return at + -at % window_ms


class Recount:
    """Counts the records of partitions, in order of their offsets, for the windows that start in ``[from_ms, to_ms)``.

    Attributes:
        counts: what was counted so far.
        durations: and the durations of successes.
        records: how many records were read.
        disputed: how many records that were counted would be rejected now, by reason; unless it is empty, the counts
            are worth nothing.
        shortened: how often a partition had more event ids or sessions within their horizon than are remembered.

    Args:
        validator: the workers' rules.
        rejected: what the workers have rejected.
        range_ms: the range.
        window_ms: the length of a window.
        horizons: what is remembered of the records before one.
    """

    def __init__(
        self,
        validator: EventValidator,
        rejected: Collection[RejectedAt],
        range_ms: tuple[int, int],
        window_ms: int,
        horizons: ReadingHorizons,
    ) -> None:
        self.counts: Counts = {}
        self.durations: Durations = {}
        self.records = 0
        self.disputed: Counter[str] = Counter()
        self._validator = validator
        self._rejected = rejected
        self._from_ms, self._to_ms = range_ms
        self._window_ms = window_ms
        self._horizons = horizons
        self._memory: dict[int, tuple[SeenIds, Sessions | None]] = {}

    def add(self, partition: int, records: Sequence[Record], now_ms: int) -> None:
        """Count the next records of a partition."""
        if not records:
            return
        self.records += len(records)
        if partition not in self._memory:
            self._memory[partition] = self._horizons.memory()
        seen, sessions = self._memory[partition]
        kept = [one for one in records if (partition, one.offset, one.timestamp) not in self._rejected]
        batch = RecordBatch(partition, records[0].offset, records[-1].offset + 1, Records.of(kept))
        validated = self._validator(batch, seen, now_ms, sessions)
        self.disputed.update(one.reason for one in validated.rejected if one.reason not in NEVER_EVENTS)
        found = aggregate(validated, self._window_ms, 0, now_ms)
        self._add(self.counts, found.counts.by_name())
        self._add(self.durations, found.counts.durations())

    def _add(self, total: dict[K, list[int]], found: Mapping[K, list[int]]) -> None:
        """Add what lies in the range."""
        for key, numbers in found.items():
            if self._from_ms <= key[0] < self._to_ms:
                counted = total.setdefault(key, [0] * len(numbers))
                for column, number in enumerate(numbers):
                    counted[column] += number

    @property
    def shortened(self) -> int:
        """How often a partition had more ids or sessions within their horizon than are remembered."""
        return sum(seen.shortened + (sessions.shortened if sessions else 0) for seen, sessions in self._memory.values())


def correction(recounted: Mapping[K, Sequence[int]], counted: Mapping[K, Sequence[int]]) -> dict[K, list[int]]:
    """What to add to counts, or to durations, so that they are what was recounted; only keys that change, sorted.

    A row that counts nothing is among them, with zeros, since it should not be there.
    """
    changes: dict[K, list[int]] = {}
    for key in sorted(recounted.keys() | counted.keys()):
        nothing = [0] * len(recounted.get(key) or counted[key])
        right, wrong = recounted.get(key, nothing), counted.get(key, nothing)
        change = [a - b for a, b in zip(right, wrong, strict=True)]
        if any(change) or key not in recounted:
            changes[key] = change
    return changes


def by_window(counts: Counts) -> dict[tuple[str, int], list[int]]:
    """The sums over all series, by funnel and window."""
    totals: dict[tuple[str, int], list[int]] = {}
    for (window, series), numbers in counts.items():
        total = totals.setdefault((series.funnel, window), [0] * len(numbers))
        for column, number in enumerate(numbers):
            total[column] += number
    return totals
