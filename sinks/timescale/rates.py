"""Reads rates from the counts of record, for the command line, the query API and the board.

    rate = successes / impressions

By windows (``basis="window"``) both are dated by their own ts, so that the successes of a short range may answer
impressions before it. By cohorts (``basis="cohort"``) successes are dated back to their impression: of those who were
shown the step in the range, how many made it; the newest cohorts still grow. By sessions (``basis="session"``) each
session counts once: of those that first saw the step in the range, how many completed it; the newest still grow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from funnelwatch.schemas.times import origin_ms
from funnelwatch.sinks.timescale.wilson import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from funnelwatch.sinks.timescale.database import Database, Row

Basis = Literal["window", "cohort", "session"]
Dimension = str
"""The name of a dimension (``funnelwatch.schemas.dimensions``)."""
Level = Literal["windows", "5m", "1h", "1d"]

AS_JSON = partial(json.dumps, ensure_ascii=False)
"""Rejects a text that is not Unicode, as the driver does for a parameter of its own; escaped, it would pass."""


@dataclass(frozen=True, slots=True, init=False)
class Scope:
    """Selects counts of a funnel.

    Attributes:
        funnel: its name.
        filters: a dimension, or ``step``, to the accepted values. "" or "(none)" accepts series without a value.
    """

    funnel: str
    filters: Mapping[str, tuple[str, ...]]

    def __init__(
        self, funnel: str, filters: Mapping[str, Iterable[str]] | None = None, /, **values: str | None
    ) -> None:
        """The scope of these filters.

        Args:
            funnel: its name.
            filters: a dimension, or ``step``, to the accepted values.
            values: further accepted values, by the same names; None: none.
        """
        accepted = {name: tuple(dict.fromkeys(several)) for name, several in (filters or {}).items()}
        for name, value in values.items():
            if value is not None and value not in accepted.get(name, ()):
                accepted[name] = (*accepted.get(name, ()), value)
        object.__setattr__(self, "funnel", funnel)
        object.__setattr__(self, "filters", accepted)


@dataclass(frozen=True, slots=True)
class Rate:
    """Counts of one step, and of one group of its series.

    Attributes:
        dimensions: the values of the dimensions to group by, in their order; empty where a series has none.
        impressions: how often the step was shown; by sessions, how many of them saw it.
        successes: how often its input was accepted; by sessions, how many of them completed the step.
        failures: how often its input was rejected; 0 by sessions.
        start_ms: start of the span of time, ms; None where there is one span only.
        open: by sessions, how many of them are younger than the session window; they may still complete the step.
    """

    step: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    impressions: int = 0
    successes: int = 0
    failures: int = 0
    start_ms: int | None = None
    open: int = 0

    @property
    def os(self) -> str:
        """The os; empty where counts are not grouped by it."""
        return self.dimensions.get("os", "")

    @property
    def rate(self) -> float | None:
        """Successes an impression; None where nobody was shown the step. Above 1 where impressions lie before."""
        return self.successes / self.impressions if self.impressions else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the rate (``wilson.interval``); None where there is no rate, or one above 1."""
        if not 0 <= self.successes <= self.impressions or not self.impressions:
            return None
        return wilson_interval(self.successes, self.impressions)


@dataclass(frozen=True, slots=True)
class Known:
    """The series of a funnel in the day up to its newest window.

    Attributes:
        steps: the steps, sorted.
        dimensions: each dimension that a series of the funnel ever had, to its values in that day, sorted; "" where a
            series has none.
        newest_ms: start of that window.
        closed_through_ms: windows that start before this are complete; None while none is.
    """

    funnel: str
    steps: tuple[str, ...]
    dimensions: Mapping[str, tuple[str, ...]]
    newest_ms: int
    closed_through_ms: int | None = None


class RateStore:
    """Answers questions about rates; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rates(
        self,
        scope: Scope,
        from_ms: int,
        to_ms: int,
        *,
        by: Collection[Dimension] = (),
        basis: Basis = "window",
        every_ms: int | None = None,
        limit: int | None = None,
        level: Level = "windows",
    ) -> list[Rate]:
        """Counts of the windows that start in ``[from_ms, to_ms)``, by step and the dimensions of ``by``.

        Args:
            scope: what to count.
            from_ms: start, ms, UTC.
            to_ms: end, exclusive, ms, UTC.
            by: dimensions to group by.
            basis: what dates a success; ``session`` counts sessions.
            every_ms: length of the spans of time to group by (``funnelwatch.schemas.times.floor_ms``); a
                multiple of the window. None: one span, the whole range.
            limit: at most this many; None: all.
            level: what is added up: windows, or a rollup where they are not kept any more; range and spans are then
                whole buckets of it.

        Returns:
            Sorted by time, step and the values of ``by``; what has no counts is not there.
        """
        parameters = scope_parameters(scope, from_ms, to_ms, by, every_ms)
        parameters |= {"basis": basis, "limit": limit, "level": level}
        rows = self._database.query("rates", parameters)
        found = [Rate(**group_of(row, by, every_ms)) for row in rows]
        return sorted(found, key=lambda one: (one.start_ms or 0, one.step, *one.dimensions.values()))

    def known(self) -> list[Known]:
        """The funnels that have counts, by name; empty before the first event."""
        return [
            Known(
                row["funnel"],
                tuple(row["steps"]),
                {name: tuple(sorted(set(values))) for name, values in row["dimensions"].items()},
                row["newest_ms"],
                row["closed_through_ms"],
            )
            for row in self._database.query("known_series")
        ]

    def stored_dimensions(self, funnel: str) -> list[str]:
        """The dimensions that series of a funnel ever had, by name; reads all series of the funnel."""
        return [row["name"] for row in self._database.query("stored_dimensions", {"funnel": funnel})]

    def closed_through(self, funnel: str) -> int | None:
        """Windows of the funnel that start before this are complete, ms; None while none is."""
        rows = self._database.query("closed_through", {"funnel": funnel})
        return rows[0]["closed_through_ms"] if rows else None

    def window_ms(self) -> int | None:
        """Length of a window of the counts; None before a worker has run on this database."""
        rows = self._database.query("window_length")
        return rows[0]["window_ms"] if rows else None


def scope_parameters(
    scope: Scope, from_ms: int, to_ms: int, by: Collection[Dimension], every_ms: int | None
) -> dict[str, Any]:
    """The parameters of every query on a scope and a range."""
    return {
        "funnel": scope.funnel,
        "chosen": Jsonb(scope.filters, dumps=AS_JSON),
        "by": list(by),
        "from_ms": from_ms,
        "to_ms": to_ms,
        "every_ms": every_ms,
        "origin_ms": origin_ms(every_ms) if every_ms else 0,
    }


def group_of(row: Row, by: Collection[Dimension], every_ms: int | None) -> dict[str, Any]:
    """A row with a value for each dimension of ``by``; its start only where there are spans of time."""
    return row | {"dimensions": values_of(row, by), "start_ms": row["start_ms"] if every_ms else None}


def values_of(row: Row, by: Collection[Dimension]) -> dict[str, str]:
    """The value of each dimension of ``by`` in a row; empty where it has none."""
    return {name: row["dimensions"].get(name, "") for name in by}
