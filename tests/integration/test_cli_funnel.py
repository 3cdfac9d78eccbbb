"""``funnelwatch funnel`` and rates by sessions, and the query API about both, against a real database."""

from __future__ import annotations

import csv
import io
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from funnelwatch.format import clock
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.materializing import materialize
from tests.command import run, succeed, succeed_json
from tests.filling import MINUTE_MS, count
from tests.web import served

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""
RANGE = ("--since", clock(T), "--until", clock(T + 120 * MINUTE_MS))
STEPS = ("A", "B", "C")


@pytest.fixture
def filled(settings: Settings) -> Settings:
    """Two hours of sessions in two groups, half an hour of session window, and all windows closed."""
    counts: dict[tuple[int, str, str, str, str], tuple[int, ...]] = {}
    for minutes, os, reached, completed in (
        (10, "iOS", (100, 80, 40), (90, 50, 30)),
        (100, "iOS", (20, 10, 0), (15, 4, 0)),
        (10, "Android", (60, 30, 3), (50, 20, 1)),
        (-1, "iOS", (500, 500, 500), (500, 500, 500)),
        (120, "iOS", (500, 500, 500), (500, 500, 500)),
    ):
        for step, number, done in zip(STEPS, reached, completed, strict=True):
            # More events than sessions, and more sessions that saw the step than reached it in order.
            events = (3 * number, 2 * number, 0, 2 * number, 0)
            counts[T + minutes * MINUTE_MS, step, os, "", "1"] = (*events, number + 5, done + 2, number, done)
    count(settings, counts, funnel="checkout", closed_through=T + 121 * MINUTE_MS)
    count(settings, {(T, "A", "iOS", "", "1"): (9, 8, 0, 8, 0, 7, 6)}, funnel="undeclared")
    with closing(Database(settings.timescale_url)) as database:
        funnel = Funnel(STEPS, session_window_ms=30 * MINUTE_MS)
        declare(database, {"checkout": funnel, "quiet": Funnel(("X", "Y"))})
    return settings


def test_the_funnel_is_that_of_the_sessions_that_entered_in_the_range(filled: Settings) -> None:
    """Steps in order, shares of the first and of the one before, drop-off, and how many entries are still open."""
    found = succeed_json(filled, "funnel", "checkout", *RANGE)
    assert found.pop("freshness")["state"] == "stale", "these windows are old"
    rows, [conversion] = found.pop("rows"), found.pop("conversions")
    assert found == {
        "funnel": "checkout",
        "filters": {},
        "from": "2026-11-18T10:00:00Z",
        "to": "2026-11-18T12:00:00Z",
        "window_s": 60.0,
        "session_window_s": 1800.0,
        "complete_through": "2026-11-18T12:01:00Z",
        "mature_through": "2026-11-18T11:31:00Z",
        "open": 20,
    }
    figures = ("position", "step", "reached", "of_first", "of_previous", "completed", "dropped", "open")
    assert [tuple(row[name] for name in figures) for row in rows] == [
        (1, "A", 180, 1.0, None, 155, 60, 20),
        (2, "B", 120, 120 / 180, 120 / 180, 74, 77, 10),
        (3, "C", 43, 43 / 180, 43 / 120, 31, 12, 0),
    ]
    assert (conversion["entered"], conversion["completed"], conversion["open"]) == (180, 31, 20)
    assert conversion["low"] < conversion["rate"] == 31 / 180 < conversion["high"]


def test_values_of_a_dimension_are_told_apart_and_selected(filled: Settings) -> None:
    """The value with most entries comes first; both together are all."""
    rows = succeed_json(filled, "funnel", "checkout", *RANGE, "--by", "os")["rows"]
    assert [(row["os"], row["step"], row["reached"], row["completed"]) for row in rows] == [
        ("iOS", "A", 120, 105),
        ("iOS", "B", 90, 54),
        ("iOS", "C", 40, 30),
        ("Android", "A", 60, 50),
        ("Android", "B", 30, 20),
        ("Android", "C", 3, 1),
    ]
    some = succeed_json(filled, "funnel", "checkout", *RANGE, "--where", "os=Android")
    assert ([row["reached"] for row in some["rows"]], some["open"]) == ([60, 30, 3], 0)
    assert some["filters"] == {"os": ["Android"]}


def test_sessions_are_open_until_their_windows_are_closed_for_as_long_as_the_session_window(filled: Settings) -> None:
    """Only entries after 11:31 are; --until before it leaves nothing open."""
    early = succeed_json(filled, "funnel", "checkout", "--since", clock(T), "--until", clock(T + 91 * MINUTE_MS))
    assert (early["open"], [row["open"] for row in early["rows"]]) == (0, [0, 0, 0])
    text = succeed(filled, "funnel", "checkout", *RANGE)
    assert "* 20 of the entries are younger than the session window of 30 min" in text
    assert "*" not in succeed(filled, "funnel", "checkout", "--since", clock(T), "--until", clock(T + 91 * MINUTE_MS))


def test_the_table_has_bars_shares_and_the_conversion_of_each_group(filled: Settings) -> None:
    """A line for each step, and one for each group below."""
    lines = succeed(filled, "funnel", "checkout", *RANGE, "--by", "os").splitlines()
    assert lines[0] == "checkout, by sessions: entered 2026-11-18T10:00:00Z to 2026-11-18T12:00:00Z"
    assert lines[1].split() == ["OS", "Step", "Reached", "Of", "first", "Of", "previous", "Completed", "Drop-off"]
    assert lines[2].split() == ["iOS", "1", "A", "120*", "█" * 20, "100.0", "%", "-", "105", "30", "(25.0", "%)"]
    assert lines[3].split() == ["2", "B", "90*", "█" * 15, "75.0", "%", "75.0", "%", "54", "50", "(55.6", "%)"]
    assert lines[6].split()[:4] == ["Android", "1", "A", "60"]
    assert "OS iOS: 30 of 120 sessions completed the last step: 25.0 %, 95 % 18.1 % to 33.4 %" in lines
    assert any(line.startswith("OS Android: 1 of 60 sessions") for line in lines)


def test_csv_has_a_row_for_each_step_of_each_group(filled: Settings) -> None:
    """With the columns of the JSON."""
    table = succeed(filled, "funnel", "checkout", *RANGE, "--by", "os", "--csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    told = succeed_json(filled, "funnel", "checkout", *RANGE, "--by", "os")["rows"]
    assert list(rows[0]) == list(told[0])
    assert [row["reached"] for row in rows] == [str(row["reached"]) for row in told]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("undeclared",), 1, "the funnel undeclared is not declared, so its steps have no order"),
        (("unheard",), 1, "no funnel is called unheard; there is checkout, undeclared"),
        (("quiet",), 1, "no session of funnel quiet entered from"),
        (("checkout", "--where", "os=Plan 9", *RANGE), 1, "no session of funnel checkout, os Plan 9 entered from"),
        (("checkout", "--where", "step=A"), 2, "--where: a funnel has all of its steps"),
        (("checkout", "--by", "country"), 2, "--by: 'country' is no dimension of checkout"),
        (("checkout", "--since", "soon"), 2, "--since: 'soon' is neither a span"),
        (("checkout", "--json", "--csv"), 2, "--json and --csv exclude each other"),
    ],
)
def test_a_question_without_an_answer_says_why(
    filled: Settings, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Exit code 1 where there is nothing, 2 where the question is wrong."""
    result = run(filled, "funnel", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())


def test_rollups_give_the_same_funnel(filled: Settings) -> None:
    """Materialized hours and days, read where a range is long."""
    before = succeed_json(filled, "funnel", "checkout", "--since", clock(T - 60 * MINUTE_MS), *RANGE[2:], "--by", "os")
    with closing(Database(filled.timescale_url)) as database:
        assert materialize(database, T + 3_000 * MINUTE_MS) > 0
    after = succeed_json(filled, "funnel", "checkout", "--since", clock(T - 60 * MINUTE_MS), *RANGE[2:], "--by", "os")
    assert after == before
    assert [row["reached"] for row in after["rows"] if row["os"] == "iOS"] == [620, 590, 540]


def test_the_rate_by_sessions_counts_each_session_once(filled: Settings) -> None:
    """Sessions that completed a step / sessions that saw it, of which some are still open; never above 1."""
    found = succeed_json(filled, "rate", "--funnel", "checkout", "--basis", "session", *RANGE)
    assert found["basis"] == "session"
    assert [(row["step"], row["sessions"], row["session_successes"], row["open"]) for row in found["rows"]] == [
        ("A", 195, 161, 25),
        ("B", 135, 80, 15),
        ("C", 58, 37, 5),
    ]
    assert all(row["low"] < row["rate"] == row["session_successes"] / row["sessions"] for row in found["rows"])
    every = succeed_json(
        filled, "rate", "--funnel", "checkout", "--basis", "session", *RANGE, "--every", "1h", "--where", "step=A"
    )
    assert [(row["start"], row["sessions"], row["open"]) for row in every["rows"]] == [
        ("2026-11-18T10:00:00Z", 170, 0),
        ("2026-11-18T11:00:00Z", 25, 25),
    ]
    table = succeed(filled, "rate", "--funnel", "checkout", "--basis", "session", *RANGE, "--by", "os", "--csv")
    assert table.splitlines()[0] == "step,os,sessions,session_successes,open,rate,low,high"
    text = succeed(filled, "rate", "--funnel", "checkout", "--basis", "session", *RANGE)
    assert "* 45 of these sessions are younger than the session window: they may go on." in text
    assert "195*" in text
    undeclared = succeed_json(filled, "rate", "--funnel", "undeclared", "--basis", "session", *RANGE)
    assert [(row["sessions"], row["open"]) for row in undeclared["rows"]] == [(7, 7)], "no window of it is closed"


def test_the_api_answers_what_the_command_line_does(filled: Settings) -> None:
    """The same objects, the same rows as CSV, and 404 with the same reason where a funnel has no order."""
    asked = {"since": RANGE[1], "until": RANGE[3]}
    with served(filled) as api:
        for given, typed in (
            ({}, []),
            ({"by": "os"}, ["--by", "os"]),
            ({"os": "iOS", "closed": "true"}, ["--where", "os=iOS", "--closed"]),
        ):
            reply = api.get("/api/v1/funnel", {**asked, "funnel": "checkout", **given})
            assert reply.json == succeed_json(filled, "funnel", "checkout", *RANGE, *typed)
            table = api.get("/api/v1/funnel", {**asked, "funnel": "checkout", **given, "format": "csv"})
            assert table.text == succeed(filled, "funnel", "checkout", *RANGE, *typed, "--csv")
        missing = api.get("/api/v1/funnel", {**asked, "funnel": "undeclared"})
        assert (missing.status, "not declared" in missing.json["detail"]) == (404, True)
        empty = api.get("/api/v1/funnel", {"funnel": "quiet"}).json
        assert [(row["step"], row["reached"], row["of_first"]) for row in empty["rows"]] == [
            ("X", 0, None),
            ("Y", 0, None),
        ]
        wrong = api.get("/api/v1/funnel", {**asked, "funnel": "checkout", "step": "A"})
        assert (wrong.status, [one["parameter"] for one in wrong.json["errors"]]) == (422, ["where"])
        counts = api.get("/api/v1/counts", {**asked, "funnel": "checkout", "basis": "session"}).json["rows"]
        assert counts[0] == {"step": "A", "sessions": 195, "session_successes": 161, "open": 25}
