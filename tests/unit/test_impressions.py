"""The collapse of impressions: said when the apps stop sending, and not when people are merely fewer."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.alert_rules.instruments import ImpressionsRule
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.stream.detector.counts import Counts
from funnelwatch.stream.detector.impressions import ImpressionsEvaluator
from funnelwatch.stream.detector.state import AlertState

if TYPE_CHECKING:
    from collections.abc import Callable

W = 300_000
MONDAY = 1_700_438_400_000
DAY = 86_400_000
HOUR = 3_600_000
LEVELS = [(), ("os",)]
STEPS = {"A": 1.0, "B": 0.8, "C": 0.7}


def usual(start: int, step: str, system: str) -> float:
    """Impressions of a window: few at night, half on Sundays, by step and os."""
    day = 0.5 if (start - MONDAY) // DAY % 7 == 6 else 1.0
    night = 1.0 - 0.95 * (0.5 + 0.5 * cos((start % DAY - 4 * HOUR) / DAY * 2 * pi))
    return 2000 * STEPS[step] * day * night * {"iOS": 0.4, "Android": 0.6}[system]


def said(
    volume: Callable[[int, str, str], float],
    *,
    begin: int,
    until: int,
    weeks: float = 3.0,
    lateness: Callable[[int], int] = lambda start: 1000,
    by: list[list[str]] | None = None,
) -> list[tuple[str, str, int]]:
    """State, scope and window of each message, with this history before the evaluated time."""
    rule = ImpressionsRule.model_validate(
        {"alert": "Collapse", "kind": "instrumentation", "signal": "impressions", "by": by or [[]]}
    )

    def tallies(start: int) -> dict[Series, CountRow]:
        return {
            Series.of("f", step, os=system): CountRow(round(volume(start, step, system)))
            for step in STEPS
            for system in ("iOS", "Android")
        }

    counts = Counts(LEVELS, ["impressions"], W, 22 * DAY // W)
    first = begin - int(weeks * 7 * DAY) // W * W
    for start in range(first, begin, W):
        counts.append(Block.of(start, tallies(start)))
    watch = ImpressionsEvaluator("f", [rule], counts)
    found: list[tuple[str, str, int]] = []
    for start in range(begin, until, W):
        for move in watch.observe(start, start + W + lateness(start)):
            # What is kept must survive the database.
            watch.restore(AlertState.from_json(move.state.to_json()))
            if move.alert:
                alert: dict[str, Any] = move.alert
                found.append((alert["reason"], str(alert["dimensions"]), alert["window_start"]))
        counts.append(Block.of(start, tallies(start)))
    return found


T = MONDAY + 22 * DAY + 12 * HOUR
LATER = T + 3 * HOUR


def gone(start: int, step: str, system: str) -> float:
    """Nothing is sent for forty minutes."""
    return 0.0 if T <= start < T + 40 * 60_000 else usual(start, step, system)


def test_a_collapse_is_said_once_and_resolved_when_events_come_again() -> None:
    """Within the stretch it is evaluated over, and one window."""
    [first, second] = said(gone, begin=T - 3 * HOUR, until=LATER)

    assert first[0] == "IMPRESSIONS_COLLAPSED"
    assert 0 < first[2] - T <= 600_000
    assert second[0] == "RECOVERED"
    assert second[2] >= T + 40 * 60_000


def test_the_os_that_collapsed_is_named_where_the_rule_asks_for_it() -> None:
    """The others go on, so all together has not collapsed."""

    def no_ios(start: int, step: str, system: str) -> float:
        return gone(start, step, system) if system == "iOS" else usual(start, step, system)

    found = said(no_ios, begin=T - 3 * HOUR, until=LATER, by=[[], ["os"]])
    assert [(reason, scope) for reason, scope, _ in found] == [
        ("IMPRESSIONS_COLLAPSED", "{'os': 'iOS'}"),
        ("RECOVERED", "{'os': 'iOS'}"),
    ]


QUIET: dict[str, dict[str, Any]] = {
    "ordinary days and nights": {"volume": usual, "begin": MONDAY + 21 * DAY, "until": MONDAY + 23 * DAY},
    "a weekly low": {"volume": usual, "begin": MONDAY + 26 * DAY + 20 * HOUR, "until": MONDAY + 28 * DAY},
    "a holiday that fades over hours": {
        "volume": lambda start, step, system: (
            usual(start, step, system) * max(0.1, 1.0 - max(0, start - T) / (6 * HOUR))
        ),
        "begin": T - 2 * HOUR,
        "until": T + 12 * HOUR,
    },
    "a cold start, with a week of history": {"volume": gone, "begin": T - 3 * HOUR, "until": LATER, "weeks": 1.2},
    "a step that nobody passes leaves the steps after it without impressions": {
        "volume": lambda start, step, system: gone(start, step, system) if step != "A" else usual(start, step, system),
        "begin": T - 3 * HOUR,
        "until": LATER,
    },
    "a backfill that ends now": {
        "volume": lambda start, step, system: usual(start, step, system) if start < T else 0.0,
        "begin": T - 10 * HOUR,
        "until": LATER,
        "lateness": lambda start: max(1000, (T - start) // 2),
    },
    "a demo that starts after thin history": {
        "volume": lambda start, step, system: usual(start, step, system) * (1.0 if start < T else 20.0),
        "begin": T - HOUR,
        "until": LATER,
        "weeks": 8 / 7,
    },
    "traffic that is too thin to tell": {
        "volume": lambda start, step, system: gone(start, step, system) / 100,
        "begin": T - 3 * HOUR,
        "until": LATER,
    },
    "a worker that comes back after an hour": {
        "volume": gone,
        "begin": T - 20 * 60_000,
        "until": LATER,
        "lateness": lambda start: max(1000, T + HOUR - start),
    },
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_no_collapse_is_not_said(name: str) -> None:
    """Each of these would page somebody for nothing."""
    case = dict(QUIET[name])

    assert said(case.pop("volume"), **case) == []
