"""Reads how far the sessions came that entered a declared funnel, and how old they must be to be final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.rates import scope_parameters, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.rates import Dimension, Level, Scope


@dataclass(frozen=True, slots=True)
class Reached:
    """The sessions that reached one step, of one group of series.

    Attributes:
        dimensions: the values of the dimensions to group by, at entry; empty where a series has none.
        reached: how many sessions reached the step in order.
        completed: how many of them completed it.
    """

    step: str
    dimensions: Mapping[str, str]
    reached: int
    completed: int


@dataclass(frozen=True, slots=True)
class SessionMaturity:
    """The session window of a funnel.

    Attributes:
        session_window_ms: a session counts for steps within this time of its first event, ms.
        mature_through_ms: sessions of windows that end by then have had all of it, ms; None: no window is complete.
    """

    session_window_ms: int
    mature_through_ms: int | None


def reached(
    database: Database,
    scope: Scope,
    from_ms: int,
    to_ms: int,
    *,
    by: Collection[Dimension] = (),
    limit: int | None = None,
    level: Level = "windows",
) -> list[Reached]:
    """The sessions that entered a funnel in windows that start in ``[from_ms, to_ms)``, by step and group.

    Args:
        database: where the counts are.
        scope: the funnel, and the dimensions at entry.
        from_ms: start, ms, UTC.
        to_ms: end, exclusive, ms, UTC.
        by: dimensions to group by.
        limit: at most this many; None: all.
        level: what is added up, as in ``RateStore.rates``.

    Returns:
        In no order; a step that no session of a group reached is not there.
    """
    parameters = scope_parameters(scope, from_ms, to_ms, by, None) | {"limit": limit, "level": level}
    rows = database.query("reached", parameters)
    return [Reached(**row | {"dimensions": values_of(row, by)}) for row in rows]


def declared_order(database: Database, funnel: str) -> tuple[str, ...]:
    """The steps of a funnel in order, as the workers know them; none where it is not declared."""
    return tuple(row["step"] for row in database.query("declared_order", {"funnel": funnel}))


def session_maturity(database: Database, funnel: str) -> SessionMaturity:
    """The session window of a funnel, declared or not, and how far it has passed."""
    return SessionMaturity(**database.query("session_maturity", {"funnel": funnel})[0])
