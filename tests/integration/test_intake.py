"""The intake on real Kafka, without the rest of a worker: what it brings after holds, rewinds and takeovers."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from funnelwatch.schemas.counts import PartitionCounts
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.stream.intake.batches import Record
from funnelwatch.stream.intake.fetcher import Fetcher
from tests.repeating import repeating
from tests.stack import not_on_tansu, wait_until
from tests.traffic import event, now_ms, prepared, produce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.stream.intake.polled_batch import PolledBatch


class Taking:
    """A fetcher whose batches are noted and, if asked, recorded as counted."""

    def __init__(self, settings: Settings, store: CountStore) -> None:
        self.settings = settings
        self.store = store
        self.stopping = threading.Event()
        self.fetcher = Fetcher(settings, lambda: "id", store, self.stopping)
        self.offsets: dict[int, list[int]] = {}
        self.warm: dict[int, list[int]] = {}
        self.ends: dict[int, int] = {}

    def take(self) -> PolledBatch:
        """One fetch; its batches are in a row, each beginning where the one before it ended."""
        fetch = self.fetcher.fetch()
        for assigned, batch in fetch.batches:
            assert batch.start_offset == self.ends.get(id(assigned), assigned.counted_from)
            assert [record.offset for record in batch.records] == list(range(batch.start_offset, batch.next_offset))
            self.ends[id(assigned)] = batch.next_offset
            self.offsets.setdefault(batch.partition, []).extend(record.offset for record in batch.records)
        for _, batch in fetch.warm_up:
            self.warm.setdefault(batch.partition, []).extend(record.offset for record in batch.records)
        return fetch

    def until(self, partition: int, records: int) -> None:
        """Take until so many records of a partition have come."""

        def come() -> bool:
            self.take()
            return len(self.offsets.get(partition, [])) >= records

        wait_until(come, f"{records} records")

    def until_at_end(self, partitions: list[int]) -> None:
        """Take until these partitions are read to their end."""
        wait_until(
            lambda: sorted(assigned.partition for assigned in self.take().at_end) == partitions,
            f"ends: {partitions}",
        )


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Two partitions."""
    return prepared(settings.model_copy(update={"topic_partitions": 2}))


@pytest.fixture
def taking(quick: Settings, store: CountStore) -> Iterator[Taking]:
    """A fetcher that has its partitions."""
    taking = Taking(quick, store)
    wait_until(lambda: taking.take() is not None and taking.fetcher.assigned == [0, 1], "partitions are assigned")
    yield taking
    taking.stopping.set()
    taking.fetcher.close()


def some(count: int) -> list[dict[str, object]]:
    """Good events."""
    return [event() for _ in range(count)]


def test_the_end_of_a_partition_is_known_also_where_records_came_in_the_same_fetch(taking: Taking) -> None:
    """A partition that was read to its end stays so until the next record, and is so again after it."""
    taking.until_at_end([0, 1])
    produce(taking.settings, some(50), partition=0)
    taking.until(0, 50)
    taking.until_at_end([0, 1])
    produce(taking.settings, some(1), partition=0)
    taking.until(0, 51)
    taking.until_at_end([0, 1])


def test_what_was_on_its_way_when_a_partition_was_set_back_is_not_taken_twice(taking: Taking) -> None:
    """Records before the position are dropped, and so is what belongs to an assignment that is gone."""
    fetcher = taking.fetcher
    assigned = fetcher._assigned[0]

    def take(*offsets: int) -> None:
        for offset in offsets:
            fetcher._buffer.add(0, offset, 5, b"k", b"v")
        fetcher._note_taken()

    def end(offset: int) -> None:
        fetcher._on_error(0, KafkaError(KafkaError._PARTITION_EOF), offset)

    take(0, 1)
    end(2)
    assert assigned.at_end
    take(0, 1, 2)
    assert not assigned.at_end
    end(2)
    assert not assigned.at_end
    (batch,) = [batch for _, batch in fetcher._polled(is_full=False).batches]
    assert (batch.start_offset, batch.next_offset) == (0, 3)
    assert list(batch.records) == [Record(offset, b"k", b"v", 5) for offset in range(3)]
    take(3)
    fetcher._on_revoke(fetcher._consumer, [TopicPartition(taking.settings.events_topic, 0)])
    take(4)
    end(5)
    assert fetcher._polled(is_full=False).batches == []


def test_a_hold_loses_nothing_and_repeats_nothing(taking: Taking) -> None:
    """Records that come while the fetch is held are all there afterwards, once; the ends are asked for anew."""
    produce(taking.settings, some(3_000), partition=0)
    taking.until(0, 1)
    taking.fetcher.keep_alive()
    produce(taking.settings, some(100), partition=0)
    produce(taking.settings, some(100), partition=1)
    for _ in range(20):
        taking.fetcher.keep_alive()
    assert not [assigned for assigned in taking.fetcher._assigned.values() if assigned.at_end]
    taking.until(0, 3_100)
    taking.until(1, 100)
    taking.until_at_end([0, 1])
    assert taking.offsets == {0: list(range(3_100)), 1: list(range(100))}


def test_a_rewind_reads_again_from_where_the_partition_is_counted_up_to(taking: Taking) -> None:
    """Outside a rebalance, and only for the assignment that asked: a second request of the same does nothing."""
    produce(taking.settings, some(100), partition=0)
    produce(taking.settings, some(10), partition=1)
    taking.until(0, 100)
    taking.until(1, 10)
    counted = 40
    taking.store.flush(taking.settings.events_topic, "id", [PartitionCounts(0, 0, counted, WindowCounts())])
    before = taking.fetcher._assigned[0]
    taking.offsets.clear()
    taking.fetcher.rewind(before)
    taking.fetcher.rewind(before)
    produce(taking.settings, some(5), partition=0)
    taking.until(0, 105 - counted)
    assert taking.offsets[0] == list(range(counted, 105))
    assert taking.fetcher._assigned[0] is not before
    again = taking.fetcher._assigned[0]
    taking.fetcher.rewind(before)
    taking.take()
    assert taking.fetcher._assigned[0] is again


def test_records_that_come_past_the_queue_are_read_again_before_those_behind_them(taking: Taking) -> None:
    """Librdkafka may end the forwarding of a partition by itself: nothing is passed over."""
    produce(taking.settings, some(10), partition=0)
    taking.until(0, 10)
    before = taking.fetcher._assigned[0]
    queue = taking.fetcher._queue
    find = queue._kafka.rd_kafka_queue_get_consumer
    find.argtypes, find.restype = [ctypes.c_void_p], ctypes.c_void_p
    past = find(queue._client)
    queue._kafka.rd_kafka_queue_forward(queue._sources[taking.settings.events_topic, 0], past)
    produce(taking.settings, some(20), partition=0)
    time.sleep(1)
    # The next take forwards to our queue again; what has come by now is in the consumer's.
    produce(taking.settings, some(20), partition=0)
    wait_until(lambda: taking.take() is not None and taking.fetcher._assigned[0] is not before, "it is read anew")
    wait_until(lambda: taking.take() is not None and taking.offsets[0][-1] == 49, "all records")
    assert taking.offsets[0][taking.offsets[0].index(10) :] == list(range(10, 50))


def test_a_start_reads_the_duplicate_horizon_before_what_is_counted(
    quick: Settings, store: CountStore, connect: Callable[[], Database]
) -> None:
    """What is counted already comes as warm-up only, and counting goes on right after it."""
    produce(quick, some(30), partition=0)
    first = Taking(quick, store)
    first.until(0, 30)
    store.flush(quick.events_topic, "id", [PartitionCounts(0, 0, 20, WindowCounts(), log_time=2**40 * 2)])
    first.stopping.set()
    first.fetcher.close()
    second = Taking(quick, store)
    second.until(0, 10)
    second.fetcher.close()
    assert second.offsets == {0: list(range(20, 30))}
    assert second.warm in ({}, {0: list(range(20))})


@not_on_tansu("misstates where a log ends")
def test_a_record_that_was_rejected_is_not_remembered_when_the_horizon_is_read_again(
    quick: Settings, store: CountStore
) -> None:
    """Its id was never counted; once it is acceptable and replayed, it must not be taken for a duplicate of itself."""
    produce(quick, some(6), partition=0)
    first = Taking(quick, store)
    first.until(0, 6)
    counted = PartitionCounts(0, 0, 4, WindowCounts(), rejected=2, log_time=now_ms(), rejected_offsets=[1, 3])
    store.flush(quick.events_topic, "id", [counted])
    first.stopping.set()
    first.fetcher.close()
    second = Taking(quick, store)
    second.until(0, 2)
    second.fetcher.close()
    assert (second.warm, second.offsets) == ({0: [0, 2]}, {0: [4, 5]})


def test_two_fetchers_share_the_partitions_and_one_takes_over(taking: Taking, connect: Callable[[], Database]) -> None:
    """A partition that moves is read on by the other; a fetch of it that comes late is dropped."""
    from funnelwatch.sinks.timescale.counts import CountStore

    other = Taking(taking.settings, CountStore(connect()))
    with repeating(taking.take, 0):
        wait_until(lambda: other.take() is not None and len(other.fetcher.assigned) == 1, "one moves")
        (moved,) = other.fetcher.assigned
        wait_until(lambda: taking.fetcher.assigned == [1 - moved], "the other stays")
        produce(taking.settings, some(40), partition=moved)
        other.until(moved, 40)
        assert moved not in taking.offsets
        other.fetcher.close()
        wait_until(lambda: taking.fetcher.assigned == [0, 1], "it comes back")
        wait_until(lambda: len(taking.offsets.get(moved, [])) == 40, "and is read from where it is counted up to")


def test_kafka_is_told_what_is_counted_although_a_commit_was_lost(quick: Settings, store: CountStore) -> None:
    """A worker died between the two commits, and nothing comes any more: no record seems unread for ever."""
    produce(quick, some(3), partition=0)
    store.start(quick.events_topic, "id", {0: 0})
    store.flush(quick.events_topic, "id", [PartitionCounts(0, 0, 3, WindowCounts())])
    taking = Taking(quick, store)
    try:
        wait_until(lambda: taking.take() is not None and committed(quick) == 3, "Kafka knows the progress")
    finally:
        taking.stopping.set()
        taking.fetcher.close()


def committed(settings: Settings) -> int:
    """The offset of partition 0 that the intake has committed."""
    consumer = Consumer(settings.kafka("consumer", **{"group.id": f"{settings.consumer_group}-events"}))
    try:
        return consumer.committed([TopicPartition(settings.events_topic, 0)], timeout=60)[0].offset
    finally:
        consumer.close()
