"""What a collector tells about itself, at ``/metrics``. Names and labels are part of the public interface."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("funnelwatch_collector_requests_total", "Requests answered, by status.", ["status"])
EVENTS = Counter(
    "funnelwatch_collector_events_total",
    "Events, by way (events, lines) and outcome (accepted, refused, undelivered).",
    ["way", "outcome"],
)
LIMITED = Counter("funnelwatch_collector_limited_total", "Requests that a rate limit held off, by limit.", ["limit"])
IN_FLIGHT = Gauge("funnelwatch_collector_in_flight", "Requests that are being answered.")
DELIVERY_SECONDS = Histogram(
    "funnelwatch_collector_delivery_seconds", "Time until Kafka had acknowledged all events of a request."
)
