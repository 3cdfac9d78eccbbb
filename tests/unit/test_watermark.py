"""The watermark of the topic, of its partitions."""

from __future__ import annotations

import pytest

from funnelwatch.sinks.timescale.closing import PartitionWatermark
from funnelwatch.stream.closing.watermark import partition_watermark, topic_watermark

BUSY_5, BUSY_9, NEW = (PartitionWatermark(mark, idle=False) for mark in (5, 9, None))
IDLE_1 = PartitionWatermark(1, idle=True)


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ([BUSY_9, BUSY_5], 5),
        ([BUSY_9, IDLE_1], 9),
        ([IDLE_1, IDLE_1], 90),
        ([BUSY_9, NEW], None),
        ([IDLE_1, NEW], None),
        ([BUSY_9], None),
        ([], None),
    ],
    ids=["the least", "idle holds nothing", "all idle: the clock", "unread", "unread and idle", "unassigned", "none"],
)
def test_the_topic_is_as_far_as_its_slowest_busy_partition(
    partitions: list[PartitionWatermark], expected: int | None
) -> None:
    """Of two partitions, at clock 100 with a disorder of 10."""
    assert topic_watermark(dict(enumerate(partitions)), 2, 10, 100) == expected


def test_a_clock_ahead_of_ours_does_not_move_the_watermark_past_now() -> None:
    """What one device sends from the future closes no window of the others."""
    assert partition_watermark(5_000, 10, now_ms=1_000) == 990
    assert partition_watermark(500, 10, now_ms=1_000) == 490
