"""What validated batches add to the counts: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.bulk import NONE
from funnelwatch.schemas.counts import CountRow, PartitionCounts
from funnelwatch.schemas.histogram import SLOTS, slots_of
from funnelwatch.stream.closing.watermark import partition_watermark
from funnelwatch.stream.intake.batches import IMPRESSION, SUCCESS
from funnelwatch.stream.intake.validator import NEVER_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import Counts, Durations
    from funnelwatch.stream.intake.batches import Events, ValidatedBatch

COHORT = CountRow._fields.index("cohort_successes") - CountRow._fields.index("successes")
"""How far the cohort's column of an outcome is from its own."""


def watermark_of(validated: ValidatedBatch, disorder_ms: int, now_ms: int) -> int | None:
    """The watermark that the accepted events of a batch bring their partition to; None where there are none."""
    ts = validated.accepted.ts
    return partition_watermark(int(ts.max()), disorder_ms, now_ms) if ts.size else None


def aggregate(
    validated: ValidatedBatch, window_ms: int, disorder_ms: int, now_ms: int, from_offset: int = 0
) -> PartitionCounts:
    """The counts that a validated batch adds to the counts, from ``from_offset`` on."""
    events, start = validated.accepted, max(validated.start_offset, from_offset)
    # Selecting copies every column; only a batch that is trimmed needs it.
    if from_offset > validated.start_offset:
        events = events.where(events.offsets >= start)
    rejected = [one for one in validated.rejected if one.record.offset >= start]
    return PartitionCounts(
        partition=validated.partition,
        start_offset=start,
        next_offset=validated.next_offset,
        counts=counts_of(events, window_ms),
        durations=durations_of(events, window_ms),
        accepted=events.ts.size,
        rejected=len(rejected),
        duplicates=int(np.count_nonzero(validated.duplicates >= start)),
        watermark=watermark_of(validated, disorder_ms, now_ms),
        rejected_offsets=[one.record.offset for one in rejected if one.reason not in NEVER_EVENTS],
        # Too early only makes a worker read more of the log again; too late would hide ids from it.
        log_time=_past(validated.oldest_log_time if validated.is_cut else validated.log_time, now_ms),
        rejected_log_time=_past(validated.log_time, now_ms),
    )


def _past(log_time: int | None, now_ms: int) -> int | None:
    """A producer may stamp its records as it likes: what is ahead of the clock would stay the largest for good."""
    return None if log_time is None else min(now_ms, log_time)


def counts_of(events: Events, window_ms: int) -> Counts:
    """How many of each kind there are in each series and window; verifications by their cohort as well."""
    verified = np.flatnonzero(events.outcomes != IMPRESSION)
    durations = events.durations[verified]
    shown = events.ts[verified] - np.where(durations == NONE, 0, durations)
    windows = np.concatenate((events.ts, shown)) // window_ms
    series = np.concatenate((events.series, events.series[verified]))
    columns = np.concatenate((events.outcomes, events.outcomes[verified] + COHORT))
    counts: Counts = {}
    for window, number, row in _added_up(windows, series, columns, len(CountRow._fields)):
        counts[window * window_ms, *events.names[number]] = row
    return counts


def durations_of(events: Events, window_ms: int) -> Durations:
    """How many successes of each series and window took how long."""
    timed = np.flatnonzero((events.outcomes == SUCCESS) & (events.durations != NONE))
    groups = events.series[timed] * SLOTS + slots_of(events.durations[timed])
    durations: Durations = {}
    for window, group, row in _added_up(events.ts[timed] // window_ms, groups, np.zeros_like(groups), 1):
        series, slot = divmod(group, SLOTS)
        durations[window * window_ms, *events.names[series], slot] = row
    return durations


def _added_up(windows: Ints, groups: Ints, columns: Ints, width: int) -> Iterable[tuple[int, int, list[int]]]:
    """Window, group and how many there are in each column, of all that there are."""
    if not windows.size:
        return ()
    # Window, group and column in one number, so that one sort of integers groups all three.
    first, spread = int(windows.min()), int(groups.max()) + 1
    numbers, counts = np.unique(((windows - first) * spread + groups) * width + columns, return_counts=True)
    # The numbers are sorted by now and as few as the rows, so the second grouping costs next to nothing.
    keys, rows = np.unique(numbers // width, return_inverse=True)
    sums = np.zeros((keys.size, width), np.int64)
    sums[rows, numbers % width] = counts
    return zip((keys // spread + first).tolist(), (keys % spread).tolist(), sums.tolist(), strict=True)
