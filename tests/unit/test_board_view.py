"""What the board says of counts: pure, no server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from funnelwatch.query.parameters import BadQueryError
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.times import WEEK_MS
from funnelwatch.sinks.timescale.rates import Rate
from funnelwatch.sinks.timescale.wilson import wilson_interval
from funnelwatch.stream.detector.baseline import baseline
from funnelwatch.stream.detector.counts import Counts
from funnelwatch.web.board.cache import CachedWindows, of_now, wanted
from funnelwatch.web.board.expected import Ordinary, expected_rates, needed
from funnelwatch.web.board.query import RANGES, BoardQuery
from funnelwatch.web.board.rate_state import rate_state
from funnelwatch.web.board.record import History, Progress, Record
from funnelwatch.web.board.view import alerts_message, health_message, history_message, now_message, touches

MINUTE = 60_000
T = 1_794_996_000_000
FUNNEL = "sign_up"
PHONE, SMS = "INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE"


def alert(**fields: Any) -> dict[str, Any]:
    """A row of the alert history."""
    return {
        "alert_id": "a",
        "rule": "ConversionDrop",
        "severity": "critical",
        "reason": "FIRST_DROP",
        "basis": "window",
        "step": SMS,
        "steps": [],
        "os": "iOS",
        "browser": "",
        "app_version": "",
        "where_dimension": "",
        "where_value": "",
        "where_share": 0.0,
        "started_ms": T - 5 * MINUTE,
        "fired_ms": T - 3 * MINUTE,
        "resolved_ms": None,
        "worst_rate": 0.4,
        "expected_rate": 0.8,
        "lost_conversions": 40.0,
        "summary": "",
        "silenced_by": "",
        **fields,
    }


def cache(*windows: tuple[int, str, str, int, int]) -> CachedWindows:
    """Windows from (start, step, os, impressions, successes)."""
    found: dict[int, dict[Series, CountRow]] = {T + at * MINUTE: {} for at in range(-15, 1)}
    for start, step, os, shown, won in windows:
        found[start][Series.of(FUNNEL, step, os=os, browser="Safari", app_version="1.0")] = CountRow(shown, won)
    return CachedWindows(found)


def record(**fields: Any) -> Record:
    """What the database said: closed up to T, two declared steps."""
    return replace(
        Record(MINUTE, at_ms=T, closed_through={FUNNEL: T}, steps={FUNNEL: (PHONE, SMS)}, alerts={FUNNEL: ()}), **fields
    )


@pytest.mark.parametrize(
    ("shown", "won", "expected", "alerting", "state"),
    [
        (1000, 800, 0.8, False, "ok"),
        (1000, 950, 0.8, False, "ok"),
        (1000, 700, 0.8, False, "low"),
        (1000, 700, 0.8, True, "alert"),
        (40, 28, 0.8, False, "ok"),
        (19, 0, 0.8, False, "few"),
        (20, 0, 0.8, False, "low"),
        (100_000, 78_500, 0.8, False, "ok"),
        (100, 90, None, False, "unknown"),
        (100, 101, 0.8, False, "over"),
        (0, 0, None, True, "alert"),
    ],
)
def test_a_rate_is_called_low_only_when_that_is_sure_and_noticeable(
    *, shown: int, won: int, expected: float | None, alerting: bool, state: str
) -> None:
    """Few impressions, a small difference or no expectation are not called low; an alert is called that always."""
    assert rate_state(shown, won, expected, alerting=alerting) == state


def test_an_expected_rate_that_rests_on_little_is_not_held_against_anybody() -> None:
    """75 % of 400 is surely below 81 % where that is known well, and not where a hundred impressions say so."""
    assert rate_state(400, 290, 0.81, 100_000) == "low"
    assert rate_state(400, 290, 0.81, 100) == "ok"


def test_a_rate_now_is_of_as_few_closed_windows_as_say_enough() -> None:
    """Two minutes where there are a hundred impressions, more where there are fewer, never an open window."""
    starts = [T + at * MINUTE for at in range(-15, 2)]
    assert of_now(starts, T, MINUTE, lambda _: 60) == [T - MINUTE, T - 2 * MINUTE]
    assert len(of_now(starts, T, MINUTE, lambda _: 20)) == 5
    assert len(of_now(starts, T, MINUTE, lambda _: 0)) == 15
    assert of_now(starts, T, 60 * MINUTE, lambda _: 200)[:1] == [T - MINUTE]


def test_open_windows_are_read_but_not_more_than_a_few_when_closing_is_far_behind() -> None:
    """A pipeline that is hours behind does not make the board read hours of open windows every second."""
    assert wanted(T, MINUTE, T + 10_000)[-1] == T
    assert wanted(T, MINUTE, T + 90_000)[-2:] == [T, T + MINUTE]
    assert wanted(T, MINUTE, T + 500 * MINUTE)[-1] == T + 2 * MINUTE
    assert wanted(T, 60 * MINUTE, T + 10_000) == [T - 60 * MINUTE, T]


def test_now_adds_up_closed_windows_and_keeps_what_is_still_counting_apart() -> None:
    """The rate is of what is complete; the open window is told beside it."""
    counts = cache(
        (T - MINUTE, PHONE, "iOS", 100, 90), (T - MINUTE, PHONE, "Android", 50, 40), (T, PHONE, "iOS", 10, 1)
    )
    message = now_message(BoardQuery(), record(), counts)
    phone, sms = message["steps"]
    assert (phone["step"], phone["impressions"], phone["successes"]) == (PHONE, 150, 130)
    assert phone["rate"] == round(130 / 150, 7)
    assert (phone["low"], phone["high"]) == tuple(round(end, 7) for end in wilson_interval(130, 150))
    assert phone["open"] == {"impressions": 10, "successes": 1}
    assert [(cell["os"], cell["successes"]) for cell in phone["by_os"]] == [("Android", 40), ("iOS", 90)]
    assert (sms["step"], sms["rate"], sms["state"]) == (SMS, None, "few")


def test_filters_leave_out_what_they_do_not_name() -> None:
    """One os, and one that nobody said, which is empty and not "all"."""
    counts = cache((T - MINUTE, PHONE, "iOS", 100, 90), (T - MINUTE, PHONE, "", 50, 40))
    seen = {os: now_message(BoardQuery(os=os), record(), counts)["steps"][0]["impressions"] for os in (None, "iOS", "")}
    assert seen == {None: 150, "iOS": 100, "": 50}


def test_a_step_that_nobody_declared_comes_after_those_that_are() -> None:
    """Declared order first, then by name."""
    counts = cache((T - MINUTE, "ALPHA", "iOS", 100, 90), (T - MINUTE, SMS, "iOS", 100, 90))
    assert [cell["step"] for cell in now_message(BoardQuery(), record(), counts)["steps"]] == [PHONE, SMS, "ALPHA"]


@pytest.mark.parametrize(
    ("fields", "query", "step", "os", "answer"),
    [
        ({}, BoardQuery(), SMS, "iOS", True),
        ({}, BoardQuery(), SMS, None, True),
        ({}, BoardQuery(), SMS, "Android", False),
        ({}, BoardQuery(), PHONE, "iOS", False),
        ({}, BoardQuery(os="Android"), SMS, None, False),
        ({"steps": [PHONE, SMS]}, BoardQuery(), PHONE, "iOS", True),
        ({"step": "*"}, BoardQuery(), PHONE, "iOS", True),
        ({"os": ""}, BoardQuery(), SMS, "iOS", False),
        ({"os": "", "where_dimension": "os", "where_value": "iOS"}, BoardQuery(), SMS, "iOS", True),
        ({"os": ""}, BoardQuery(os="Android"), SMS, None, True),
    ],
)
def test_an_alert_marks_the_step_and_the_os_that_it_is_about(
    *, fields: dict[str, Any], query: BoardQuery, step: str, os: str | None, answer: bool
) -> None:
    """Its own step and os, those it reached, and the os where it found the loss; not what is filtered away."""
    assert touches(alert(**fields), query, step, os) is answer


def test_only_an_open_alert_about_conversion_marks_a_rate() -> None:
    """One that is over, or about events that do not come, says nothing about a rate now."""
    counts = cache((T - MINUTE, SMS, "iOS", 100, 90))
    for fields, state in (({}, "alert"), ({"resolved_ms": T}, "unknown"), ({"basis": "instrumentation"}, "unknown")):
        message = now_message(BoardQuery(), record(alerts={FUNNEL: (alert(**fields),)}), counts)
        assert message["steps"][1]["state"] == state


def test_the_time_line_marks_what_is_still_counting_and_leaves_thin_spans_without_a_rate() -> None:
    """Nineteen impressions have no rate; spans that end after the newest closed window are partial."""
    starts = (T - 2 * MINUTE, T - MINUTE, T)
    rates = (
        Rate(SMS, {"os": "iOS"}, impressions=100, successes=80, start_ms=starts[0]),
        Rate(SMS, {"os": "Android"}, impressions=100, successes=60, start_ms=starts[0]),
        Rate(SMS, {"os": "iOS"}, impressions=19, successes=19, start_ms=starts[1]),
    )
    known = record(
        histories={
            BoardQuery(): History(starts, MINUTE, rates, {(SMS, "iOS"): [Ordinary(0.8, 500), Ordinary(0.8, 500), None]})
        }
    )
    message = history_message(BoardQuery(), known)
    assert message is not None
    assert message["partial_from"] == T
    by_place = {(line["step"], line["os"]): line for line in message["series"]}
    assert by_place[SMS, None]["rate"] == [0.7, None, None]
    assert by_place[SMS, "iOS"]["impressions"] == [100, 19, 0]
    assert by_place[SMS, "iOS"]["expected"] == [0.8, 0.8, None]
    assert by_place[SMS, "Android"]["expected"] == [None, None, None]


def test_what_is_expected_is_what_the_detector_expects() -> None:
    """The same counts, in the detector's own memory and in the board's ranges, give the same numbers."""
    random = np.random.default_rng(1)
    counts = Counts([(), ("os",)], ["impressions", "window"], MINUTE, 4 * WEEK_MS // MINUTE)
    starts = [T + at * MINUTE for at in range(-60, 1)]
    rows: dict[tuple[int, Series], CountRow] = {}
    for week in (3, 2, 1, 0):
        for at in range(-500, 80 if week else 1):
            start = T + at * MINUTE - week * WEEK_MS
            window = {}
            for os in ("iOS", "Android"):
                shown = int(random.integers(20, 200))
                window[Series.of("", SMS, os=os)] = CountRow(shown, int(random.binomial(shown, 0.7 + 0.02 * week)))
            counts.append(Block.of(start, window))
            rows |= {(start, series): tally for series, tally in window.items()}
    right = baseline(counts, "window", np.array([counts.row_of(start) for start in starts]))
    ranges = list(needed(starts, MINUTE))
    rates = [
        Rate(SMS, {"os": series.value("os")}, impressions=tally.impressions, successes=tally.successes, start_ms=start)
        for (start, series), tally in rows.items()
        if any(begin <= start < end for begin, end in ranges)
    ]
    assert len(rates) < len(rows)
    found = expected_rates(rates, starts, MINUTE)
    for column, place in counts.columns.items():
        line = found[column.step, column.values[0] if column.values else None]
        assert [one and one.rate for one in line] == pytest.approx(right.rate[:, place].tolist())
        assert [one and one.strength for one in line] == pytest.approx(right.strength[:, place].tolist())


def test_lag_is_what_lies_behind_the_counted_offsets_and_unknown_without_kafka() -> None:
    """A partition that nobody has begun counts whole; after an error of Kafka nobody knows."""
    known = record(progress=Progress(next_offsets={0: 90, 1: 50}, rejected=3))
    assert health_message(known, {0: 100, 1: 50, 2: 7}, {"Kafka": None})["lag"] == 17
    away = health_message(known, {0: 100}, {"Kafka": "no broker"})
    assert away["lag"] is None
    assert away["errors"] == [{"server": "Kafka", "error": "no broker"}]


def test_an_alert_is_told_with_its_where() -> None:
    """The place that explains most of the loss, and nothing where there is none."""
    rows = (alert(where_dimension="app_version", where_value="5.2.0", where_share=0.9), alert(alert_id="b"))
    first, second = alerts_message(BoardQuery(), record(alerts={FUNNEL: rows}))["alerts"]
    assert first["where"] == {"dimension": "app_version", "value": "5.2.0", "share": 0.9}
    assert second["where"] is None
    assert json.dumps(first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"since": "2h"}, "one of 15m, 1h, 6h, 24h"),
        ({"step": "X"}, "no such filter"),
        ({"os": "x" * 501}, "at most 500 characters"),
        ({"os": "a\0b"}, "no zero byte"),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_would_be_right(given: dict[str, str], message: str) -> None:
    """A person may have typed the address."""
    with pytest.raises(BadQueryError, match=message) as told:
        BoardQuery.parse(given)
    assert told.value.parameter in given


@pytest.mark.parametrize("window_s", [1, 30, 60, 600, 3600])
def test_a_time_line_has_whole_windows_and_not_too_many_points(window_s: int) -> None:
    """Every range, with short windows and long ones."""
    for since, length in RANGES.items():
        every = BoardQuery(since=since).every_ms(window_s * 1000)
        assert every % (window_s * 1000) == 0
        assert length / every <= 130


def test_nothing_is_called_none_before_the_database_was_read() -> None:
    """A board that starts while the database is away: no alerts, no dead letters, all of the log as lag were untrue."""
    unread = Record(60_000)
    assert alerts_message(BoardQuery("sign_up"), unread) == {"alerts": [], "known": False}
    health = health_message(unread, {0: 100}, {"Kafka": None})
    assert [health[name] for name in ("lag", "accepted", "rejected", "duplicates")] == [None] * 4
    assert alerts_message(BoardQuery("sign_up"), replace(unread, alerts={"sign_up": ()}))["known"] is True
