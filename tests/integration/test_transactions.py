"""Logs whose last offset has no record: transaction markers, and records of transactions that were aborted."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer, TopicPartition

from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.progress import ProgressStore
from funnelwatch.stream.intake.fetcher import Fetcher
from funnelwatch.web.board.lag import LogEnds
from tests.stack import not_on_tansu, wait_until
from tests.traffic import ENCODE, closed_windows, counted, event, prepared, totals
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore

pytestmark = not_on_tansu("has no transactions")


class Transactions:
    """A transactional producer."""

    def __init__(self, settings: Settings) -> None:
        properties = {"transactional.id": uuid.uuid4().hex, "log_level": 0}
        self._producer = Producer(settings.kafka("producer", **properties))
        self._producer.init_transactions(60)

    def begin(self, topic: str, partition: int, values: Iterable[bytes]) -> None:
        """Write some records that nobody may read yet."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(topic, value, b"key", partition)
        assert self._producer.flush(60) == 0

    def commit(self) -> None:
        """Let them be read; a marker follows."""
        self._producer.commit_transaction(60)

    def abort(self) -> None:
        """Let nobody read them; a marker follows."""
        self._producer.abort_transaction(60)


def encoded(count: int) -> list[bytes]:
    """Good events."""
    return [ENCODE(event()) for _ in range(count)]


def ends(settings: Settings, topic: str) -> dict[int, int]:
    """Where the partitions of a topic end, by the broker."""
    with TopicReader(settings, topic) as reader:
        return {number: reader.range_of(number)[1] for number in reader.partitions()}


def test_the_position_is_the_end_behind_markers_aborted_and_open_transactions(
    settings: Settings, store: CountStore
) -> None:
    """The watchdog compares both: a healthy worker would seem to stand still."""
    mine = prepared(settings.model_copy(update={"topic_partitions": 3}))
    fetcher = Fetcher(mine, lambda: "id", store, threading.Event())
    try:
        producers = [Transactions(mine) for _ in range(3)]
        for partition, producer in enumerate(producers):
            producer.begin(mine.events_topic, partition, encoded(3))
        producers[0].commit()
        producers[1].abort()
        taken: dict[int, list[tuple[int, int, list[int]]]] = {}

        def places() -> dict[int, tuple[int, int]]:
            for _, batch in fetcher.fetch().batches:
                taken.setdefault(batch.partition, []).append(
                    (batch.start_offset, batch.next_offset, batch.records.offsets.tolist())
                )
            return {name[1]: place for name, place in fetcher.places(mine.events_topic).items()}

        wait_until(lambda: places() == {0: (4, 4), 1: (4, 4), 2: (0, 0)}, "all that can be read is read")
        producers[2].abort()
        wait_until(lambda: places() == {0: (4, 4), 1: (4, 4), 2: (4, 4)}, "the end of an open one is noticed")
        producers[1].begin(mine.events_topic, 1, encoded(1))
        producers[1].commit()
        wait_until(lambda: places()[1] == (6, 6), "records behind an aborted transaction are read")
    finally:
        fetcher.close()
    for partition, rows in {0: [0, 1, 2], 1: [4], 2: []}.items():
        batches = taken[partition]
        assert [offset for _, _, offsets in batches for offset in offsets] == rows
        # Nothing between two batches: what has no records is handed over as well.
        assert [start for start, _, _ in batches] == [0, *(end for _, end, _ in batches[:-1])]
    assert fetcher.lag() == {} or set(fetcher.lag().values()) == {0}


def test_the_progress_is_the_end_so_that_nothing_seems_unread(settings: Settings) -> None:
    """In the database (the board's lag, a rebuild's end), and in Kafka (lag tools); windows close meanwhile."""
    mine = prepared(
        settings.model_copy(
            update={"topic_partitions": 2, "window_s": 1, "allowed_disorder_s": 1.0, "idle_timeout_s": 1.0}
        )
    )
    producer = Transactions(mine)
    with worker(mine) as one:
        one.wait_assigned()
        for topic in (mine.events_topic, mine.metrics_topic, mine.windows_topic):
            producer.begin(topic, 1, encoded(2))
            producer.abort()
        producer.begin(mine.events_topic, 0, encoded(2))
        producer.commit()

        def progress(topic: str) -> dict[int, int]:
            database = Database(mine.timescale_url)
            try:
                return {number: offset for number, (_, offset) in ProgressStore(database).read(topic).items()}
            finally:
                database.close()

        for topic in (mine.events_topic, mine.metrics_topic):
            wait_until(lambda: progress(topic) == ends(mine, topic), f"the progress of {topic}")  # noqa: B023
        assert progress(mine.events_topic) == {0: 3, 1: 3}
        board = LogEnds(mine)
        try:
            assert board.read() == progress(mine.events_topic)
        finally:
            board.close()
        wait_until(lambda: committed(mine) == {0: 3, 1: 3}, "Kafka knows the progress")
        wait_until(lambda: closed_windows(mine), "windows close")
        wait_until(lambda: 'funnelwatch_lag_records{partition="1"} 0.0' in one.get("/metrics")[1], "there is no lag")
        assert totals(mine) == {"counted": 2, "accepted": 2, "rejected": 0, "duplicates": 0}
        assert sum(tally[0] + tally[1] + tally[2] for tally in counted(mine).values()) == 2


def committed(settings: Settings) -> dict[int, int]:
    """The offsets that the intake has committed."""
    consumer = Consumer(settings.kafka("consumer", **{"group.id": f"{settings.consumer_group}-events"}))
    try:
        wanted = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
        return {one.partition: one.offset for one in consumer.committed(wanted, timeout=60)}
    finally:
        consumer.close()


def test_reading_to_the_end_ends_behind_a_marker(settings: Settings) -> None:
    """All messages, those before an end that a marker has, the first one, and one that is there or is not."""
    mine = prepared(settings.model_copy(update={"topic_partitions": 1}))
    topic = mine.dead_letters_topic
    producer = Transactions(mine)
    for finish in (producer.abort, producer.commit, producer.abort):
        producer.begin(topic, 0, [b"a", b"b"])
        finish()
    with TopicReader(mine, topic) as reader:
        assert [message.offset() for message in reader.to_end()] == [3, 4]
        assert [message.offset() for message in reader.between(0, {0: 9})] == [3, 4]
        assert [message.offset() for message in reader.between(0, {0: 4})] == [3]
        assert reader.first_timestamp(0) is not None
        assert [reader.one(0, offset) is not None for offset in range(10)] == [offset in {3, 4} for offset in range(10)]
        assert reader.true_end(0) == 9
