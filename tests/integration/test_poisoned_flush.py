"""What the database rejects, and when it takes no writes: the stream goes on, and every event counts once."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import sql

from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.counts import PartitionCounts, Series
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.series import series_ids
from tests.command import run as command
from tests.command import succeed_json
from tests.stack import wait_until
from tests.traffic import event, everything, now_ms, prepared, produce, row_of, totals
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

QUICK = {"allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "window_s": 1, "flush_interval_s": 0.1}
DAY_MS = 86_400_000


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short times; topics and tables are there."""
    made = prepared(settings.model_copy(update=QUICK))
    with closing(Database(made.timescale_url)) as database:
        migrate(database, made.window_ms)
    return made


def administer(settings: Settings, *statements: str) -> None:
    """Run statements as an administrator; ``{}`` is the database's name."""
    with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as session:
        session.execute("SET default_transaction_read_only = off")
        for statement in statements:
            session.execute(sql.SQL(statement).format(sql.Identifier(session.info.dbname)))  # type: ignore[arg-type]


END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@contextmanager
def read_only(settings: Settings) -> Iterator[None]:
    """The database takes no writes, as a replica after a failover: old sessions end, new ones may only read."""
    administer(settings, "ALTER DATABASE {} SET default_transaction_read_only = on", END_SESSIONS)
    try:
        yield
    finally:
        administer(settings, "ALTER DATABASE {} RESET default_transaction_read_only", END_SESSIONS)


def sample(name: str, value: int) -> dict[str, Any]:
    """A sample of a counter."""
    return {
        "event_id": f"{name} {value}",
        "name": name,
        "kind": "COUNTER",
        "value": value,
        "dimensions": {},
        "ts": now_ms(),
    }


def send_samples(settings: Settings, samples: list[dict[str, Any]]) -> None:
    """Produce samples of counters."""
    encode, producer = Encoder("Metric"), Producer(settings.kafka())
    for one in samples:
        producer.produce(settings.metrics_topic, encode(one))
    assert producer.flush(60) == 0


def test_a_row_that_the_database_rejects_is_a_dead_letter_and_a_replay_counts_it(quick: Settings) -> None:
    """A constraint stands for whatever the database rejects: the rest is counted, in events and in metrics."""
    administer(
        quick,
        "CREATE FUNCTION is_bad(one integer) RETURNS boolean LANGUAGE sql RETURN EXISTS ("
        "SELECT FROM series WHERE series_id = one AND dimensions ->> 'app_version' = 'bad')",
        "ALTER TABLE window_counts ADD CONSTRAINT bad CHECK (NOT is_bad(series_id))",
        "ALTER TABLE metric_counts ADD CONSTRAINT bad CHECK (total < 1000)",
        "ALTER TABLE metric_series ADD CONSTRAINT bad CHECK (name <> 'bad_name')",
        "ALTER TABLE series ADD CONSTRAINT bad CHECK (dimensions ->> 'browser' <> 'bad_name')",
        "ALTER TABLE funnel_progress ADD CONSTRAINT bad CHECK (closed_through IS NULL)",
    )
    versions = ["bad" if number % 50 == 7 else "1" for number in range(500)]
    produce(quick, [event(app_version=version) for version in versions])
    produce(quick, [event(browser="bad_name") for _ in range(5)])
    send_samples(quick, [sample(name, value) for name in ("sms", "bad_name") for value in (1, 2, 5_000)])
    with worker(quick) as one:
        dealt = {"accepted": 490, "rejected": 15, "duplicates": 0, "counted": 490}
        wait_until(lambda: totals(quick) == dealt or not one.running, f"the rest is counted {one.text()}", 120)
        wait_until(lambda: len(everything(quick, quick.dead_letters_topic)) == 19, "metrics too")
        assert _metric(quick) == [("sms", 2, 3)]
        letters = [dict(letter.headers()) for letter in everything(quick, quick.dead_letters_topic)]
        assert {letter["reason"] for letter in letters} == {b"NOT_STORED"}
        assert all(b"23514" in letter["detail"] for letter in letters)
        listed = command(quick, "dead-letters", "list", "--reason", "NOT_STORED", "--limit", "1")
        assert listed.exit_code == 0, listed.output
        produce(quick, [event()])
        wait_until(lambda: totals(quick)["accepted"] == 491 or not one.running, "and what comes")
        wait_until(lambda: "(closing)" in one.text() or not one.running, "closing waits")
        administer(
            quick,
            "ALTER TABLE window_counts DROP CONSTRAINT bad",
            "ALTER TABLE metric_counts DROP CONSTRAINT bad",
            "ALTER TABLE metric_series DROP CONSTRAINT bad",
            "ALTER TABLE series DROP CONSTRAINT bad",
            "ALTER TABLE funnel_progress DROP CONSTRAINT bad",
        )
        # Within the duplicate horizon, and by the worker that has seen the ids.
        assert succeed_json(quick, "dead-letters", "replay", "--yes")["produced"] == 19
        wait_until(lambda: totals(quick)["accepted"] == 506 or not one.running, f"all are counted {totals(quick)}")
        wait_until(lambda: _metric(quick) == [("bad_name", 3, 5_003), ("sms", 3, 5_003)], "metrics too")
        assert totals(quick)["duplicates"] == 0
        wait_until(lambda: _is_closed(quick) or not one.running, f"windows close again {one.text()}")
        assert one.stop() == 0, one.text()


def _is_closed(settings: Settings) -> bool:
    with closing(Database(settings.timescale_url)) as database:
        return all(one.closed_through is not None for one in ClosingStore(database).funnels())


def _metric(settings: Settings) -> list[tuple[str, int, int]]:
    with closing(Database(settings.timescale_url)) as database:
        found = MetricStore(database).read(0, 2**45)
        return [(one.name, one.samples, one.total) for one in found]


def test_a_database_that_takes_no_writes_is_waited_for(quick: Settings) -> None:
    """Read only at the start and later: the worker neither ends nor loses an event; commands say what is the matter."""
    produce(quick, [event() for _ in range(50)])
    with worker(quick) as one:
        with read_only(quick):
            wait_until(lambda: "read-only transaction" in one.text() or not one.running, "it waits", 120)
        wait_until(lambda: totals(quick)["accepted"] == 50 or not one.running, f"all are counted {one.text()}", 120)
        with read_only(quick):
            outages = one.text().count("PostgreSQL: waiting")
            produce(quick, [event() for _ in range(50)])
            wait_until(
                lambda: one.text().count("PostgreSQL: waiting") > outages or not one.running,
                "the flush waits",
                120,
            )
            rejected = command(quick, "silence", "add", "--rule", "R", "--for", "1h")
            assert (rejected.exit_code, "takes no writes now" in rejected.stderr) == (1, True), rejected.output
            time.sleep(1)
            assert one.running
        wait_until(lambda: totals(quick)["accepted"] == 100 or not one.running, f"all are counted {one.text()}", 120)
        assert totals(quick) == {"accepted": 100, "rejected": 0, "duplicates": 0, "counted": 100}
        assert "Traceback" not in one.text()
        assert one.stop() == 0, one.text()


def test_late_events_of_many_series_of_a_compressed_day_are_counted(extended: Database, funnel: str) -> None:
    """More rows than TimescaleDB lets a transaction decompress by default (100,000), in one flush."""
    day = (now_ms() - 30 * DAY_MS) // DAY_MS * DAY_MS
    with extended.transaction() as cursor:
        run(cursor, "counting_ourselves")
        ids = series_ids(cursor, {Series.of(funnel, "A", os=f"os {s}", app_version="1") for s in range(1, 111)})
        cursor.execute(
            "INSERT INTO window_counts "
            "SELECT to_timestamp(%s / 1000.0) + n * interval '1 minute', s.number, 1, 0, 0, 0, 0 "
            "FROM generate_series(0, 1000) AS n, unnest(%s::integer[]) AS s (number)",
            [day, list(ids.values())],
        )
        cursor.execute(
            "SELECT compress_chunk(c) FROM show_chunks('window_counts', newer_than => to_timestamp(%s / 1000.0), "
            "older_than => to_timestamp(%s / 1000.0)) AS c",
            [day - 1, day + DAY_MS + 1],
        )
    counts = {(day, Series.of(funnel, "A", os=f"os {s}", app_version="1")): row_of(1) for s in range(1, 111)}
    store = CountStore(extended)
    store.start(funnel, "id", {0: 0})
    flushed = store.flush(funnel, "id", [PartitionCounts(0, 0, 110, WindowCounts.of(counts), accepted=110)])
    assert set(flushed.totals.counts[:, 0].tolist()) == {2}
    assert len(flushed.totals) == 110
