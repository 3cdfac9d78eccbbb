"""The funnel of people for the board: how far the sessions came, and the rates of steps by sessions and by events.

The figures are those of the query API for the same range, of closed windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.query.funnel import query_funnel
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.web.board.rate_state import TOO_FEW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from funnelwatch.query.funnel_groups import FunnelGroup
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.rates import Basis, Rate
    from funnelwatch.web.board.query import BoardQuery

People = dict[str, Any]
"""The message ``people``."""


def read_people(database: Database, settings: Settings, query: BoardQuery, steps: Sequence[str], now_ms: int) -> People:
    """The message ``people`` of a view.

    Args:
        database: where the counts are.
        settings: where the file of declared funnels is.
        query: what the page shows.
        steps: the declared steps of its funnel, in order; none: they have no order, and nothing is reached.
        now_ms: the end of the range, which ends earlier where windows are not closed.

    Raises:
        psycopg.Error: the database is away, or the range takes it too long.
    """

    def asked(basis: Basis) -> RateQuery:
        return RateQuery(query.scope, now_ms - query.range_ms, now_ms, now_ms, basis=basis, closed=True)

    try:
        by_sessions = query_rates(database, settings, asked("session"))
        by_events = query_rates(database, settings, asked("window"))
        funnel = query_funnel(database, settings, asked("session")) if steps else None
    except FunnelwatchError as error:
        return {"why": str(error), "steps": []}
    group = funnel.groups[0] if funnel else None
    sessions = {rate.step: rate for rate in by_sessions.rates}
    events = {rate.step: rate for rate in by_events.rates}
    return {
        "why": None,
        "from": by_sessions.from_ms,
        "to": by_sessions.to_ms,
        "session_window_ms": funnel.session_window_ms if funnel else None,
        **_end_to_end(group),
        "steps": [
            {"step": step, **_reached(group, step), "sessions": _rate(sessions, step), "events": _rate(events, step)}
            for step in dict.fromkeys((*steps, *sessions, *events))
        ],
    }


def _end_to_end(group: FunnelGroup | None) -> People:
    if group is None:
        return {"entered": None, "completed": None, "open": None, "rate": None, "low": None, "high": None}
    low, high = group.interval or (None, None)
    few = group.entered < TOO_FEW
    return {
        "entered": group.entered,
        "completed": group.completed,
        "open": group.open,
        "rate": None if few else group.rate,
        "low": None if few else low,
        "high": None if few else high,
    }


def _reached(group: FunnelGroup | None, step: str) -> People:
    """The place of a step in the funnel; None where it has none."""
    one = next((one for one in group.steps if one.step == step), None) if group else None
    if one is None:
        return dict.fromkeys(("reached", "of_first", "completed", "dropped", "open"))
    return {
        "reached": one.reached,
        "of_first": None if one.first < TOO_FEW else one.of_first,
        "completed": one.completed,
        "dropped": one.dropped,
        "open": one.open,
    }


def _rate(rates: Mapping[str, Rate], step: str) -> People:
    """The counts of a step with their rate, which is None of too few, and above 1."""
    found = rates.get(step)
    shown, made = (found.impressions, found.successes) if found else (0, 0)
    return {"of": shown, "made": made, "rate": made / shown if shown >= TOO_FEW and made <= shown else None}
