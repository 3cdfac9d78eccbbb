"""The store of counters and timers: each sample once, as events are (``funnelwatch.sinks.timescale.counts``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.metric_counts import MetricSeries, admitted
from funnelwatch.schemas.times import origin_ms
from funnelwatch.sinks.base import Flushed
from funnelwatch.sinks.timescale.composites import INT4, INT8, TIME, encode, type_number
from funnelwatch.sinks.timescale.counts import lock_batches, merged, move_on
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.totals import add_metric_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg import Cursor

    from funnelwatch.schemas.metric_counts import Admission, PartitionMetrics
    from funnelwatch.sinks.timescale.database import Row

WHOLE_RANGE_MS = 2**53
"""A span into which every range fits once, so that nothing is cut."""


@dataclass(frozen=True, slots=True)
class MetricTotal:
    """What a counter or timer comes to over a range of time.

    Attributes:
        name: its name.
        kind: COUNTER or TIMER.
        dimensions: the values of those that were asked for; empty where a series does not have one.
        samples: how many.
        total: the sum of the increments, or of the milliseconds.
        quantiles: of a timer, ms: 0.5, 0.9 and 0.99 to value.
        first_seen: when a worker saw the first of it, whatever the range, ms.
        start_ms: start of the span of time, ms; None where there is one span only.
    """

    name: str
    kind: str
    dimensions: dict[str, str]
    samples: int
    total: int
    quantiles: dict[float, float]
    first_seen: int
    start_ms: int | None = None

    def value(self, of: str) -> float | None:
        """The total, samples, mean, p50, p90 or p99; None where there are no samples."""
        if of == "samples":
            return self.samples
        if of == "total":
            return self.total
        if of == "mean":
            return self.total / self.samples if self.samples else None
        return self.quantiles.get(next(q for q, column in QUANTILES.items() if column == of))


@dataclass(frozen=True, slots=True)
class KnownMetric:
    """A counter or timer that there is.

    Attributes:
        name: its name.
        kind: COUNTER or TIMER.
        series: how many combinations of dimensions it has.
        first_seen_ms: when a worker saw the first of it, ms.
        dimensions: of each of its dimensions the values that were seen.
    """

    name: str
    kind: str
    series: int
    first_seen_ms: int
    dimensions: dict[str, list[str]]


class MetricStore:
    """Adds to and reads counters and timers, over one connection; for one thread at a time.

    Args:
        database: where they are.
        duplicate_horizon_s: rejected records are remembered for this long, by Kafka's timestamps, s.
    """

    def __init__(self, database: Database, duplicate_horizon_s: float = 600.0) -> None:
        self._database = database
        self._horizon_s = duplicate_horizon_s

    def admit(
        self, wanted: Iterable[MetricSeries], max_names: int, max_series: int
    ) -> Mapping[MetricSeries, Admission]:
        """The number of each series, made where it is new and there is room; or why it is rejected.

        What is made stays made although its samples are flushed later: to do it again does no harm.

        Raises:
            psycopg.OperationalError: an outage.
        """
        wanted = list(dict.fromkeys(wanted))
        with self._database.transaction() as cursor:
            run(cursor, "lock_metric_series")
            rows = run(cursor, "metric_series_of", {"names": sorted({one.name for one in wanted})})
            known = {_series(row): row["series"] for row in rows}
            names = run(cursor, "metric_names")[0]["names"]

            def make(series: MetricSeries) -> int:
                number: int = run(cursor, "new_metric_series", series._asdict())[0]["series"]
                return number

            return admitted(wanted, known, names, make, max_names, max_series)

    def flush(
        self, topic: str, topic_id: str, batches: Sequence[PartitionMetrics], *, rehearsal: bool = False
    ) -> Flushed:
        """Add batches, at most one a partition, and move their partitions on, in one transaction.

        Arguments and errors are those of ``CountStore.flush``.
        """
        flushed = Flushed()
        with self._database.transaction() as cursor:
            run(cursor, "holds_metrics", {"topic": topic})
            places = lock_batches(cursor, topic, topic_id, [batch.place for batch in batches], flushed)
            partitions = {place.partition for place in places}
            wanted = [batch for batch in batches if batch.place.partition in partitions]
            samples = merged(batch.samples for batch in wanted)
            durations = merged(batch.durations for batch in wanted)
            _add(cursor, samples, durations)
            for place in places:
                move_on(cursor, topic, place, self._horizon_s)
            if rehearsal:
                raise psycopg.Rollback
        return flushed

    def known(self, name: str | None = None) -> list[KnownMetric]:
        """Every counter and timer that there is, or the one of a name; sorted by name."""
        return [KnownMetric(**row) for row in self._database.query("known_metrics", {"name": name})]

    def read(
        self,
        from_ms: int,
        to_ms: int,
        name: str | None = None,
        by: Sequence[str] = (),
        only: Mapping[str, str] | None = None,
        *,
        zeros: bool = False,
        every_ms: int | None = None,
        limit: int | None = None,
    ) -> list[MetricTotal]:
        """What counters and timers come to in windows that start in ``[from_ms, to_ms)``.

        Args:
            from_ms: ms.
            to_ms: ms.
            name: of one of them; None: all.
            by: dimensions to group by; others are added up.
            only: dimensions that must have these values; empty: that a series must not have.
            zeros: include series that were seen before and have no samples there.
            every_ms: length of the spans of time to group by (``funnelwatch.schemas.times.floor_ms``); a
                multiple of the window. None: one span, the whole range.
            limit: at most this many; None: all.
        """
        chosen = dict(only or {})
        parameters = {
            "from_ms": from_ms,
            "to_ms": to_ms,
            "name": name,
            "zeros": zeros,
            "by": list(by),
            "only": json.dumps({dimension: value for dimension, value in chosen.items() if value}),
            "without": [dimension for dimension, value in chosen.items() if not value],
            "every_ms": every_ms or WHOLE_RANGE_MS,
            "origin_ms": origin_ms(every_ms or WHOLE_RANGE_MS),
            "limit": limit,
        }
        return [
            MetricTotal(
                row["name"],
                row["kind"],
                row["dimensions"],
                row["samples"],
                row["total"],
                {q: row[column] for q, column in QUANTILES.items() if row[column] is not None},
                row["first_seen_ms"],
                row["start_ms"] if every_ms else None,
            )
            for row in self._database.query("read_metrics", parameters)
        ]


QUANTILES = {0.5: "p50", 0.9: "p90", 0.99: "p99"}


def _series(row: Row) -> MetricSeries:
    return MetricSeries.of(row["name"], row["kind"], row["dimensions"])


def _add(
    cursor: Cursor[Row],
    samples: Mapping[tuple[int, int], list[int]],
    durations: Mapping[tuple[int, int, int], list[int]],
) -> None:
    """Add samples and their total by window and series, and the samples of timers by slot."""
    if not samples:
        return
    keys = sorted(samples, key=lambda key: (key[1], key[0]))
    places = {key: place for place, key in enumerate(keys)}
    windows, series = np.array(keys, np.int64).T
    values = np.array([samples[key] for key in keys], np.int64)
    found = sorted((places[key[:2]], key[2], numbers[0]) for key, numbers in durations.items())
    rows, slots, numbers = np.array(found, np.int64).reshape(-1, 3).T
    columns = [(TIME, windows), (INT4, series), *((INT8, column) for column in values.T)]
    array = encode(type_number(cursor, "metric_counts"), columns, (INT4, SLOTS), (rows, slots, numbers))
    run(cursor, "upsert_metrics", {"rows": array})
    add_metric_totals(cursor, series, values, (rows, slots, numbers))
