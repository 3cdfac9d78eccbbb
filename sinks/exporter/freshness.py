"""Metric families about the freshness of the figures. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from funnelwatch.schemas.freshness import freshness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen


def freshness_families(funnels: Sequence[FunnelSeen], workers: Sequence[WorkerSeen], stale_ms: int) -> Iterator[Metric]:
    """Stale funnels with the reason, the waiting time of windows before their evaluation, and living workers."""
    stale = GaugeMetricFamily(
        "funnelwatch_funnel_stale",
        "1 if the figures of the funnel are stale or their age is unknown, by reason; else 0.",
        labels=["funnel", "reason"],
    )
    unjudged = GaugeMetricFamily(
        "funnelwatch_funnel_unjudged_seconds",
        "Time that the oldest published window of the funnel has waited for its evaluation, s; 0 if none waits.",
        labels=["funnel"],
    )
    for one in funnels:
        found = freshness(one, workers, stale_ms)
        stale.add_metric([one.funnel, str(found.why)], float(found.state != "fresh"))
        since = one.unjudged_since_ms
        unjudged.add_metric([one.funnel], 0.0 if since is None else max(0, one.now_ms - since) / 1000)
    yield stale
    yield unjudged
    alive = GaugeMetricFamily("funnelwatch_workers_alive", "Workers whose last heartbeat is younger than 30 s.")
    alive.add_metric([], sum(worker.alive for worker in workers))
    yield alive
    faulty = GaugeMetricFamily("funnelwatch_workers_unhealthy", "Living workers that report a problem.")
    faulty.add_metric([], sum(worker.alive and worker.fault is not None for worker in workers))
    yield faulty
