"""What the aggregate agent does with judged fetches: flush, copy to Redis, commit.

A Redis that is away delays nothing: ``cache_debt`` notes the windows that it lacks, and the thread of ``cache_rebuild``
writes them later.

The order matters. Dead letters are acknowledged before a fetch comes here, and so before the flush moves the progress
on: no rejected record is passed over. The flush is committed before Redis sees its totals, so that Redis never shows
more than the database. A crash between any two leaves work to be repeated, and each is harmless when repeated.

Whatever was judged while the flush before took its time is flushed together: a flush costs by its rows, and what is
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
from funnelwatch.sinks.base import MisplacedError
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.failpoints import point
from funnelwatch.sinks.redis.cache import REDIS_ERRORS
from funnelwatch.sinks.redis.client import explain
from funnelwatch.sinks.redis.state import IncompleteError, RepairedError
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.aggregate.aggregation import aggregate, watermark_of
from funnelwatch.stream.aggregate.isolation import RejectedByDatabase, detail_of, halves, reject
from funnelwatch.stream.intake.polled_batch import flush_groups
from funnelwatch.stream.intake.validator import ValidatedBatch, joined
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
    from funnelwatch.stream.aggregate.isolation import Isolation
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, ValidatedPoll

    Pending = dict[int, tuple[PartitionAssignment, ValidatedBatch, PartitionCounts]]

log = logging.getLogger(__name__)


class Aggregator:
    """Counts judged fetches, on one thread.

    Args:
        settings: topics, window, disorder.
        store: the counts of record.
        cache: the copy in Redis, over a connection of its own.
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
        cache: CountCache,
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
        self._cache = cache
        self._debt = debt
        self._rewind = rewind
        self._commit = commit
        self._wait_for = RetryPolicy(stopping)
        self._now_ms = now_ms
        self.counted = 0

    def __call__(self, fetches: Sequence[ValidatedPoll]) -> None:
        """Count fetches in their order, all that can be in one flush, waiting out whatever outage there is.

        Raises:
            StoppedError: the worker stops first; they are then read again by whoever is assigned their partitions.
        """
        now_ms = self._now_ms()
        if any(fetch.newly_assigned for fetch in fetches):
            # Who had the partition may have ended between the database and Redis.
            self._debt.woken.set()
        for stretch in flush_groups(fetches):
            self._flush([(assigned, joined(verdicts)) for assigned, verdicts in stretch], now_ms)
        for fetch in fetches:
            for assigned, verdict in fetch.verdicts:
                self._move(assigned, verdict, fetch.taken_s, now_ms)
        idle = self._idle(fetches[-1])
        if idle:
            mark = partial(self._store.mark_idle, self._settings.events_topic, idle)
            self._wait_for("PostgreSQL: idle partitions", mark)

    def _move(self, assigned: PartitionAssignment, verdict: ValidatedBatch, taken_s: float, now_ms: int) -> None:
        """Note when the watermark of a partition moves on."""
        watermark = watermark_of(verdict, int(self._settings.allowed_disorder_s * 1000), now_ms)
        if watermark is not None and (assigned.watermark is None or watermark > assigned.watermark):
            assigned.watermark, assigned.moved_s = watermark, taken_s

    def _idle(self, fetch: ValidatedPoll) -> list[int]:
        """Partitions that are read to their end, and whose watermark has not moved for the idle timeout.

        Whatever else comes, garbage or the events of a clock that is wrong, does not hold the other partitions back.
        """
        since = fetch.taken_s - self._settings.idle_timeout_s
        return [assigned.partition for assigned in fetch.at_end if assigned.moved_s <= since]

    def _flush(self, judged: list[tuple[PartitionAssignment, ValidatedBatch]], now_ms: int) -> None:
        try:
            self._count(judged, now_ms)
        except psycopg.Error as error:
            if self._isolation is None or classify(error) is ErrorClass.BUG:
                raise
            log.warning("PostgreSQL: flush: %s: flushing in smaller parts", " ".join(str(error).split()))
            for assigned, verdict in judged:
                self._count_apart(self._isolation, assigned, verdict, now_ms)

    def _count_apart(
        self, isolation: Isolation, assigned: PartitionAssignment, verdict: ValidatedBatch, now_ms: int
    ) -> None:
        """Count a batch in ever smaller parts, in order; an event that the database rejects is rejected."""
        rejections: list[RejectedByDatabase] = []
        parts = [verdict]
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
                    rejections.append(RejectedByDatabase(events, detail_of(error)))

    def _is_at_fault(self, assigned: PartitionAssignment, part: ValidatedBatch, now_ms: int) -> bool:
        """Whether the database accepts all of a batch but its one event, which failed; waits until it does.

        False where it had to wait: then the event may be accepted by now as well. And where somebody else has counted
        it meanwhile, or it is to be read anew, as the next try finds.
        """
        settings, offset = self._settings, int(part.accepted.offsets[0])
        empty = reject(part, np.ones(1, np.bool_), [])
        disorder_ms = int(settings.allowed_disorder_s * 1000)
        tries = 0

        def rehearse() -> bool:
            nonlocal tries
            tries += 1
            start = part.start_offset
            while True:
                batch = aggregate(empty, settings.window_ms, disorder_ms, now_ms, from_offset=start)
                try:
                    flushed = self._store.flush(settings.events_topic, assigned.topic_id, [batch], rehearsal=True)
                except MisplacedError as error:
                    if error.is_gap or error.expected > offset:
                        return False
                    start = error.expected
                else:
                    return part.partition not in flushed.skipped

        is_uncounted = self._wait_for(
            "PostgreSQL: flush", rehearse, is_retried=lambda error: classify(error) is not ErrorClass.BUG
        )
        return is_uncounted and tries == 1

    def _count(self, judged: list[tuple[PartitionAssignment, ValidatedBatch]], now_ms: int) -> None:
        settings = self._settings
        events = sum(verdict.accepted.offsets.size for _, verdict in judged)

        def is_retried(error: Exception) -> bool:
            return is_transient(error) and not (events > 1 and self._isolation and classify(error) is ErrorClass.BUSY)

        disorder_ms = int(settings.allowed_disorder_s * 1000)
        pending: Pending = {
            assigned.partition: (assigned, verdict, aggregate(verdict, settings.window_ms, disorder_ms, now_ms))
            for assigned, verdict in judged
        }
        while pending:
            batches = [counts for _, _, counts in pending.values()]
            # All of one fetch have the same; if not, the flush rejects, and the worker starts anew.
            topic_id = next(iter(pending.values()))[0].topic_id
            started = time.perf_counter()
            try:
                flush = partial(self._store.flush, settings.events_topic, topic_id, batches)
                flushed = self._wait_for("PostgreSQL: flush", flush, is_retried=is_retried)
            except MisplacedError as error:
                log.warning("%s", error)
                assigned, verdict, _ = pending.pop(error.partition)
                if error.is_gap:
                    self._rewind(assigned)
                else:
                    # Somebody else has counted the first part of it.
                    trimmed = aggregate(verdict, settings.window_ms, disorder_ms, now_ms, from_offset=error.expected)
                    pending[error.partition] = (assigned, verdict, trimmed)
                continue
            metrics.FLUSH_SECONDS.observe(time.perf_counter() - started)
            ages.succeeded("flush")
            oldest = [verdict.oldest_log_time for _, verdict, _ in pending.values()]
            metrics.observe_delays(metrics.EVENT_TO_FLUSH, oldest, self._now_ms())
            point("committed")
            self._account(pending, flushed)
            if self._copy(batches, topic_id, flushed, now_ms):
                metrics.observe_delays(metrics.EVENT_TO_REDIS, oldest, self._now_ms())
            else:
                self._debt.delay(oldest)
            point("copied")
            self._commit({counts.partition: counts.next_offset for counts in batches})
            point("offsets_committed")
            return

    def _account(self, pending: Pending, flushed: Flushed) -> None:
        accepted = 0
        for partition, (_, verdict, counts) in pending.items():
            if partition in flushed.skipped:
                continue
            accepted += counts.accepted
            metrics.DUPLICATES.inc(counts.duplicates)
            for rejected in verdict.rejected:
                if rejected.record.offset >= counts.start_offset:
                    metrics.REJECTED.labels(rejected.reason).inc()
        self.counted += accepted
        metrics.ACCEPTED.inc(accepted)
        metrics.LATE.inc(flushed.late)
        metrics.FLUSH_EVENTS.observe(accepted)

    def _copy(self, batches: Sequence[PartitionCounts], topic_id: str, flushed: Flushed, now_ms: int) -> bool:
        """Write a flush to Redis, or leave it to be copied; whether Redis has it now."""
        skipped = [batch for batch in batches if batch.partition in flushed.skipped]
        if skipped:
            # By whom they were counted is not known: perhaps by a flush of ours whose answer was lost, and then its
            # totals have not been copied.
            self._owe(skipped, topic_id, now_ms)
        written = [batch for batch in batches if batch.partition not in flushed.skipped]
        if not self._debt.connected:
            self._owe(written, topic_id, now_ms)
            return False
        marks = self._debt.marks(written, topic_id)
        try:
            if not self._cache.write(flushed.totals, now_ms, marks):
                log.warning("Redis: lacks counts from before; they will be copied")
                self._debt.owe_everything()
            self._debt.wrote(marks)
        except RepairedError:
            self._owe(written, topic_id, now_ms)
            self._learn_repairs()
        except IncompleteError:
            log.warning("Redis: has lost its data; it will be copied")
            self._disconnect(written, topic_id, now_ms)
        except REDIS_ERRORS as error:
            log.debug("Redis: not written: %s", explain(error))
            metrics.RETRIES.labels("Redis").inc()
            self._disconnect(written, topic_id, now_ms)
        else:
            return not skipped
        return False

    def _owe(self, batches: Sequence[PartitionCounts], topic_id: str, now_ms: int) -> None:
        oldest = self._cache.oldest(now_ms)
        windows = {(key[1], key[0]) for batch in batches for key in batch.counts if key[0] >= oldest}
        self._debt.owe(windows, self._debt.marks(batches, topic_id))

    def _learn_repairs(self) -> None:
        try:
            self._cache.learn_repairs()
        except REDIS_ERRORS:
            self._debt.connected = False

    def _disconnect(self, batches: Sequence[PartitionCounts], topic_id: str, now_ms: int) -> None:
        """Write nothing more until the rebuild has an answer from Redis."""
        self._owe(batches, topic_id, now_ms)
        self._debt.connected = False
        self._cache.close()
