"""What a worker tells about itself, at ``/metrics``. Names and labels are part of the public interface."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("funnelwatch_events_accepted_total", "Events counted by this worker.")
REFUSED = Counter("funnelwatch_events_refused_total", "Records sent to the dead letters, by reason.", ["reason"])
DUPLICATES = Counter("funnelwatch_events_duplicate_total", "Events dropped because their event_id was counted before.")
LATE = Counter("funnelwatch_events_late_total", "Events that fell into a window that was closed already.")
FLUSH_SECONDS = Histogram("funnelwatch_flush_seconds", "Time of a flush to the database.")
FLUSH_EVENTS = Histogram(
    "funnelwatch_flush_events", "Records in a flush.", buckets=(1, 10, 100, 1_000, 10_000, 100_000, 300_000, 1_000_000)
)
METRIC_SAMPLES = Counter(
    "funnelwatch_metric_samples_total", "Samples of counters and timers, by what became of them.", ["outcome"]
)
RETRIES = Counter("funnelwatch_retries_total", "Attempts that an outage made fail, by what was tried.", ["what"])
REDIS_FAULT = Gauge("funnelwatch_redis_fault", "1 while Redis cannot be used and counting goes on without it, else 0.")
CACHE_INCOMPLETE = Gauge(
    "funnelwatch_cache_incomplete",
    "1 while Redis lacks counts that this worker knows of, else 0; readers use the database.",
)
CACHE_COPIED = Counter(
    "funnelwatch_cache_copied_total", "Series of windows that this worker copied from the database to Redis."
)
LAG = Gauge("funnelwatch_lag_records", "Records that are not fetched yet, by partition.", ["partition"])
STANDSTILL = Gauge(
    "funnelwatch_standstill_seconds", "Longest time for which a partition has had unread records and was not read."
)
ASSIGNED = Gauge("funnelwatch_assigned_partitions", "Partitions of the events topic that this worker has.")
STOPPED = Gauge("funnelwatch_stopped_partitions", "Partitions that cannot go on without a person.")
WATERMARK = Gauge("funnelwatch_watermark_seconds", "Watermark of the topic, Unix time.")
WATERMARK_AGE = Gauge(
    "funnelwatch_watermark_age_seconds", "Wall clock minus watermark, of the worker that closes windows; else NaN."
)
WINDOWS = Counter("funnelwatch_windows_closed_total", "Closed windows published, by funnel.", ["funnel"])
REVISIONS = Counter("funnelwatch_windows_revised_total", "Closed windows published again, by funnel.", ["funnel"])
JUDGED = Counter("funnelwatch_windows_judged_total", "Closed windows that the detector has judged.", ["funnel"])
ALERTS = Counter("funnelwatch_alerts_total", "Alerts published, by state and reason.", ["state", "reason"])
RULES_TAKEN = Counter("funnelwatch_rules_taken_total", "Edits of the alert rules that this worker has taken up.")
RULES_REFUSED = Counter("funnelwatch_rules_refused_total", "Edits of the alert rules that could not be used.")
RULES_FAULT = Gauge("funnelwatch_rules_fault", "1 while the rule files cannot be used and earlier rules go on, else 0.")
