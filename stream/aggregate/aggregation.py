"""What validated batches add to the counts: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.counts import PartitionCounts
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.validation import OF_UNDECLARED
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.stream.closing.watermark import partition_watermark
from funnelwatch.stream.intake.validator import NEVER_EVENTS
from funnelwatch.stream.native.library import enough_memory, native

if TYPE_CHECKING:
    from funnelwatch.stream.intake.batches import Credits, Events, ValidatedBatch


def watermark_of(validated: ValidatedBatch, disorder_ms: int, now_ms: int) -> int | None:
    """The watermark that the accepted events of a batch bring their partition to; None where there are none."""
    ts = validated.accepted.ts
    return partition_watermark(int(ts.max()), disorder_ms, now_ms) if ts.size else None


def aggregate(
    validated: ValidatedBatch, window_ms: int, disorder_ms: int, now_ms: int, from_offset: int = 0
) -> PartitionCounts:
    """The counts that a validated batch adds to the counts, from ``from_offset`` on."""
    events, credited = validated.accepted, validated.credited
    start = max(validated.start_offset, from_offset)
    # Selecting copies every column; only a batch that is trimmed needs it.
    if from_offset > validated.start_offset:
        events = events.where(events.offsets >= start)
        credited = credited[credited["offset"] >= start]
    rejected = [one for one in validated.rejected if one.record.offset >= start]
    return PartitionCounts(
        partition=validated.partition,
        start_offset=start,
        next_offset=validated.next_offset,
        counts=counts_of(events, credited, window_ms),
        accepted=events.ts.size,
        rejected=len(rejected),
        undeclared=sum(one.reason in OF_UNDECLARED for one in rejected),
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


def counts_of(events: Events, credited: Credits, window_ms: int) -> WindowCounts:
    """The counts of each series and window, verifications by their cohort as well, and the durations of successes.

    Args:
        events: the events.
        credited: what they add by their sessions (``CREDIT``).
        window_ms: the length of a window.
    """
    rows, library = np.ascontiguousarray(events.rows), native()
    if not rows.size:
        return WindowCounts(events.names)
    found = library.fw_counts_of(rows.size, rows.ctypes.data, credited.size, credited.ctypes.data, window_ms)
    enough_memory(found)
    try:
        first, spread = found.contents.first, found.contents.spread
        keys, counts, cell_keys, times = found.contents.columns()
        # Rows and cells are few by now: sorting them costs next to nothing.
        order = np.argsort(keys)
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        cells = np.stack([place[cell_keys // SLOTS], cell_keys % SLOTS, times], axis=1)
        cells = cells[np.lexsort((cells[:, 1], cells[:, 0]))]
        keys, counts = keys[order], counts[order]
    finally:
        library.fw_counts_free(found)
    return WindowCounts(events.names, (keys // spread + first) * window_ms, keys % spread, counts, cells)
