"""A funnel with five dimensions of its own, in a database and in Python: what its dashboards must show."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from funnelwatch.deploy.grafana.documents import documents
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.wilson import wilson_interval
from tests.filling import MINUTE_MS
from tests.grafana import View
from tests.integration.test_grafana import CLOSED, RANGES, WEEK_MS, at, rate
from tests.integration.test_views import DAY_MS, T
from tests.traffic import slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row

FUNNEL = 'it\'s "the" shop'
OTHER = "without them"
STEPS = ("1 cart", "2 pay", "3 done")
DIMENSIONS = ("country", "plan", "provider", "by", "level")
"""Two of them are named like variables of the dashboards."""

COTE, ESCAPED, STATEMENT, MACRO = 'Côte d\'"Ivoire"', 'a\\"b\\', "'); DROP VIEW conversion; --", "$__time(x,"
VALUES = {
    "country": ("DE", "US", COTE, ESCAPED, STATEMENT, MACRO, None),
    "plan": ("free", "pro", "team"),
    "provider": ("acme", "x, y", None),
    "by": ("web", "app"),
    "level": ("gold", "none"),
}
"""Values of each dimension; None: a series without it."""


class Counted(NamedTuple):
    """The counts of one series in one window.

    Attributes:
        window: its start, ms.
        step: the step.
        series: the values of the dimensions, in their order.
        tally: impressions, successes, failures, and both of the cohort.
        durations: of some of the successes, ms.
    """

    window: int
    step: str
    series: tuple[str | None, ...]
    tally: tuple[int, ...]
    durations: tuple[int, ...]


def made() -> list[Counted]:
    """The counts of some combinations: of this day, and of the same hours one, two and five weeks before."""
    chance = Random(5)
    countries, *others = VALUES.values()
    series = [(country, *map(chance.choice, others)) for country in countries for _ in range(4)]
    series = list(dict.fromkeys(series))
    found = []
    for weeks in (0, 1, 2, 5):
        for minute in (0, 1, 5, 61, 100):
            for place, step in enumerate(STEPS):
                for one in series:
                    shown = chance.randint(20, 90) - 5 * place
                    passed = chance.randint(1, shown - 1)
                    tally = (shown, passed, min(3, shown - passed), chance.randint(0, passed), 1)
                    took = tuple(chance.randint(1, 60_000) for _ in range(min(passed, 3)))
                    found.append(Counted(T + minute * MINUTE_MS - weeks * WEEK_MS, step, one, tally, took))
    return found


COUNTED = made()
Chosen = dict[str, list[str]]
CHOICES: dict[str, Chosen] = {
    "all": {},
    "value": {"country": ["DE"]},
    "quotes": {"country": [COTE, ESCAPED, STATEMENT], "level": ["gold", "none"]},
    "none": {"country": ["(none)", "US"], "provider": ["(none)"]},
    "each": {"country": ["DE", "US", COTE], "plan": ["free", "pro"], "provider": ["acme", "x, y"], "by": ["web"]},
}
"""Name to what is chosen of the dimensions; without a value of a dimension: All."""

VARIABLES = {"country": "country", "plan": "plan", "provider": "provider", "by": "BY", "level": "LEVEL"}
"""Dimension to its variable."""


def fill(database: Database) -> None:
    """Insert the counts as workers store them, and those of a day once more: by country, which that funnel calls os."""
    with database.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO funnel_progress (funnel, closing_through, closed_through) VALUES (%s, %s, %s)",
            [(funnel, at(CLOSED), at(CLOSED)) for funnel in (FUNNEL, OTHER)],
        )
        insert(cursor, FUNNEL, DIMENSIONS, COUNTED)
        insert(cursor, OTHER, ("os",), ByHand("windows", {}).counts)
    materialize(database, T + DAY_MS)


def insert(cursor: Cursor[Row], funnel: str, names: Sequence[str], counted: Sequence[Counted]) -> None:
    """Insert the series and counts of a funnel that has the first dimensions, under these names."""
    rows: dict[tuple[int, str, str], list[int]] = {}
    for one in counted:
        pairs = zip(names, one.series, strict=False)
        series = json.dumps({name: value for name, value in pairs if value is not None})
        slots = [0] * SLOTS
        for duration in one.durations:
            slots[slot_of(duration)] += 1
        kept = rows.setdefault((one.window, one.step, series), [0] * (5 + SLOTS))
        kept[:] = [a + b for a, b in zip(kept, (*one.tally, *slots), strict=True)]
    cursor.executemany(
        "INSERT INTO series (funnel, step, dimensions) VALUES (%s, %s, %s)",
        [(funnel, *series) for series in dict.fromkeys(key[1:] for key in rows)],
    )
    columns = ["impressions", "successes", "failures", "cohort_successes", "cohort_failures"]
    columns += [f"d{slot}" for slot in range(SLOTS)]
    sql: Any = (
        f"INSERT INTO window_counts (window_start, series_id, {', '.join(columns)}) SELECT %s, series_id, "
        f"{', '.join(['%s::integer'] * len(columns))} FROM series WHERE funnel = %s AND step = %s AND dimensions = %s"
    )
    parameters = [(at(window), *counts, funnel, *series) for (window, *series), counts in rows.items()]
    cursor.executemany(sql, parameters)


def document(name: str) -> dict[str, Any]:
    """A dashboard for these dimensions and os."""
    read: dict[str, Any] = json.loads(documents((*DIMENSIONS, "os"))[f"{name}.json"])
    return read


def look(database: Database, name: str, level: str, chosen: Chosen, **more: list[str]) -> View:
    """A dashboard of the funnel at a level, with what is chosen of its dimensions."""
    view = View(*RANGES[level][:2])
    wanted = {VARIABLES[dimension]: values for dimension, values in chosen.items()}
    view.choose(database, document(name), {"funnel": [FUNNEL], **wanted, **more})
    assert view.chosen["level"] == [level]
    return view


class ByHand:
    """The counts of a range that are chosen, added up here."""

    def __init__(self, level: str, chosen: Chosen, steps: Sequence[str] = STEPS, shift_ms: int = 0) -> None:
        self.from_ms, self.to_ms, self.width = RANGES[level]
        self.counts = [
            one
            for one in COUNTED
            if self.from_ms - shift_ms <= self.bucket(one) <= self.to_ms - shift_ms
            and one.step in steps
            and all(self.value(one, name) in values for name, values in chosen.items())
        ]

    def bucket(self, one: Counted) -> int:
        """The start of the level's bucket."""
        return one.window - one.window % self.width

    def time(self, one: Counted) -> datetime:
        """The same as a time."""
        return at(self.bucket(one))

    @staticmethod
    def value(one: Counted, *names: str) -> str:
        """The values of dimensions as they are shown."""
        return " · ".join(one.series[DIMENSIONS.index(name)] or "(none)" for name in names)

    def sums(self, group: Callable[[Counted], Any]) -> dict[Any, list[int]]:
        """Impressions, successes, failures and those of cohorts, by group."""
        total: dict[Any, list[int]] = {}
        for one in self.counts:
            kept = total.setdefault(group(one), [0] * 5)
            kept[:] = [a + b for a, b in zip(kept, one.tally, strict=True)]
        return total


def with_interval(tally: list[int]) -> tuple[int, int, float, float, float]:
    """What a table shows of a tally."""
    return tally[0], tally[1], rate(tally), *wilson_interval(tally[1], tally[0])


def shown(rows: list[Row]) -> dict[tuple[str, str], tuple[float, ...]]:
    """The rows of a table, by step and value."""
    columns = ("impressions", "successes", "rate", "rate_low", "rate_high")
    assert len({(row["step"], row["value"]) for row in rows}) == len(rows)
    return {(row["step"], row["value"]): tuple(row[column] for column in columns) for row in rows}


def closed(sums: dict[Any, list[int]]) -> dict[Any, float]:
    """The rates of closed windows; the time is the group, or its first part."""
    first = {group: group[0] if isinstance(group, tuple) else group for group in sums}
    return {group: rate(tally) for group, tally in sums.items() if first[group] < at(CLOSED)}
