"""Writes each flush to the cache in Redis, on the counting thread and without waiting for a Redis that is away.

``cache_debt`` notes the windows that Redis lacks, and the thread of ``cache_rebuild`` writes them later.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.sinks.redis.cache import REDIS_ERRORS
from funnelwatch.sinks.redis.client import explain
from funnelwatch.sinks.redis.state import IncompleteError, RepairedError
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.counts import PartitionCounts
    from funnelwatch.sinks.base import Flushed
    from funnelwatch.sinks.redis.cache import CountCache
    from funnelwatch.stream.aggregate.cache_debt import CacheDebt

log = logging.getLogger(__name__)


class CacheWriter:
    """Writes the totals of flushes that the database has committed. For one thread.

    Args:
        cache: the cache, over a connection of its own.
        debt: takes what Redis lacks.
        now_ms: the wall clock.
    """

    def __init__(self, cache: CountCache, debt: CacheDebt, now_ms: Callable[[], int]) -> None:
        self._cache = cache
        self._debt = debt
        self._now_ms = now_ms

    def check_soon(self) -> None:
        """Partitions are new to this worker: their last worker may have ended between the database and Redis."""
        self._debt.woken.set()

    def write(
        self,
        batches: Sequence[PartitionCounts],
        topic_id: str,
        flushed: Flushed,
        oldest: Sequence[int | None],
        now_ms: int,
    ) -> None:
        """Write a flush to Redis, or leave it to be copied.

        Args:
            batches: what the flush has added.
            topic_id: Kafka's id of the topic.
            flushed: the answer of the database.
            oldest: Kafka's timestamp of the oldest record of each batch, ms.
            now_ms: the wall clock at the beginning of the flush.
        """
        if self._is_written(batches, topic_id, flushed, now_ms):
            metrics.observe_delays(metrics.EVENT_TO_REDIS, oldest, self._now_ms())
        else:
            self._debt.delay(oldest)

    def _is_written(self, batches: Sequence[PartitionCounts], topic_id: str, flushed: Flushed, now_ms: int) -> bool:
        """Write what was flushed; whether Redis has all of it now."""
        skipped = [batch for batch in batches if batch.partition in flushed.skipped]
        if skipped:
            # By whom they were counted is not known: perhaps by a flush of ours whose answer was lost, and then its
            # totals have not been copied.
            self._owe(skipped, topic_id, now_ms)
        written = [batch for batch in batches if batch.partition not in flushed.skipped]
        # While Redis is away no flush waits for its timeout: the rebuild asks it, on a thread of its own.
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
        found = [(batch.counts, batch.counts.windows >= oldest) for batch in batches]
        windows = {key for counts, recent in found for key in counts.by_window(counts.events, recent)}
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
