"""What a dashboard's queries touch: the days or the index ranges that they need, and no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.sinks.timescale.materializing import materialize
from tests.filling import count_in
from tests.grafana import View, dashboard, moment, queries
from tests.integration.test_views import DAY_MS, T, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.sinks.timescale.database import Database

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
TABLES = ("window_counts", "rollup_5m", "rollup_1h", "rollup_1d")


def fill(database: Database, minutes: int) -> None:
    """Forty days of nine series, a window every few minutes, with everything materialized that can be."""
    with database.transaction() as cursor:
        cursor.execute(FILL_SERIES)
        cursor.execute(cast("Any", FILL.format(start=moment(START), end=moment(END), every=f"'{minutes} minutes'")))
        cursor.execute(
            "INSERT INTO funnel_progress (funnel, closing_through, closed_through) VALUES ('planned', now(), now())"
        )
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


def plan(database: Database, sql: str) -> list[dict[str, Any]]:
    """Every node of the plan of a query that was run, outermost first."""
    with database.transaction() as cursor:
        cursor.execute(cast("Any", f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) {sql}"))
        found = cursor.fetchone()
    assert found is not None
    explained = found["QUERY PLAN"]
    return list(nodes((json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node and all below it."""
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)


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


def scans_of(database: Database, found: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """The nodes of a plan that have read a table or a chunk of it."""
    names = names_of(database, table)
    return [
        node
        for node in found
        if node.get("Relation Name") in names and node["Actual Loops"] and node["Node Type"] != "Custom Scan"
    ]


def read_of(database: Database, found: list[dict[str, Any]], table: str) -> float:
    """How many days of a table a plan has looked at."""
    looked_at = sum(
        node["Actual Loops"]
        * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        for node in scans_of(database, found, table)
    )
    [there] = rows(database, f"SELECT count(*) AS number FROM {table}")
    return float(looked_at * DAYS / there["number"])


def chunks(database: Database, found: list[dict[str, Any]], table: str) -> tuple[int, int]:
    """How many chunks of a table a plan has read, and how many there are."""
    run = {node["Relation Name"] for node in scans_of(database, found, table)}
    return len(run), len(names_of(database, table)) - 1


def only_by_index(database: Database, found: list[dict[str, Any]], table: str) -> None:
    """No scan has read all of a table."""
    kinds = {node["Node Type"] for node in scans_of(database, found, table)}
    assert kinds <= {"Bitmap Heap Scan", "Index Scan", "Index Only Scan"}


def test_two_days_of_windows_touch_two_chunks(planned_extended: Database) -> None:
    """Of forty; a range that ends at midnight belongs to the day before and, for its last moment, the one after."""
    found = plan(planned_extended, panel("conversion", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000))
    assert chunks(planned_extended, found, "window_counts") == (2, DAYS)


@pytest.mark.parametrize(("level", "days"), [("5m", 7), ("1h", 28), ("1d", 364)])
def test_a_rollup_touches_its_chunks_of_the_range(planned_extended: Database, level: str, days: int) -> None:
    """Ten days of forty."""
    found = plan(planned_extended, panel(f"conversion_{level}", END - 15 * DAY_MS, END - 5 * DAY_MS))
    run, there = chunks(planned_extended, found, f"rollup_{level}")
    assert 1 <= run <= min(there, 10 // days + 2)
    assert there >= DAYS // days


@pytest.mark.parametrize("level", ["5m", "1h", "1d"])
def test_a_rollup_of_thirty_days_reads_no_window_that_is_materialized(planned: Database, level: str) -> None:
    """All of it is in its table; of a bucket that has changed the neighbourhood is read, and no more."""
    sql = panel(f"conversion_{level}", END - 30 * DAY_MS, END - 3 * DAY_MS)
    others = [table for table in TABLES if table != f"rollup_{level}"]
    found = plan(planned, sql)
    assert {table: read_of(planned, found, table) for table in others} == dict.fromkeys(others, 0)
    assert 26 <= read_of(planned, found, f"rollup_{level}") <= DAYS
    late = {(END - 5 * DAY_MS, "a", "iOS", "", "1"): (1, 1, 0)}
    count_in(planned, late, funnel="planned")
    try:
        assert 0 < read_of(planned, plan(planned, sql), "window_counts") <= 2
    finally:
        materialize(planned, END + DAY_MS)
    assert read_of(planned, plan(planned, sql), "window_counts") == 0


@pytest.mark.parametrize(
    ("level", "table"), [("", "window_counts"), ("_5m", "rollup_5m"), ("_1h", "rollup_1h"), ("_1d", "rollup_1d")]
)
def test_without_the_extension_a_range_is_found_by_its_blocks(planned_plain: Database, level: str, table: str) -> None:
    """Three days of forty at any level: an index leads there, and hardly any other rows are looked at."""
    found = plan(planned_plain, panel(f"conversion{level}", END - 10 * DAY_MS, END - 7 * DAY_MS - 1000))
    assert read_of(planned_plain, found, table) >= 1
    if level == "_1d":
        return  # all of it is a few pages
    only_by_index(planned_plain, found, table)
    assert read_of(planned_plain, found, table) <= 3 * 4


def test_buckets_that_are_not_materialized_are_found_by_their_blocks(planned_plain: Database) -> None:
    """After an edit by hand every level is added up from windows, those of the range and hardly any others."""
    with planned_plain.transaction() as cursor:
        cursor.execute("UPDATE window_counts SET failures = failures WHERE false")
    try:
        for level in ("_5m", "_1h", "_1d"):
            found = plan(planned_plain, panel(f"conversion{level}", END - 10 * DAY_MS, END - 7 * DAY_MS - 1000))
            only_by_index(planned_plain, found, "window_counts")
            assert 3 <= read_of(planned_plain, found, "window_counts") <= 3 * 4
    finally:
        materialize(planned_plain, END + DAY_MS)


def test_what_is_expected_touches_the_four_weeks_hours_and_not_what_is_between(planned: Database) -> None:
    """Four ranges of an hour are four days of forty."""
    found = plan(planned, panel("conversion", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))
    assert 0 < read_of(planned, found, "window_counts") <= 8


def test_a_week_before_is_found_by_its_blocks_too(planned_plain: Database) -> None:
    """What is expected asks for four ranges, each of which is found for itself."""
    found = plan(planned_plain, panel("conversion_5m", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))
    only_by_index(planned_plain, found, "rollup_5m")
    assert {node["Actual Loops"] for node in scans_of(planned_plain, found, "rollup_5m")} == {4}


def test_times_to_convert_touch_the_days_and_the_level_that_are_asked_for(planned: Database) -> None:
    """Of the four levels that the query names one is read, and of that the range."""
    ask = "Time to convert A", "step"
    found = plan(planned, panel("conversion", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000, *ask))
    assert 1.9 <= read_of(planned, found, "window_counts") <= 8
    assert [read_of(planned, found, table) for table in TABLES[1:]] == [0, 0, 0]
    found = plan(planned, panel("conversion_1h", END - 30 * DAY_MS, END - 3 * DAY_MS, *ask))
    assert [read_of(planned, found, table) for table in ("window_counts", "rollup_5m", "rollup_1d")] == [0, 0, 0]
    assert read_of(planned, found, "rollup_1h") >= 26
