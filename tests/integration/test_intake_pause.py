"""A partition that is lost while the fetch is held, and comes back to the same worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from funnelwatch.stream.intake.fetcher import Fetcher
from tests.stack import wait_until
from tests.traffic import event, prepared, produce

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore


def test_a_partition_lost_during_a_hold_is_read_again_when_it_comes_back(settings: Settings, store: CountStore) -> None:
    """Librdkafka keeps a partition paused that was paused when it was given away: it stood still for ever."""
    quick = prepared(settings.model_copy(update={"topic_partitions": 1}))
    stopping = threading.Event()
    fetcher = Fetcher(quick, lambda: "id", store, stopping)
    partition = [TopicPartition(quick.events_topic, 0)]
    found: list[int] = []

    def come() -> bool:
        found.extend(record.offset for _, batch in fetcher.fetch().batches for record in batch.records)
        return len(found) >= 10

    try:
        wait_until(lambda: fetcher.fetch() is not None and fetcher.assigned == [0], "the partition is assigned")
        fetcher.keep_alive()
        fetcher._on_revoke(fetcher._consumer, partition)
        fetcher._consumer.incremental_unassign(partition)
        fetcher._on_assign(fetcher._consumer, partition)
        produce(quick, [event() for _ in range(10)])
        wait_until(come, "ten records")
    finally:
        stopping.set()
        fetcher.close()
    assert found == list(range(10))
