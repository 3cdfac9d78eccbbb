"""What a worker does with a fetch of counters and timers: validator, send the rejected away, flush, commit.

The order, and what a crash between any two leaves to be repeated, is that of events (``stream.aggregate.aggregator``).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.validation import RejectedError, RejectionReason
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.aggregate.flushing import flush_until_placed, is_to_blame
from funnelwatch.stream.aggregate.isolation import detail_of
from funnelwatch.stream.aggregate.metric_validator import aggregate_metrics, settled
from funnelwatch.stream.intake.batches import Rejected
from funnelwatch.stream.native.digests import digests_of
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.metric_counts import Admission, MetricSeries, PartitionMetrics
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.base import Flushed
    from funnelwatch.sinks.timescale.metric_counts import MetricStore
    from funnelwatch.stream.aggregate.metric_validator import MetricValidator, Sample, ValidatedMetrics
    from funnelwatch.stream.intake.batches import Record, RecordBatch
    from funnelwatch.stream.intake.dead_letters import DeadLetters
    from funnelwatch.stream.intake.fetcher import Fetcher
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch

log = logging.getLogger(__name__)


class MetricAggregator:
    """Fetches and counts the metrics topic, on one thread.

    Args:
        settings: topic, window, how many counters and timers there may be.
        fetcher: reads the topic.
        validator: decides about a record.
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
        validator: MetricValidator,
        store: MetricStore,
        dead_letters: DeadLetters,
        stopping: threading.Event,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._validator = validator
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
            StoppedError: the worker stops first; the next worker of its partitions reads the batch again.
            KafkaException: the consumer cannot go on; the worker must start anew.
        """
        polled = self._fetcher.fetch()
        if polled:
            self.count(polled)

    def count(self, polled: PolledBatch) -> None:
        """Count a polled batch whole; raises as ``round``."""
        now_ms = self._now_ms()
        for assigned, batch in polled.warm_up:
            self._validated(assigned, batch, now_ms)
        validated = [(assigned, self._validated(assigned, batch, now_ms)) for assigned, batch in polled.batches]
        for assigned, found in validated:
            if found.rejected:
                send = partial(self._dead_letters.send, assigned.partition, found.rejected)
                self._wait_for("Kafka: dead letters", send)
        if validated:
            self._flush(validated, now_ms)

    def _validated(self, assigned: PartitionAssignment, batch: RecordBatch, now_ms: int) -> ValidatedMetrics:
        validated = self._wait_for("schema registry: metrics", partial(self._validator, batch, now_ms))
        new = dict.fromkeys(series for _, series, _ in validated.read if series not in self._numbers)
        rejected: dict[MetricSeries, RejectedError] = {}
        for series, admission in self._admitted(list(new)):
            if isinstance(admission, RejectedError):
                rejected[series] = admission
            else:
                self._numbers[series] = admission
        return settled(validated, rejected, assigned.seen, now_ms)

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

    def _flush(self, validated: list[tuple[PartitionAssignment, ValidatedMetrics]], now_ms: int) -> None:
        try:
            self._count(validated, now_ms)
        except psycopg.Error as error:
            if classify(error) is ErrorClass.BUG:
                raise
            log.warning("PostgreSQL: flush of metrics: %s: flushing in smaller parts", " ".join(str(error).split()))
            for assigned, found in validated:
                self._count_apart(assigned, found, now_ms)

    def _count_apart(self, assigned: PartitionAssignment, whole: ValidatedMetrics, now_ms: int) -> None:
        """Count a batch in ever smaller parts, in order; a sample that the database rejects is rejected."""
        rejected: dict[tuple[MetricSeries, int, int], str] = {}
        parts = [whole]
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
        ids = [self._validator.decode(one.record.value)["event_id"] for one in letters]
        assigned.seen.forget(digests_of(ids))
        return less

    def _place(self, sample: Sample) -> tuple[MetricSeries, int, int]:
        """What the database sees of a sample."""
        return sample.series, sample.ts // self._settings.window_ms, sample.value

    def _is_at_fault(self, assigned: PartitionAssignment, part: ValidatedMetrics, now_ms: int) -> bool:
        """Whether the database accepts all of a batch but its one sample, which failed; see ``is_to_blame``."""
        empty = replace(part, accepted=[])

        def rehearse(start: int) -> Flushed:
            counts = self._counts_of(empty, start, now_ms)
            return self._store.flush(self._settings.metrics_topic, assigned.topic_id, [counts], rehearsal=True)

        offsets = part.batch.partition, part.batch.start_offset, part.accepted[0].offset
        return is_to_blame(self._wait_for, "PostgreSQL: flush of metrics", offsets, rehearse)

    def _counts_of(self, batch: ValidatedMetrics, from_offset: int, now_ms: int) -> PartitionMetrics:
        return aggregate_metrics(batch, self._numbers, self._settings.window_ms, now_ms, from_offset=from_offset)

    def _count(self, validated: list[tuple[PartitionAssignment, ValidatedMetrics]], now_ms: int) -> None:
        samples = sum(len(batch.accepted) for _, batch in validated)

        def is_retried(error: Exception) -> bool:
            return is_transient(error) and not (samples > 1 and classify(error) is ErrorClass.BUSY)

        def flush(topic_id: str, counts: list[PartitionMetrics]) -> Flushed:
            operation = partial(self._store.flush, self._settings.metrics_topic, topic_id, counts)
            return self._wait_for("PostgreSQL: flush of metrics", operation, is_retried=is_retried)

        count = partial(self._counts_of, now_ms=now_ms)
        placed = flush_until_placed(validated, count, flush, self._fetcher.rewind)
        if placed is not None:
            counts = [one for _, one in placed.batches]
            self._account([one for one in counts if one.place.partition not in placed.flushed.skipped])
            self._fetcher.commit({one.place.partition: one.place.next_offset for one in counts})

    def _account(self, counted: list[PartitionMetrics]) -> None:
        for found in counted:
            metrics.METRIC_SAMPLES.labels("accepted").inc(found.place.accepted)
            metrics.METRIC_SAMPLES.labels("rejected").inc(found.place.rejected)
            metrics.METRIC_SAMPLES.labels("duplicate").inc(found.place.duplicates)
