"""A range is read by the coarsest rollups that lie within it, and its counts are those of its windows one by one."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.rates import RateStore, Scope
from funnelwatch.sinks.timescale.timers import timers
from tests.filling import MINUTE_MS, count_in
from tests.integration.test_views import DAY_MS, rows
from tests.ledger import begin_anew

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
HOUR_MS = 60 * MINUTE_MS
FIRST = TODAY - 5 * DAY_MS
Tallies = dict[tuple[int, str, str, str, str], list[int]]


def some(chance: random.Random, begin: int, end: int, number: int) -> Tallies:
    """Counts of so many windows between two times."""
    starts = range(begin, end, MINUTE_MS)
    return {
        (chance.choice(starts), chance.choice("AB"), chance.choice(["iOS", "Web"]), "", "1"): [
            chance.randint(1, 50), chance.randint(0, 20), chance.randint(0, 9), chance.randint(0, 20), 1,
        ]
        for _ in range(number)
    }  # fmt: skip


@pytest.fixture
def counted(either: Database, funnel: str) -> list[Tallies]:
    """Six days of windows: a part is materialized, a part came late, and the newest part is not materialized."""
    begin_anew(either)
    chance = random.Random(9)
    before, late, recent = (
        some(chance, FIRST, TODAY, 3000),
        some(chance, FIRST, TODAY, 40),
        some(chance, TODAY, NOW, 200),
    )
    count_in(either, before, funnel=funnel, durations={key: [900] for key in before})
    materialize(either, TODAY)
    count_in(either, late, funnel=funnel)
    count_in(either, recent, funnel=funnel)
    return [before, late, recent]


@pytest.mark.parametrize("every", [None, DAY_MS, HOUR_MS, 7 * MINUTE_MS, 10 * MINUTE_MS])
def test_any_range_has_the_counts_of_its_windows(
    either: Database, funnel: str, counted: list[Tallies], every: int | None
) -> None:
    """Wherever it begins and ends, and however long its spans are."""
    chance = random.Random(every)
    edges = [0, 1, 4, 5, 59, 60, 61, 1439, 1440, 1441]
    for _ in range(12):
        begin = FIRST + (chance.choice(edges) + chance.choice([0, 1440, chance.randrange(5000)])) * MINUTE_MS
        end = begin + (chance.choice(edges) + chance.choice([0, 60, 2880, chance.randrange(6000)])) * MINUTE_MS
        expected: dict[tuple[str, str, int | None], list[int]] = {}
        for part in counted:
            for (window, step, os, _, _), tally in part.items():
                if begin <= window < end:
                    start = None if every is None else window - window % every
                    total = expected.setdefault((step, os, start), [0] * 3)
                    total[:] = [a + b for a, b in zip(total, tally[:3], strict=True)]
        found = RateStore(either).rates(Scope(funnel), begin, end, by=["os"], every_ms=every)
        assert {
            (one.step, one.os, one.start_ms): [one.impressions, one.successes, one.failures] for one in found
        } == expected
        took = timers(either, Scope(funnel), begin, end, by=["os"], every_ms=every)
        assert sum(one.conversions for one in took) == sum(begin <= key[0] < end for key in counted[0])


def test_days_within_a_range_are_read_as_days(either: Database, counted: list[Tallies]) -> None:
    """As far as they are materialized; spans that are no whole days are read by what divides them."""
    assert counted
    statement = "SELECT * FROM spans_by_level('windows', %s, %s, %s::interval, '2000-01-01 00:00:00Z')"
    begin, end = (FIRST + 61 * MINUTE_MS, NOW - NOW % MINUTE_MS)

    def spans(every: str | None) -> dict[str, int]:
        [row] = rows(
            either,
            statement.replace("%s, %s, ", f"to_timestamp({begin / 1000}), to_timestamp({end / 1000}), ", 1),
            every,
        )
        return {name: int(value.timestamp() * 1000) for name, value in row.items() if "again" not in name}

    whole = spans(None)
    assert (whole["from_5m"], whole["from_1h"], whole["from_1d"]) == (
        FIRST + 65 * MINUTE_MS,
        FIRST + 2 * HOUR_MS,
        FIRST + DAY_MS,
    )
    assert whole["to_1d"] == TODAY - DAY_MS or whole["to_1d"] == TODAY
    hourly = spans("3 hours")
    assert hourly["from_1h"] == FIRST + 2 * HOUR_MS
    assert hourly["from_1d"] == hourly["to_1d"]
    odd = spans("7 minutes")
    assert odd["from_5m"] == odd["to_5m"] == end
