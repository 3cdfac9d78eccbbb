"""What a dashboard's queries touch: the days or the index ranges that they need, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.sinks.timescale.materializing import materialize
from tests.filling import count_in
from tests.grafana import View, dashboard, moment, queries
from tests.integration.test_views import DAY_MS, T, rows

if TYPE_CHECKING:
    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row

DAYS = 40
FILL_SERIES = """
INSERT INTO series (funnel, step, dimensions)
SELECT 'planned', step, jsonb_build_object('os', os, 'app_version', '1')
FROM unnest(ARRAY['a', 'b', 'c']) AS step, unnest(ARRAY['iOS', 'Android', 'Web']) AS os
"""
FILL = """
INSERT INTO window_counts (
    window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures, d24, d40
)
SELECT w, series_id, 100, 80, 10, 80, 10, 40, 40
FROM
    generate_series({start}::timestamptz, {end}::timestamptz - {every}::interval, {every}::interval) AS w,
    series
WHERE funnel = 'planned'
ORDER BY w, series_id
"""
END = T - T % DAY_MS
START = END - DAYS * DAY_MS
CHOSEN = 6 / 9
"""The share of the series that the panels ask for: two steps of three."""

TABLES = ("window_counts", "rollup_5m", "rollup_1h", "rollup_1d")


def fill(database: Database, minutes: int) -> None:
    """Forty days of nine series, a window every few minutes, with everything materialized that can be."""
    with database.transaction() as cursor:
        cursor.execute(FILL_SERIES)
        cursor.execute(cast("Any", FILL.format(start=moment(START), end=moment(END), every=f"'{minutes} minutes'")))
        cursor.execute(
            "INSERT INTO funnel_progress (funnel, closing_through, closed_through) VALUES ('planned', now(), now())"
        )
    restore(database)


def restore(database: Database) -> None:
    """Materialize everything, and bring the planner's knowledge and the block ranges up to date."""
    materialize(database, END + DAY_MS)
    with database.outside_transaction() as cursor:
        for table in TABLES:
            cursor.execute(cast("Any", f"VACUUM ANALYZE {table}"))


@pytest.fixture(scope="module")
def planned_plain(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain, 10)
    return plain


@pytest.fixture(scope="module")
def planned_extended(extended: Database) -> Database:
    """TimescaleDB, filled."""
    fill(extended, 60)
    return extended


@pytest.fixture(params=["plain", "extended"])
def planned(request: pytest.FixtureRequest) -> Database:
    """Both, one after the other."""
    database: Database = request.getfixturevalue(f"planned_{request.param}")
    return database


@dataclass(frozen=True)
class Reads:
    """The rows of a table, with the extension of its chunks, that a query has read, and how.

    Attributes:
        days: rows read, in days of the table.
        scanned: rows read without an index.
        chunks: the chunks that were read.
    """

    days: float
    scanned: int
    chunks: int


def reads(database: Database, sql: str) -> dict[str, Reads]:
    """The reads of a query, by table, as the server counts them, also those within functions."""
    with database.transaction() as cursor:
        cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        before = {row["relid"]: row for row in _counted(cursor)}
        cursor.execute(cast("Any", sql))
        after = _counted(cursor)
    found = {}
    for table in TABLES:
        [there] = rows(database, f"SELECT count(*) AS number FROM {table}")
        names = names_of(database, table)
        own = [
            (row["seq_tup_read"] - before[row["relid"]]["seq_tup_read"], row["idx"] - before[row["relid"]]["idx"])
            for row in after
            if row["relname"] in names
        ]
        read = sum(scanned + fetched for scanned, fetched in own)
        found[table] = Reads(
            read * DAYS / there["number"], sum(one[0] for one in own), sum(1 for one in own if any(one))
        )
    return found


def _counted(cursor: Cursor[Row]) -> list[Row]:
    cursor.execute(
        "SELECT relid, relname, coalesce(seq_tup_read, 0) AS seq_tup_read, coalesce(idx_tup_fetch, 0) AS idx "
        "FROM pg_stat_xact_all_tables"
    )
    return cursor.fetchall()


def panel(level: str, from_ms: int, to_ms: int, place: str = "Rate by step A", name: str = "funnel") -> str:
    """A panel of a dashboard as somebody looks at it."""
    chosen = {
        "funnel": ["planned"],
        "level": [level],
        "step": ["a", "b"],
        "os": ["iOS", "Android", "Web"],
        "browser": ["(none)"],
        "app_version": ["1"],
    }
    sql = dict(queries(dashboard(name)))[place]
    return View(from_ms, to_ms, chosen).expand(sql)


def names_of(database: Database, table: str) -> set[str]:
    """A table and, with the extension, its chunks."""
    chunks = rows(
        database,
        "SELECT c.relname AS name FROM pg_inherits AS i INNER JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = %s::regclass",
        table,
    )
    return {table} | {row["name"] for row in chunks}


def test_two_days_of_windows_touch_two_chunks(planned_extended: Database) -> None:
    """Of forty; a range that ends at midnight belongs to the day before and, for its last moment, the one after."""
    found = reads(planned_extended, panel("windows", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000))
    assert found["window_counts"].chunks == 2


@pytest.mark.parametrize(("level", "days"), [("5m", 7), ("1h", 28), ("1d", 364)])
def test_a_rollup_touches_its_chunks_of_the_range(planned_extended: Database, level: str, days: int) -> None:
    """Ten days of forty."""
    found = reads(planned_extended, panel(level, END - 15 * DAY_MS, END - 5 * DAY_MS))
    assert 1 <= found[f"rollup_{level}"].chunks <= 10 // days + 2
    assert len(names_of(planned_extended, f"rollup_{level}")) - 1 >= DAYS // days


@pytest.mark.parametrize("level", ["5m", "1h", "1d"])
def test_a_rollup_of_thirty_days_reads_no_window_that_is_materialized(planned: Database, level: str) -> None:
    """All of it is in its table; of a bucket that has changed the neighbourhood is read, and no more."""
    sql = panel(level, END - 30 * DAY_MS, END - 3 * DAY_MS)
    others = [table for table in TABLES if table != f"rollup_{level}"]
    found = reads(planned, sql)
    assert {table: found[table].days for table in others} == dict.fromkeys(others, 0)
    assert 26 * CHOSEN <= found[f"rollup_{level}"].days <= DAYS
    late = {(END - 5 * DAY_MS, "a", "iOS", "", "1"): (1, 1, 0)}
    count_in(planned, late, funnel="planned")
    try:
        assert 0 < reads(planned, sql)["window_counts"].days <= 2
    finally:
        restore(planned)
    assert reads(planned, sql)["window_counts"].days == 0


@pytest.mark.parametrize(
    ("level", "table"),
    [("windows", "window_counts"), ("5m", "rollup_5m"), ("1h", "rollup_1h"), ("1d", "rollup_1d")],
)
def test_without_the_extension_a_range_is_found_by_its_blocks(planned_plain: Database, level: str, table: str) -> None:
    """Three days of forty at any level: an index leads there, and hardly any other rows are looked at."""
    found = reads(planned_plain, panel(level, END - 10 * DAY_MS, END - 7 * DAY_MS - 1000))[table]
    assert found.days >= 1
    if level != "1d":  # all of it is a few pages
        assert found.scanned == 0
        # A range of blocks holds about eight days of hours, and three days lie in two or three of them.
        assert found.days <= (3 * 8 if level == "1h" else 3 * 4)


def test_buckets_that_are_not_materialized_are_found_by_their_blocks(planned_plain: Database) -> None:
    """After an edit by hand every level is added up from windows, those of the range and hardly any others."""
    with planned_plain.transaction() as cursor:
        cursor.execute("UPDATE window_counts SET failures = failures WHERE false")
    try:
        for level in ("5m", "1h", "1d"):
            found = reads(planned_plain, panel(level, END - 10 * DAY_MS, END - 7 * DAY_MS - 1000))["window_counts"]
            assert found.scanned == 0
            assert 3 <= found.days <= 3 * 4
    finally:
        restore(planned_plain)


def test_what_is_expected_touches_the_four_weeks_hours_and_not_what_is_between(planned: Database) -> None:
    """Four ranges of an hour are four days of forty."""
    found = reads(planned, panel("windows", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))
    assert 0 < found["window_counts"].days <= 8


def test_a_week_before_is_found_by_its_blocks_too(planned_plain: Database) -> None:
    """The expected rate needs four ranges, and no table is read as a whole for them."""
    found = reads(planned_plain, panel("5m", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))["rollup_5m"]
    assert found.scanned == 0
    assert 0 < found.days <= 8


def test_times_to_convert_touch_the_days_and_the_level_that_are_asked_for(planned: Database) -> None:
    """Of the four levels that the query names one is read, and of that the range."""
    ask = "Time to convert A", "step"
    found = reads(planned, panel("windows", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000, *ask))
    assert 1.9 * CHOSEN <= found["window_counts"].days <= 8
    assert [found[table].days for table in TABLES[1:]] == [0, 0, 0]
    found = reads(planned, panel("1h", END - 30 * DAY_MS, END - 3 * DAY_MS, *ask))
    assert [found[table].days for table in ("window_counts", "rollup_5m", "rollup_1d")] == [0, 0, 0]
    assert found["rollup_1h"].days >= 26 * CHOSEN


@pytest.mark.parametrize("level", ["windows", "5m", "1h", "1d"])
def test_a_view_for_people_reads_a_range_once_however_many_series_meet_a_condition(
    planned: Database, level: str
) -> None:
    """The planner expects one series of a condition on dimensions, and there are nine."""
    view = "conversion" if level == "windows" else f"conversion_{level}"
    condition = "funnel = 'planned' AND app_version = '1' AND dimensions ->> 'app_version' = '1' AND os <> 'x'"
    between = f"window_start >= {moment(END - 10 * DAY_MS)} AND window_start < {moment(END - 8 * DAY_MS)}"
    whole = reads(planned, f"SELECT sum(impressions) FROM {view} WHERE {between}")
    found = reads(planned, f"SELECT sum(impressions) FROM {view} WHERE {condition} AND {between}")
    assert sum(one.days for one in whole.values()) > 0
    assert {table: one.days for table, one in found.items()} == {table: one.days for table, one in whole.items()}
