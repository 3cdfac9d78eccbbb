"""The worked example of docs/sessions.md, counted by the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.reference.events import without_duplicates
from tests.reference.hand_ledger import counted_rows, events_of, expected_rows, impressions_and_successes, rows_of
from tests.reference.sessions import COLUMNS, HOUR_MS, Funnel, count_sessions

DOC = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text()
DUPLICATE_HORIZON_MS = 600_000


def table(name: str) -> str:
    """The one table that follows a comment."""
    (found,) = re.findall(rf"<!-- {name}(?:: [^>]*)? -->\n((?:\|.*\n)+)", DOC)
    return str(found)


def declared() -> tuple[str, Funnel]:
    """Name and declaration of the page's funnel."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    [(name, fields)] = yaml.safe_load(block)["funnels"].items()
    assert fields.pop("session_window") == "1h"
    return name, Funnel(**{key: tuple(value) for key, value in fields.items()}, session_window_ms=HOUR_MS)


NAME, FUNNEL = declared()
RECORDS = events_of(table("the ledger"), NAME)
EVENTS = list(without_duplicates(RECORDS, DUPLICATE_HORIZON_MS))
COUNTS = count_sessions(EVENTS, {NAME: FUNNEL}, HOUR_MS)


def share(part: int, whole: int) -> str:
    """Such as 57%."""
    return f"{part / whole:.0%}"


def test_the_rows_of_the_page_are_those_of_its_ledger() -> None:
    """Window by window, step by step, os by os, all four columns; one record is a duplicate."""
    assert len(EVENTS) == len(RECORDS) - 1
    assert counted_rows(COUNTS) == expected_rows(table("the counts of the ledger"))


def test_the_sums_of_the_page_are_those_of_its_ledger() -> None:
    """The table by step, and the end-to-end conversion below it."""
    events = impressions_and_successes(EVENTS)
    sums: dict[str, dict[str, int]] = {step: dict.fromkeys(COLUMNS, 0) for step in FUNNEL.steps}
    for (_, _, step, _), counts in COUNTS.items():
        for column, number in zip(COLUMNS, counts, strict=True):
            sums[step][column] += number
    entered, completed = sums[FUNNEL.steps[0]]["reached"], sums[FUNNEL.steps[-1]]["completed"]
    expected: list[list[Any]] = []
    for step in FUNNEL.steps:
        shown, made = events[step]
        one = sums[step]
        expected.append(
            [
                step,
                *(shown, made, share(made, shown)),
                *(one["sessions"], one["session_successes"], share(one["session_successes"], one["sessions"])),
                *(one["reached"], one["completed"], share(one["reached"], entered)),
            ]
        )
    assert rows_of(table("the counts of the ledger by step")) == [list(map(str, row)) for row in expected]
    assert f"End-to-end conversion is {completed} of {entered}, {share(completed, entered)}." in DOC


def test_the_order_of_the_ledger_is_that_of_the_log() -> None:
    """Kafka's timestamps of the page never go back, and each event has one id."""
    times = [event.log_time for event in RECORDS]
    assert times == sorted(times)
    assert len({event.event_id for event in RECORDS}) == len(EVENTS)
