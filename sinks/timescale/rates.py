"""Rates from the counts of record: what the command line, and whoever else answers questions, asks the database.

    rate = successes / impressions

By windows (``basis="window"``) both are dated by their own ts, so that the successes of a short range may answer
impressions before it. By cohorts (``basis="cohort"``) successes are dated back to their impression: of those who were
shown the step in the range, how many made it; the newest cohorts still grow.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from psycopg.types.json import Jsonb

from funnelwatch.schemas.times import origin_ms
from funnelwatch.sinks.timescale.wilson import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Collection

    from funnelwatch.sinks.timescale.database import Database, Row

Basis = Literal["window", "cohort"]
Dimension = Literal["os", "browser", "app_version"]
Level = Literal["windows", "5m", "1h", "1d"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)


AS_JSON = partial(json.dumps, ensure_ascii=False)
"""Rejects a text that is not Unicode, as the driver does for a parameter of its own; escaped, it would pass."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to count: a funnel, and of it one step, os, browser or app version; None: all of them."""

    funnel: str
    step: str | None = None
    os: str | None = None
    browser: str | None = None
    app_version: str | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Counts of one step; a dimension that was not asked for is empty.

    Attributes:
        start_ms: start of the span of time, ms; None where there is one span only.
    """

    step: str
    os: str = ""
    browser: str = ""
    app_version: str = ""
    impressions: int = 0
    successes: int = 0
    failures: int = 0
    start_ms: int | None = None

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
    """What a funnel has in the day up to its newest window.

    Attributes:
        newest_ms: start of that window.
        closed_through_ms: windows that start before this are complete; None while none is.
    """

    funnel: str
    steps: tuple[str, ...]
    os: tuple[str, ...]
    newest_ms: int
    browsers: tuple[str, ...] = ()
    app_versions: tuple[str, ...] = ()
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
            by: dimensions to tell apart.
            basis: what dates a success.
            every_ms: length of the spans of time to tell apart (``funnelwatch.schemas.times.floor_ms``); a
                multiple of the window. None: one span, the whole range.
            limit: at most this many; None: all.
            level: what is added up: windows, or a rollup where they are not kept any more; range and spans are then
                whole buckets of it.

        Returns:
            Sorted by time, step and dimensions; what has no counts is not there.
        """
        parameters = scope_parameters(scope, from_ms, to_ms, by, every_ms)
        parameters |= {"cohort": basis == "cohort", "limit": limit, "level": level}
        rows = self._database.query("rates", parameters)
        found = [Rate(**row_dimensions(row, every_ms)) for row in rows]
        return sorted(found, key=lambda one: (one.start_ms or 0, one.step, one.os, one.browser, one.app_version))

    def known(self) -> list[Known]:
        """What there is to ask for, by funnel; empty before the first event."""
        return [
            Known(
                row["funnel"],
                tuple(row["steps"]),
                tuple(sorted(row["os"])),
                row["newest_ms"],
                tuple(sorted(row["browsers"])),
                tuple(sorted(row["app_versions"])),
                row["closed_through_ms"],
            )
            for row in self._database.query("known_series")
        ]

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
    chosen = {name: [value] for name, value in asdict(scope).items() if name != "funnel" and value is not None}
    return {
        "funnel": scope.funnel,
        "chosen": Jsonb(chosen, dumps=AS_JSON),
        "by": list(by),
        "from_ms": from_ms,
        "to_ms": to_ms,
        "every_ms": every_ms,
        "origin_ms": origin_ms(every_ms) if every_ms else 0,
    }


def row_dimensions(row: Row, every_ms: int | None) -> dict[str, Any]:
    """A row with its dimensions beside its other values; its start only where there are spans of time."""
    dimensions = {name: row["dimensions"].get(name, "") for name in DIMENSIONS}
    rest = {name: value for name, value in row.items() if name != "dimensions"}
    return rest | dimensions | {"start_ms": row["start_ms"] if every_ms else None}
