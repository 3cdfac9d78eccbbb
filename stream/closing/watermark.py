"""Watermarks: the event time before which nothing more is expected.

::

    partition 0   ──●────●──●───────────────●|          largest ts minus the allowed disorder
    partition 1   ──────●───●|                          behind: it holds the whole back
    partition 2   ──●  (nothing unread, idle)           does not hold the others back
                            ↑ the watermark of the topic

A partition's watermark never goes back. A clock that runs ahead must not close windows for everybody else, so what an
event adds to the watermark is capped at the wall clock of its reading. An event behind the watermark is late: it still
counts, and its window, if closed, is published again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.timescale.closing import PartitionWatermark


def partition_watermark(largest_ts: int, disorder_ms: int, now_ms: int) -> int:
    """The watermark of a partition whose largest ts so far is this."""
    return min(largest_ts, now_ms) - disorder_ms


def topic_watermark(
    partitions: Mapping[int, PartitionWatermark], expected: int, disorder_ms: int, now_ms: int
) -> int | None:
    """The watermark of the whole topic.

    Args:
        partitions: the watermark of each partition that was ever assigned. A partition is idle while its worker says
            that it has read it to its end and that its watermark has not moved for the idle timeout.
        expected: how many partitions the topic has. Others are of an earlier topic of its name, and do not count.
        disorder_ms: how far the watermark stays behind the largest ts.
        now_ms: the wall clock; it moves the watermark when every partition is idle, so that the last window of a
            quiet night still closes.

    Returns:
        The smallest watermark of the partitions that are not idle; the wall clock minus the disorder if all are. None
        if that is not known: a partition was never assigned, or has unread events and no watermark yet.
    """
    if any(number not in partitions for number in range(expected)):
        return None
    busy = [partitions[number].watermark for number in range(expected) if not partitions[number].idle]
    if not busy:
        return now_ms - disorder_ms
    known = [watermark for watermark in busy if watermark is not None]
    return min(known) if len(known) == len(busy) else None
