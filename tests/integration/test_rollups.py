"""Rollups through time: late events, backfills, compression, retention; on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates
from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import Scope
from funnelwatch.sinks.timescale.retention import LEVELS, Retention, drop_expired
from tests.extension import SharedSession
from tests.filling import MINUTE_MS, count_in, keep_for
from tests.integration.test_views import DAY_MS, SMS, at, rows
from tests.ledger import agree, begin_anew
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTHS = {"5m": 5 * MINUTE_MS, "1h": 60 * MINUTE_MS, "1d": DAY_MS}
NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
Counted = dict[tuple[int, str, str, str, str], list[int]]


@pytest.fixture(autouse=True)
def _anew(request: pytest.FixtureRequest) -> None:
    """Each test counts in an empty database."""
    begin_anew(request.getfixturevalue("either" if "either" in request.fixturenames else "extended"))


def counted(window: int, os: str = "iOS", number: int = 1) -> Counted:
    """One series in one window."""
    return {(window, SMS, os, "", "1.0"): [number * one for one in (10, 7, 2, 6, 3, 8, 5, 4, 1)]}


def level_of(database: Database, funnel: str, level: str) -> dict[tuple[int, str], list[int]]:
    """Bucket and os to counts, as a level has them."""
    found = rows(
        database,
        f"SELECT c.*, s.dimensions ->> 'os' AS os FROM counts_{level} AS c INNER JOIN series AS s USING (series_id) "
        "WHERE s.funnel = %s",
        funnel,
    )
    return {
        (int(row["window_start"].timestamp() * 1000), row["os"]): [row[name] for name in CountRow._fields]
        for row in found
    }


def by_hand(*parts: Mapping[tuple[int, str, str, str, str], list[int]], level: str) -> dict[tuple[int, str], list[int]]:
    """The same, added up here."""
    total: dict[tuple[int, str], list[int]] = {}
    for part in parts:
        for (window, _, os, _, _), tally in part.items():
            kept = total.setdefault((window - window % WIDTHS[level], os), row_of())
            kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
    return total


def test_late_events_and_backfills_are_in_every_level(either: Database, funnel: str) -> None:
    """Late counts of materialized buckets, and new counts, are there at once, and after the next materialization."""
    before = counted(NOW - NOW % MINUTE_MS - 20 * DAY_MS)
    current = counted(NOW - NOW % MINUTE_MS, "Android")
    count_in(either, before, funnel=funnel)
    count_in(either, current, funnel=funnel)
    materialize(either, NOW)
    for level in WIDTHS:
        assert level_of(either, funnel, level) == by_hand(before, current, level=level)
    late = {key: row_of(1, 1, 0, 1, 0, 1, 1, 1) for key in before}
    backfill = counted(NOW - NOW % MINUTE_MS - 25 * DAY_MS, number=3)
    count_in(either, late | backfill, funnel=funnel)
    count_in(either, current, funnel=funnel)
    for _ in range(2):
        for level in WIDTHS:
            assert level_of(either, funnel, level) == by_hand(before, late, backfill, current, current, level=level)
        materialize(either, NOW)


def test_a_bucket_that_is_still_being_counted_is_never_stale(either: Database, funnel: str) -> None:
    """The newest hour is not materialized, so its events are seen at once."""
    window = NOW - NOW % MINUTE_MS
    for number in range(1, 4):
        count_in(either, counted(window), funnel=funnel)
        materialize(either, NOW)
        for level in WIDTHS:
            assert list(level_of(either, funnel, level).values()) == [
                [number * one for one in (10, 7, 2, 6, 3, 8, 5, 4, 1)]
            ]


def test_rollups_outlive_what_they_are_made_of(either: Database, funnel: str) -> None:
    """Windows of 40 days ago are dropped, hours of 200 days ago too; the coarser levels still have their counts."""
    old, older = counted(TODAY - 40 * DAY_MS), counted(TODAY - 200 * DAY_MS, number=2)
    recent = counted(TODAY - 5 * DAY_MS, "Android")
    count_in(either, old | older | recent, funnel=funnel)
    keep_for(either, Retention(windows=30, five_minutes=60, hours=100, days=0))
    for _ in range(2):
        materialize(either, NOW)
        drop_expired(either, NOW)
        windows = {row["window_start"] for row in rows(either, "SELECT window_start FROM window_counts")}
        assert windows == {at(TODAY - 5 * DAY_MS)}
        assert level_of(either, funnel, "5m") == by_hand(old, recent, level="5m")
        assert level_of(either, funnel, "1h") == by_hand(old, recent, level="1h")
        assert level_of(either, funnel, "1d") == by_hand(old, older, recent, level="1d")
        agree(either)
        check_answers(either, funnel)


def check_answers(database: Database, funnel: str) -> None:
    """Questions about rates are answered from what is still kept, in whole buckets, or rejected."""
    counted = {}
    for days in (1, 35, 50, 190):
        question = RateQuery(Scope(funnel), TODAY - (days + 10) * DAY_MS, NOW, NOW, every_ms=DAY_MS)
        counted[days] = sum(rate.impressions for rate in query_rates(database, Settings(), question).rates)
    assert counted == {1: 10, 35: 20, 50: 20, 190: 40}
    with pytest.raises(BadQueryError, match="counts are kept by 5m"):
        query_rates(
            database,
            Settings(),
            RateQuery(Scope(funnel), TODAY - 41 * DAY_MS, TODAY - 40 * DAY_MS, NOW, every_ms=MINUTE_MS),
        )


def test_retention_is_set_once_and_follows_the_settings(either: Database) -> None:
    """The same values again change nothing; a different value changes its level only."""
    assert keep_for(either, Retention(40, 400, 400, 0)) == ["windows", "5m", "1h"]
    assert keep_for(either, Retention(40, 400, 400, 0)) == []
    assert keep_for(either, Retention(50, 400, 400, 0)) == ["windows"]
    kept = {
        row["level"]: row["keep"]
        for row in rows(either, "SELECT level, extract(day FROM keep)::int AS keep FROM retention")
    }
    assert kept == dict(zip(LEVELS, (50, 400, 400, None), strict=True))


JOBS = """
SELECT hypertable_name::text AS relation, proc_name::text AS kind, config ->> 'compress_after' AS compress_after
FROM timescaledb_information.jobs
WHERE proc_name LIKE 'policy_%%' AND job_id >= 1000
ORDER BY relation
"""


def test_each_table_has_its_policy_once_however_often_it_is_migrated(extended: Database) -> None:
    """The extension compresses; it neither refreshes nor drops anything, whatever is kept."""
    expected = [
        (relation, "policy_compression", after)
        for relation, after in (
            ("metric_counts", "7 days"),
            ("rollup_1h", "90 days"),
            ("rollup_5m", "30 days"),
            ("window_counts", "7 days"),
        )
    ]
    for retention in (Retention(), Retention(30, 60, 100, 200)):
        assert migrate(extended, MINUTE_MS) == []
        keep_for(extended, retention)
        assert [tuple(row.values()) for row in rows(extended, JOBS)] == expected


def test_counts_are_added_in_a_compressed_chunk(extended: Database, funnel: str) -> None:
    """An event that is later than a week is counted once, with its duration; the others stay as they are."""
    window = TODAY - 10 * DAY_MS
    first = counted(window) | counted(window, "Android")
    count_in(extended, first, funnel=funnel, durations={key: [96, 97, 2_048] for key in first})
    compressed = rows(
        extended,
        "SELECT compress_chunk(chunk, if_not_compressed => true) "
        "FROM show_chunks('window_counts', newer_than => %s, older_than => %s) AS chunk",
        at(window),
        at(window + DAY_MS),
    )
    assert len(compressed) == 1
    count_in(extended, counted(window), funnel=funnel, durations={key: [96] for key in counted(window)})
    store = CountStore(extended)
    [expected] = counted(window).values()
    read = {(start, series.value("os")): list(tally) for start, series, tally in store.read(0, 2**45, funnel)}
    assert read == {(window, "iOS"): [2 * one for one in expected], (window, "Android"): expected}
    took = store.durations(0, 2**45, funnel)
    assert {
        os: sum(number for key, [number] in took.items() if key[1].value("os") == os) for os in ("iOS", "Android")
    } == {
        "iOS": 4,
        "Android": 3,
    }
    agree(extended)


def test_rollups_are_compressed_and_late_events_still_reach_them(extended: Database, funnel: str) -> None:
    """A materialization unpacks what it must, and the next run of the job packs it again."""
    window = TODAY - 150 * DAY_MS
    early = {
        (window + minutes * MINUTE_MS, SMS, os, "", "1"): row_of(9, 3, 1, 3, 1, 8, 2, 7, 1)
        for minutes in range(40)
        for os in "ab"
    }
    took = {key: [1_000, 90_000] for key in early}
    count_in(extended, early, funnel=funnel, durations=took)
    materialize(extended, NOW)
    compress(extended)
    assert packed(extended, window) == {"rollup_5m", "rollup_1h", "window_counts"}
    late = {(window + 7 * MINUTE_MS, SMS, "a", "", "1"): row_of(5, 4, 1, 4, 1, 3, 3, 2, 2)}
    count_in(extended, late, funnel=funnel, durations={key: [1_000] for key in late})
    for _ in range(2):
        agree(extended)
        assert materialize(extended, NOW) == 3
        for level in WIDTHS:
            assert level_of(extended, funnel, level) == by_hand(early, late, level=level)
            conversions = f"SELECT sum(conversions)::int AS many FROM time_to_convert_{level} WHERE funnel = %s"
            assert rows(extended, conversions, funnel) == [{"many": 161}]
        compress(extended)
        late_again = {key: row_of() for key in late}
        count_in(extended, late_again, funnel=funnel)
    keep_for(extended, Retention(30, 60, 100))
    materialize(extended, NOW)
    drop_expired(extended, NOW)
    assert level_of(extended, funnel, "1h") == {}
    assert level_of(extended, funnel, "1d") == by_hand(early, late, level="1d")


def compress(database: Database) -> None:
    """Run the jobs that compress."""
    jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' ORDER BY job_id"
    for row in rows(database, jobs):
        with database.outside_transaction() as cursor:
            cursor.execute("CALL run_job(%s)", [row["job_id"]])


def packed(database: Database, window: int) -> set[str]:
    """The tables whose chunk of a window is compressed."""
    found = rows(
        database,
        "SELECT hypertable_name::text AS name FROM timescaledb_information.chunks "
        "WHERE is_compressed AND range_start <= %s AND range_end > %s",
        at(window),
        at(window),
    )
    return {row["name"] for row in found}


def test_tables_of_counts_are_in_chunks(extended: Database, funnel: str) -> None:
    """So a range of time touches the chunks that it needs."""
    count_in(extended, counted(TODAY - 300 * DAY_MS), funnel=funnel)
    materialize(extended, NOW)
    chunks = rows(
        extended,
        "SELECT hypertable_name::text AS name, extract(day FROM range_end - range_start)::int AS days "
        "FROM timescaledb_information.chunks WHERE range_start <= %s AND range_end > %s ORDER BY 1",
        at(TODAY - 300 * DAY_MS),
        at(TODAY - 300 * DAY_MS),
    )
    assert {row["name"]: row["days"] for row in chunks} == {
        "window_counts": 1,
        "rollup_5m": 7,
        "rollup_1h": 28,
        "rollup_1d": 364,
    }


def test_only_one_worker_drops_at_a_time(either: Database, funnel: str) -> None:
    """Another one finds the lock taken, drops nothing and does not wait."""
    if isinstance(either, SharedSession):
        pytest.skip("ONE SESSION: in WebAssembly all connections share one, so nobody waits for another")
    count_in(either, counted(TODAY - 40 * DAY_MS), funnel=funnel)
    materialize(either, NOW)
    keep_for(either, Retention(windows=30))
    windows = "SELECT count(*) AS many FROM window_counts"
    with closing(Database(either.url)) as other:
        with either.transaction() as cursor:
            assert run(cursor, "lock_dropping")[0]["locked"]
            drop_expired(other, NOW)
        assert rows(either, windows) == [{"many": 1}]
        drop_expired(other, NOW)
    assert rows(either, windows) == [{"many": 0}]
