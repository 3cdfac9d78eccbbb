"""Points in time and spans as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse_span_ms(text: str) -> int:
    """A span like 90s, 10m, 1.5h, 8d or 2w, in ms.

    Raises:
        ValueError: it is none.
    """
    match = SPAN.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no span of time; right would be 90s, 10m, 1.5h, 8d or 2w")
    span = float(match[1]) * UNITS_MS[match[2]]
    if span >= 2**53:
        raise ValueError(f"{text[:20]!r} is longer than any span of time can be")
    return round(span)


def parse_time_ms(text: str, now_ms: int) -> int:
    """A point in time: now, -8d, +10m, or ISO 8601 (UTC where it names no zone), in ms since the epoch.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if text == "now":
        return now_ms
    if text[:1] in ("-", "+"):
        return now_ms + (-1 if text[0] == "-" else 1) * parse_span_ms(text[1:])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; right would be now, -8d, +10m or 2026-11-22T10:00:00") from None
    return to_ms(time)


def to_ms(time: datetime) -> int:
    """Ms since the epoch; a time without a zone is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def iso(ms: int) -> str:
    """Ms since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
