"""Questions about counters and timers and their answers, whoever asks: the command line and the query API.

Ranges and spans of time mean what they mean for rates (``funnelwatch.query.rates``). Metrics have no rollups: the range
must lie within the retention of windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from funnelwatch.format import clock
from funnelwatch.query.answers import as_csv
from funnelwatch.query.rates import MOST_ROWS, TOO_LONG, BadQueryError, NothingThereError, whole_range
from funnelwatch.schemas.metrics import DIMENSION, MetricKind
from funnelwatch.sinks.timescale.metric_counts import QUANTILES, MetricStore
from funnelwatch.sinks.timescale.rates import RateStore
from funnelwatch.sinks.timescale.retention import windows_kept_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.metric_counts import MetricTotal

NAMED = 20
"""What there is is told by name up to so many."""

WHO_SENDS = "apps send them with FunnelProducer.counter and .timer (docs/producing.md)"

COUNTER_COLUMNS = ("samples", "total", "per_second")
TIMER_COLUMNS = ("mean_ms", *(f"{column}_ms" for column in QUANTILES.values()))


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """What is asked.

    Attributes:
        name: of a counter or timer; None: all.
        since_ms: start, ms, UTC.
        until_ms: end, exclusive, ms, UTC.
        now_ms: when it is asked, ms, UTC.
        by: dimensions to tell apart.
        only: dimensions that must have these values; empty: that a series must not have.
        every_ms: length of the spans of time to tell apart; None: one span, the whole range.
    """

    name: str | None
    since_ms: int
    until_ms: int
    now_ms: int
    by: tuple[str, ...] = ()
    only: Mapping[str, str] = field(default_factory=dict)
    every_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MetricResult:
    """Counters and timers, and what they were asked for; times in ms.

    Attributes:
        question: as it was asked.
        from_ms: start of the range as it was widened.
        to_ms: its end, exclusive.
        window_ms: length of a window.
        totals: by name, then by dimensions, then by time.
    """

    question: MetricQuery
    from_ms: int
    to_ms: int
    window_ms: int
    totals: Sequence[MetricTotal]

    def per_second(self, one: MetricTotal) -> float:
        """Increments of a counter, or samples of a timer, a second of what has passed of its span."""
        every = self.question.every_ms
        start = self.from_ms if one.start_ms is None else one.start_ms
        end = min(self.to_ms, start + every) if every else self.to_ms
        passed = min(end, self.question.now_ms) - start
        many = one.samples if one.kind == MetricKind.TIMER else one.total
        return many * 1000 / (passed if passed > 0 else end - start)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each total; times ISO 8601 UTC; what a timer has to tell without samples is None."""
        return [self._row(one) for one in self.totals]

    def as_object(self) -> dict[str, Any]:
        """One object for JSON."""
        return {
            "name": self.question.name,
            "filters": dict(self.question.only),
            "from": clock(self.from_ms),
            "to": clock(self.to_ms),
            "window_s": self.window_ms / 1000,
            "rows": self.rows(),
        }

    def as_csv(self) -> str:
        """The rows with a header; a dimension's column is called ``dimensions.os``, so that it is no other's."""
        named = [f"dimensions.{dimension}" for dimension in self.question.by]
        timers = TIMER_COLUMNS if any(one.kind == MetricKind.TIMER for one in self.totals) else ()
        columns = [*(["start"] if self.question.every_ms else []), "name", "kind", *named, *COUNTER_COLUMNS, *timers]
        rows = self.rows()
        for row in rows:
            row |= {f"dimensions.{dimension}": value for dimension, value in row.pop("dimensions").items()}
        return as_csv(columns, rows)

    def _row(self, one: MetricTotal) -> dict[str, Any]:
        row = {
            **({} if one.start_ms is None else {"start": clock(one.start_ms)}),
            "name": one.name,
            "kind": one.kind,
            "dimensions": {dimension: one.dimensions[dimension] for dimension in self.question.by},
            "samples": one.samples,
            "total": one.total,
            "per_second": self.per_second(one),
        }
        if one.kind == MetricKind.TIMER:
            row |= {column: one.value(column.removesuffix("_ms")) for column in TIMER_COLUMNS}
        return row


def query_metrics(database: Database, settings: Settings, question: MetricQuery) -> MetricResult:
    """What counters and timers came to.

    Raises:
        BadQueryError: the range, the spans or a dimension make no sense, or the answer would be too long.
        NothingThereError: there is no such counter or timer.
        psycopg.Error: the database is away.
    """
    store, every = MetricStore(database), question.every_ms
    window_ms = RateStore(database).window_ms() or settings.window_ms
    start, end = whole_range(question.since_ms, question.until_ms, window_ms, every)
    kept = windows_kept_from(database, question.now_ms)
    if kept is not None and start < kept:
        raise BadQueryError("since", f"counters and timers are kept from {clock(kept)} on; ask for what is later")
    _check(store, question)
    found = store.read(start, end, question.name, question.by, question.only, every_ms=every, limit=MOST_ROWS + 1)
    totals = in_order(found, question.by, range(start, end, every) if every else None)
    return MetricResult(question, start, end, window_ms, totals)


def parse_only(texts: Iterable[str]) -> dict[str, str]:
    """Dimensions and the values that they must have, of ``os=iOS``.

    Raises:
        ValueError: one is not so, or a dimension stands twice.
    """
    only: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not DIMENSION.fullmatch(name):
            raise ValueError(f"{text!r} is not NAME=VALUE, such as os=iOS")
        if name in only:
            raise ValueError(f"{name} stands more than once; it has one value at a time")
        only[name] = value
    return only


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


def _check(store: MetricStore, question: MetricQuery) -> None:
    """Reject a name that there is not, and dimensions that none has."""
    known = store.known(question.name)
    if question.name is not None and not known:
        there = some([one.name for one in store.known()])
        what = f"there is {there}" if there else f"there is none yet; {WHO_SENDS}"
        raise NothingThereError(f"no counter or timer is called {question.name}; {what}")
    dimensions = {dimension for one in known for dimension in one.dimensions}
    for parameter, wanted in (("by", question.by), ("where", question.only)):
        for dimension in wanted if known else ():
            if dimension not in dimensions:
                whose = question.name or "any counter or timer"
                right = some(sorted(dimensions)) or "to leave it out, as there is none"
                raise BadQueryError(parameter, f"{dimension!r} is no dimension of {whose}; right would be {right}")


def some(names: Sequence[str]) -> str:
    """The first names, and how many there are beside; empty where there is none."""
    more = [f"{len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
