"""Runs queries about a declared funnel: how far the sessions came that entered it, step by step in order.

A session counts once: for the range and the dimensions of its entry, whenever it goes on within its session window. So
no step has more sessions than the one before it, unless the order of the steps was declared anew in the range; then
shares that would be above 1 are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.format import clock
from funnelwatch.query.funnel_groups import FunnelGroup, grouped
from funnelwatch.query.parameters import STEP, BadQueryError
from funnelwatch.query.rates import (
    MOST_ROWS,
    TOO_LONG,
    NoDataError,
    Range,
    check_dimensions,
    freshness_of,
    meant_range,
    open_from,
)
from funnelwatch.query.results import as_csv, dimension_field, old_of, open_part
from funnelwatch.sinks.timescale.rates import RateStore
from funnelwatch.sinks.timescale.session_counts import Reached, declared_order, reached, session_maturity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.query.rate_query import RateQuery
    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

STEP_FIGURES: Final = ("position", "step", "reached", "of_first", "of_previous", "completed", "dropped", "open")
MOST_NAMED: Final = 20
"""A message lists at most this many funnels."""


@dataclass(frozen=True, slots=True)
class FunnelResult:
    """A funnel of sessions, with the query that it answers; times in ms.

    Attributes:
        query: the query.
        meant: the range of entries, widened to whole windows.
        session_window_ms: a session counts for steps within this time of its first event.
        mature_through_ms: sessions that entered in windows which end by then are final; None: none is.
        groups: by entries, most first; a single group where the query has no ``by``.
        freshness: whether windows close and the detector evaluates them.
    """

    query: RateQuery
    meant: Range
    session_window_ms: int
    mature_through_ms: int | None
    groups: Sequence[FunnelGroup]
    freshness: Freshness

    @property
    def found(self) -> bool:
        """Whether any session entered in the range."""
        return any(group.entered for group in self.groups)

    @property
    def open(self) -> int:
        """How many of the entries are younger than the session window."""
        return sum(group.open for group in self.groups)

    @property
    def old(self) -> str | None:
        """Why these figures are stale, or may be; None for current figures and complete ranges."""
        return old_of(self.freshness, self.meant.closed_through, self.query)

    @property
    def open_ms(self) -> int:
        """The part of the range in open windows, ms."""
        return open_part(self.meant.start, self.meant.end, self.meant.closed_through)

    @property
    def filters(self) -> dict[str, list[str]]:
        """Dimensions with the selected values."""
        return {name: list(values) for name, values in self.query.scope.filters.items()}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each step of each group; shares are 0 to 1 or None."""
        return [
            {
                **named(group),
                "position": position,
                "step": one.step,
                "reached": one.reached,
                "of_first": one.of_first,
                "of_previous": one.of_previous,
                "completed": one.completed,
                "dropped": one.dropped,
                "open": one.open,
            }
            for group in self.groups
            for position, one in enumerate(group.steps, 1)
        ]

    def as_object(self) -> dict[str, Any]:
        """One object for JSON."""
        through, mature = self.meant.closed_through, self.mature_through_ms
        return {
            "funnel": self.query.scope.funnel,
            "filters": self.filters,
            "from": clock(self.meant.start),
            "to": clock(self.meant.end),
            "window_s": self.meant.window_ms / 1000,
            "session_window_s": self.session_window_ms / 1000,
            "complete_through": None if through is None else clock(through),
            "mature_through": None if mature is None else clock(mature),
            "open": self.open,
            "freshness": self.freshness.as_object(),
            "conversions": [_conversion(group) for group in self.groups],
            "rows": self.rows(),
        }

    def as_csv(self) -> str:
        """The rows with a header; empty where there is no share."""
        return as_csv([*map(dimension_field, self.query.by), *STEP_FIGURES], self.rows())


def named(group: FunnelGroup) -> dict[str, str]:
    """The values of a group, by field."""
    return {dimension_field(name): value for name, value in group.dimensions.items()}


def _conversion(group: FunnelGroup) -> dict[str, Any]:
    low, high = group.interval or (None, None)
    return {
        **named(group),
        "entered": group.entered,
        "completed": group.completed,
        "rate": group.rate,
        "low": low,
        "high": high,
        "open": group.open,
    }


def query_funnel(database: Database, settings: Settings, query: RateQuery) -> FunnelResult:
    """Answer a query about a funnel from the counts of record.

    Raises:
        BadQueryError: the range or a dimension is invalid, a step is selected, or the result would be too long.
        NoDataError: the funnel is not declared, or the query wants complete windows and none is complete.
        funnelwatch.schemas.funnels.FunnelsFileError: the file of declared funnels cannot be used.
        psycopg.Error: the database is away.
    """
    scope = query.scope
    if STEP in scope.filters:
        raise BadQueryError(
            "where", "a funnel has all of its steps; select dimensions, or ask for the rate of the step"
        )
    steps = declared_order(database, scope.funnel)
    if not steps:
        raise NoDataError(without_order(scope.funnel, database))
    meant = meant_range(database, settings, query)
    check_dimensions(database, settings, query)
    maturity = session_maturity(database, scope.funnel)
    open_ms = open_from(maturity, meant)

    def read(from_ms: int) -> list[Reached]:
        return reached(database, scope, from_ms, meant.end, by=query.by, limit=MOST_ROWS + 1, level=meant.level)

    found = read(meant.start)
    if len(found) > MOST_ROWS:
        raise BadQueryError("by", TOO_LONG)
    young = read(open_ms) if open_ms < meant.end else []
    return FunnelResult(
        query,
        meant,
        maturity.session_window_ms,
        maturity.mature_through_ms,
        grouped(steps, found, young, query.by),
        freshness_of(database, settings, scope.funnel, meant),
    )


def without_order(funnel: str, database: Database) -> str:
    """Why a funnel that is not declared cannot be shown, and what to do."""
    counted = [one.funnel for one in RateStore(database).known()]
    if funnel in counted:
        return (
            f"the funnel {funnel} is not declared, so its steps have no order; declare it in the funnels file "
            "(docs/producing.md), or ask for the rate of each step by sessions"
        )
    more = f" and {len(counted) - MOST_NAMED:,} more" if len(counted) > MOST_NAMED else ""
    there = f"there is {', '.join(counted[:MOST_NAMED])}{more}" if counted else "the database has no events yet"
    return f"no funnel is called {funnel}; {there}"
