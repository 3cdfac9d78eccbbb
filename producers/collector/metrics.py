"""The metrics of a collector, at ``/metrics``. Names and labels are part of the public interface."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from funnelwatch.schemas.process_metrics import process_registry


class CollectorMetrics:
    """The metrics of one collector.

    Attributes:
        registry: the page at ``/metrics``.
        requests: requests, by status.
        events: events, by endpoint and outcome.
        limited: requests over a rate limit, by limit.
        in_flight: requests in progress.
        delivery_seconds: time to Kafka's acknowledgement.
    """

    def __init__(self) -> None:
        self.registry = process_registry()
        self.requests = Counter(
            "funnelwatch_collector_requests_total", "Requests answered, by status.", ["status"], registry=self.registry
        )
        self.events = Counter(
            "funnelwatch_collector_events_total",
            "Events, by way (events, lines) and outcome (accepted, rejected, undelivered).",
            ["way", "outcome"],
            registry=self.registry,
        )
        self.limited = Counter(
            "funnelwatch_collector_limited_total",
            "Requests that a rate limit rejects, by limit.",
            ["limit"],
            registry=self.registry,
        )
        self.in_flight = Gauge("funnelwatch_collector_in_flight", "Requests in progress.", registry=self.registry)
        self.delivery_seconds = Histogram(
            "funnelwatch_collector_delivery_seconds",
            "Time until Kafka acknowledges all events of a request.",
            registry=self.registry,
        )
