"""Metric families of freshness, counters and timers, and the borders of all histograms. Pure."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from funnelwatch.schemas.freshness import freshness
from funnelwatch.schemas.histogram import BUCKETS, FIRST_BORDER_BITS
from funnelwatch.sinks.exporter.folding import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
    from funnelwatch.sinks.exporter.folding import Folding, Labels
    from funnelwatch.sinks.timescale.database import Row

BORDERS = tuple(f"{(2 ** (FIRST_BORDER_BITS + bucket) - 1) / 1000:g}" for bucket in range(BUCKETS - 1))
"""The largest value of each bucket but the last one, s, as text: 0.127 s to 35 minutes, each twice the one before."""


def cumulative(counts: Sequence[float]) -> list[tuple[str, float]]:
    """The cumulative buckets of a histogram from its counts by bucket."""
    return list(zip((*BORDERS, "+Inf"), accumulate(counts), strict=True))


def freshness_families(funnels: Sequence[FunnelSeen], workers: Sequence[WorkerSeen], stale_ms: int) -> Iterator[Metric]:
    """Stale funnels with the reason, the waiting time of windows before their evaluation, and living workers."""
    stale = GaugeMetricFamily(
        "funnelwatch_funnel_stale",
        "1 if the figures of the funnel are stale or their age is unknown, by reason; else 0.",
        labels=["funnel", "reason"],
    )
    unevaluated = GaugeMetricFamily(
        "funnelwatch_funnel_unevaluated_seconds",
        "Time that the oldest published window of the funnel has waited for its evaluation, s; 0 if none waits.",
        labels=["funnel"],
    )
    for one in funnels:
        found = freshness(one, workers, stale_ms)
        stale.add_metric([one.funnel, str(found.why)], float(found.state != "fresh"))
        since = one.unevaluated_since_ms
        unevaluated.add_metric([one.funnel], 0.0 if since is None else max(0, one.now_ms - since) / 1000)
    yield stale
    yield unevaluated
    alive = GaugeMetricFamily("funnelwatch_workers_alive", "Workers whose last heartbeat is younger than 30 s.")
    alive.add_metric([], sum(worker.alive for worker in workers))
    yield alive
    unhealthy = GaugeMetricFamily("funnelwatch_workers_unhealthy", "Living workers that report a problem.")
    unhealthy.add_metric([], sum(worker.alive and worker.error is not None for worker in workers))
    yield unhealthy


def metric_families(
    rows: Sequence[Row], folding: Folding, never_less: Callable[[str, Labels, float], float]
) -> Iterator[Metric]:
    """A family of each name: ``funnelwatch_counter_NAME_total``, ``funnelwatch_timer_NAME_seconds``.

    Args:
        rows: totals, in the order in which the series came.
        folding: decides which series have labels of their own.
        never_less: keeps a shown value from falling.
    """
    folding.take((row["name"], str(row["series"])) for row in rows)
    by_family: dict[str, list[Row]] = {}
    for row in rows:
        family = f"counter_{row['name'].removesuffix('_total')}" if row["kind"] == "COUNTER" else f"timer_{row['name']}"
        by_family.setdefault(f"funnelwatch_{family}", []).append(row)
    for name, of_family in by_family.items():
        labels = sorted({label for row in of_family for label in row["dimensions"]})
        totals: dict[Labels, float] = {}
        counted: dict[Labels, list[float]] = {}
        for row in of_family:
            key = row["name"], str(row["series"])
            own = folding.name(key) == key
            values = tuple(row["dimensions"].get(label, "") if own else OTHER for label in labels)
            totals[values] = totals.get(values, 0) + row["total"]
            counts = counted.setdefault(values, [0.0] * BUCKETS)
            for bucket, samples in enumerate(row["buckets"]):
                counts[bucket] += samples
        yield _family(name, [_label(label) for label in labels], totals, counted, never_less)


def _family(
    name: str,
    labels: Sequence[str],
    totals: Mapping[Labels, float],
    counted: Mapping[Labels, Sequence[float]],
    never_less: Callable[[str, Labels, float], float],
) -> Metric:
    if name.startswith("funnelwatch_counter_"):
        counter = CounterMetricFamily(name, "A counter of the app, since the beginning.", labels=labels)
        for values, total in totals.items():
            counter.add_metric(values, never_less(name, values, total))
        return counter
    timer = HistogramMetricFamily(f"{name}_seconds", "A timer of the app, since the beginning.", labels=labels)
    for values, total in totals.items():
        shown = [(le, never_less(f"{name} {le}", values, count)) for le, count in cumulative(counted[values])]
        timer.add_metric(values, shown, never_less(name, values, total / 1000))
    return timer


def _label(name: str) -> str:
    """A dimension's name as the name of a label that Prometheus does not reserve."""
    return "le_" if name == "le" else name.lstrip("_") or "_" if name.startswith("__") else name
