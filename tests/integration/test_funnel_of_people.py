"""The board's funnel of people against a real database: the figures of the query API, or why there are none."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.schemas.funnels import Funnel
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.web.board.people import read_people
from funnelwatch.web.board.query import BoardQuery
from funnelwatch.web.board.record import RecordReader
from tests.filling import MINUTE_MS, count, count_in
from tests.web import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""
NOW = T + 60 * MINUTE_MS
STEPS = ("A", "B", "C")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An hour of sessions on two os, half an hour of session window, windows closed up to five minutes before now."""
    counts: dict[tuple[int, str, str, str, str], tuple[int, ...]] = {}
    for minutes, os, reached, completed in (
        (10, "iOS", (100, 80, 40), (90, 50, 30)),
        (10, "Android", (60, 30, 3), (50, 20, 1)),
        (50, "iOS", (20, 10, 0), (15, 4, 0)),
        (57, "iOS", (500, 500, 500), (500, 500, 500)),
    ):
        for step, number, done in zip(STEPS, reached, completed, strict=True):
            events = (2 * number + 6, number, 0, number, 0)
            counts[T + minutes * MINUTE_MS, step, os, "", "1"] = (*events, number + 5, done + 2, number, done)
    count(settings, counts, funnel="checkout", closed_through=NOW - 5 * MINUTE_MS)
    with closing(Database(settings.timescale_url)) as made:
        declare(made, {"checkout": Funnel(STEPS, session_window_ms=30 * MINUTE_MS)})
        yield made


def people(database: Database, settings: Settings, query: BoardQuery, steps: tuple[str, ...] = STEPS) -> dict[str, Any]:
    """The message at the end of the hour."""
    return read_people(database, settings, query, steps, NOW)


def test_the_board_shows_the_funnel_and_the_rates_that_the_api_answers(settings: Settings, database: Database) -> None:
    """The same counts and shares for the same range; of closed windows, the last ones still open for their sessions."""
    found = people(database, settings, BoardQuery("checkout"))
    ends = {name: found[name] for name in ("entered", "completed", "open", "from", "to", "session_window_ms")}
    assert ends == {
        "entered": 180,
        "completed": 31,
        "open": 20,
        "from": T,
        "to": NOW - 5 * MINUTE_MS,
        "session_window_ms": 30 * MINUTE_MS,
    }
    asked = {"funnel": "checkout", "since": str(found["from"]), "until": str(found["to"])}
    with served(settings) as server:
        funnel = server.get("/api/v1/funnel", asked).json
        by_sessions = server.get("/api/v1/rates", {**asked, "basis": "session"}).json["rows"]
        by_events = server.get("/api/v1/rates", asked).json["rows"]
    [conversion] = funnel["conversions"]
    assert [found[name] for name in ("rate", "low", "high")] == [conversion[name] for name in ("rate", "low", "high")]
    fields = ("step", "reached", "of_first", "completed", "dropped", "open")
    assert [[step[name] for name in fields] for step in found["steps"]] == [
        [row[name] for name in fields] for row in funnel["rows"]
    ]
    for step, sessions, events in zip(found["steps"], by_sessions, by_events, strict=True):
        assert step["sessions"] == {
            "of": sessions["sessions"],
            "made": sessions["session_successes"],
            "rate": sessions["rate"],
        }
        assert step["events"] == {"of": events["impressions"], "made": events["successes"], "rate": events["rate"]}
        assert step["events"]["rate"] < step["sessions"]["rate"]


def test_a_filter_selects_the_dimensions_at_entry(settings: Settings, database: Database) -> None:
    """Only the sessions that entered on Android."""
    found = people(database, settings, BoardQuery("checkout", (("os", "Android"),)))
    assert [step["reached"] for step in found["steps"]] == [60, 30, 3]
    assert found["open"] == 0


def test_no_rate_is_of_too_few_or_above_one(settings: Settings, database: Database) -> None:
    """Counts are shown, and no share of ten sessions; successes of earlier impressions make no rate of 150 %."""
    tallies = {
        (T + 10 * MINUTE_MS, "X", "", "", ""): (40, 60, 0, 60, 0, 10, 9, 10, 9),
        (T + 10 * MINUTE_MS, "Y", "", "", ""): (40, 60, 0, 60, 0, 30, 30, 5, 5),
    }
    count_in(database, tallies, funnel="small", closed_through=NOW)
    declare(database, {"small": Funnel(("X", "Y"))})
    found = people(database, settings, BoardQuery("small"), ("X", "Y"))
    assert (found["entered"], found["rate"], found["low"]) == (10, None, None)
    assert [step["of_first"] for step in found["steps"]] == [None, None]
    assert [(step["sessions"]["rate"], step["events"]["rate"]) for step in found["steps"]] == [(None, None), (1, None)]


def test_an_undeclared_funnel_has_rates_and_nothing_reached(settings: Settings, database: Database) -> None:
    """Its steps have no order."""
    tally = (60, 40, 0, 40, 0, 50, 40)
    count_in(database, {(T, "A", "iOS", "", "1"): tally}, funnel="undeclared", closed_through=NOW)
    found = people(database, settings, BoardQuery("undeclared"), ())
    assert (found["entered"], found["why"]) == (None, None)
    [step] = found["steps"]
    assert (step["reached"], step["sessions"]["rate"], step["events"]["rate"]) == (None, 0.8, 40 / 60)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (BoardQuery("checkout", (("planet", "Mars"),)), "planet"),
        (BoardQuery("nothing"), "no window of this funnel is complete yet"),
    ],
)
def test_where_there_is_no_funnel_of_people_the_reason_is_told(
    settings: Settings, database: Database, query: BoardQuery, why: str
) -> None:
    """A dimension that the funnel does not have, and a funnel without events."""
    found = people(database, settings, query)
    assert why in found["why"]
    assert found["steps"] == []


def test_it_is_read_again_when_a_window_has_closed_and_not_with_every_reading(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages share one reading; more sessions in closed windows are seen a minute later."""
    clock = [1_000.0]
    monkeypatch.setattr("funnelwatch.web.board.record.time.monotonic", lambda: clock[0])
    query = BoardQuery("checkout")

    class Lent:
        def __enter__(self) -> Database:
            return database

        def __exit__(self, *_: object) -> None: ...

    reader = RecordReader(settings, Lent, lambda: NOW, lambda: [query])

    def entered() -> int:
        return int(reader.read().people[query]["entered"])

    more = {(T + 20 * MINUTE_MS, "A", "iOS", "", "1"): (1, 0, 0, 0, 0, 1, 0, 1, 0)}
    assert entered() == 180
    count_in(database, more, funnel="checkout")
    clock[0] += 30
    assert entered() == 180, "nothing has closed"
    clock[0] += 30
    assert entered() == 181, "a minute has passed"
    count_in(database, more, funnel="checkout", closed_through=NOW - 4 * MINUTE_MS)
    clock[0] += 11
    assert entered() == 182, "a window has closed"
    with psycopg.connect(settings.timescale_url.get_secret_value()) as session:
        session.execute("UPDATE funnel_progress SET closed_through = NULL WHERE funnel = 'checkout'")
    assert reader.read().people[query] == {"why": "no window of this funnel is closed yet", "steps": []}
