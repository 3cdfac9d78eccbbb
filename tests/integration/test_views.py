"""The views that people and Grafana read: the same numbers on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from funnelwatch.schemas.funnels import Funnel
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.wilson import wilson_interval
from tests.filling import MINUTE_MS, count_in
from tests.traffic import row_of

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database, Row

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

DAY_MS = 86_400_000
COUNTS = ("impressions", "successes", "failures", "cohort_successes", "cohort_failures")
PHONE, SMS = "INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE"
READABLE = [
    *("window_counts", "counts_5m", "counts_1h", "counts_1d"),
    *("series", "series_totals", "metric_totals"),
    *("metric_series", "metric_counts", "metrics", "timers"),
    *("time_to_convert", "time_to_convert_5m", "time_to_convert_1h", "time_to_convert_1d"),
    *("conversion", "conversion_5m", "conversion_1h", "conversion_1d"),
    *("session_conversion", "session_conversion_5m", "session_conversion_1h", "session_conversion_1d"),
    *("session_funnel", "session_funnel_5m", "session_funnel_1h", "session_funnel_1d", "session_maturity"),
    *("declared_funnels", "declared_steps", "funnel_steps", "cohort_conversion", "alert_messages", "alert_history"),
    *("deployment", "retention", "stream_progress", "funnel_progress", "late_windows"),
]


def rows(database: Database, statement: str, *values: object) -> list[Row]:
    """What a statement returns."""
    with database.transaction() as cursor:
        cursor.execute(cast("Any", statement), values)
        return cursor.fetchall()


def at(ms: int) -> datetime:
    """Milliseconds as the database shows them."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def spread() -> dict[tuple[int, str, str, str, str], list[int]]:
    """Counts in windows on both sides of the borders of five minutes, hours and days, in two series."""
    windows = [T + offset for offset in (0, 4 * MINUTE_MS, 5 * MINUTE_MS, 59 * MINUTE_MS, 60 * MINUTE_MS)]
    windows += [T - T % DAY_MS + DAY_MS - MINUTE_MS, T - T % DAY_MS + DAY_MS, T - 40 * DAY_MS]
    return {
        (window, SMS, os, "", "1.0"): [10 + 3 * at, 7 + at, 2, 6 + at, 3, 8 + at, 5, 4 + at, 2]
        for at, window in enumerate(windows)
        for os in ("iOS", "Android")
    }


@pytest.mark.parametrize(
    ("level", "width_ms"), [("", MINUTE_MS), ("_5m", 5 * MINUTE_MS), ("_1h", 60 * MINUTE_MS), ("_1d", DAY_MS)]
)
def test_a_level_is_the_sum_of_its_windows_with_rates_and_intervals(
    either: Database, funnel: str, level: str, width_ms: int
) -> None:
    """Counts of each bucket are added up by hand, rate and interval by ``funnelwatch.sinks.timescale.wilson``."""
    expected: dict[tuple[datetime, str], list[int]] = {}
    for (window, _, os, _, _), tally in spread().items():
        kept = expected.setdefault((at(window - window % width_ms), os), row_of())
        kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
    count_in(either, spread(), funnel=funnel)
    found = rows(either, f"SELECT * FROM conversion{level} WHERE funnel = %s", funnel)
    assert {(row["window_start"], row["os"]): [row[name] for name in COUNTS] for row in found} == {
        key: tally[: len(COUNTS)] for key, tally in expected.items()
    }
    for row in found:
        assert row["rate"] == row["successes"] / row["impressions"]
        assert row["cohort_rate"] == row["cohort_successes"] / row["impressions"]
        interval = wilson_interval(row["successes"], row["impressions"])
        assert (row["rate_low"], row["rate_high"]) == pytest.approx(interval, rel=1e-12)
    found = rows(either, f"SELECT * FROM session_conversion{level} WHERE funnel = %s AND step = %s", funnel, SMS)
    sessions = {(row["window_start"], row["os"]): (row["sessions"], row["session_successes"]) for row in found}
    assert sessions == {key: tuple(tally[5:7]) for key, tally in expected.items()}
    for row in found:
        assert row["rate"] == row["session_successes"] / row["sessions"]
        interval = wilson_interval(row["session_successes"], row["sessions"])
        assert (row["rate_low"], row["rate_high"]) == pytest.approx(interval, rel=1e-12)
    found = rows(either, f"SELECT * FROM session_funnel{level} WHERE funnel = %s", funnel)
    reached = {(row["window_start"], row["os"]): (row["reached"], row["completed"]) for row in found}
    assert reached == {key: tuple(tally[7:]) for key, tally in expected.items()}


@pytest.mark.parametrize("tally", [(0, 3), (2, 3), (0, 0), (5, 0), (5, 5), (1_000_000, 999_999)])
def test_the_interval_in_sql_is_that_of_the_stream_and_null_where_that_has_none(
    either: Database, tally: tuple[int, int]
) -> None:
    """Nobody was shown the step, or more succeeded than were shown it: no interval; at the ends exactly 0 and 1."""
    impressions, successes = tally
    [row] = rows(either, "SELECT wilson_low(%s, %s) AS low, wilson_high(%s, %s) AS high", *tally[::-1] * 2)
    if impressions == 0 or successes > impressions:
        assert (row["low"], row["high"]) == (None, None)
    else:
        assert (row["low"], row["high"]) == pytest.approx(wilson_interval(successes, impressions), rel=1e-12)


def test_a_bucket_that_nobody_saw_has_no_rate(either: Database, funnel: str) -> None:
    """Verifications without impressions are counted, and null is not zero."""
    count_in(either, {(T, SMS, "iOS", "", "1.0"): (0, 2, 1)}, funnel=funnel)
    for view in ("conversion", "conversion_5m", "conversion_1h", "conversion_1d", "cohort_conversion"):
        [row] = rows(either, f"SELECT * FROM {view} WHERE funnel = %s", funnel)
        assert (row["impressions"], row["successes"], row["failures"]) == (0, 2, 1)
        assert (row["rate"], row["rate_low"], row["rate_high"]) == (None, None, None)


def test_a_funnel_is_shown_step_by_step(either: Database, funnel: str) -> None:
    """Each step stands beside the one before it, also where a series never got as far, and survival is their ratio."""
    declare(either, {funnel: Funnel(("A", "B", "C")), "other": Funnel(("B", "A"))})
    count_in(
        either,
        {
            (T, "A", "iOS", "", "1"): (100, 90, 5),
            (T, "B", "iOS", "", "1"): (80, 60, 1),
            (T, "C", "iOS", "", "1"): (50, 50, 0),
            (T, "A", "Android", "", "1"): (10, 0, 10),
            (T, "undeclared", "iOS", "", "1"): (9, 9, 0),
        },
        funnel=funnel,
    )
    found = rows(
        either,
        "SELECT os, position, step, impressions, successes, impressions_before, successes_before, survival "
        "FROM funnel_steps WHERE funnel = %s AND window_start = %s ORDER BY os, position",
        funnel,
        at(T),
    )
    assert [tuple(row.values()) for row in found] == [
        ("Android", 1, "A", 10, 0, 0, 0, None),
        ("Android", 2, "B", 0, 0, 10, 0, 0.0),
        ("iOS", 1, "A", 100, 90, 0, 0, None),
        ("iOS", 2, "B", 80, 60, 100, 90, 0.8),
        ("iOS", 3, "C", 50, 50, 80, 60, 0.625),
    ]


def test_declaring_again_replaces_what_was_declared(either: Database, funnel: str) -> None:
    """A step that is no longer declared is forgotten, and one that moved has its new place."""
    declare(either, {funnel: Funnel(("A", "B")), "gone": Funnel(("X",))})
    declare(either, {funnel: Funnel(("B", "C"), session_window_ms=90 * MINUTE_MS)})
    found = rows(either, "SELECT * FROM declared_steps ORDER BY funnel, position")
    assert [tuple(row.values()) for row in found] == [(funnel, 1, "B"), (funnel, 2, "C")]
    found = rows(either, "SELECT * FROM declared_funnels")
    assert found == [{"funnel": funnel, "session_window": timedelta(minutes=90)}]
    declare(either, {})
    assert rows(either, "SELECT * FROM declared_steps UNION ALL SELECT funnel, 0, '' FROM declared_funnels") == []


def test_a_cohort_is_mature_when_the_windows_of_its_successes_are_closed(either: Database, funnel: str) -> None:
    """With two minutes to mature, a window that ended two minutes before the last that closed is the newest."""
    windows = {(T + n * MINUTE_MS, SMS, "iOS", "", "1"): (10, 9, 0, 5 + n, 1) for n in range(5)}
    count_in(either, windows, funnel=funnel, closed_through=T + 5 * MINUTE_MS)
    found = rows(either, "SELECT * FROM cohort_conversion WHERE funnel = %s ORDER BY window_start", funnel)
    assert [row["mature"] for row in found] == [True, True, True, False, False]
    assert [row["rate"] for row in found] == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert (found[0]["rate_low"], found[0]["rate_high"]) == pytest.approx(wilson_interval(5, 10))


LEVELS = {"": MINUTE_MS, "_5m": 5 * MINUTE_MS, "_1h": 60 * MINUTE_MS, "_1d": DAY_MS}


def test_the_funnel_of_people_has_the_places_of_its_steps(either: Database, funnel: str) -> None:
    """A step that is not declared any more has no place; rows that no session reached are left out."""
    declare(either, {funnel: Funnel(("A", "B"))})
    count_in(
        either,
        {
            (T, "A", "iOS", "", "1"): (100, 90, 5, 90, 5, 80, 70, 60, 50),
            (T, "B", "iOS", "", "1"): (0, 0, 0, 0, 0, 0, 0, 40, 30),
            (T, "old", "iOS", "", "1"): (9, 9, 0, 9, 0, 9, 9, 7, 6),
            (T, "C", "iOS", "", "1"): (9, 9, 0, 9, 0, 9, 9),
        },
        funnel=funnel,
    )
    for level in LEVELS:
        found = rows(
            either,
            f"SELECT position, step, reached, completed FROM session_funnel{level} WHERE funnel = %s ORDER BY step",
            funnel,
        )
        assert [tuple(row.values()) for row in found] == [(1, "A", 60, 50), (2, "B", 40, 30), (None, "old", 7, 6)]
        shown = rows(either, f"SELECT step FROM session_conversion{level} WHERE funnel = %s ORDER BY step", funnel)
        assert [row["step"] for row in shown] == ["A", "C", "old"]


@pytest.mark.parametrize("declared", [{}, {"session_window_ms": 30 * MINUTE_MS}])
def test_sessions_are_open_until_their_session_window_has_passed(
    either: Database, funnel: str, declared: dict[str, int]
) -> None:
    """A bucket is open while its end is younger than the session window: an hour, or what the funnel declares."""
    length = declared.get("session_window_ms", 60 * MINUTE_MS)
    declare(either, {funnel: Funnel((SMS,), **declared)})
    windows = [T + minutes * MINUTE_MS for minutes in range(0, 200, 7)]
    counts = {(window, SMS, "iOS", "", "1"): (9, 7, 2, 7, 2, 8, 7, 6, 5) for window in windows}
    closed_through = T + 180 * MINUTE_MS
    count_in(either, counts, funnel=funnel, closed_through=closed_through)
    for level, width in LEVELS.items():
        expected = {
            at(start): start + width + length > closed_through for start in {one - one % width for one in windows}
        }
        assert set(expected.values()) == ({True} if level == "_1d" else {True, False})
        for view in ("session_conversion", "session_funnel"):
            found = rows(either, f"SELECT window_start, is_open FROM {view}{level} WHERE funnel = %s", funnel)
            assert {row["window_start"]: row["is_open"] for row in found} == expected


def test_all_sessions_are_open_before_a_window_has_closed(either: Database, funnel: str) -> None:
    """What is not known is not mature, also in an undeclared funnel."""
    declare(either, {})
    count_in(either, {(T, SMS, "iOS", "", "1"): (9, 7, 2, 7, 2, 8, 7, 6, 5)}, funnel=funnel)
    for view in ("session_conversion", "session_funnel_1h"):
        assert [row["is_open"] for row in rows(either, f"SELECT is_open FROM {view} WHERE funnel = %s", funnel)] == [
            True
        ]


def test_no_cohort_is_mature_before_a_window_has_closed(either: Database, funnel: str) -> None:
    """What is not known is not mature."""
    count_in(either, {(T, SMS, "iOS", "", "1"): (10, 9, 0)}, funnel=funnel)
    assert [
        row["mature"] for row in rows(either, "SELECT mature FROM cohort_conversion WHERE funnel = %s", funnel)
    ] == [False]


def message(funnel: str, alert_id: str, sequence: int, **fields: Any) -> dict[str, Any]:
    """A message of an alert as the detector makes it."""
    return {
        "alert_id": alert_id,
        "sequence": sequence,
        "state": "firing",
        "reason": "FIRST_DROP",
        "rule": "conversion_drop",
        "rule_version": "1",
        "severity": "warning",
        "funnel": funnel,
        "step": SMS,
        "dimensions": {"os": "iOS"},
        "basis": "window",
        "window_start": T + sequence * MINUTE_MS,
        "window_end": T + (sequence + 1) * MINUTE_MS,
        "started_at": T - MINUTE_MS,
        "rate": 0.4,
        "expected_rate": 0.8,
        "expected_low": 0.7,
        "expected_high": 0.9,
        "impressions": 100,
        "successes": 40,
        "score": 9.0,
        "lost_conversions": 40.0 + sequence,
        "where_dimension": "app_version",
        "where_value": "5.2.0",
        "where_share": 0.9,
        "labels": {},
        "annotations": {"summary": f"message {sequence}"},
        **fields,
    }


def test_the_history_has_one_row_an_alert(either: Database, funnel: str) -> None:
    """From the first message on, through the worst, to the one that resolved it; one that fires still has no end."""
    first, second = f"{funnel}-1", f"{funnel}-2"
    told = [
        message(funnel, first, 0),
        message(funnel, first, 1, rate=0.2, severity="critical", reason="WORSENED", steps=[SMS, PHONE]),
        message(funnel, first, 2, rate=0.8, state="resolved", reason="RECOVERED", severity="critical"),
        message(funnel, second, 0, dimensions={}, started_at=T, silenced_by="7"),
    ]
    AlertStore(either).save(funnel, T, {}, told)
    over, firing = rows(either, "SELECT * FROM alert_history WHERE funnel = %s ORDER BY alert_id", funnel)
    assert over == {
        "alert_id": first,
        "rule": "conversion_drop",
        "severity": "critical",
        "state": "resolved",
        "reason": "RECOVERED",
        "funnel": funnel,
        "step": SMS,
        "os": "iOS",
        "browser": "",
        "app_version": "",
        "dimensions": {"os": "iOS"},
        "started_at": at(T - MINUTE_MS),
        "fired_at": at(T + MINUTE_MS),
        "resolved_at": at(T + 3 * MINUTE_MS),
        "messages": 3,
        "worst_rate": 0.2,
        "expected_rate": 0.8,
        "lost_conversions": 42.0,
        "where_dimension": "app_version",
        "where_value": "5.2.0",
        "where_share": 0.9,
        "summary": "message 1",
        "steps": [PHONE, SMS],
        "silenced_by": "",
    }
    assert (firing["state"], firing["resolved_at"], firing["os"], firing["started_at"]) == ("firing", None, "", at(T))
    assert (firing["steps"], firing["silenced_by"]) == ([], "7")
    found = rows(either, "SELECT * FROM alert_messages WHERE funnel = %s ORDER BY alert_id, sequence", funnel)
    assert [row["reason"] for row in found] == ["FIRST_DROP", "WORSENED", "RECOVERED", "FIRST_DROP"]
    assert (found[1]["window_start"], found[1]["score"], found[1]["published_at"]) == (at(T + MINUTE_MS), 9.0, None)


def test_fields_that_an_older_message_lacks_are_empty(either: Database, funnel: str) -> None:
    """Messages stay as they were written, whatever the schema has become."""
    old = message(funnel, f"{funnel}-1", 0)
    for name in ("where_dimension", "where_value", "where_share", "annotations"):
        del old[name]
    with either.transaction() as cursor:
        run(cursor, "add_alert", {"alert_id": old["alert_id"], "sequence": 0, "alert": json.dumps(old)})
    [row] = rows(either, "SELECT * FROM alert_history WHERE funnel = %s", funnel)
    assert (row["where_dimension"], row["where_value"], row["where_share"], row["summary"]) == ("", "", 0.0, "")


@pytest.mark.parametrize("relation", READABLE)
def test_the_reader_may_read_what_is_for_reading(either: Database, relation: str) -> None:
    """The role of dashboards sees every view, and rollups although they are stored elsewhere."""
    with either.transaction() as cursor:
        cursor.execute("SET LOCAL ROLE funnelwatch_reader")
        cursor.execute(cast("Any", f"SELECT * FROM {relation} LIMIT 1"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM window_counts",
        "UPDATE alerts SET published_at = NULL",
        "INSERT INTO retention VALUES ('windows', '1 day')",
        "SELECT * FROM alert_states",
        "DROP VIEW conversion",
    ],
)
def test_the_reader_may_do_nothing_else(either: Database, statement: str) -> None:
    """It neither writes nor sees what is the workers' own."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege), either.transaction() as cursor:  # noqa: PT012
        cursor.execute("SET LOCAL ROLE funnelwatch_reader")
        cursor.execute(cast("Any", statement))
