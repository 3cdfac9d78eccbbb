"""Rollups through time: late events, backfills, compression, retention; on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from funnelwatch.sinks.timescale.refreshing import follow_dropped

from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import Scope
from funnelwatch.sinks.timescale.retention import LEVELS, RELATIONS, Retention, archive, refresh, set_retention
from tests.filling import MINUTE_MS, count_in
from tests.integration.test_views import COUNTS, DAY_MS, SMS, at, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTHS = {"5m": 5 * MINUTE_MS, "1h": 60 * MINUTE_MS, "1d": DAY_MS}
NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
Counted = dict[tuple[int, str, str, str, str], list[int]]


def counted(window: int, os: str = "iOS", number: int = 1) -> Counted:
    """One series in one window."""
    return {(window, SMS, os, "", "1.0"): [10 * number, 7 * number, 2 * number, 6 * number, 3 * number]}


def level_of(database: Database, funnel: str, level: str) -> dict[tuple[int, str], list[int]]:
    """Bucket and os to counts, as a level has them."""
    found = rows(database, f"SELECT * FROM {RELATIONS[level]} WHERE funnel = %s", funnel)
    return {(int(row["window_start"].timestamp() * 1000), row["os"]): [row[name] for name in COUNTS] for row in found}


def by_hand(*parts: Mapping[tuple[int, str, str, str, str], list[int]], level: str) -> dict[tuple[int, str], list[int]]:
    """The same, added up here."""
    total: dict[tuple[int, str], list[int]] = {}
    for part in parts:
        for (window, _, os, _, _), tally in part.items():
            kept = total.setdefault((window - window % WIDTHS[level], os), [0] * 5)
            kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
    return total


@pytest.fixture
def keep_all_again(either: Database) -> Iterator[None]:
    """The other tests of this file find everything kept, and nothing dropped."""
    yield
    forget_dropped(either)


def forget_dropped(database: Database) -> None:
    """Let the database believe that it has always kept everything."""
    set_retention(database, Retention())
    with database.transaction() as cursor:
        cursor.execute("UPDATE retention SET dropped_before = NULL")
    follow_dropped(database)


def test_late_events_and_backfills_are_in_every_level_after_a_refresh(either: Database, funnel: str) -> None:
    """What comes for buckets that are materialized already is added to them, and new counts are there at once."""
    before = counted(NOW - NOW % MINUTE_MS - 20 * DAY_MS)
    current = counted(NOW - NOW % MINUTE_MS, "Android")
    count_in(either, before, funnel=funnel)
    count_in(either, current, funnel=funnel)
    refresh(either)
    for level in WIDTHS:
        assert level_of(either, funnel, level) == by_hand(before, current, level=level)
    late = {key: [1, 1, 0, 1, 0] for key in before}
    backfill = counted(NOW - NOW % MINUTE_MS - 25 * DAY_MS, number=3)
    count_in(either, late | backfill, funnel=funnel)
    count_in(either, current, funnel=funnel)
    refresh(either)
    for level in WIDTHS:
        assert level_of(either, funnel, level) == by_hand(before, late, backfill, current, current, level=level)


def test_a_bucket_that_is_still_being_counted_is_never_stale(either: Database, funnel: str) -> None:
    """A refresh leaves out what events still come for, else they would be unseen until the next."""
    window = NOW - NOW % MINUTE_MS
    for number in range(1, 4):
        count_in(either, counted(window), funnel=funnel)
        refresh(either)
        for level in WIDTHS:
            assert list(level_of(either, funnel, level).values()) == [
                [10 * number, 7 * number, 2 * number, 6 * number, 3 * number]
            ]


def test_rollups_outlive_what_they_are_made_of(either: Database, funnel: str, keep_all_again: None) -> None:
    """Windows of 40 days ago are dropped, hours of 200 days ago too; the coarser levels still have their counts."""
    old, older = counted(TODAY - 40 * DAY_MS), counted(TODAY - 200 * DAY_MS, number=2)
    recent = counted(TODAY - 5 * DAY_MS, "Android")
    count_in(either, old | older | recent, funnel=funnel)
    refresh(either)
    set_retention(either, Retention(windows=30, five_minutes=60, hours=100, days=0))
    drop_what_is_not_kept(either)
    drop_what_is_not_kept(either)
    refresh(either)
    windows = {row["window_start"] for row in rows(either, "SELECT * FROM window_counts WHERE funnel = %s", funnel)}
    assert windows == {at(TODAY - 5 * DAY_MS)}
    assert level_of(either, funnel, "5m") == by_hand(old, recent, level="5m")
    assert level_of(either, funnel, "1h") == by_hand(old, recent, level="1h")
    assert level_of(either, funnel, "1d") == by_hand(old, older, recent, level="1d")
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


def test_a_day_that_is_partly_archived_adds_up(plain: Database, funnel: str) -> None:
    """What comes for a bucket whose windows are archived is archived in its turn, and neither part is lost."""
    window = TODAY - 40 * DAY_MS
    set_retention(plain, Retention(windows=30))
    try:
        for number in range(1, 3):
            count_in(plain, counted(window), funnel=funnel)
            assert level_of(plain, funnel, "1d") == by_hand(counted(window, number=number), level="1d")
            assert archive(plain, NOW) == 1
            assert level_of(plain, funnel, "1d") == by_hand(counted(window, number=number), level="1d")
        assert archive(plain, NOW) == 0
    finally:
        set_retention(plain, Retention())


def drop_what_is_not_kept(database: Database) -> None:
    """What a worker does on plain PostgreSQL, and the jobs of the extension otherwise."""
    archive(database, NOW)
    jobs = (
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' ORDER BY hypertable_name"
    )
    if rows(database, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        for job in rows(database, jobs):
            with database.outside_transaction() as cursor:
                cursor.execute("CALL run_job(%s)", [job["job_id"]])


def test_retention_is_set_once_and_follows_the_settings(either: Database, keep_all_again: None) -> None:
    """The same again is nothing new; what is told differently is changed, and only that."""
    assert set_retention(either, Retention(40, 400, 400, 0)) == ["windows", "5m", "1h"]
    assert set_retention(either, Retention(40, 400, 400, 0)) == []
    assert set_retention(either, Retention(50, 400, 400, 0)) == ["windows"]
    kept = {
        row["level"]: row["keep"]
        for row in rows(either, "SELECT level, extract(day FROM keep)::int AS keep FROM retention")
    }
    assert kept == dict(zip(LEVELS, (50, 400, 400, None), strict=True))


JOBS = """
SELECT
    coalesce(c.view_name, j.hypertable_name) AS relation, proc_name, j.schedule_interval::text AS every,
    config ->> 'start_offset' AS start_offset, config ->> 'end_offset' AS end_offset,
    config ->> 'drop_after' AS drop_after, config ->> 'compress_after' AS compress_after
FROM timescaledb_information.jobs AS j
LEFT JOIN timescaledb_information.continuous_aggregates AS c
    ON c.materialization_hypertable_name = j.hypertable_name
WHERE proc_name LIKE 'policy_%%' AND j.job_id >= 1000
ORDER BY proc_name, relation
"""


def test_each_level_has_its_policies_once_however_often_it_is_migrated(extended: Database) -> None:
    """Refreshes from the beginning on, compression after a week or a month; nothing is dropped unless it is said."""
    month = [(f"{what}_{level}", "30 days") for what in ("counts", "durations") for level in ("1h", "5m")]
    week = [(f"{what}_{part}", "7 days") for what in ("metric", "window") for part in ("counts", "durations")]
    expected = [
        *((relation, "policy_compression", None, None, None, after) for relation, after in (*month, *week)),
        *(
            (f"{what}_{level}", "policy_refresh_continuous_aggregate", None, end, None, None)
            for what in ("counts", "durations")
            for level, end in (("1d", "2 days"), ("1h", "03:00:00"), ("5m", "01:00:00"))
        ),
    ]
    forget_dropped(extended)
    for _ in range(2):
        assert migrate(extended, MINUTE_MS) == []
        set_retention(extended, Retention())
        found = [{name: value for name, value in row.items() if name != "every"} for row in rows(extended, JOBS)]
        assert [tuple(row.values()) for row in found] == expected


def test_a_refresh_begins_where_nothing_is_dropped_yet(extended: Database) -> None:
    """Else it would make rollups anew from windows that are gone, and delete what they outlived."""
    set_retention(extended, Retention(30, 60, 100, 0))
    found = {(row["relation"], row["proc_name"]): row for row in rows(extended, JOBS)}
    assert found["window_counts", "policy_retention"]["drop_after"] == "30 days"
    for relation in ("window_durations", "metric_counts", "metric_durations"):
        assert found[relation, "policy_retention"]["drop_after"] == "30 days"
    for what in ("counts", "durations"):
        for level, start in (("5m", "29 days"), ("1h", "59 days"), ("1d", "99 days")):
            assert found[f"{what}_{level}", "policy_refresh_continuous_aggregate"]["start_offset"] == start
        assert (f"{what}_1d", "policy_retention") not in found
    # What was dropped meanwhile stays dropped: nothing more goes, and nothing begins earlier.
    set_retention(extended, Retention())
    assert not [row for row in rows(extended, JOBS) if row["drop_after"]]
    assert {row["start_offset"] for row in rows(extended, JOBS)} == {None, "28 days", "58 days", "98 days"}
    forget_dropped(extended)
    assert not [row for row in rows(extended, JOBS) if row["start_offset"]]


def test_counts_are_added_in_a_compressed_chunk(extended: Database, funnel: str) -> None:
    """An event that is later than a week is counted once, and the others stay as they are."""
    window = TODAY - 10 * DAY_MS
    first = counted(window) | counted(window, "Android")
    count_in(extended, first, funnel=funnel)
    compressed = rows(
        extended,
        "SELECT compress_chunk(chunk, if_not_compressed => true) "
        "FROM show_chunks('window_counts', newer_than => %s, older_than => %s) AS chunk",
        at(window),
        at(window + DAY_MS),
    )
    assert len(compressed) == 1
    count_in(extended, counted(window), funnel=funnel)
    read = {(start, series.os): list(tally) for start, series, tally in CountStore(extended).read(0, 2**45, funnel)}
    assert read == {(window, "iOS"): [20, 14, 4, 12, 6], (window, "Android"): [10, 7, 2, 6, 3]}


def test_rollups_are_compressed_and_late_events_still_reach_them(extended: Database, funnel: str) -> None:
    """By the job, after a month; a refresh unpacks what it must, and the next run of the job packs it again."""
    window = TODAY - 50 * DAY_MS
    early = {(window + minutes * MINUTE_MS, SMS, os, "", "1"): [9, 3, 1, 3, 1] for minutes in range(40) for os in "ab"}
    took = {key: [1_000, 90_000] for key in early}
    count_in(extended, early, funnel=funnel, durations=took)
    refresh(extended)
    compress(extended)
    assert packed(extended, window) == {"counts_5m", "counts_1h", "durations_5m", "durations_1h"}
    late = {(window + 7 * MINUTE_MS, SMS, "a", "", "1"): [5, 4, 1, 4, 1]}
    count_in(extended, late, funnel=funnel, durations={key: [1_000] for key in late})
    for _ in range(2):
        refresh(extended)
        for level in WIDTHS:
            assert level_of(extended, funnel, level) == by_hand(early, late, level=level)
            slots = f"SELECT sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::int AS many FROM durations_{level}"
            assert rows(extended, f"{slots} WHERE funnel = %s", funnel) == [{"many": 161}]
        compress(extended)


def compress(database: Database) -> None:
    """Run the jobs that compress rollups."""
    for row in rows(database, JOB_IDS, ["counts_5m", "counts_1h", "durations_5m", "durations_1h"]):
        with database.outside_transaction() as cursor:
            cursor.execute("CALL run_job(%s)", [row["job_id"]])


JOB_IDS = """
SELECT j.job_id
FROM timescaledb_information.jobs AS j
LEFT JOIN timescaledb_information.continuous_aggregates AS c ON c.materialization_hypertable_name = j.hypertable_name
WHERE j.proc_name = 'policy_compression' AND coalesce(c.view_name, j.hypertable_name)::text = ANY(%s)
"""


def packed(database: Database, window: int) -> set[str]:
    """The rollups whose chunk of a window is compressed."""
    found = rows(
        database,
        "SELECT c.view_name FROM timescaledb_information.chunks AS k "
        "INNER JOIN timescaledb_information.continuous_aggregates AS c "
        "ON c.materialization_hypertable_name = k.hypertable_name "
        "WHERE k.is_compressed AND k.range_start <= %s AND k.range_end > %s",
        at(window),
        at(window),
    )
    return {row["view_name"] for row in found}


def test_a_late_event_makes_nothing_else_be_refreshed(extended: Database, funnel: str) -> None:
    """The extension notes by chunk what changed, since 2.24; before that, all from the late event to the newest."""
    version = rows(extended, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")[0]["extversion"]
    if tuple(map(int, version.split("-")[0].split(".")[:2])) < (2, 24):
        pytest.skip(f"TimescaleDB {version} notes one range a transaction; `funnelwatch doctor` warns of it")
    late, recent = TODAY - 20 * DAY_MS, TODAY - 2 * DAY_MS
    count_in(extended, counted(late) | counted(recent), funnel=funnel)
    refresh(extended)
    count_in(extended, counted(late) | counted(recent), funnel=funnel)
    noted = rows(
        extended,
        "SELECT greatest_modified_value - lowest_modified_value AS width "
        "FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log AS l "
        "INNER JOIN _timescaledb_catalog.hypertable AS h ON h.id = l.hypertable_id "
        "WHERE h.table_name = 'window_counts'",
    )
    assert [row["width"] for row in noted] == [0, 0]


def test_windows_are_chunks_of_a_day(extended: Database, funnel: str) -> None:
    """window_counts is a hypertable, so that a range of time touches the days that it needs."""
    for days in range(3):
        count_in(extended, counted(TODAY - (300 + days) * DAY_MS), funnel=funnel)
    chunks = rows(
        extended,
        "SELECT range_end - range_start AS width FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'window_counts' AND range_start >= %s AND range_start < %s",
        at(TODAY - 302 * DAY_MS),
        at(TODAY - 299 * DAY_MS),
    )
    assert [row["width"].days for row in chunks] == [1, 1, 1]


def test_only_one_worker_archives_at_a_time(plain: Database, funnel: str) -> None:
    """Another one finds it taken, does nothing and does not wait."""
    count_in(plain, counted(TODAY - 40 * DAY_MS), funnel=funnel)
    set_retention(plain, Retention(windows=30))
    other = Database(plain.url)
    try:
        with plain.transaction() as cursor:
            assert run(cursor, "lock_archive")[0]["locked"]
            assert archive(other, NOW) == 0
        assert archive(other, NOW) == 1
    finally:
        other.close()
        set_retention(plain, Retention())
