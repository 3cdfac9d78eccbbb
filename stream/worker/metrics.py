"""Metrics of a worker, at ``/metrics``. Names and labels are part of the public interface (docs/prometheus.md).

Nothing here holds an age: ages are computed at the scrape from the times at which something last happened, so that an
outage cannot freeze them. What is not known is NaN or absent, never 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from funnelwatch.schemas.process_metrics import process_registry

if TYPE_CHECKING:
    from collections.abc import Iterable

REGISTRY = process_registry()
"""Only a worker shows it."""

DELAYS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)

ACCEPTED = Counter("funnelwatch_events_accepted_total", "Events counted by this worker.", registry=REGISTRY)
REJECTED = Counter(
    "funnelwatch_events_rejected_total", "Records sent to the dead letters, by reason.", ["reason"], registry=REGISTRY
)
DUPLICATES = Counter(
    "funnelwatch_events_duplicate_total", "Events dropped because their event_id was counted before.", registry=REGISTRY
)
LATE = Counter(
    "funnelwatch_events_late_total", "Events that fell into a window that was closed already.", registry=REGISTRY
)
FLUSH_SECONDS = Histogram("funnelwatch_flush_seconds", "Time of a flush to the database.", registry=REGISTRY)
FLUSH_EVENTS = Histogram(
    "funnelwatch_flush_events",
    "Records in a flush.",
    buckets=(1, 10, 100, 1_000, 10_000, 100_000, 300_000, 1_000_000),
    registry=REGISTRY,
)
EVENT_TO_FLUSH = Histogram(
    "funnelwatch_event_to_flush_seconds",
    "From Kafka's timestamp of the oldest record of a partition in a flush until the flush is committed.",
    buckets=DELAYS_S,
    registry=REGISTRY,
)
EVENT_TO_REDIS = Histogram(
    "funnelwatch_event_to_redis_seconds",
    "From Kafka's timestamp of the oldest record of a partition in a flush until Redis has its counts.",
    buckets=DELAYS_S,
    registry=REGISTRY,
)
EVALUATION_SECONDS = Histogram(
    "funnelwatch_evaluation_seconds", "Time to evaluate closed windows and publish what follows.", registry=REGISTRY
)
OUTBOX = Gauge(
    "funnelwatch_outbox_messages", "Alert messages of a funnel that Kafka has not acknowledged.", ["funnel"],
    registry=REGISTRY,
)  # fmt: skip
REBUILD_PROGRESS = Gauge(
    "funnelwatch_redis_rebuild_ratio",
    "Share of the recent windows that Redis has; 1 once it is complete, NaN before the first rebuild.",
    registry=REGISTRY,
)
METRIC_SAMPLES = Counter(
    "funnelwatch_metric_samples_total",
    "Samples of counters and timers, by what became of them.",
    ["outcome"],
    registry=REGISTRY,
)
RETRIES = Counter(
    "funnelwatch_retries_total", "Attempts that an outage made fail, by what was tried.", ["what"], registry=REGISTRY
)
REDIS_ERROR = Gauge(
    "funnelwatch_redis_error",
    "1 while Redis cannot be used and counting goes on without it, else 0.",
    registry=REGISTRY,
)
CACHE_INCOMPLETE = Gauge(
    "funnelwatch_cache_incomplete",
    "1 while Redis lacks counts that this worker knows of, else 0; readers use the database.",
    registry=REGISTRY,
)
CACHE_COPIED = Counter(
    "funnelwatch_cache_copied_total",
    "Series of windows that this worker copied from the database to Redis.",
    registry=REGISTRY,
)
ASSIGNED = Gauge(
    "funnelwatch_assigned_partitions", "Partitions of the events topic that this worker has.", registry=REGISTRY
)
FORGOTTEN_EARLY = Gauge(
    "funnelwatch_forgotten_early",
    "How often its partitions forgot the oldest event ids or sessions early, since more came than are remembered.",
    ["what"],
    registry=REGISTRY,
)
STOPPED = Gauge("funnelwatch_stopped_partitions", "Partitions that cannot go on without a person.", registry=REGISTRY)
WINDOWS = Counter("funnelwatch_windows_closed_total", "Closed windows published, by funnel.", ["funnel"],
                  registry=REGISTRY)  # fmt: skip
REVISIONS = Counter(
    "funnelwatch_windows_revised_total", "Closed windows published again, by funnel.", ["funnel"], registry=REGISTRY
)
EVALUATED = Counter(
    "funnelwatch_windows_evaluated_total",
    "Closed windows that the detector has evaluated.",
    ["funnel"],
    registry=REGISTRY,
)
ALERTS = Counter(
    "funnelwatch_alerts_total", "Alerts published, by state and reason.", ["state", "reason"], registry=REGISTRY
)
RULES_TAKEN = Counter(
    "funnelwatch_rules_taken_total", "Edits of the alert rules that this worker has taken up.", registry=REGISTRY
)
RULES_REJECTED = Counter(
    "funnelwatch_rules_rejected_total", "Edits of the alert rules that could not be used.", registry=REGISTRY
)
RULES_ERROR = Gauge(
    "funnelwatch_rules_error",
    "1 while the rule files cannot be used and earlier rules go on, else 0.",
    registry=REGISTRY,
)
REDIS_CONFIGURED = Gauge(
    "funnelwatch_redis_configured",
    "1 if FUNNELWATCH_REDIS_URL names a Redis, else 0: then no other metric of Redis is there.",
    registry=REGISTRY,
)
REBUILD_PROGRESS.set(float("nan"))
REDIS_CONFIGURED.set(1)


def leave_redis_out() -> None:
    """No Redis is configured: its metrics would read as if it were healthy."""
    REDIS_CONFIGURED.set(0)
    for one in (EVENT_TO_REDIS, REBUILD_PROGRESS, REDIS_ERROR, CACHE_INCOMPLETE, CACHE_COPIED):
        REGISTRY.unregister(one)


def observe_delays(histogram: Histogram, oldest: Iterable[int | None], now_ms: int) -> None:
    """Note how long ago the oldest records were written to Kafka, by its timestamps (ms)."""
    for log_time in oldest:
        if log_time is not None:
            histogram.observe(max(0, now_ms - log_time) / 1000)
