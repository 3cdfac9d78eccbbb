"""The pure parts of ``funnelwatch rate``."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.cli.errors import moment_ms
from funnelwatch.format import bar, lasting, percent, printable
from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rates import in_order, level_of, whole_range
from funnelwatch.schemas.redaction import shown
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.times import floor_ms
from funnelwatch.sinks.timescale.rates import Level, Rate
from tests.command import run

NOW_MS = 1_795_000_000_123
NOWHERE = Settings(
    timescale_url="postgresql://me:secret@127.0.0.1:1/db",
    kafka_bootstrap_servers="127.0.0.1:1",
    redis_url="redis://127.0.0.1:1/0",
)


@given(
    since=st.integers(0, 10**12),
    length=st.integers(1, 10**9),
    window=st.integers(1, 100_000),
    windows=st.none() | st.integers(10_000, 20_000),
)
def test_a_range_is_widened_to_whole_windows(since: int, length: int, window: int, windows: int | None) -> None:
    """It holds what was asked for, begins with a window (or span), ends with one, and is no longer than needed."""
    every = None if windows is None else windows * window
    if every and length / every > 9_000:
        length = every
    start, end = whole_range(since, since + length, window, every)
    assert start <= since < start + (every or window)
    assert end - window < since + length <= end
    assert start == floor_ms(start, every or window)
    assert end % window == 0


@pytest.mark.parametrize(
    ("until", "every", "wrong"),
    [(0, None, "is not before"), (10**6, 90_000, "multiple of the window"), (10**12, 60_000, "more than 10,000")],
)
def test_a_range_that_makes_no_sense_is_rejected(until: int, every: int | None, wrong: str) -> None:
    """It names the parameter and what is wrong."""
    with pytest.raises(BadQueryError, match=wrong):
        whole_range(0, until, 60_000, every)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW_MS - 90_000),
        ("1h", NOW_MS - 3_600_000),
        ("now", NOW_MS),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T01:00:01+01:00", 1_000),
        ("1970-01-01 00:00:01", 1_000),
    ],
)
def test_a_time_is_a_span_ago_or_a_point(text: str, expected: int) -> None:
    """A point without a zone is UTC."""
    assert moment_ms(text, NOW_MS) == expected


@pytest.mark.parametrize("text", ["", "1x", "yesterday", "2026-13-01", "999999999999w", "-5"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    """The message says what would be right."""
    with pytest.raises(click.BadParameter, match=r"neither a span .* nor a time"):
        moment_ms(text, NOW_MS)


def test_steps_come_in_the_order_of_the_funnel_and_gaps_are_filled() -> None:
    """Undeclared steps come last, a declared one without counts has zeros, and so has a span without counts."""
    found = [Rate("other", impressions=1, start_ms=0), Rate("b", impressions=2, start_ms=10)]
    rows = in_order(found, ("c", "b", "a"), ("c", "b", "a"), range(0, 20, 10))
    shown = [(row.step, row.start_ms, row.impressions) for row in rows]
    assert shown == [
        ("c", 0, 0), ("c", 10, 0),
        ("b", 0, 0), ("b", 10, 2),
        ("a", 0, 0), ("a", 10, 0),
        ("other", 0, 1), ("other", 10, 0),
    ]  # fmt: skip


def test_a_rate_without_impressions_is_none_and_one_above_1_has_no_interval() -> None:
    """Empty is not zero, and Wilson's formula holds for proportions only."""
    assert (Rate("a").rate, Rate("a").interval) == (None, None)
    more = Rate("a", impressions=2, successes=3)
    assert (more.rate, more.interval) == (1.5, None)


def test_numbers_are_written_for_people() -> None:
    """Shares, spans, bars, and texts that would move the cursor."""
    assert (percent(0.7812), percent(None)) == ("78.1 %", "-")
    assert (lasting(0), lasting(90_000), lasting(90_061_000)) == ("0 s", "1 min 30 s", "1 d 1 h")
    assert (bar(None), bar(0.0), len(bar(0.5)), len(bar(7.0))) == ("", "", 10, 20)
    assert printable("iOS\x1b[2J\n") == "iOS\\x1b[2J\\n"
    assert printable("") == "(none)"


def test_a_password_is_not_shown() -> None:
    """The rest of the address is."""
    assert shown("redis://me:secret@h:1/0") == "redis://me:***@h:1/0"
    assert shown("redis://h:1/0") == "redis://h:1/0"


def test_a_database_that_is_down_is_told_with_what_to_do() -> None:
    """One message with the address but without its password, the cause and the remedy; exit code 1."""
    result = run(NOWHERE, "rate", "--step", "VERIFY_SMS_CODE")
    assert result.exit_code == 1
    assert "postgresql://me:***@127.0.0.1:1/db does not answer" in result.stderr
    assert "funnelwatch up" in result.stderr
    assert "FUNNELWATCH_TIMESCALE_URL" in result.stderr
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--since", "soon"], "'soon' is neither a span"),
        (["--by", "9lives"], "9lives: is not the name of a dimension"),
        (["--by", "status"], "status: is a field of an event, not a dimension"),
        (["--by", "a,b,c", "--by", "d,e,f"], "6 dimensions; group by at most 5"),
        (["--where", "country"], "'country' is not NAME=VALUE, such as os=iOS"),
        (["--where", "phase=IMPRESSION"], "phase: is a field of an event, not a dimension"),
        (["--where", f"country={','.join(map(str, range(101)))}"], "101 values; select at most 100"),
        (["--every", "often"], "'often' is not a span of time"),
        (["--json", "--csv"], "exclude each other"),
        (["--basis", "luck"], "'luck' is not one of"),
    ],
)
def test_a_garbage_argument_is_a_usage_error(arguments: list[str], wrong: str) -> None:
    """Exit code 2, and the message names what was typed; no server is asked."""
    result = run(NOWHERE, "rate", *arguments)
    assert (result.exit_code, wrong in result.stderr) == (2, True), result.output


NEVER: dict[Level, int | None] = {"windows": None, "5m": None, "1h": None, "1d": None}
SOME: dict[Level, int | None] = {
    "windows": 4_000_000_000,
    "5m": 3_000_000_000,
    "1h": 2_000_000_000,
    "1d": 1_000_000_000,
}


@pytest.mark.parametrize(
    ("start", "every", "kept", "level"),
    [
        (0, 60_000, NEVER, "windows"),
        (4_000_000_000, 60_000, SOME, "windows"),
        (3_999_999_999, 600_000, SOME, "5m"),
        (2_500_000_000, None, SOME, "1h"),
        (1_000_000_000, 172_800_000, SOME, "1d"),
    ],
)
def test_the_finest_level_that_still_has_a_range_answers(
    start: int, every: int | None, kept: dict[Level, int | None], level: Level
) -> None:
    """Windows as long as they are kept, then rollups."""
    assert level_of(start, every, kept) == level


@pytest.mark.parametrize(
    ("start", "every", "wrong"),
    [
        (2_500_000_000, 60_000, "before 1970-02-16T07:06:40Z counts are kept by 1h"),
        (0, None, "from 1970-01-12T13:46:40Z on"),
    ],
)
def test_what_is_no_longer_kept_so_finely_is_rejected(start: int, every: int | None, wrong: str) -> None:
    """Nothing is told of what was dropped, rather than zeros."""
    with pytest.raises(BadQueryError, match=wrong):
        level_of(start, every, SOME)
