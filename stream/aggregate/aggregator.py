"""The aggregate agent's work on validated batches: flush, copy to Redis, commit.

A Redis that is away delays nothing, see ``cache_writing``. Without Redis there is no copy, and nothing else differs.

The order matters. Dead letters are acknowledged before a fetch comes here, and so before the flush moves the progress
on: no rejected record is passed over. The flush is committed before Redis sees its totals, so that Redis never shows
more than the database. A crash between any two leaves work to be repeated, and each is harmless when repeated.

Whatever was validated while the flush before took its time is flushed together: a flush costs by its rows, and what is
joined has most of them in common. So flushes are small when little comes, and grow with a backlog.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.aggregate.aggregation import aggregate, watermark_of
from funnelwatch.stream.aggregate.cache_writing import CacheWriter
from funnelwatch.stream.aggregate.flushing import flush_until_placed, is_to_blame
from funnelwatch.stream.aggregate.isolation import RejectedByDatabase, detail_of, halves, reject
from funnelwatch.stream.intake.batches import ValidatedBatch, joined
from funnelwatch.stream.intake.polled_batch import flush_groups
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import ages

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.counts import PartitionCounts
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.base import Flushed
    from funnelwatch.sinks.redis.cache import CountCache
    from funnelwatch.sinks.timescale.counts import CountStore
    from funnelwatch.stream.aggregate.cache_debt import CacheDebt
    from funnelwatch.stream.aggregate.flushing import Placed
    from funnelwatch.stream.aggregate.isolation import Isolation
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, ValidatedPoll

log = logging.getLogger(__name__)

EVENTS_A_ROW = 8
"""Of a backlog, a flush takes so many events for each row that it writes, about."""

MOST_EVENTS = 400_000
"""Events of one flush, unless more wait; 50 MB with what joining them takes."""

REST = 2
"""Events are collected this many times as long as their flush takes: a worker flushes a third of the time at most."""

QUICKEST_S = 0.02
"""They are collected at least this long, s."""

MARK_AGAIN_S = 3.0
"""That partitions are idle is noted again after this; it holds for ``IDLE_VALID_S``, s."""


class Aggregator:
    """Counts validated polls, on one thread.

    Args:
        settings: topics, window, disorder.
        store: the counts of record.
        cache: the copy in Redis, over a connection of its own; None: no Redis is configured.
        debt: takes what Redis lacks.
        rewind: called with the assignment of a partition that must be read anew from where it is counted up to.
        commit: called with what was counted: partition to next offset.
        stopping: set when the worker stops.
        now_ms: the wall clock.
        isolation: takes out the events that the database rejects; None: such an event is raised.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: CountStore,
        cache: CountCache | None,
        debt: CacheDebt,
        rewind: Callable[[PartitionAssignment], None],
        commit: Callable[[dict[int, int]], None],
        stopping: threading.Event,
        now_ms: Callable[[], int] = wall_clock_ms,
        isolation: Isolation | None = None,
    ) -> None:
        self._isolation = isolation
        self._settings = settings
        self._store = store
        self._copies = None if cache is None else CacheWriter(cache, debt, now_ms)
        self._rewind = rewind
        self._commit = commit
        self._wait_for = RetryPolicy(stopping)
        self._now_ms = now_ms
        self._marked: tuple[list[int], float] = [], float("-inf")
        self.counted = 0
        self._rows = 0
        self._took_s = 0.0

    @property
    def worthwhile(self) -> int:
        """How many events of a backlog the next flush should take: it costs by its rows, not by its events."""
        return min(EVENTS_A_ROW * self._rows, MOST_EVENTS)

    @property
    def interval_s(self) -> float:
        """How long to collect events for the next flush: the less it costs, the sooner they are counted, s."""
        return min(max(REST * self._took_s, QUICKEST_S), self._settings.flush_interval_s)

    def __call__(self, polls: Sequence[ValidatedPoll]) -> None:
        """Count polls in their order, all that can be in one flush, waiting out whatever outage there is.

        Raises:
            StoppedError: the worker stops first; the next worker of their partitions reads them again.
        """
        now_ms, began_s = self._now_ms(), time.monotonic()
        if self._copies is not None and any(poll.newly_assigned for poll in polls):
            self._copies.check_soon()
        for group in flush_groups(polls):
            self._flush([(assigned, joined(batches)) for assigned, batches in group], now_ms)
        for poll in polls:
            for assigned, batch in poll.batches:
                self._move(assigned, batch, poll.taken_s, now_ms)
        idle = self._idle(polls[-1])
        if any(poll.batches for poll in polls):
            self._marked = [], float("-inf")
            self._took_s = time.monotonic() - began_s
        if idle and (idle != self._marked[0] or polls[-1].taken_s - self._marked[1] >= MARK_AGAIN_S):
            self._marked = idle, polls[-1].taken_s
            mark = partial(self._store.mark_idle, self._settings.events_topic, idle)
            self._wait_for("PostgreSQL: idle partitions", mark)

    def _move(self, assigned: PartitionAssignment, batch: ValidatedBatch, taken_s: float, now_ms: int) -> None:
        """Note when the watermark of a partition moves on."""
        watermark = watermark_of(batch, int(self._settings.allowed_disorder_s * 1000), now_ms)
        if watermark is not None and (assigned.watermark is None or watermark > assigned.watermark):
            assigned.watermark, assigned.moved_s = watermark, taken_s

    def _idle(self, poll: ValidatedPoll) -> list[int]:
        """Partitions that are read to their end, and whose watermark has not moved for the idle timeout.

        Whatever else comes, garbage or the events of a clock that is wrong, does not hold the other partitions back.
        """
        since = poll.taken_s - self._settings.idle_timeout_s
        return [assigned.partition for assigned in poll.at_end if assigned.moved_s <= since]

    def _flush(self, validated: list[tuple[PartitionAssignment, ValidatedBatch]], now_ms: int) -> None:
        try:
            self._count(validated, now_ms)
        except psycopg.Error as error:
            if self._isolation is None or classify(error) is ErrorClass.BUG:
                raise
            log.warning("PostgreSQL: flush: %s: flushing in smaller parts", " ".join(str(error).split()))
            for assigned, batch in validated:
                self._count_apart(self._isolation, assigned, batch, now_ms)

    def _count_apart(
        self, isolation: Isolation, assigned: PartitionAssignment, batch: ValidatedBatch, now_ms: int
    ) -> None:
        """Count a batch in ever smaller parts, in order; an event that the database rejects is rejected."""
        rejections: list[RejectedByDatabase] = []
        parts = [batch]
        while parts:
            part = parts.pop()
            part = self._wait_for("Kafka: dead letters", partial(isolation.without, assigned, part, rejections))
            try:
                self._count([(assigned, part)], now_ms)
            except psycopg.Error as error:
                events = part.accepted
                if not events.offsets.size or classify(error) is ErrorClass.BUG:
                    raise
                if events.offsets.size > 1:
                    parts += reversed(halves(part))
                    continue
                parts.append(part)
                if self._is_at_fault(assigned, part, now_ms):
                    log.warning("partition %d, offset %d: %s", part.partition, events.offsets[0], detail_of(error))
                    rejections.append(RejectedByDatabase(events, part.credited, detail_of(error)))

    def _is_at_fault(self, assigned: PartitionAssignment, part: ValidatedBatch, now_ms: int) -> bool:
        """Whether the database accepts all of a batch but its one event, which failed; see ``is_to_blame``."""
        empty = reject(part, np.ones(1, np.bool_), [])

        def rehearse(start: int) -> Flushed:
            counts = self._counts_of(empty, start, now_ms)
            return self._store.flush(self._settings.events_topic, assigned.topic_id, [counts], rehearsal=True)

        offsets = part.partition, part.start_offset, int(part.accepted.offsets[0])
        return is_to_blame(self._wait_for, "PostgreSQL: flush", offsets, rehearse)

    def _counts_of(self, batch: ValidatedBatch, from_offset: int, now_ms: int) -> PartitionCounts:
        settings = self._settings
        disorder_ms = int(settings.allowed_disorder_s * 1000)
        return aggregate(batch, settings.window_ms, disorder_ms, now_ms, from_offset=from_offset)

    def _count(self, validated: list[tuple[PartitionAssignment, ValidatedBatch]], now_ms: int) -> None:
        events = sum(batch.accepted.offsets.size for _, batch in validated)

        def is_retried(error: Exception) -> bool:
            # A limit of the database may be met by the size of the flush: with events to divide, smaller parts come
            # first, and only a part that cannot be divided waits.
            return is_transient(error) and not (events > 1 and self._isolation and classify(error) is ErrorClass.BUSY)

        def flush(topic_id: str, counts: list[PartitionCounts]) -> Flushed:
            operation = partial(self._store.flush, self._settings.events_topic, topic_id, counts)
            return self._wait_for("PostgreSQL: flush", operation, is_retried=is_retried)

        placed = flush_until_placed(validated, partial(self._counts_of, now_ms=now_ms), flush, self._rewind)
        if placed is None:
            return
        metrics.FLUSH_SECONDS.observe(placed.seconds)
        ages.succeeded("flush")
        oldest = [batch.oldest_log_time for batch, _ in placed.batches]
        metrics.observe_delays(metrics.EVENT_TO_FLUSH, oldest, self._now_ms())
        failpoint("committed")
        self._account(placed)
        counts = [one for _, one in placed.batches]
        if self._copies is not None:
            self._copies.write(counts, placed.topic_id, placed.flushed, oldest, now_ms)
        failpoint("copied")
        # Last, since nothing depends on it: the database's progress decides where a partition starts.
        self._commit({one.partition: one.next_offset for one in counts})
        failpoint("offsets_committed")

    def _account(self, placed: Placed[ValidatedBatch, PartitionCounts]) -> None:
        self._rows = sum(len(counts.counts) for _, counts in placed.batches)
        accepted = 0
        for batch, counts in placed.batches:
            if counts.partition in placed.flushed.skipped:
                continue
            accepted += counts.accepted
            metrics.DUPLICATES.inc(counts.duplicates)
            for rejected in batch.rejected:
                if rejected.record.offset >= counts.start_offset:
                    metrics.REJECTED.labels(rejected.reason).inc()
        self.counted += accepted
        metrics.ACCEPTED.inc(accepted)
        metrics.LATE.inc(placed.flushed.late)
        metrics.FLUSH_EVENTS.observe(accepted)
