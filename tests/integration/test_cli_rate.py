"""``funnelwatch rate`` against a real database."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import TYPE_CHECKING

import pytest

from funnelwatch.cli.main import main
from funnelwatch.format import clock
from funnelwatch.schemas.settings import load_settings
from tests.command import environment, run, succeed, succeed_json
from tests.filling import MINUTE_MS, count

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

AT_TEN = ("--since", clock(T), "--until", clock(T + 3 * MINUTE_MS))
SMS, PHONE = "VERIFY_SMS_CODE", "INPUT_PHONE_NUMBER"


@pytest.fixture
def filled(settings: Settings) -> Settings:
    """Three minutes of counts from T on, of which two are closed."""
    count(
        settings,
        {
            (T - MINUTE_MS, SMS, "iOS", "", "1.0"): (1_000, 0, 1_000),
            (T, SMS, "iOS", "", "1.0"): (100, 80, 15, 85, 15),
            (T, SMS, "iOS", "Safari", "1.0"): (10, 5, 5),
            (T + MINUTE_MS, SMS, "Android", "Chrome", "2.0"): (50, 40, 8),
            (T + 2 * MINUTE_MS, SMS, "iOS", "", "2.0"): (40, 30, 10),
            (T, PHONE, "iOS", "", "1.0"): (200, 190, 10),
            (T + 3 * MINUTE_MS, SMS, "iOS", "", "1.0"): (1_000, 0, 1_000),
        },
        closed_through=T + 2 * MINUTE_MS,
    )
    return settings


def test_the_seed_question_is_answered(filled: Settings) -> None:
    """The rate of a step on one os over a range is successes / impressions of its windows and of no other."""
    answer = succeed_json(filled, "rate", "--step", SMS, "--os", "iOS", *AT_TEN)
    [row] = answer.pop("rows")
    assert answer.pop("freshness")["state"] == "stale", "these windows are old"
    assert answer == {
        "funnel": "sign_up",
        "filters": {"step": [SMS], "os": ["iOS"]},
        "basis": "window",
        "from": "2026-11-18T10:00:00Z",
        "to": "2026-11-18T10:03:00Z",
        "window_s": 60.0,
        "complete_through": "2026-11-18T10:02:00Z",
        "includes_open_windows": True,
    }
    assert (row["impressions"], row["successes"], row["failures"]) == (150, 115, 30)
    assert row["rate"] == 115 / 150
    assert row["low"] < row["rate"] < row["high"]


def test_since_takes_a_span_back_from_now(settings: Settings) -> None:
    """--since 1h holds what was counted a few minutes ago and not what was counted two hours ago."""
    now = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    count(
        settings,
        {
            (now - 5 * MINUTE_MS, SMS, "iOS", "", ""): (4, 3, 1),
            (now - 120 * MINUTE_MS, SMS, "iOS", "", ""): (7, 7, 0),
        },
    )
    answer = succeed_json(settings, "rate", "--step", SMS, "--since", "1h")
    assert [row["impressions"] for row in answer["rows"]] == [4]
    assert answer["complete_through"] is None
    assert answer["includes_open_windows"] is True


def test_without_a_step_all_steps_come_in_the_order_of_the_funnel(filled: Settings) -> None:
    """A declared step that nobody was shown is there with a rate of none: silence is not hidden."""
    rows = succeed_json(filled, "rate", *AT_TEN)["rows"]
    assert [(row["step"], row["impressions"], row["rate"]) for row in rows] == [
        (PHONE, 200, 0.95),
        (SMS, 200, 155 / 200),
        ("INPUT_NAME", 0, None),
        ("INPUT_PASSWORD", 0, None),
    ]


def test_by_tells_dimensions_apart_and_every_tells_times_apart(filled: Settings) -> None:
    """Counts add up to the same, however they are cut; a span without counts has zeros."""
    by = succeed_json(filled, "rate", "--step", SMS, *AT_TEN, "--by", "os", "--by", "app_version")["rows"]
    assert [(row["os"], row["app_version"], row["impressions"]) for row in by] == [
        ("Android", "2.0", 50),
        ("iOS", "1.0", 110),
        ("iOS", "2.0", 40),
    ]
    every = succeed_json(filled, "rate", "--step", SMS, "--os", "iOS", *AT_TEN, "--every", "1m")["rows"]
    assert [(row["start"], row["impressions"]) for row in every] == [
        ("2026-11-18T10:00:00Z", 110),
        ("2026-11-18T10:01:00Z", 0),
        ("2026-11-18T10:02:00Z", 40),
    ]
    filtered = succeed_json(filled, "rate", "--browser", "Safari", "--app-version", "1.0", "--step", SMS, *AT_TEN)
    assert [row["impressions"] for row in filtered["rows"]] == [10]


def test_a_day_of_spans_begins_where_the_span_does(filled: Settings) -> None:
    """--every 5m begins at a multiple of five minutes, and says so in the range."""
    answer = succeed_json(filled, "rate", "--step", SMS, "--since", clock(T + MINUTE_MS), "--every", "5m")
    assert answer["from"] == "2026-11-18T10:00:00Z"
    assert [row["impressions"] for row in answer["rows"] if row["impressions"]] == [1_200]


def test_the_cohort_basis_counts_those_who_were_shown_the_step_then(filled: Settings) -> None:
    """Successes are the cohort's, impressions the same."""
    [row] = succeed_json(filled, "rate", "--step", SMS, "--os", "iOS", *AT_TEN, "--basis", "cohort")["rows"]
    assert (row["impressions"], row["successes"]) == (150, 120)


def test_closed_leaves_out_windows_that_still_grow(filled: Settings) -> None:
    """The range ends where windows are complete; a range of which nothing is complete is an error."""
    answer = succeed_json(filled, "rate", "--step", SMS, *AT_TEN, "--closed")
    assert (answer["to"], answer["includes_open_windows"]) == ("2026-11-18T10:02:00Z", False)
    assert [row["impressions"] for row in answer["rows"]] == [160]
    result = run(filled, "rate", "--since", clock(T + 2 * MINUTE_MS), "--closed")
    assert (result.exit_code, "complete up to 2026-11-18T10:02:00Z" in result.stderr) == (1, True)


def test_the_table_shows_range_rates_and_what_still_grows(filled: Settings) -> None:
    """A person reads which range it is, the rate with its interval, and up to when windows are complete."""
    table = succeed(filled, "rate", "--step", SMS, "--os", "iOS", "--since", clock(T + 1), *AT_TEN[2:])
    assert "sign_up, step VERIFY_SMS_CODE, os iOS, by window: 2026-11-18T10:00:00Z to 2026-11-18T10:03:00Z" in table
    assert "76.7 %" in table
    assert "69.3 % to 82.7 %" in table
    assert "complete up to 2026-11-18T10:02:00Z; the last 1 min of this range still grow" in table


def test_csv_has_the_same_rows(filled: Settings) -> None:
    """A header and a row for each rate; empty where there is none."""
    rows = list(csv.DictReader(io.StringIO(succeed(filled, "rate", *AT_TEN, "--csv"))))
    assert [(row["step"], row["impressions"], row["rate"]) for row in rows[:3]] == [
        (PHONE, "200", "0.95"),
        (SMS, "200", "0.775"),
        ("INPUT_NAME", "0", ""),
    ]


def test_where_nothing_is_counted_it_says_what_there_is(filled: Settings) -> None:
    """A misspelt os: exit code 1, and the steps and systems that there are."""
    result = run(filled, "rate", "--step", SMS, "--os", "ios", *AT_TEN)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no counts for funnel sign_up, step VERIFY_SMS_CODE, os ios" in result.stderr
    assert "steps INPUT_PHONE_NUMBER, VERIFY_SMS_CODE; " in result.stderr
    assert "; os Android, iOS" in result.stderr
    assert "; browser (none), Chrome, Safari" in result.stderr
    other = run(filled, "rate", "--funnel", "checkout", "--json")
    assert (other.exit_code, "funnel sign_up (newest window 2026-11-18T10:03:00Z)" in other.stderr) == (1, True)


def test_a_database_without_tables_or_events_says_what_to_do(settings: Settings) -> None:
    """First no worker has run, then no event has come."""
    result = run(settings, "rate")
    assert (result.exit_code, "funnelwatch worker" in result.stderr) == (1, True)
    count(settings, {})
    result = run(settings, "rate")
    assert (result.exit_code, "no events yet" in result.stderr) == (1, True)


def test_more_successes_than_impressions_are_explained(settings: Settings) -> None:
    """A short range by windows may hold successes whose impressions are before it."""
    count(settings, {(T, SMS, "iOS", "", ""): (2, 3, 0, 2, 0)}, closed_through=T + MINUTE_MS)
    table = succeed(settings, "rate", "--step", SMS, "--since", clock(T), "--until", clock(T + MINUTE_MS))
    assert "150.0 %" in table
    assert "--basis cohort" in table
    assert "All windows of 1 min in this range are complete." in table


def test_declared_funnels_give_the_order_and_a_bad_file_is_told(filled: Settings, tmp_path: Path) -> None:
    """FUNNELWATCH_FUNNELS_PATH is used here too."""
    path = tmp_path / "funnels.yml"
    path.write_text(json.dumps({"funnels": {"sign_up": [SMS, PHONE]}}))
    declared = filled.model_copy(update={"funnels_path": path})
    assert [row["step"] for row in succeed_json(declared, "rate", *AT_TEN)["rows"]] == [SMS, PHONE]
    path.write_text("[]")
    result = run(declared, "rate", *AT_TEN)
    assert (result.exit_code, "right would be a map with funnels" in result.stderr) == (1, True)


def test_a_filter_that_is_no_text_is_a_usage_error(
    filled: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are not UTF-8 come as lone surrogates, which no database takes."""
    for name, value in environment(filled).items():
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(["rate", "--os", "\udcff"])
    load_settings.cache_clear()
    assert ended.value.code == 2
    assert "Error: '\\udcff' is no text in UTF-8" in capsys.readouterr().err
