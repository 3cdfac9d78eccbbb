"""Formats times, shares and texts from events."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

WIDE = 140
"""Columns of a table that goes into a file or a pipe, which has no width of its own."""


def console() -> Console:
    """Where tables are drawn: stdout, as wide as the terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDE)


def printable(text: str) -> str:
    """A text from an event without what would move a terminal's cursor; an empty text becomes (none)."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text) or "(none)"


def clock(ms: int) -> str:
    """A time to the second, UTC: 2026-11-22T10:00:00Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def percent(share: float | None) -> str:
    """A share as 78.1 %; a dash where there is none."""
    return "-" if share is None else f"{share * 100:.1f} %"


def lasting(ms: int) -> str:
    """A span of time in its two largest units: 1 h 5 min."""
    seconds = round(ms / 1000)
    parts = []
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= length:
            parts.append(f"{seconds // length} {name}")
            seconds %= length
    return " ".join(parts[:2]) or "0 s"


def bar(share: float | None, width: int = 20) -> str:
    """A share as a bar, full at 100 %."""
    if share is None:
        return ""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
