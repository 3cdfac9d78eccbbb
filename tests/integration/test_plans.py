"""What a dashboard's queries touch: the days or the index ranges that they need, and no more."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.sinks.timescale.retention import refresh
from tests.filling import count_in
from tests.grafana import View, dashboard, moment, queries
from tests.integration.test_views import DAY_MS, T

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.sinks.timescale.database import Database

DAYS = 40
FILL = """
INSERT INTO window_counts
SELECT w, 'planned', step, os, '', '1', 100, 80, 10, 80, 10
FROM
    generate_series({start}::timestamptz, {end}::timestamptz - {every}::interval, {every}::interval) AS w,
    unnest(ARRAY['a', 'b', 'c']) AS step, unnest(ARRAY['iOS', 'Android', 'Web']) AS os
ORDER BY w
"""
FILL_DURATIONS = """
INSERT INTO window_durations
SELECT window_start, funnel, step, os, browser, app_version, 10, 10, 10, 10, 10, 10, 10, 10, 10
FROM window_counts
WHERE funnel = 'planned'
"""
END = T - T % DAY_MS
START = END - DAYS * DAY_MS


def fill(database: Database, minutes: int) -> None:
    """Forty days of nine series, a window every few minutes, with everything materialized that can be."""
    with database.transaction() as cursor:
        cursor.execute(cast("Any", FILL.format(start=moment(START), end=moment(END), every=f"'{minutes} minutes'")))
        cursor.execute(FILL_DURATIONS)
        cursor.execute("INSERT INTO funnel_progress VALUES ('planned', now(), now())")
    refresh(database)
    with database.outside_transaction() as cursor:
        cursor.execute("VACUUM ANALYZE window_counts")
        cursor.execute("VACUUM ANALYZE window_durations")


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


def chunks(database: Database, found: list[dict[str, Any]], relation: str) -> tuple[int, int]:
    """How many chunks of a relation a plan has run, and how many there are."""
    run = {node["Relation Name"] for node in found if "Relation Name" in node and node["Actual Loops"]}
    with database.transaction() as cursor:
        cursor.execute(cast("Any", "SELECT c::text AS chunk FROM show_chunks(%s::regclass) AS c"), [relation])
        all_of_it = {re.sub(r".*\.", "", row["chunk"]) for row in cursor.fetchall()}
    return len(run & all_of_it), len(all_of_it)


def test_two_days_of_windows_touch_two_chunks(planned_extended: Database) -> None:
    """Of forty; a range that ends at midnight belongs to the day before and, for its last moment, the one after."""
    found = plan(planned_extended, panel("conversion", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000))
    assert chunks(planned_extended, found, "window_counts") == (2, DAYS)


@pytest.mark.parametrize("level", ["5m", "1h", "1d"])
def test_a_rollup_of_thirty_days_touches_no_window_that_is_materialized(planned_extended: Database, level: str) -> None:
    """All of it is materialized, so that only chunks of the rollup are read, and not those before the range."""
    found = plan(planned_extended, panel(f"conversion_{level}", END - 30 * DAY_MS, END - 3 * DAY_MS))
    assert chunks(planned_extended, found, "window_counts")[0] == 0
    run, there = chunks(planned_extended, found, f"counts_{level}")
    assert 1 <= run <= there
    assert run <= 30 // 10 + 1


def test_what_is_expected_touches_the_four_weeks_hours_and_not_what_is_between(planned_extended: Database) -> None:
    """Four ranges of an hour are four days of forty."""
    found = plan(planned_extended, panel("conversion", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))
    assert chunks(planned_extended, found, "window_counts")[0] <= 8


def test_times_to_convert_touch_the_days_and_the_level_that_are_asked_for(planned_extended: Database) -> None:
    """Of the four levels that the query names one is read, and of that the chunks of the range."""
    ask = "Time to convert A", "step"
    found = plan(planned_extended, panel("conversion", END - 10 * DAY_MS, END - 8 * DAY_MS - 1000, *ask))
    assert chunks(planned_extended, found, "window_durations") == (2, DAYS)
    assert chunks(planned_extended, found, "durations_1h")[0] == 0
    found = plan(planned_extended, panel("conversion_1h", END - 30 * DAY_MS, END - 3 * DAY_MS, *ask))
    assert chunks(planned_extended, found, "window_durations")[0] == 0
    assert 1 <= chunks(planned_extended, found, "durations_1h")[0] <= 30 // 10 + 1


def read_of(found: list[dict[str, Any]], relation: str) -> int:
    """How many rows of a relation a plan has looked at; it must not have scanned all of it."""
    scans = [node for node in found if node.get("Relation Name") == relation]
    assert scans
    assert {node["Node Type"] for node in scans} <= {"Bitmap Heap Scan", "Index Scan", "Index Only Scan"}
    return sum(
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        for node in scans
    )


@pytest.mark.parametrize("level", ["_5m", "_1h", "_1d"])
def test_without_the_extension_a_rollup_reads_no_window_that_is_materialized(
    planned_plain: Database, level: str
) -> None:
    """Thirty days of it are in its table; of a bucket that has changed the blocks are read, and no others."""
    sql = panel(f"conversion{level}", END - 30 * DAY_MS, END - 3 * DAY_MS)
    assert read_of(plan(planned_plain, sql), "window_counts") == 0
    late = {(END - 5 * DAY_MS, "a", "iOS", "", "1"): (1, 1, 0)}
    count_in(planned_plain, late, funnel="planned")
    try:
        assert 0 < read_of(plan(planned_plain, sql), "window_counts") <= 9 * 144 * 2
    finally:
        refresh(planned_plain)
    assert read_of(plan(planned_plain, sql), "window_counts") == 0


@pytest.mark.parametrize("level", ["", "_5m", "_1h", "_1d"])
def test_without_the_extension_a_range_is_found_by_its_blocks(planned_plain: Database, level: str) -> None:
    """Three days of forty at any level: an index leads there, and hardly any other rows are looked at."""
    sql = panel(f"conversion{level}", END - 10 * DAY_MS, END - 7 * DAY_MS - 1000)
    found = plan(planned_plain, sql)
    assert read_of(found, "window_counts") <= 9 * 144 * 3 * 4


def test_a_week_before_is_found_by_its_blocks_too(planned_plain: Database) -> None:
    """What is expected asks for four ranges, each of which is found for itself."""
    found = plan(planned_plain, panel("conversion_5m", END - DAY_MS, END - DAY_MS + 3_600_000, "Rate by step B"))
    scans = [node for node in found if node.get("Relation Name") == "window_counts"]
    assert {node["Node Type"] for node in scans} <= {"Bitmap Heap Scan", "Index Scan", "Index Only Scan"}
    assert {node["Actual Loops"] for node in scans} == {4}
