"""The exporter reads the database at each scrape, so that a restart changes nothing.

Counters are the totals of ``series_totals``, which only grow. Should one come back smaller all the same (the database
was restored from a backup), the largest value that was shown is shown on until the total has passed it: Prometheus
would take a fall for a restart from zero, and count everything again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from funnelwatch.schemas.histogram import BUCKETS
from funnelwatch.sinks.exporter.families import cumulative, freshness_families, metric_families
from funnelwatch.sinks.exporter.folding import Folding, Labels
from funnelwatch.sinks.timescale.jobs import count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from funnelwatch.sinks.timescale.database import Row
    from funnelwatch.sinks.timescale.jobs import Job
    from funnelwatch.sinks.timescale.totals import Totals

log = logging.getLogger(__name__)

BY = ("os", "browser")
"""Dimensions that are labels unless others are chosen."""

COUNTERS = {
    "impressions": "Impressions counted since the beginning.",
    "successes": "Successful verifications counted since the beginning.",
    "failures": "Failed verifications counted since the beginning.",
    "sessions": "Sessions that saw the step, each once, counted since the beginning.",
    "session_successes": "Sessions that saw the step and completed it, each once, counted since the beginning.",
}


class FunnelCollector(Collector):
    """The funnels as metric families; any thread, one scrape at a time.

    Args:
        read: returns the result of ``TotalsStore.read``.
        is_unanswered: whether an error of it shows as ``funnelwatch_exporter_up`` 0; any other is raised.
        max_series: most series of counters with names of their own; the others are folded.
        stale_ms: age from which the newest closed window is stale, ms.
        by: the dimensions that ``read`` has, which are labels; durations have the first one only.
        declared: the declared funnels, which may have all names (``Folding``); None: no difference is made.
    """

    def __init__(
        self,
        read: Callable[[], Totals],
        is_unanswered: Callable[[Exception], bool],
        max_series: int,
        stale_ms: int = 180_000,
        by: Sequence[str] = BY,
        *,
        declared: Container[str] | None = None,
    ) -> None:
        self._names = ("funnel", "step", *by)
        self._read = read
        self._stale_ms = stale_ms
        self._is_unanswered = is_unanswered
        self._folding = Folding(max_series, 2, declared)
        self._took_folding = Folding(max_series, 2, declared)
        self._metric_folding = Folding(max_series, kept=1)
        self._shown: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """The families, as of now."""
        with self._lock:
            return list(self._collect())

    def _collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("funnelwatch_exporter_up", "1 if the database answered this scrape, else 0.")
        try:
            read = self._read()
        except Exception as error:
            if not self._is_unanswered(error):
                raise
            log.warning("the database does not answer: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from self._counters(read.series)
        yield self._durations(read.durations)
        yield from self._rates(read.latest)
        yield from freshness_families(read.funnels, read.workers, self._stale_ms)
        yield from metric_families(read.metrics, self._metric_folding, self._never_less)
        limit = GaugeMetricFamily("funnelwatch_exporter_max_series", "Most series with names of their own.")
        limit.add_metric([], self._folding.limit)
        yield limit
        folded = GaugeMetricFamily(
            "funnelwatch_exporter_folded_series", 'Series beyond the limit, added up under "(other)".', labels=["what"]
        )
        folded.add_metric(["counts"], self._folding.folded)
        folded.add_metric(["durations"], self._took_folding.folded)
        folded.add_metric(["metrics"], self._metric_folding.folded)
        yield folded

    def _counters(self, totals: list[Row]) -> Iterator[Metric]:
        self._folding.take(_labels(row) for row in totals)
        for column, text in COUNTERS.items():
            family = CounterMetricFamily(f"funnelwatch_funnel_{column}", text, labels=self._names)
            for labels, value in self._added_up(self._folding, ((_labels(row), row[column]) for row in totals)).items():
                family.add_metric(labels, self._never_less(column, labels, value))
            yield family

    def _durations(self, took: list[Row]) -> Metric:
        names = self._names[:3]
        self._took_folding.take(dict.fromkeys(_labels(row) for row in took))
        counted: dict[Labels, list[float]] = {}
        seconds: dict[Labels, float] = {}
        for row in took:
            labels = self._took_folding.name(_labels(row))
            kept = counted.setdefault(labels, [0.0] * BUCKETS)
            for bucket, successes in enumerate(row["buckets"]):
                kept[bucket] += successes
            seconds[labels] = seconds.get(labels, 0) + row["total_ms"] / 1000
        family = HistogramMetricFamily(
            "funnelwatch_funnel_duration_seconds", "From impression to success, where it is known.", labels=names
        )
        for labels, counts in counted.items():
            shown = [(le, self._never_less(f"le {le}", labels, value)) for le, value in cumulative(counts)]
            family.add_metric(labels, shown, self._never_less("seconds", labels, seconds[labels]))
        return family

    def _rates(self, latest: list[Row]) -> Iterator[Metric]:
        rate = GaugeMetricFamily(
            "funnelwatch_funnel_conversion_rate",
            "Successes by impressions of the newest closed windows.",
            labels=self._names,
        )
        closed = GaugeMetricFamily(
            "funnelwatch_funnel_closed_through_seconds",
            "End of the newest closed window, Unix time.",
            labels=["funnel"],
        )
        counted = [row for row in latest if row["step"] is not None]
        shown = self._added_up(self._folding, ((_labels(row), row["impressions"]) for row in counted))
        made = self._added_up(self._folding, ((_labels(row), row["successes"]) for row in counted))
        for labels, impressions in shown.items():
            if impressions:
                rate.add_metric(labels, made[labels] / impressions)
        for funnel, end_ms in {row["funnel"]: row["closed_through_ms"] for row in latest}.items():
            closed.add_metric([funnel], end_ms / 1000)
        yield rate
        yield closed

    def _never_less(self, what: str, labels: Labels, value: float) -> float:
        shown = self._shown[what, labels] = max(value, self._shown.get((what, labels), 0.0))
        return shown

    @staticmethod
    def _added_up(folding: Folding, values: Iterable[tuple[Labels, float]]) -> dict[Labels, float]:
        total: dict[Labels, float] = {}
        for labels, value in values:
            name = folding.name(labels)
            total[name] = total.get(name, 0) + value
        return total


def _labels(row: Row) -> Labels:
    return (row["funnel"], row["step"], *row["labels"])


log = logging.getLogger(__name__)

NAME: Final = "funnelwatch_database_jobs"
TEXT: Final = (
    "Jobs of TimescaleDB on the tables, by state; unknown: 1 if they cannot be read. No series without TimescaleDB."
)
UNKNOWN: Final = "unknown"


def states(read: Callable[[], Sequence[Job]]) -> dict[str, int]:
    """State to its number of jobs; only ``unknown`` where they cannot be read, empty without TimescaleDB."""
    try:
        jobs = read()
    except psycopg.Error as error:
        log.warning("the jobs of the database cannot be read: %s", error)
        return {UNKNOWN: 1}
    return {str(state): number for state, number in count_states(jobs).items()} | {UNKNOWN: 0} if jobs else {}


class JobsCollector(Collector):
    """The jobs as of each scrape; from any thread, one at a time.

    Args:
        read: what ``funnelwatch.sinks.timescale.jobs.read_jobs`` gives.
    """

    def __init__(self, read: Callable[[], Sequence[Job]]) -> None:
        self._read = read
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """One family."""
        with self._lock:
            found = states(self._read)
        family = GaugeMetricFamily(NAME, TEXT, labels=["state"])
        for state, number in found.items():
            family.add_metric([state], number)
        return [family]
