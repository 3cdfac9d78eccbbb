"""Regression: a topic that was made again with fewer partitions kept its watermark for ever."""

from __future__ import annotations

from funnelwatch.sinks.timescale.closing import PartitionWatermark
from funnelwatch.stream.closing.watermark import topic_watermark


def test_partitions_of_an_earlier_topic_do_not_hold_the_watermark_back() -> None:
    """The topic has two partitions now; the progress of a third is still in the database."""
    partitions = {0: PartitionWatermark(500, idle=False), 1: PartitionWatermark(400, idle=False)}
    old = {2: PartitionWatermark(1, idle=False)}
    assert topic_watermark(partitions | old, 2, 10, 1_000) == 400
    assert topic_watermark(partitions, 3, 10, 1_000) is None


def test_partitions_of_an_earlier_topic_do_not_stand_in_for_new_ones() -> None:
    """Partition 1 was never assigned, though as many partitions are known as the topic has."""
    partitions = {0: PartitionWatermark(500, idle=False), 7: PartitionWatermark(400, idle=False)}
    assert topic_watermark(partitions, 2, 10, 1_000) is None
