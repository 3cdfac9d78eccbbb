"""Points in time and spans as people and programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS

UNITS_MS: Final = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": WEEK_MS}
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
EPOCH: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
SECONDS_DIGITS, MS_DIGITS = range(9, 12), range(12, 15)
"""Digits of numbers that count seconds, or milliseconds, since the epoch (1973 to 5138)."""

LOST_PLUS: Final = re.compile(r"(.*:[0-9.,]+) ([0-9]{2}:?[0-9]{2})", re.ASCII)
"""A time whose offset lost its plus: in the query of an address, a plus that is not encoded is a space."""

FIRST_MONDAY_MS: Final = -3 * DAY_MS
"""Monday, 1969-12-29, UTC."""


def origin_ms(every_ms: int) -> int:
    """The time from which spans of a length are counted, ms: spans of whole weeks begin on Mondays (ISO 8601).

    Others begin at multiples of their length since 1970-01-01. It is never after 1970-01-01.
    """
    return FIRST_MONDAY_MS if every_ms % WEEK_MS == 0 else 0


def floor_ms(moment_ms: int, every_ms: int) -> int:
    """The begin of the span that contains a moment, ms."""
    return moment_ms - (moment_ms - origin_ms(every_ms)) % every_ms


def parse_span_ms(text: str) -> int:
    """A span like 90s, 10m, 1.5h, 8d or 2w, in ms.

    Raises:
        ValueError: the text is not a span.
    """
    match = SPAN.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a span of time; right would be 90s, 10m, 1.5h, 8d or 2w")
    span = float(match[1]) * UNITS_MS[match[2]]
    if span >= 2**53:
        raise ValueError(f"{text[:20]!r} is longer than any span of time can be")
    return round(span)


def parse_time_ms(text: str, now_ms: int) -> int:
    """A point in time: now, -8d, +10m, or what ``parse_instant_ms`` takes (UTC where it names no zone), in ms.

    Raises:
        ValueError: the text is not a time; the message names the cause.
    """
    text = text.strip()
    if text == "now":
        return now_ms
    if text[:1] in ("-", "+"):
        return now_ms + (-1 if text[0] == "-" else 1) * parse_span_ms(text[1:])
    try:
        return parse_instant_ms(text)
    except ValueError as error:
        raise ValueError(
            f"{text[:50]!r} is not a time: {error}; right would be now, -8d, +10m or 2026-11-22T10:00:00"
        ) from error


def parse_instant_ms(text: str, zone: tzinfo | None = UTC) -> int:
    """A point in time in data, in ms since the epoch.

    Accepted are ISO 8601, with any fraction of a second (rounded to ms), ``z`` for ``Z``, and a space for the plus of
    its offset; a date alone, which is its midnight; and seconds or milliseconds since the epoch, by their digits.

    Args:
        text: the time.
        zone: of a time that names none; None: such a time is rejected.

    Raises:
        ValueError: the text is not a time; the message is the cause alone.
    """
    text = text.strip()
    if number := EPOCH.fullmatch(text):
        if len(number[1]) in SECONDS_DIGITS:
            return round(float(text) * 1000)
        if len(number[1]) in MS_DIGITS:
            return round(float(text))
    if lost := LOST_PLUS.fullmatch(text):
        text = f"{lost[1]}+{lost[2]}"
    if text.endswith("z"):
        text = f"{text[:-1]}Z"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(_cause(text, str(error))) from None
    if time.tzinfo is None and zone is None:
        raise ValueError("it names no time zone, and needs a Z or an offset such as +02:00 at its end")
    return to_ms(time if time.tzinfo else time.replace(tzinfo=zone))


def to_ms(time: datetime) -> int:
    """Ms since the epoch; a time without a zone is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def iso(ms: int) -> str:
    """Ms since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cause(text: str, error: str) -> str:
    """The reason why a text is not a time."""
    if not text:
        return "it is empty"
    if EPOCH.fullmatch(text):
        return "a number is taken with 10 digits (seconds since the epoch) or 13 (milliseconds)"
    return "it is not in ISO 8601" if error.startswith("Invalid isoformat") else error


def window_start(ts: int, window_ms: int) -> int:
    """The start of the window that ``ts`` belongs to; ``ts == start`` does, ``ts == start + window_ms`` does not."""
    return ts - ts % window_ms


def last_closed(watermark: int, window_ms: int) -> int:
    """Windows that start before this have ended at or before the watermark: they can close.

    ``watermark`` promises that no event with a smaller ts is expected, so the window ``[start, end)`` is
    complete once ``end <= watermark``.
    """
    return window_start(watermark, window_ms)
