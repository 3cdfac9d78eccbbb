"""What a worker does with a fetch of counters and timers: judge, send the refused away, flush, commit.

The order, and what a crash between any two leaves to be repeated, is that of events (``stream.aggregate``).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from sinks.timescale.counts import MisplacedError
from stream import metrics
from stream.clock import wall_clock_ms
from stream.metric_counting import settled, tally_metrics
from stream.outage import Patience
from stream.validation import RefusedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from funnelwatch.settings import Settings
    from sinks.timescale.metric_counts import MetricStore
    from stream.counting import RecordBatch
    from stream.dead_letters import DeadLetters
    from stream.fetch import Assigned, Fetch
    from stream.intake import Fetcher
    from stream.metric_counting import MetricJudge, MetricSeries, MetricsJudged, PartitionMetrics

log = logging.getLogger(__name__)


class MetricAggregator:
    """Fetches and counts the metrics topic, on one thread.

    Args:
        settings: topic, window, how many counters and timers there may be.
        fetcher: reads the topic.
        judge: decides about a record.
        store: where they are counted.
        dead_letters: where refused records go.
        stopping: set when the worker stops.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        fetcher: Fetcher,
        judge: MetricJudge,
        store: MetricStore,
        dead_letters: DeadLetters,
        stopping: threading.Event,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._judge = judge
        self._store = store
        self._dead_letters = dead_letters
        self._wait_for = Patience(stopping)
        self._now_ms = now_ms
        self._numbers: dict[MetricSeries, int] = {}

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers the client of the dead letters. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._dead_letters.ask_kafka(timeout_s)

    def round(self) -> None:
        """Fetch and count, waiting out whatever outage there is.

        Raises:
            StoppedError: the worker stops first; the fetch is then read again by whoever is assigned its partitions.
            KafkaException: the consumer cannot go on; the worker must start anew.
        """
        fetch = self._fetcher.fetch()
        if fetch:
            self.count(fetch)

    def count(self, fetch: Fetch) -> None:
        """Count a fetch whole; raises as ``round``."""
        now_ms = self._now_ms()
        for assigned, batch in fetch.warm_up:
            self._verdict(assigned, batch, now_ms)
        judged = [(assigned, self._verdict(assigned, batch, now_ms)) for assigned, batch in fetch.batches]
        for assigned, verdict in judged:
            if verdict.refused:
                send = partial(self._dead_letters.send, assigned.partition, verdict.refused)
                self._wait_for("Kafka: dead letters", send)
        if judged:
            self._flush(judged, now_ms)

    def _verdict(self, assigned: Assigned, batch: RecordBatch, now_ms: int) -> MetricsJudged:
        judged = self._wait_for("schema registry: metrics", partial(self._judge, batch, now_ms))
        new = [series for _, series, _ in judged.read if series not in self._numbers]
        refused: dict[MetricSeries, RefusedError] = {}
        if new:
            settings = self._settings
            admit = partial(self._store.admit, new, settings.metric_max_names, settings.metric_max_series)
            for series, admission in self._wait_for("PostgreSQL: metrics", admit).items():
                if isinstance(admission, RefusedError):
                    refused[series] = admission
                else:
                    self._numbers[series] = admission
        return settled(judged, refused, assigned.seen, now_ms)

    def _flush(self, judged: list[tuple[Assigned, MetricsJudged]], now_ms: int) -> None:
        settings = self._settings
        count = partial(tally_metrics, numbers=self._numbers, window_ms=settings.window_ms, now_ms=now_ms)
        pending = {assigned.partition: (assigned, verdict, count(verdict)) for assigned, verdict in judged}
        while pending:
            batches = [found for _, _, found in pending.values()]
            topic_id = next(iter(pending.values()))[0].topic_id
            flush = partial(self._store.flush, settings.metrics_topic, topic_id, batches)
            try:
                flushed = self._wait_for("PostgreSQL: flush of metrics", flush)
            except MisplacedError as error:
                log.warning("%s: %s", settings.metrics_topic, error)
                assigned, verdict, _ = pending.pop(error.partition)
                if error.is_gap:
                    self._fetcher.rewind(assigned)
                else:
                    # Somebody else has counted the first part of it.
                    pending[error.partition] = (assigned, verdict, count(verdict, from_offset=error.expected))
                continue
            self._account([one for one in batches if one.place.partition not in flushed.skipped])
            self._fetcher.commit({one.place.partition: one.place.next_offset for one in batches})
            return

    def _account(self, counted: list[PartitionMetrics]) -> None:
        for found in counted:
            metrics.METRIC_SAMPLES.labels("accepted").inc(found.place.accepted)
            metrics.METRIC_SAMPLES.labels("refused").inc(found.place.refused)
            metrics.METRIC_SAMPLES.labels("duplicate").inc(found.place.duplicates)
