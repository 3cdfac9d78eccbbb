"""What a worker does with a fetch of counters and timers: judge, send the rejected away, flush, commit.

The order, and what a crash between any two leaves to be repeated, is that of events (``stream.aggregate.aggregator``).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.page import digests_of
from funnelwatch.schemas.validation import RejectedError, RejectionReason
from funnelwatch.sinks.base import MisplacedError
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.aggregate.isolation import detail_of
from funnelwatch.stream.aggregate.metric_validator import aggregate_metrics, settled
from funnelwatch.stream.intake.validator import Rejected
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.metric_counts import Admission, MetricSeries, PartitionMetrics
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.metric_counts import MetricStore
    from funnelwatch.stream.aggregate.metric_validator import MetricValidator, Sample, ValidatedMetrics
    from funnelwatch.stream.intake.dead_letters import DeadLetters
    from funnelwatch.stream.intake.fetcher import Fetcher
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch
    from funnelwatch.stream.intake.validator import Record, RecordBatch

log = logging.getLogger(__name__)


class MetricAggregator:
    """Fetches and counts the metrics topic, on one thread.

    Args:
        settings: topic, window, how many counters and timers there may be.
        fetcher: reads the topic.
        judge: decides about a record.
        store: where they are counted.
        dead_letters: where rejected records go.
        stopping: set when the worker stops.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        fetcher: Fetcher,
        judge: MetricValidator,
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
        self._wait_for = RetryPolicy(stopping)
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

    def count(self, fetch: PolledBatch) -> None:
        """Count a fetch whole; raises as ``round``."""
        now_ms = self._now_ms()
        for assigned, batch in fetch.warm_up:
            self._verdict(assigned, batch, now_ms)
        judged = [(assigned, self._verdict(assigned, batch, now_ms)) for assigned, batch in fetch.batches]
        for assigned, verdict in judged:
            if verdict.rejected:
                send = partial(self._dead_letters.send, assigned.partition, verdict.rejected)
                self._wait_for("Kafka: dead letters", send)
        if judged:
            self._flush(judged, now_ms)

    def _verdict(self, assigned: PartitionAssignment, batch: RecordBatch, now_ms: int) -> ValidatedMetrics:
        judged = self._wait_for("schema registry: metrics", partial(self._judge, batch, now_ms))
        new = dict.fromkeys(series for _, series, _ in judged.read if series not in self._numbers)
        rejected: dict[MetricSeries, RejectedError] = {}
        for series, admission in self._admitted(list(new)):
            if isinstance(admission, RejectedError):
                rejected[series] = admission
            else:
                self._numbers[series] = admission
        return settled(judged, rejected, assigned.seen, now_ms)

    def _admitted(self, new: list[MetricSeries]) -> Iterator[tuple[MetricSeries, Admission]]:
        """What becomes of new series; those that the database rejects are found by halves, and rejected."""
        if not new:
            return
        settings = self._settings
        admit = partial(self._store.admit, new, settings.metric_max_names, settings.metric_max_series)
        try:
            yield from self._wait_for("PostgreSQL: metrics", admit).items()
        except psycopg.Error as error:
            if classify(error) is ErrorClass.BUG:
                raise
            if len(new) > 1:
                for half in (new[: len(new) // 2], new[len(new) // 2 :]):
                    yield from self._admitted(half)
            else:
                yield new[0], RejectedError(RejectionReason.NOT_STORED, detail_of(error))

    def _flush(self, judged: list[tuple[PartitionAssignment, ValidatedMetrics]], now_ms: int) -> None:
        try:
            self._count(judged, now_ms)
        except psycopg.Error as error:
            if classify(error) is ErrorClass.BUG:
                raise
            log.warning("PostgreSQL: flush of metrics: %s: flushing in smaller parts", " ".join(str(error).split()))
            for assigned, verdict in judged:
                self._count_apart(assigned, verdict, now_ms)

    def _count_apart(self, assigned: PartitionAssignment, verdict: ValidatedMetrics, now_ms: int) -> None:
        """Count a batch in ever smaller parts, in order; a sample that the database rejects is rejected."""
        rejected: dict[tuple[MetricSeries, int, int], str] = {}
        parts = [verdict]
        while parts:
            part = self._without(assigned, parts.pop(), rejected)
            try:
                self._count([(assigned, part)], now_ms)
            except psycopg.Error as error:
                if not part.accepted or classify(error) is ErrorClass.BUG:
                    raise
                if len(part.accepted) > 1:
                    parts += reversed(part.halves())
                    continue
                parts.append(part)
                if self._is_at_fault(assigned, part, now_ms):
                    log.warning("%s: %s", part.accepted[0].series, detail_of(error))
                    rejected[self._place(part.accepted[0])] = detail_of(error)

    def _without(
        self, assigned: PartitionAssignment, part: ValidatedMetrics, rejected: dict[tuple[MetricSeries, int, int], str]
    ) -> ValidatedMetrics:
        """A batch without samples that are rejected; returns once the dead letters have those."""
        details = {
            sample.offset: rejected[self._place(sample)]
            for sample in part.accepted
            if rejected and self._place(sample) in rejected
        }
        if not details:
            return part

        def as_rejected(record: Record) -> Rejected:
            return Rejected(record, str(RejectionReason.NOT_STORED), details[record.offset])

        less = part.without(lambda sample: sample.offset in details, as_rejected)
        letters = [one for one in less.rejected if one.record.offset in details]
        send = partial(self._dead_letters.send, assigned.partition, letters)
        self._wait_for("Kafka: dead letters", send)
        ids = [self._judge.decode(one.record.value)["event_id"] for one in letters]
        assigned.seen.forget(digests_of(ids))
        return less

    def _place(self, sample: Sample) -> tuple[MetricSeries, int, int]:
        """What the database sees of a sample."""
        return sample.series, sample.ts // self._settings.window_ms, sample.value

    def _is_at_fault(self, assigned: PartitionAssignment, part: ValidatedMetrics, now_ms: int) -> bool:
        """Whether the database accepts all of a batch but its one sample, which failed; waits until it does.

        False where it had to wait, and where somebody else has counted the sample meanwhile, as in ``Aggregator``.
        """
        settings, offset, empty = self._settings, part.accepted[0].offset, replace(part, accepted=[])
        tries = 0

        def rehearse() -> bool:
            nonlocal tries
            tries += 1
            start = part.batch.start_offset
            while True:
                found = aggregate_metrics(empty, self._numbers, settings.window_ms, now_ms, from_offset=start)
                try:
                    flushed = self._store.flush(settings.metrics_topic, assigned.topic_id, [found], rehearsal=True)
                except MisplacedError as error:
                    if error.is_gap or error.expected > offset:
                        return False
                    start = error.expected
                else:
                    return part.batch.partition not in flushed.skipped

        what = "PostgreSQL: flush of metrics"
        is_uncounted = self._wait_for(what, rehearse, is_retried=lambda error: classify(error) is not ErrorClass.BUG)
        return is_uncounted and tries == 1

    def _count(self, judged: list[tuple[PartitionAssignment, ValidatedMetrics]], now_ms: int) -> None:
        samples = sum(len(verdict.accepted) for _, verdict in judged)

        def is_retried(error: Exception) -> bool:
            return is_transient(error) and not (samples > 1 and classify(error) is ErrorClass.BUSY)

        settings = self._settings
        count = partial(aggregate_metrics, numbers=self._numbers, window_ms=settings.window_ms, now_ms=now_ms)
        pending = {assigned.partition: (assigned, verdict, count(verdict)) for assigned, verdict in judged}
        while pending:
            batches = [found for _, _, found in pending.values()]
            topic_id = next(iter(pending.values()))[0].topic_id
            flush = partial(self._store.flush, settings.metrics_topic, topic_id, batches)
            try:
                flushed = self._wait_for("PostgreSQL: flush of metrics", flush, is_retried=is_retried)
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
            metrics.METRIC_SAMPLES.labels("rejected").inc(found.place.rejected)
            metrics.METRIC_SAMPLES.labels("duplicate").inc(found.place.duplicates)
