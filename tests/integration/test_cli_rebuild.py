"""``funnelwatch rebuild`` against real servers."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicCollection, TopicPartition

from funnelwatch.cli import rebuild_progress
from funnelwatch.cli.doctor_database import check_progress
from funnelwatch.cli.new_topics import count_on
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import TopicRecreatedError
from funnelwatch.sinks.redis.cache import CountCache, IncompleteError
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from tests.command import run, succeed, succeed_json
from tests.filling import MINUTE_MS, count, keep_for
from tests.stack import not_on_tansu
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

STEP = "VERIFY_SMS_CODE"
SERIES = Series.of("sign_up", STEP, os="iOS")


@pytest.fixture
def cache(settings: Settings) -> Iterator[CountCache]:
    """The cache of the test's settings."""
    with closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as copy:
        yield copy


def fill(settings: Settings) -> int:
    """One recent window and one that is not; the cache one's start, ms."""
    window = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS - 5 * MINUTE_MS
    old = window - int(settings.cache_horizon_s * 1000) - 10 * MINUTE_MS
    count(settings, {(window, STEP, "iOS", "", ""): (4, 3, 1), (old, STEP, "iOS", "", ""): (9, 9, 0)})
    return window


def test_the_cache_is_made_again_from_the_database(settings: Settings, cache: CountCache) -> None:
    """What was lost comes back, what was wrong goes, old windows stay out, other installations are left alone."""
    window = fill(settings)
    wrong = (window, Series.of("sign_up", STEP, os="Windows"))
    with closing(CountCache(settings.redis_url, f"{settings.redis_prefix}-other", settings.cache_horizon_s)) as other:
        for copy in (cache, other):
            copy.rebuild([], window)
            copy.write(WindowCounts.of({wrong: row_of(99)}), window)
        assert succeed(settings, "rebuild", "redis") == "1 series of windows copied to Redis\n"
        assert cache.read("sign_up", window) == {SERIES: CountRow(4, 3, 1, 3, 1)}
        assert cache.is_whole()
        assert list(other.read("sign_up", window)) == [wrong[1]]
        other.clear()
    assert succeed_json(settings, "rebuild", "redis") == {"copied": 1}


def test_the_cache_survives_a_rebuild_while_counts_are_written(settings: Settings, cache: CountCache) -> None:
    """A writer that goes on meanwhile ends with the same copy: it is never more than the database has, nor less."""
    window = fill(settings)
    cache.rebuild([], window)
    done = threading.Event()
    totals = {(window, SERIES): row_of(4, 3, 1, 3, 1)}

    def write() -> None:
        with closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as writer:
            while not done.is_set():
                with suppress(IncompleteError):  # it is being rebuilt; a worker then rebuilds it as well
                    writer.write(totals, window)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            assert succeed_json(settings, "rebuild", "redis") == {"copied": 1}
    finally:
        done.set()
        thread.join(90)
    assert cache.read("sign_up", window) == {SERIES: CountRow(4, 3, 1, 3, 1)}
    assert cache.is_whole()


def test_redis_that_is_down_is_told(settings: Settings) -> None:
    """The address, the cause and the remedy; exit code 1."""
    fill(settings)
    result = run(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), "rebuild", "redis")
    assert (result.exit_code, "Redis at redis://127.0.0.1:1/0 cannot be used" in result.stderr) == (1, True)
    assert "FUNNELWATCH_REDIS_URL" in result.stderr


def test_the_copy_is_not_removed_when_the_database_cannot_replace_it(settings: Settings, cache: CountCache) -> None:
    """The database is asked first."""
    window = fill(settings)
    succeed(settings, "rebuild", "redis")
    result = run(settings.model_copy(update={"timescale_url": "postgresql://127.0.0.1:1/x"}), "rebuild", "redis")
    assert (result.exit_code, "the database at" in result.stderr) == (1, True)
    assert cache.read("sign_up", window) == {SERIES: CountRow(4, 3, 1, 3, 1)}


class Counted:
    """A topic with ten records in each partition, counted up to somewhere."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.topic = settings.events_topic
        self.store = CountStore(database)
        self.database = database
        self.admin = admin(settings.kafka())
        ensure_topics(settings)
        migrate(database, settings.window_ms)
        producer = Producer(settings.kafka())
        for partition in range(settings.topic_partitions):
            for _ in range(10):
                producer.produce(self.topic, b"x", partition=partition)
        assert producer.flush(60) == 0

    @property
    def topic_id(self) -> str:
        """Kafka's id of the topic."""
        return str(self.admin.describe_topics(TopicCollection([self.topic]))[self.topic].result(60).topic_id)

    def up_to(self, offsets: dict[int, int], topic_id: str | None = None) -> None:
        """Record that these partitions are counted up to there."""
        self.store.start(self.topic, topic_id or self.topic_id, offsets)

    def starts(self) -> dict[int, int]:
        """Where a worker would start, by the database."""
        known = [row["partition"] for row in self.database.query("topic_progress", {"topic": self.topic})]
        found = self.store.start(self.topic, self.topic_id, dict.fromkeys(known, 0))
        return {partition: one.next_offset for partition, one in sorted(found.items())}


@pytest.fixture
def counted(settings: Settings) -> Iterator[Counted]:
    """A topic with records, and an empty database with tables."""
    with closing(Database(settings.timescale_url)) as database:
        yield Counted(settings, database)


def test_a_topic_made_again_is_counted_from_its_beginning(counted: Counted) -> None:
    """A worker rejects the progress of another topic; after the command it starts at the beginning of the new log."""
    counted.up_to({0: 7, 1: 400}, "the id of an earlier topic")
    with pytest.raises(TopicRecreatedError):
        counted.starts()
    result = run(counted.settings, "rebuild", "progress", "--topic", counted.topic, stdin="y\n")
    assert result.exit_code == 0, result.output
    assert "partition 0: counted up to 7: of another topic of this name; the log is 0 to 10" in result.stderr
    assert "Counts are kept. Set 2 partition(s)" in result.stderr
    assert "Workers that run take up a partition" in result.stdout
    assert counted.starts() == {0: 0, 1: 0}


def test_the_doctor_says_that_a_topic_made_again_stands_still(counted: Counted) -> None:
    """A failure with the command that mends it; once it is run, all is well."""
    counted.up_to({0: 7, 1: 400}, "the id of an earlier topic")
    (found,) = check_progress(counted.settings)
    assert (found.level, "2 partition(s) of another topic" in found.message) == ("FAILED", True), found
    assert f"`funnelwatch rebuild progress --topic {counted.topic}`" in found.advice
    succeed(counted.settings, "rebuild", "progress", "--topic", counted.topic, "--yes")
    assert [one.level for one in check_progress(counted.settings)] == ["ok"]


def test_counting_goes_on_in_topics_that_a_broker_without_memory_has_anew(counted: Counted) -> None:
    """After `up` has started such a broker; what is in order is left as it is."""
    counted.up_to({0: 7, 1: 400}, "the id of an earlier topic")
    counted.up_to({2: 4})
    said: list[str] = []
    count_on(counted.settings, said.append)
    count_on(counted.settings, said.append)
    assert counted.starts() == {0: 0, 1: 0, 2: 4}
    assert [line.partition(":")[0] for line in said] == [counted.topic]


def test_a_topic_made_again_can_be_counted_from_its_end(counted: Counted) -> None:
    """--to end leaves out what the new log has already; --partition keeps to one."""
    counted.up_to({0: 7, 1: 400}, "the id of an earlier topic")
    outcome = succeed_json(counted.settings, "rebuild", "progress", "--to", "end", "--partition", "1", "--yes")
    assert outcome == {"topic": counted.topic, "set": {"1": 10}}
    assert counted.database.query("topic_progress", {"topic": counted.topic})[0]["next_offset"] == 7


def test_progress_beyond_the_end_of_the_log_is_set(counted: Counted) -> None:
    """The log lost its end, as after a restore; partitions in order are left as they are."""
    counted.up_to({0: 10, 1: 11})
    outcome = succeed_json(counted.settings, "rebuild", "progress", "--yes")
    assert outcome["set"] == {"1": 0}
    assert counted.starts() == {0: 10, 1: 0}


@not_on_tansu("cannot trim a log")
def test_a_trimmed_log_is_counted_from_where_it_begins(counted: Counted) -> None:
    """Retention removed records that were not counted; how many is said."""
    counted.up_to({0: 3, 1: 3})
    trimmed = [TopicPartition(counted.topic, 1, 8)]
    for future in counted.admin.delete_records(trimmed).values():
        future.result(60)
    result = run(counted.settings, "rebuild", "progress", "--yes")
    assert result.exit_code == 0, result.output
    assert (
        "partition 1: counted up to 3: before the beginning of the log; the log is 8 to 10; 5 records" in result.stderr
    )
    assert counted.starts() == {0: 3, 1: 8}


def test_progress_in_order_is_rejected_and_forced(counted: Counted) -> None:
    """Counting twice needs --force, and the question says how much."""
    counted.up_to({0: 4, 1: 10})
    for arguments in ([], ["--partition", "0"]):
        result = run(counted.settings, "rebuild", "progress", "--yes", *arguments)
        assert (result.exit_code, "rejected: the progress of" in result.stderr) == (1, True)
    declined = run(counted.settings, "rebuild", "progress", "--force", stdin="n\n")
    assert (declined.exit_code, "14 RECORDS WILL BE COUNTED TWICE" in declined.stderr) == (1, True)
    skipped = run(counted.settings, "rebuild", "progress", "--force", "--to", "end", stdin="n\n")
    assert (skipped.exit_code, "6 RECORDS WILL NOT BE COUNTED" in skipped.stderr) == (1, True)
    assert counted.starts() == {0: 4, 1: 10}
    succeed(counted.settings, "rebuild", "progress", "--force", "--partition", "1", "--yes")
    assert counted.starts() == {0: 4, 1: 0}


def test_a_partition_that_moves_meanwhile_is_left_alone(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the question is open a worker counts on: nothing is set."""
    counted.up_to({0: 11})
    looked = rebuild_progress.look

    def look_and_be_overtaken(*arguments: object) -> object:
        seen = looked(*arguments)  # type: ignore[arg-type]
        parameters = {
            "topic": counted.topic,
            "partition": 0,
            "topic_id": counted.topic_id,
            "next_offset": 5,
            "seen_topic_id": counted.topic_id,
            "seen_next_offset": 11,
        }
        counted.database.query("reset_progress", parameters)
        return seen

    monkeypatch.setattr(rebuild_progress, "look", look_and_be_overtaken)
    result = run(counted.settings, "rebuild", "progress", "--yes")
    assert (result.exit_code, "was moved on meanwhile" in result.stderr) == (1, True)
    assert counted.starts() == {0: 5}


def test_a_partition_that_is_no_more_is_left_as_it_is(counted: Counted) -> None:
    """The topic was made again with fewer partitions: there is nothing to count in the others."""
    counted.up_to({0: 1, 9: 50}, "the id of an earlier topic")
    result = run(counted.settings, "rebuild", "progress", "--yes")
    assert (result.exit_code, "partition 9" in result.stdout) == (0, False)
    assert "partition 9: counted up to 50: of a partition that the topic does not have" in result.stderr


def test_what_is_not_there_is_told(counted: Counted) -> None:
    """No progress, an unknown partition, an unknown topic."""
    result = run(counted.settings, "rebuild", "progress", "--yes")
    assert (result.exit_code, "there is no progress to rebuild" in result.stderr) == (1, True)
    counted.up_to({0: 1})
    result = run(counted.settings, "rebuild", "progress", "--partition", "3", "--yes")
    assert (result.exit_code, "partition 3 of" in result.stderr) == (1, True)
    result = run(counted.settings, "rebuild", "progress", "--topic", "nowhere", "--yes")
    assert (result.exit_code, "there is no topic nowhere" in result.stderr) == (1, True)


def test_rollups_are_materialized_now(settings: Settings) -> None:
    """With the extension by it, without by us; then nothing is added up at queries but what is still being counted."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
    assert succeed_json(settings, "rebuild", "rollups") == {"refreshed": True}
    assert "are up to date" in succeed(settings, "rebuild", "rollups")


@pytest.mark.parametrize("afterwards", [None, Retention(), Retention(windows=90)])
def test_windows_that_are_not_kept_are_not_counted_again(settings: Settings, afterwards: Retention | None) -> None:
    """Their sums are in the rollups still, and would be there twice; also when more is kept afterwards."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        keep_for(database, Retention(windows=30))
        if afterwards is not None:
            materialize(database, wall_clock_ms())
            drop_expired(database, wall_clock_ms())
            keep_for(database, afterwards)
    result = run(settings, "rebuild", "windows", "--from", "31d", "--to", "now", "--dry-run")
    assert result.exit_code == 1
    assert "are not kept (FUNNELWATCH_KEEP_WINDOWS_DAYS), only their sums: choose a later --from" in result.output
