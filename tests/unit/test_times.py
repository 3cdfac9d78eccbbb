"""Points in time as they are written, the same in the query API, the command line, files, tables and the collector."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.cli.commands import cli
from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.own_rows import own_row
from funnelwatch.query.parameters import BadQueryError, moment_ms
from funnelwatch.query.rates import whole_range
from funnelwatch.schemas.times import UNITS_MS, floor_ms, parse_instant_ms, parse_time_ms
from funnelwatch.stream.backtest.table import moment as table_moment
from funnelwatch.web.api.parameters import optional_moment_ms
from tests.collector_in_process import Asked, app_of

if TYPE_CHECKING:
    from pathlib import Path

T = 1_795_706_937_144
"""2026-11-26T15:28:57.144Z"""
WITH_ZONE = {
    "2026-11-26T15:28:57.144Z": T,
    "2026-11-26T15:28:57.144z": T,
    "2026-11-26t15:28:57.144z": T,
    "2026-11-26 15:28:57.144Z": T,
    "2026-11-26T17:28:57.144+02:00": T,
    "2026-11-26T17:28:57.144+0200": T,
    "2026-11-26T10:28:57.144-05:00": T,
    "2026-11-26T17:28:57.144 02:00": T,
    "2026-11-26T17:28:57.144 0200": T,
    "2026-11-26 17:28:57.144 02:00": T,
    "2026-11-26T15:28:57.144499Z": T,
    "2026-11-26T15:28:57.143500z": T - 0,
    "2026-11-26T15:28:57.144123456Z": T,
    "2026-11-26T15:28:57,144Z": T,
    "2026-11-26T15:28:57Z": T - 144,
    "2026-11-26T15:28Z": T - 57_144,
    "20261126T152857.144Z": T,
    " 2026-11-26T15:28:57.144Z ": T,
    "1795706937144": T,
    "1795706937144.0": T,
    "1795706937.144": T,
    "1795706937": T - 144,
}
WITHOUT_ZONE = {
    "2026-11-26T15:28:57.144": T,
    "2026-11-26 15:28:57.144": T,
    "2026-11-26": T // 86_400_000 * 86_400_000,
    "20261126": T // 86_400_000 * 86_400_000,
}
NONE = {
    "2026-13-01": "month must be in 1..12",
    "2026-02-30T10:00:00Z": "day is out of range for month",
    "2026-11-26T24:00:00Z": "hour must be in 0..23",
    "2026-11-26T10:00:60Z": "second must be in 0..59",
    "2026-11-26T10:00:00 UTC": "it is not in ISO 8601",
    "26.11.2026": "it is not in ISO 8601",
    "yesterday": "it is not in ISO 8601",
    "2026": "a number is taken with 10 digits (seconds since the epoch) or 13 (milliseconds)",
    "1795706937144000": "a number is taken with 10 digits",
    "": "it is empty",
}


@pytest.mark.parametrize("text", WITH_ZONE | WITHOUT_ZONE)
def test_a_time_means_the_same_everywhere(text: str) -> None:
    """Typed, in the query of an address, and in a table."""
    expected = (WITH_ZONE | WITHOUT_ZONE)[text]
    assert parse_instant_ms(text) == expected
    assert parse_time_ms(text, 0) == expected
    assert moment_ms(text, 0) == expected
    assert optional_moment_ms("since", text, 0) == expected
    assert table_moment(text) == expected


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_time_is_told_with_the_cause(text: str) -> None:
    """Typed, in the query of an address, and in a table."""
    cause = NONE[text]
    with pytest.raises(ValueError, match=re.escape(cause)):
        parse_time_ms(text, 0)
    with pytest.raises(BadQueryError) as rejected:
        optional_moment_ms("since", text, 0)
    assert cause in rejected.value.message
    if text:
        with pytest.raises(ValueError, match=re.escape(cause)):
            table_moment(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("+10m", 600_000), (" 10m", 600_000), ("10m", -600_000), ("-10m", -600_000), ("now", 0)],
)
def test_a_span_that_lost_its_plus_is_ahead(text: str, expected: int) -> None:
    """A plus that is not encoded comes as a space."""
    assert optional_moment_ms("until", text, 0) == expected


@pytest.mark.parametrize(
    "command",
    [
        "rate --since",
        "rate --until",
        "metrics --since",
        "metrics --until",
        "rules backtest --since",
        "rules backtest --until",
        "dead-letters list --since",
        "dead-letters replay --since",
        "rebuild windows --to now --from",
        "simulate --from",
        "simulate --to",
    ],
)
def test_the_command_line_names_the_cause(command: str) -> None:
    """Before it asks a server."""
    said = CliRunner().invoke(cli, [*command.split(), "2026-11-26T24:00:00Z"])
    assert said.exit_code == 2, said.output
    assert "hour must be in 0..23" in " ".join(said.output.split())


def test_a_silence_names_the_cause() -> None:
    """Before it asks a server."""
    said = CliRunner().invoke(cli, ["silence", "add", "--where", "os=iOS", "--until", "2026-02-30"])
    assert said.exit_code == 2
    assert "day is out of range for month" in " ".join(said.output.split())


@pytest.mark.parametrize("span", ["9999999w", "500000w", "100000000d"])
def test_a_silence_that_no_calendar_has_an_end_for_is_rejected(span: str) -> None:
    """Before it is kept: it could not be listed."""
    said = CliRunner().invoke(cli, ["silence", "add", "--where", "os=iOS", "--for", span])
    assert said.exit_code == 2
    assert "it would end after the year 9999" in " ".join(said.output.split())


@pytest.mark.parametrize("text", WITH_ZONE)
def test_the_collector_takes_a_time_with_its_zone(text: str) -> None:
    """Of any form; the clock of the test does not matter."""
    app = app_of(max_age_days=36_500, max_future_s=10**9)
    event = {"sign_up_session_id": "s", "step": "INPUT_NAME", "phase": "IMPRESSION", "ts": text}
    asked = Asked(app, "/v1/events", json.dumps(event).encode())
    assert asked.status == 200, asked.text
    assert app.state.delivery.taken[0]["ts"] == WITH_ZONE[text]


@pytest.mark.parametrize("text", ["2026-11-26T15:28:57.144", "2026-11-26", "2026-11-26 15:28"])
def test_the_collector_rejects_a_time_without_a_zone(text: str) -> None:
    """With the cause: it does not know where a phone is."""
    event = {"sign_up_session_id": "s", "step": "INPUT_NAME", "phase": "IMPRESSION", "ts": text}
    asked = Asked(app_of(), "/v1/events", json.dumps(event).encode())
    assert asked.status == 400
    told = json.loads(asked.text)["events"][0]
    assert (told["field"], "it names no time zone, and needs a Z or an offset" in told["message"]) == ("ts", True)
    body = json.dumps({"events": [event], "sent_at": text}).encode()
    assert "sent_at: " in Asked(app_of(), "/v1/events", body).text


@pytest.mark.parametrize("text", WITH_ZONE | WITHOUT_ZONE)
def test_files_take_the_same_times(text: str, tmp_path: Path) -> None:
    """Without a mapping, where a number is always milliseconds."""
    if text.strip().replace(".", "").isdecimal() and not text.startswith("1795706937144"):
        pytest.skip("a number is milliseconds here")
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"sign_up_session_id": "s", "step": "A", "phase": "IMPRESSION", "ts": text}))
    account = Account()
    (event,) = events_of([str(path)], partial(own_row, funnel=None), account)
    assert event["ts"] == (WITH_ZONE | WITHOUT_ZONE)[text]


@pytest.mark.parametrize("every", ["7d", "1w", "14d", "2w", "21d"])
def test_weeks_begin_on_mondays(every: str) -> None:
    """As ISO 8601 counts them, in UTC."""
    every_ms = int(every[:-1]) * UNITS_MS[every[-1]]
    start, _ = whole_range(T, T + 1, 60_000, every_ms)
    begin = datetime.fromtimestamp(start / 1000, UTC)
    assert (begin.isoweekday(), begin.hour, begin.minute) == (1, 0, 0)
    assert start <= T < start + every_ms


@given(st.integers(0, 10**13), st.sampled_from([60_000, 3_600_000, 86_400_000, 7 * 86_400_000, 30 * 86_400_000]))
def test_spans_touch_and_hold_their_moments(at: int, every_ms: int) -> None:
    """Also those of the first days of 1970; spans that are no weeks begin at multiples of their length."""
    start = floor_ms(at, every_ms)
    assert start <= at < start + every_ms
    assert floor_ms(start, every_ms) == start
    assert floor_ms(start + every_ms, every_ms) == start + every_ms
    if every_ms % UNITS_MS["w"]:
        assert start % every_ms == 0


def test_a_time_without_a_zone_is_of_the_zone_that_is_said() -> None:
    """As a mapping says it."""
    at = parse_instant_ms("2026-11-26T15:28:57.144", ZoneInfo("Europe/Berlin"))
    assert at == T - 3_600_000
