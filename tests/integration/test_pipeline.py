"""A real worker on real servers: what is produced is counted once or rejected once, whatever happens in between."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.by_hand import counts_by_hand
from tests.proxy import door
from tests.stack import not_on_tansu, wait_until
from tests.traffic import (
    Key,
    admin,
    closed_windows,
    counted,
    done,
    event,
    now_ms,
    prepared,
    produce,
    some_events,
    totals,
)
from tests.worker import Worker, worker, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

QUICK = {"session_timeout_s": 2.0, "allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "window_s": 1}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short times, and the topics made."""
    return prepared(settings.model_copy(update=QUICK))


@pytest.fixture
def database(quick: Settings) -> Iterator[Database]:
    """A connection of the test's own, with the tables made."""
    database = Database(quick.timescale_url)
    migrate(database, quick.window_ms)
    yield database
    database.close()


def set_progress(database: Database, settings: Settings, change: str) -> None:
    """Meddle with how far partition 0 of the events is counted."""
    statement = f"UPDATE stream_progress SET {change} WHERE partition = 0 AND topic = '{settings.events_topic}'"
    database.connection().execute(cast("Any", statement))


def late_windows(database: Database) -> int:
    """How many windows have changed after they were closed."""
    [row] = database.connection().execute("SELECT count(*) AS n FROM late_windows").fetchall()
    return int(row["n"])


def wait_done(settings: Settings, records: int, *running: Worker) -> None:
    """Wait until so many records have been dealt with, or a worker has ended."""
    wait_until(
        lambda: done(settings, records) or not all(one.running for one in running),
        f"{records} records are dealt with; {totals(settings)}",
        120,
    )
    for one in running:
        assert one.running, one.text()


def test_everything_produced_is_counted_and_a_stopped_worker_leaves_at_once(quick: Settings) -> None:
    """All keys equal an independent group-by, and SIGTERM ends the worker with exit code 0 within a few seconds."""
    events = some_events(3_000)
    produce(quick, events)
    with worker(quick) as one:
        wait_done(quick, len(events), one)
        began = time.monotonic()
        assert one.stop() == 0, one.text()
        assert time.monotonic() - began < 30, one.text()
        assert "Traceback" not in one.text()
    assert counted(quick) == counts_by_hand(events, quick.window_ms)
    assert totals(quick)["rejected"] == 0


def test_a_worker_killed_again_and_again_loses_nothing_and_counts_nothing_twice(quick: Settings) -> None:
    """Kill -9 at any moment: every key equals an independent group-by, and the cache equals the database."""
    events = some_events(6_000, seed=1)
    duplicates = events[100:200]
    with worker(quick) as one:
        one.wait_assigned()
        for number in range(4):
            produce(quick, events[number * 1_500 : (number + 1) * 1_500])
            wait_until(partial(done, quick, number * 1_200 + 1), "some are counted")
            one.kill()
            one.start()
        produce(quick, duplicates)
        wait_done(quick, len(events) + len(duplicates), one)
        assert counted(quick) == counts_by_hand(events, quick.window_ms)
        assert totals(quick)["duplicates"] == len(duplicates)
        cache = CountCache(quick.redis_url, quick.redis_prefix, quick.cache_horizon_s)
        wait_until(lambda: in_redis(cache, quick) == counted(quick), "the cache equals the database")
        cache.close()


def in_redis(cache: CountCache, settings: Settings) -> dict[Key, list[int]]:
    """What the cache has of the windows that the database has."""
    shown: dict[Key, list[int]] = {}
    for window in {key[0] for key in counted(settings)}:
        shown |= {(window, series): list(tally) for series, tally in cache.read("sign_up", window).items()}
    return shown


def test_workers_that_come_and_go_count_everything_once(quick: Settings) -> None:
    """A second worker joins and leaves in order, a third is killed; all keys are exact."""
    events = some_events(6_000, seed=2)
    with workers(quick, 3) as (first, second, third):
        first.wait_assigned()
        second.wait_assigned()
        for at in range(0, 3_000, 250):
            produce(quick, events[at : at + 250])
        assert second.stop() == 0, second.text()
        for at in range(3_000, 6_000, 500):
            produce(quick, events[at : at + 500])
            if at == 4_000:
                third.kill()
        wait_done(quick, len(events), first)
    assert counted(quick) == counts_by_hand(events, quick.window_ms)
    assert totals(quick)["duplicates"] == 0


def test_the_database_away_pauses_the_stream_and_loses_nothing(quick: Settings) -> None:
    """Connections refused for longer than the session timeout: the worker waits, says so, and goes on exactly."""
    events = some_events(3_000, seed=3)
    quick = quick.model_copy(update={"session_timeout_s": 6.0})  # else a busy machine is taken for a dead worker
    with door(revealed(quick.timescale_url)) as (door_, url), worker(quick, timescale_url=url) as one:
        one.wait_assigned()
        produce(quick, events[:1_000])
        wait_done(quick, 1_000, one)
        door_.shut()
        for at in range(1_000, 3_000, 100):
            produce(quick, events[at : at + 100])
        wait_until(lambda: "PostgreSQL: waiting" in one.text(), "it says that it waits")
        time.sleep(quick.session_timeout_s + 1)  # the outage outlasts the session timeout
        assert one.get("/metrics")[0] == 200
        assert one.running
        door_.open()
        wait_done(quick, len(events), one)
        assert counted(quick) == counts_by_hand(events, quick.window_ms)
        assert one.assigned() == 1, one.text()


@pytest.mark.parametrize("how", ["down", "hanging"])
def test_a_worker_can_be_ended_while_the_database_is_away(quick: Settings, how: str) -> None:
    """SIGTERM in the middle of a flush that cannot be done ends the worker soon; the next one counts it."""
    events = some_events(200, seed=4)
    with door(revealed(quick.timescale_url)) as (door_, url), worker(quick, timescale_url=url) as one:
        produce(quick, events[:100])
        wait_done(quick, 100, one)
        door_.shut() if how == "down" else door_.freeze()
        produce(quick, events[100:])
        if how == "down":
            wait_until(lambda: "PostgreSQL: waiting" in one.text(), "it waits")
        else:
            time.sleep(2)  # there is nothing to be seen of a call that hangs
        began = time.monotonic()
        code = one.stop()
        assert time.monotonic() - began < 40, one.text()
        assert (code == 0) == (how == "down")
        with worker(quick) as other:
            wait_done(quick, len(events), other)
    assert counted(quick) == counts_by_hand(events, quick.window_ms)


def test_a_worker_waits_for_the_database_to_start_and_can_be_ended_meanwhile(quick: Settings) -> None:
    """Started before the database, it waits and says so; SIGTERM ends it; when the database comes it counts."""
    events = some_events(100, seed=5)
    produce(quick, events)
    with door(revealed(quick.timescale_url)) as (door_, url), workers(quick, 2, timescale_url=url) as (one, other):
        door_.shut()
        wait_until(lambda: re.search(r"PostgreSQL: waiting, .*\(migrations\)", other.text()), "it waits", 120)
        wait_until(lambda: re.search(r"PostgreSQL: waiting, .*\(migrations\)", one.text()), "it waits", 120)
        began = time.monotonic()
        one.stop()
        assert time.monotonic() - began < 40, one.text()
        door_.open()
        wait_done(quick, len(events), other)


def test_an_error_that_is_no_outage_ends_the_worker_with_a_code_that_says_so(
    quick: Settings, database: Database
) -> None:
    """A table that is gone is not waited for: the process exits non-zero, so that its supervisor notices."""
    with worker(quick) as one:
        one.wait_assigned()
        database.connection().execute("ALTER TABLE window_counts RENAME TO mislaid")
        produce(quick, some_events(10))
        assert one.wait() != 0
        assert "window_counts" in one.text()
        database.connection().execute("ALTER TABLE mislaid RENAME TO window_counts")
        one.start()
        wait_done(quick, 10, one)


def test_a_topic_made_anew_stops_its_partitions_and_says_what_to_do(quick: Settings, database: Database) -> None:
    """Counting goes not on over another log of the same name: /healthz is 503 and names the command."""
    produce(quick, some_events(100, seed=6), partition=0)
    with worker(quick) as one:
        wait_done(quick, 100, one)
        wait_until(lambda: one.get("/healthz")[0] == 200, "it says that all is well")
        assert one.stop() == 0
    set_progress(database, quick, "topic_id = 'of before'")
    with worker(quick) as one:
        wait_until(lambda: one.get("/healthz")[0] == 503 or not one.running, "it says so", 120)
        wait_until(lambda: "funnelwatch rebuild progress" in one.get("/healthz")[1], "and what to do")
        good = some_events(50, seed=7)
        produce(quick, good, partition=1)
        produce(quick, some_events(50, seed=8), partition=0)
        wait_done(quick, 150, one)
        wait_until(lambda: "funnelwatch_stopped_partitions 1.0" in one.get("/metrics")[1], "one is stopped")
    assert totals(quick)["accepted"] == 150


@not_on_tansu("knows no offset out of range")
def test_progress_beyond_the_end_of_the_log_stops_its_partition(quick: Settings, database: Database) -> None:
    """Nothing is passed over; once the progress is set right the worker goes on by itself."""
    produce(quick, some_events(100, seed=9), partition=0)
    with worker(quick) as one:
        wait_done(quick, 100, one)
        assert one.stop() == 0
    set_progress(database, quick, "next_offset = 1000")
    with worker(quick) as one:
        wait_until(lambda: one.get("/healthz")[0] == 503 or not one.running, "it says so", 120)
        wait_until(lambda: "does not have" in one.get("/healthz")[1], "and why")
        produce(quick, some_events(50, seed=10), partition=1)
        wait_done(quick, 150, one)
        set_progress(database, quick, "next_offset = 100")
        produce(quick, some_events(50, seed=11), partition=0)
        wait_done(quick, 200, one)
        wait_until(lambda: one.get("/healthz")[0] == 200, "it says that all is well")


def test_the_same_event_before_and_after_a_restart_is_counted_once(quick: Settings) -> None:
    """The ids of the horizon are read again when a worker starts."""
    events = some_events(500, seed=11)
    produce(quick, events)
    with worker(quick) as one:
        wait_done(quick, 500, one)
        assert one.stop() == 0
    produce(quick, events[:300] + events[:10])
    with worker(quick) as one:
        wait_done(quick, 810, one)
    assert totals(quick)["duplicates"] == 310
    assert counted(quick) == counts_by_hand(events, quick.window_ms)


def test_the_last_window_closes_by_wall_time_and_garbage_does_not_hold_it_back(quick: Settings) -> None:
    """With partitions quiet, or busy only with garbage, the window of the last event is published within seconds."""
    with worker(quick) as one:
        one.wait_assigned()
        last = event()
        produce(quick, [last], partition=0)

        def closed() -> bool:
            produce(quick, [b"garbage"], partition=1)
            return any(
                window["window_start"] == last["ts"] // 1000 * 1000 and sum(s["impressions"] for s in window["series"])
                for window in closed_windows(quick)
            )

        wait_until(closed, "the last window is published", every_s=0.3)


def test_events_of_a_time_without_workers_are_not_late(quick: Settings, database: Database) -> None:
    """A restart after a pause closes nothing before what came meanwhile is read, whoever said what was idle."""
    with worker(quick) as one:
        one.wait_assigned()
        produce(quick, [event()])
        idle = "SELECT count(*) AS n FROM stream_progress WHERE idle"
        wait_until(lambda: database.connection().execute(idle).fetchone() == {"n": 4}, "all are idle")
        assert one.stop() == 0
    late = late_windows(database)
    begin = now_ms()
    time.sleep(5.5)  # events of several windows pass while nobody reads, and what was said of idleness expires
    events = some_events(2_000, seed=12, begin=begin, spread_ms=5_000)
    produce(quick, events)
    with worker(quick) as one:
        wait_done(quick, 2_001, one)
        wait_until(lambda: len({w["window_start"] for w in closed_windows(quick)}) >= 5, "windows are closed")
    assert late_windows(database) <= late


def test_a_topic_made_anew_under_a_running_worker_is_not_counted_as_the_old_one(
    quick: Settings, database: Database
) -> None:
    """The topic is deleted and made again meanwhile: nothing of the new log is counted until a person says so."""
    produce(quick, some_events(400, seed=13))
    with worker(quick) as one:
        wait_done(quick, 400, one)
        kafka = admin(quick)
        kafka.delete_topics([quick.events_topic])[quick.events_topic].result(60)
        wait_until(lambda: quick.events_topic not in kafka.list_topics(timeout=60).topics, "the topic is gone")
        ensure_topics(quick)
        produce(quick, some_events(900, seed=14))

        def told() -> bool:
            if not one.running:
                assert one.wait() != 0
                one.start()
            return one.get("/healthz")[0] == 503 and len(re.findall("STOPPED", one.text())) >= 4

        wait_until(told, "all four partitions are stopped", 120)
        assert totals(quick)["accepted"] == 400
