"""Metrics that are computed at each scrape: ages, lag, standstill, and which servers are reachable.

A gauge that is set in successful rounds shows the last good value throughout an outage. Here only times are stored,
and a scrape in an outage shows how they age.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from funnelwatch.sinks.servers import DATABASE, KAFKA, REDIS, servers
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from funnelwatch.sinks.servers import Servers

REACHABLE = {
    KAFKA: "funnelwatch_kafka_reachable",
    DATABASE: "funnelwatch_database_reachable",
    REDIS: "funnelwatch_redis_reachable",
}
LABELS = {
    "funnelwatch_lag_records": ("partition",),
    "funnelwatch_last_contact_age_seconds": ("server",),
    "funnelwatch_last_success_age_seconds": ("what",),
}
NAN = math.nan
BUSY = "funnelwatch_counting_busy_seconds"
BUSY_TEXT = (
    "Time for which the counting thread was busy, waiting for a server included, s; its rate is the share of time."
)


class Ages(Collector):
    """Collects at the scrape; thread-safe.

    Args:
        servers: when each server answered.
        wall: Unix time, s.
        monotonic: the clock, s.
    """

    def __init__(
        self,
        servers: Servers,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._reachable = dict(REACHABLE)
        self._successes: dict[str, float] = {}
        self._watermark_ms: int | None = None
        self._closed_through_ms: int | None = None
        self._unevaluated_since_ms: int | None = None
        self._closes = False
        self._busy_s = 0.0
        self._busy_since: float | None = None
        self.lag: Callable[[], Mapping[int, int]] = dict
        """Gives unread records by partition. It is not asked while Kafka is unreachable."""
        self.standstill_s: Callable[[], float] = lambda: NAN

    def leave_out(self, server: str) -> None:
        """No such server is configured: it is neither reachable nor unreachable."""
        self._reachable.pop(server, None)

    def succeeded(self, what: str) -> None:
        """Note that a step of the pipeline ("fetch", "flush", "close", "evaluate") has just done something."""
        with self._lock:
            self._successes[what] = self._monotonic()

    def watermark(self, watermark_ms: int) -> None:
        """Note the watermark of the topic; this worker closes windows."""
        with self._lock:
            self._watermark_ms, self._closes = watermark_ms, True

    def closes_no_more(self) -> None:
        """Note that another worker closes windows."""
        with self._lock:
            self._closes = False
            self._successes.pop("close", None)

    def funnels(self, closed_through_ms: int | None, unevaluated_since_ms: int | None) -> None:
        """Note the database's answer on the funnel that is closed least far, and on windows that are not evaluated."""
        with self._lock:
            self._closed_through_ms, self._unevaluated_since_ms = closed_through_ms, unevaluated_since_ms

    def busy(self, begins: bool) -> None:
        """Note that the counting thread begins to count, or has counted."""
        with self._lock:
            self._busy_s += 0.0 if self._busy_since is None else self._monotonic() - self._busy_since
            self._busy_since = self._monotonic() if begins else None

    def describe(self) -> Iterable[Metric]:
        """The families without values."""
        return [*(self._family(name) for name in TEXTS), CounterMetricFamily(BUSY, BUSY_TEXT)]

    def collect(self) -> Iterable[Metric]:
        """The families, as of now."""
        with self._lock:
            successes, watermark_ms, closes = dict(self._successes), self._watermark_ms, self._closes
            closed_ms, unevaluated_ms = self._closed_through_ms, self._unevaluated_since_ms
            busy_s = self._busy_s + (0.0 if self._busy_since is None else self._monotonic() - self._busy_since)
        now, wall = self._monotonic(), self._wall()
        watermark_s = NAN if watermark_ms is None else watermark_ms / 1000
        values = {
            "funnelwatch_watermark_seconds": watermark_s,
            "funnelwatch_watermark_age_seconds": wall - watermark_s if closes else NAN,
            "funnelwatch_closed_through_age_seconds": NAN if closed_ms is None else wall - closed_ms / 1000,
            "funnelwatch_unevaluated_age_seconds": 0.0
            if unevaluated_ms is None
            else max(0.0, wall - unevaluated_ms / 1000),
            "funnelwatch_standstill_seconds": self.standstill_s(),
            **{name: float(self._servers.reachable(server)) for server, name in self._reachable.items()},
        }
        for name, value in values.items():
            family = self._family(name)
            family.add_metric([], value)
            yield family
        counting = CounterMetricFamily(BUSY, BUSY_TEXT)
        counting.add_metric([], busy_s)
        yield counting
        lag = self._family("funnelwatch_lag_records")
        if self._servers.reachable(KAFKA):
            for partition, unread in sorted(self.lag().items()):
                lag.add_metric([str(partition)], unread)
        yield lag
        contact = self._family("funnelwatch_last_contact_age_seconds")
        for server in self._reachable:
            contact.add_metric([server], self._servers.silent_s(server))
        yield contact
        done = self._family("funnelwatch_last_success_age_seconds")
        for what, at in sorted(successes.items()):
            done.add_metric([what], now - at)
        yield done

    @staticmethod
    def _family(name: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, TEXTS[name], labels=LABELS.get(name, ()))


TEXTS = {
    "funnelwatch_watermark_seconds": "Watermark of the topic, Unix time; NaN if this worker does not know it.",
    "funnelwatch_watermark_age_seconds": "Wall clock minus watermark; NaN if another worker closes windows.",
    "funnelwatch_closed_through_age_seconds": "Wall clock minus the end of the newest closed window, of the "
    "funnel that is furthest behind; NaN while no window is closed.",
    "funnelwatch_unevaluated_age_seconds": "How long the oldest published window has waited to be evaluated; 0 if none "
    "does.",
    "funnelwatch_standstill_seconds": "Longest time for which a partition has had unread records and was not read; NaN "
    "while Kafka does not answer.",
    "funnelwatch_kafka_reachable": "1 if Kafka answered within 20 s, else 0.",
    "funnelwatch_database_reachable": "1 if the database answered within 20 s, else 0.",
    "funnelwatch_redis_reachable": "1 if Redis answered within 20 s, else 0; absent if none is configured.",
    "funnelwatch_lag_records": "Records that are not fetched yet, by partition; absent while Kafka is unreachable.",
    "funnelwatch_last_contact_age_seconds": "Time since a server answered last, s; NaN before the first answer.",
    "funnelwatch_last_success_age_seconds": "Time since this worker last fetched records, flushed counts, ran a "
    "closing round as the one that closes, or evaluated windows, s; absent before the first time.",
}

ages = Ages(servers)
"""Metrics of this process."""
servers.on_failure = lambda what: metrics.RETRIES.labels(what).inc()
metrics.REGISTRY.register(ages)
