"""How current the figures are, as metric families. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from funnelwatch.schemas.freshness import freshness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen


def freshness_families(funnels: Sequence[FunnelSeen], workers: Sequence[WorkerSeen], stale_ms: int) -> Iterator[Metric]:
    """Which funnels are not current and why, how long windows wait to be evaluated, and how many workers live."""
    stale = GaugeMetricFamily(
        "funnelwatch_funnel_stale",
        "1 if the figures of the funnel are old or nobody knows whether they are, by reason; else 0.",
        labels=["funnel", "reason"],
    )
    unevaluated = GaugeMetricFamily(
        "funnelwatch_funnel_unevaluated_seconds",
        "How long the oldest published window of the funnel has waited to be evaluated; 0 if none does.",
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
    faulty = GaugeMetricFamily(
        "funnelwatch_workers_faulty", "Workers that live and say that something is wrong with them."
    )
    faulty.add_metric([], sum(worker.alive and worker.fault is not None for worker in workers))
    yield faulty
