"""What a collector tells about itself, at ``/metrics``. Names and labels are part of the public interface."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from funnelwatch.schemas.process_metrics import process_registry

REGISTRY = process_registry()
"""Only a collector shows it."""

REQUESTS = Counter(
    "funnelwatch_collector_requests_total", "Requests answered, by status.", ["status"], registry=REGISTRY
)
EVENTS = Counter(
    "funnelwatch_collector_events_total",
    "Events, by way (events, lines) and outcome (accepted, rejected, undelivered).",
    ["way", "outcome"],
    registry=REGISTRY,
)
LIMITED = Counter(
    "funnelwatch_collector_limited_total",
    "Requests that a rate limit held off, by limit.",
    ["limit"],
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("funnelwatch_collector_in_flight", "Requests that are being answered.", registry=REGISTRY)
DELIVERY_SECONDS = Histogram(
    "funnelwatch_collector_delivery_seconds",
    "Time until Kafka had acknowledged all events of a request.",
    registry=REGISTRY,
)
