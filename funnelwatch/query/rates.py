"""Runs queries about rates; the command line, the query API and the board share them.

The range of a query is widened to whole windows, or to whole spans of ``every``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from funnelwatch.format import clock
from funnelwatch.query.parameters import STEP, BadQueryError, UnknownDimensionError
from funnelwatch.query.results import RateResult
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.freshness import stale_after_ms
from funnelwatch.schemas.funnels import dimensions_of, load_funnels
from funnelwatch.schemas.times import floor_ms
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.rates import Level, Rate, RateStore
from funnelwatch.sinks.timescale.retention import kept_from
from funnelwatch.sinks.timescale.session_counts import session_maturity
from funnelwatch.sinks.timescale.timers import timers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.query.rate_query import RateQuery
    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.session_counts import SessionMaturity
    from funnelwatch.sinks.timescale.timers import Timer

MOST_SPANS = 10_000
"""Limit of spans of time in one result."""

MOST_ROWS = 100_000
"""Limit of rows in one result."""

TOO_LONG = f"more than {MOST_ROWS:,} rows; take longer spans, a shorter range or fewer dimensions"

BUCKETS_MS: Mapping[Level, int] = {"5m": 300_000, "1h": 3_600_000, "1d": 86_400_000}
"""Length of a rollup's buckets."""

FIRST_MS = 0
LAST_MS = 253_370_764_800_000
"""Times lie from 1970 to the end of 9998: what a calendar can still add a span to."""


class NoDataError(FunnelwatchError, LookupError):
    """A valid query has no data yet; the message names the data that exists."""


@dataclass(frozen=True, slots=True)
class Range:
    """The range that a query means, ``[start, end)`` of whole windows, ms.

    Attributes:
        level: the table to read: windows, or a rollup if the range begins before the retention of windows.
    """

    start: int
    end: int
    window_ms: int
    closed_through: int | None
    level: Level


def query_rates(database: Database, settings: Settings, query: RateQuery) -> RateResult:
    """Answer a query about rates from the counts of record.

    Raises:
        BadQueryError: the range, a span or a dimension is invalid, or the result would be too long.
        NoDataError: the query wants complete windows, and none is complete.
        funnelwatch.schemas.funnels.FunnelsFileError: the file of declared funnels cannot be used.
        psycopg.Error: the database is away.
    """
    scope, every = query.scope, query.every_ms
    meant = meant_range(database, settings, query)
    check_dimensions(database, settings, query)
    found = _found(database, query, meant, meant.start)
    if query.basis == "session":
        found = _with_open(database, query, meant, found)
    declared = steps_of(settings, scope.funnel)
    starts = range(meant.start, meant.end, every) if every else None
    wanted = declared if STEP not in scope.filters and not query.by else ()
    rows = in_order(found, declared, wanted, starts, query.by)
    fresh = freshness_of(database, settings, scope.funnel, meant)
    return RateResult(query, meant.start, meant.end, meant.window_ms, meant.closed_through, rows, bool(found), fresh)


def _found(database: Database, query: RateQuery, meant: Range, from_ms: int) -> list[Rate]:
    """The rates of a range from a time in it on."""
    return RateStore(database).rates(
        query.scope,
        from_ms,
        meant.end,
        by=query.by,
        basis=query.basis,
        every_ms=query.every_ms,
        limit=MOST_ROWS + 1,
        level=meant.level,
    )


def _with_open(database: Database, query: RateQuery, meant: Range, found: Sequence[Rate]) -> list[Rate]:
    """Rates by sessions, each with how many of its sessions are younger than the session window."""
    from_ms = open_from(session_maturity(database, query.scope.funnel), meant)
    young = _found(database, query, meant, from_ms) if from_ms < meant.end else []
    many = {(one.start_ms, one.step, *one.dimensions.values()): one.impressions for one in young}
    # The newest sessions may have come between both queries.
    return [
        replace(one, open=min(one.impressions, many.get((one.start_ms, one.step, *one.dimensions.values()), 0)))
        for one in found
    ]


def open_from(maturity: SessionMaturity, meant: Range) -> int:
    """Where the part of a range begins whose sessions are younger than the session window, ms."""
    through, width = maturity.mature_through_ms, BUCKETS_MS.get(meant.level, meant.window_ms)
    return meant.start if through is None else max(meant.start, through - through % width)


def freshness_of(database: Database, settings: Settings, funnel: str, meant: Range) -> Freshness:
    """Whether windows of a funnel close and the detector evaluates them."""
    store = FreshnessStore(database, settings.events_topic)
    return store.of(funnel, stale_after_ms(settings, meant.window_ms))


def query_timers(database: Database, settings: Settings, query: RateQuery) -> tuple[Range, list[Timer]]:
    """The range that is meant, and the times to convert in it, sorted as rates are.

    Raises:
        BadQueryError, NoDataError, FunnelsFileError, psycopg.Error: as ``query_rates``.
    """
    meant = meant_range(database, settings, query)
    check_dimensions(database, settings, query)
    found = timers(
        database,
        query.scope,
        meant.start,
        meant.end,
        by=query.by,
        every_ms=query.every_ms,
        limit=MOST_ROWS + 1,
        level=meant.level,
    )
    if len(found) > MOST_ROWS:
        raise BadQueryError("every" if query.every_ms else "by", TOO_LONG)
    declared = steps_of(settings, query.scope.funnel)
    place = {step: number for number, step in enumerate(declared)}
    found.sort(key=lambda one: (place.get(one.step, len(place)), one.step, *one.dimensions.values()))
    return meant, found


def steps_of(settings: Settings, funnel: str) -> tuple[str, ...]:
    """The declared steps of a funnel, in order; none where it is not declared.

    Raises:
        funnelwatch.schemas.funnels.FunnelsFileError: the file of declared funnels cannot be used.
    """
    found = load_funnels(settings.funnels_path).get(funnel)
    return found.steps if found else ()


def check_dimensions(database: Database, settings: Settings, query: RateQuery) -> None:
    """Reject a dimension that the funnel does not have; stored series are read only if it is not declared.

    Raises:
        UnknownDimensionError: neither the declaration of the funnel nor a stored series has the dimension.
        FunnelsFileError, psycopg.Error: as ``query_rates``.
    """
    funnel, declared = query.scope.funnel, load_funnels(settings.funnels_path)
    named = [("by", name) for name in query.by]
    named += [("where", name) for name in query.scope.filters if name != STEP]
    if {name for _, name in named} <= set(dimensions_of(funnel, declared)):
        return
    known = dimensions_of(funnel, declared, RateStore(database).stored_dimensions(funnel))
    for parameter, name in named:
        if name not in known:
            raise UnknownDimensionError(parameter, name, funnel, known)


def meant_range(database: Database, settings: Settings, query: RateQuery) -> Range:
    """The range of a query, of whole windows; and how far they are complete.

    Raises:
        BadQueryError, NoDataError, psycopg.Error: as ``query_rates``.
    """
    store = RateStore(database)
    window_ms = store.window_ms() or settings.window_ms
    closed_through = store.closed_through(query.scope.funnel)
    start, end = whole_range(query.since_ms, query.until_ms, window_ms, query.every_ms)
    level = level_of(start, query.every_ms, kept_from(database, query.now_ms))
    if length := BUCKETS_MS.get(level):
        start, end = floor_ms(start, query.every_ms or length), end + -end % length
    if query.closed:
        end = closed_end(start, end, closed_through)
    return Range(start, end, window_ms, closed_through, level)


def whole_range(since_ms: int, until_ms: int, window_ms: int, every_ms: int | None) -> tuple[int, int]:
    """The range of whole windows, ``[start, end)``, that holds a range; it starts with a whole span of ``every_ms``.

    Spans of whole weeks begin on Mondays, others at multiples of their length since 1970-01-01, UTC.

    Raises:
        BadQueryError: it is empty, the span is no multiple of the window, or there are too many of it.
    """
    for name, moment in (("since", since_ms), ("until", until_ms)):
        if not FIRST_MS <= moment <= LAST_MS:
            raise BadQueryError(name, f"{clock(moment)} is no time for events; right would be 1970 to 9998")
    if since_ms >= until_ms:
        raise BadQueryError("since", f"{clock(since_ms)} is not before until, which is {clock(until_ms)}")
    if every_ms is not None and (every_ms <= 0 or every_ms % window_ms):
        raise BadQueryError("every", f"must be a multiple of the window, which is {window_ms / 1000:g} s")
    step = every_ms or window_ms
    start = floor_ms(since_ms, step)
    end = until_ms + -until_ms % window_ms
    if every_ms and (end - start) / every_ms > MOST_SPANS:
        raise BadQueryError("every", f"more than {MOST_SPANS:,} spans; take a longer one or a shorter range")
    return start, end


def level_of(start: int, every_ms: int | None, kept: Mapping[Level, int | None]) -> Level:
    """The finest level that still has what begins at ``start``.

    Args:
        start: ms, UTC.
        every_ms: length of each span of time, ms; None: one span.
        kept: level, finest first, to the time from which on all of it is there, ms; None: all that ever was.

    Raises:
        BadQueryError: none has it, or the spans are no whole buckets of the level.
    """
    for level, begin in kept.items():
        if begin is None or begin <= start:
            if every_ms and every_ms % BUCKETS_MS.get(level, 1):
                oldest = clock(kept["windows"] or 0)
                raise BadQueryError("every", f"before {oldest} counts are kept by {level}: must be a multiple of that")
            return level
    raise BadQueryError("since", f"counts are kept from {clock(kept['1d'] or 0)} on; ask for a later range")


def closed_end(start: int, end: int, closed_through: int | None) -> int:
    """The end of the complete part of a range.

    Raises:
        NoDataError: no window of the range is complete.
    """
    if closed_through is None:
        raise NoDataError("no window of this funnel is complete yet; include open windows, or wait")
    if closed_through <= start:
        raise NoDataError(
            f"windows are complete up to {clock(closed_through)}, which is not after {clock(start)}; is a worker "
            "running? `funnelwatch doctor` shows the lag"
        )
    return min(end, closed_through)


def in_order(
    found: Iterable[Rate],
    declared: Sequence[str],
    wanted: Iterable[str],
    starts: Sequence[int] | None,
    by: Sequence[str] = (),
) -> list[Rate]:
    """Rates by step in the funnel's order (other steps after them), then by the values of ``by``, then by time.

    What has no counts is filled in with zeros: a step of ``wanted``, and a span of time of a series that is there.

    Raises:
        BadQueryError: these are more than ``MOST_ROWS``.
    """
    place = {step: number for number, step in enumerate(declared)}
    known = {(rate.step, *rate.dimensions.values(), rate.start_ms): rate for rate in found}
    groups = {(rate.step, *rate.dimensions.values()) for rate in known.values()}
    groups |= {(step, *("" for _ in by)) for step in wanted}
    if len(groups) * (1 if starts is None else len(starts)) > MOST_ROWS:
        raise BadQueryError("every" if starts else "by", TOO_LONG)
    ordered = sorted(groups, key=lambda group: (place.get(group[0], len(place)), *group))
    return [
        known.get((*group, start)) or Rate(group[0], dict(zip(by, group[1:], strict=True)), start_ms=start)
        for group, start in product(ordered, [None] if starts is None else starts)
    ]
