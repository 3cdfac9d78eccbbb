"""Ledgers written by hand: tables of events, and of the session columns that follow from them.

A table has a row a line, columns between ``|``. Times are a day of the week that begins with 2026-01-05, and a time of
that day: ``Mon 23:50``.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.reference.events import Event
from tests.reference.sessions import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.reference.sessions import Key

DAYS = ("Mon", "Tue", "Wed")
MONDAY_MS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS

Row = tuple[str, str, str, Counts]
"""Start of the window, step, os, and the four columns."""


def rows_of(table: str) -> list[list[str]]:
    """The cells of each row, without Markdown's header."""
    lines = [line.strip().strip("|") for line in table.strip().splitlines()]
    rows = [[cell.strip().strip("`") for cell in line.split("|")] for line in lines]
    for number, row in enumerate(rows):
        if set("".join(row)) == {"-"}:
            return rows[number + 1 :]
    return rows


def time_of(text: str) -> int:
    """Such as ``Mon 23:50``, ms."""
    day, _, clock = text.partition(" ")
    hours, minutes = map(int, clock.split(":"))
    return MONDAY_MS + DAYS.index(day) * DAY_MS + (60 * hours + minutes) * MINUTE_MS


def text_of(time_ms: int) -> str:
    """The reverse."""
    minutes = (time_ms - MONDAY_MS) // MINUTE_MS
    return f"{DAYS[minutes // 1440]} {minutes // 60 % 24:02}:{minutes % 60:02}"


def events_of(table: str, funnel: str = "sign_up") -> list[Event]:
    """The records of a table, in one partition: id, Kafka's timestamp, when it happened, session, os, event.

    A session may be ``name/funnel``. An event is a step, and ``shown``, ``success`` or ``failure``. Further columns are
    remarks.
    """
    found = []
    for offset, (event_id, log_time, ts, who, os, event, *_) in enumerate(rows_of(table)):
        step, what = event.split(" ")
        name, _, other = who.partition("/")
        phase, status = {
            "shown": ("IMPRESSION", None),
            "success": ("POST_VERIFICATION", "SUCCESS"),
            "failure": ("POST_VERIFICATION", "FAILURE"),
        }[what]
        found.append(
            Event(
                0,
                offset,
                time_of(log_time),
                event_id,
                other or funnel,
                name,
                step,
                os,
                "",
                "",
                phase,
                status,
                time_of(ts),
                {},
            )
        )
    return found


def expected_rows(table: str) -> list[Row]:
    """Rows of session columns, sorted: window, step, os, and the four columns."""
    found: list[Row] = []
    for window, step, os, *numbers in rows_of(table):
        sessions, successes, reached, completed = map(int, numbers)
        found.append((window, step, os, (sessions, successes, reached, completed)))
    return sorted(found)


def counted_rows(counts: Mapping[Key, Counts]) -> list[Row]:
    """The same of what was counted by os."""
    return sorted(
        (text_of(start), step, dict(names)["os"], numbers) for (start, _, step, names), numbers in counts.items()
    )


def impressions_and_successes(events: list[Event]) -> dict[str, tuple[int, int]]:
    """Events by step, for comparison."""
    shown = Counter(event.step for event in events if event.phase == "IMPRESSION")
    made = Counter(event.step for event in events if event.status == "SUCCESS")
    return {step: (shown[step], made[step]) for step in shown | made}
