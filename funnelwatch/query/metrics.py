"""Runs queries about counters and timers; the command line and the query API share them.

Ranges and spans of time mean what they mean for rates (``funnelwatch.query.rates``). Metrics have no rollups: the range
must lie within the retention of windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from funnelwatch.format import clock
from funnelwatch.query.parameters import BadQueryError, parse_every_ms, parse_moment_ms, parse_where, split_names
from funnelwatch.query.rates import MOST_ROWS, TOO_LONG, NoDataError, whole_range
from funnelwatch.query.results import as_csv
from funnelwatch.schemas.metrics import MetricKind
from funnelwatch.sinks.timescale.metric_counts import QUANTILES, MetricStore
from funnelwatch.sinks.timescale.rates import RateStore
from funnelwatch.sinks.timescale.retention import windows_kept_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.metric_counts import MetricTotal

NAMED = 20
"""Messages list at most this many names."""

WHO_SENDS = "apps send them with FunnelProducer.counter and .timer (docs/producing.md)"

COUNTER_COLUMNS = ("samples", "total", "per_second")
TIMER_COLUMNS = ("mean_ms", *(f"{column}_ms" for column in QUANTILES.values()))


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """A query about counters and timers.

    Attributes:
        name: of a counter or timer; None: all.
        since_ms: start, ms, UTC.
        until_ms: end, exclusive, ms, UTC.
        now_ms: the time of the query, ms, UTC.
        by: dimensions to group by.
        where: dimensions with the value to select; empty: series without the dimension.
        every_ms: length of each span of time to group by; None: one span, the whole range.
    """

    name: str | None
    since_ms: int
    until_ms: int
    now_ms: int
    by: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    every_ms: int | None = None

    @classmethod
    def parse(
        cls,
        name: str | None,
        now_ms: int,
        *,
        since: str,
        until: str,
        by: Iterable[str] = (),
        where: Iterable[str] = (),
        every: str | None = None,
    ) -> MetricQuery:
        """The query that the texts of a user name; as ``RateQuery.parse``, with ``where`` from ``os=iOS``.

        Raises:
            BadQueryError: a time, a span or a selection is invalid.
        """
        return cls(
            name,
            parse_moment_ms("since", since, now_ms),
            parse_moment_ms("until", until, now_ms),
            now_ms,
            tuple(dict.fromkeys(split_names(by))),
            parse_where(where),
            parse_every_ms(every),
        )


@dataclass(frozen=True, slots=True)
class MetricResult:
    """Counters and timers, with the query that they answer; times in ms.

    Attributes:
        query: the query.
        from_ms: start of the range, widened to whole windows or spans.
        to_ms: end of the range, exclusive.
        window_ms: length of a window.
        totals: by name, then by dimensions, then by time.
    """

    query: MetricQuery
    from_ms: int
    to_ms: int
    window_ms: int
    totals: Sequence[MetricTotal]

    def per_second(self, one: MetricTotal) -> float:
        """Increments of a counter, or samples of a timer, a second of what has passed of its span."""
        every = self.query.every_ms
        start = self.from_ms if one.start_ms is None else one.start_ms
        end = min(self.to_ms, start + every) if every else self.to_ms
        passed = min(end, self.query.now_ms) - start
        many = one.samples if one.kind == MetricKind.TIMER else one.total
        return many * 1000 / (passed if passed > 0 else end - start)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each total; times ISO 8601 UTC; the figures of a timer without samples are None."""
        return [self._row(one) for one in self.totals]

    def as_object(self) -> dict[str, Any]:
        """One object for JSON."""
        return {
            "name": self.query.name,
            "filters": dict(self.query.where),
            "from": clock(self.from_ms),
            "to": clock(self.to_ms),
            "window_s": self.window_ms / 1000,
            "rows": self.rows(),
        }

    def as_csv(self) -> str:
        """The rows with a header; a dimension's column is called ``dimensions.os``, so that it is no other's."""
        named = [f"dimensions.{dimension}" for dimension in self.query.by]
        timers = TIMER_COLUMNS if any(one.kind == MetricKind.TIMER for one in self.totals) else ()
        columns = [*(["start"] if self.query.every_ms else []), "name", "kind", *named, *COUNTER_COLUMNS, *timers]
        rows = self.rows()
        for row in rows:
            row |= {f"dimensions.{dimension}": value for dimension, value in row.pop("dimensions").items()}
        return as_csv(columns, rows)

    def _row(self, one: MetricTotal) -> dict[str, Any]:
        row = {
            **({} if one.start_ms is None else {"start": clock(one.start_ms)}),
            "name": one.name,
            "kind": one.kind,
            "dimensions": {dimension: one.dimensions[dimension] for dimension in self.query.by},
            "samples": one.samples,
            "total": one.total,
            "per_second": self.per_second(one),
        }
        if one.kind == MetricKind.TIMER:
            row |= {column: one.value(column.removesuffix("_ms")) for column in TIMER_COLUMNS}
        return row


def query_metrics(database: Database, settings: Settings, query: MetricQuery) -> MetricResult:
    """Run a query about counters and timers.

    Raises:
        BadQueryError: the range, a span or a dimension is invalid, or the result would be too long.
        NoDataError: there is no such counter or timer.
        psycopg.Error: the database is away.
    """
    store, every = MetricStore(database), query.every_ms
    window_ms = RateStore(database).window_ms() or settings.window_ms
    start, end = whole_range(query.since_ms, query.until_ms, window_ms, every)
    kept = windows_kept_from(database, query.now_ms)
    if kept is not None and start < kept:
        raise BadQueryError("since", f"counters and timers are kept from {clock(kept)} on; choose a later start")
    _check(store, query)
    found = store.read(start, end, query.name, query.by, query.where, every_ms=every, limit=MOST_ROWS + 1)
    totals = in_order(found, query.by, range(start, end, every) if every else None)
    return MetricResult(query, start, end, window_ms, totals)


def in_order(found: Sequence[MetricTotal], by: Sequence[str], starts: Sequence[int] | None) -> list[MetricTotal]:
    """Totals by name, by the values of the dimensions, by time; a span without samples is filled in with zeros.

    Raises:
        BadQueryError: these are more than ``MOST_ROWS``.
    """
    known = {(one.name, *(one.dimensions[dimension] for dimension in by), one.start_ms): one for one in found}
    series = {key[:-1]: one for key, one in known.items()}
    if max(len(found), len(series) * (1 if starts is None else len(starts))) > MOST_ROWS:
        raise BadQueryError("every" if starts else "by", TOO_LONG)
    return [
        known.get((*key, start)) or replace(series[key], samples=0, total=0, quantiles={}, start_ms=start)
        for key, start in product(sorted(series), [None] if starts is None else starts)
    ]


def _check(store: MetricStore, query: MetricQuery) -> None:
    """Reject an unknown name and unknown dimensions."""
    known = store.known(query.name)
    if query.name is not None and not known:
        there = some([one.name for one in store.known()])
        what = f"there is {there}" if there else f"there is none yet; {WHO_SENDS}"
        raise NoDataError(f"no counter or timer is called {query.name}; {what}")
    dimensions = {dimension for one in known for dimension in one.dimensions}
    for parameter, wanted in (("by", query.by), ("where", query.where)):
        for dimension in wanted if known else ():
            if dimension not in dimensions:
                whose = query.name or "any counter or timer"
                right = some(sorted(dimensions)) or "to leave it out, as there is none"
                raise BadQueryError(parameter, f"{dimension!r} is no dimension of {whose}; right would be {right}")


def some(names: Sequence[str]) -> str:
    """The first names, and how many there are beside; empty where there is none."""
    more = [f"{len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
