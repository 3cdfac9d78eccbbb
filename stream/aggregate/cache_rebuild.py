"""Makes the cache in Redis complete, beside the counting and never in its way.

One small step at a time, on a thread and with a database connection of its own, so that it can stop between any two:

1. compare the marks in Redis with the database's progress. Where they agree nothing is copied. Then let flushes write
   to Redis themselves;
2. copy what is owed: some windows, or all cache ones, the newest first. One worker copies all of them, by a lock of the
   database, and the others find themselves served. A copy that was interrupted goes on where Redis says it was.

A flush writes its own totals meanwhile. Both only raise counts, and both write what the database has committed, so
their order does not matter.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.times import HOUR_MS
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.redis.cache import REDIS_ERRORS
from funnelwatch.sinks.redis.client import explain
from funnelwatch.sinks.redis.state import NOTHING_YET_MS, IncompleteError, RepairedError
from funnelwatch.sinks.servers import servers
from funnelwatch.stream.aggregate.cache_check import CacheCheck
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.redis.cache import CountCache
    from funnelwatch.sinks.timescale.cache import CacheSource
    from funnelwatch.stream.aggregate.cache_debt import CacheDebt, PartitionPlace
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment

log = logging.getLogger(__name__)

TASK = "Redis: cache"

ROWS_AT_ONCE = 2_000
"""About so many series of windows are copied in a step: enough to be quick, few enough to stop soon."""

MOST_EMPTY_WINDOWS = 8
"""So many windows are read at once while none has had a series yet."""


RETRY_S = 1.0
RECHECK_S = 0.5
LONGEST_REST_S = 0.5


@dataclass(slots=True)
class _Copy:
    """A copy of all recent windows that is under way; windows from ``until`` on are done.

    ``begun`` is where a copy begins now; ``windows`` are copied in the next step; ``densest`` is the most series that a
    window had so far.
    """

    epoch: str
    number: int
    counted: list[PartitionPlace]
    until: int
    oldest: int
    begun: int
    windows: int = 1
    densest: int = 0
    copied: int = 0


class CacheRebuild:
    """Pays off what the cache lacks. For one thread.

    Args:
        settings: window, horizon.
        source: the counts of record, over a connection of its own.
        cache: the cache, over a connection of its own.
        debt: what is owed.
        assigned: this worker's partitions, each with its assignment.
        now_ms: the wall clock.
        monotonic: a clock for pauses, s.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        source: CacheSource,
        cache: CountCache,
        debt: CacheDebt,
        assigned: Callable[[], Mapping[int, PartitionAssignment]],
        now_ms: Callable[[], int] = wall_clock_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._source = source
        self._cache = cache
        self._debt = debt
        self._assigned = assigned
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._copy: _Copy | None = None
        self._began: tuple[str, int, list[PartitionPlace]] = "", 0, []
        self._check = CacheCheck(settings, source, cache, debt, assigned, now_ms, monotonic)
        self.error: str | None = None

    def step(self) -> float:
        """Do a small part of what there is to do; how long to wait before the next, s.

        Outages of Redis and of the database are tried again.
        """
        began = time.thread_time()
        if not self._assigned() and self._debt.settled and self._copy is None:
            return RETRY_S  # it counts nothing, and the workers that count see to Redis
        try:
            try:
                pause = self._step()
            except RepairedError:
                # What was read before the repair is read again.
                self._cache.learn_repairs()
                pause = 0.0
            except IncompleteError:
                self._start_over()
                pause = 0.0
        except Exception as error:
            if isinstance(error, psycopg.Error) and is_transient(error):
                log.debug("Redis: the database cannot be read: %s", error)
                self._start_over()
            elif isinstance(error, REDIS_ERRORS):
                self._fail(error)
            else:
                raise
            return RETRY_S
        finally:
            is_complete = self._debt.settled and self._debt.connected and self._copy is None
            metrics.CACHE_INCOMPLETE.set(not is_complete)
        self._works()
        # The interpreter runs one thread at a time: as long as this one has had it, the others have it.
        return pause or min(LONGEST_REST_S, time.thread_time() - began)

    def close(self) -> None:
        """Let the lock and the connections go; the next worker copies what is missing."""
        self._source.close()
        self._cache.close()

    def _step(self) -> float:
        debt = self._debt
        if self._copy is None and self._check.is_due() and not self._check.run():
            return RECHECK_S
        # From now on flushes write themselves. What was flushed before is owed by them, or read after this.
        debt.connected = True
        if everything := debt.everything:
            self._copy = None
            return 0.0 if self._begin(everything) else RETRY_S
        if debt.owes_windows:
            self._copy_window()
            return 0.0
        if not debt.settled:
            # Also while a copy is under way: until it is done, readers know by ``whole`` what they can have.
            places = debt.places_to_settle()
            if places is not None:
                self._cache.set_marks("settled", places)
                metrics.observe_delays(metrics.EVENT_TO_REDIS, debt.settle(), self._now_ms())
            return 0.0
        if self._copy is not None:
            self._copy_step(self._copy)
            return 0.0
        return max(0.05, self._check.at - self._monotonic())

    # Everything

    def _begin(self, everything: int) -> bool:
        """Begin to copy everything, or go on with it, or see that another worker does so; False: not now."""
        epoch = self._cache.begin_epoch()
        self._cache.learn_repairs()
        if self._check.noted[0] != everything:
            # The counting has noted it, some time before this.
            self._check.noted = everything, epoch, self._cache.state().copies
        locked = self._source.lock(self._settings.redis_prefix)
        state = self._cache.state()
        oldest = self._cache.oldest(self._now_ms())
        is_served = state.copied > (self._check.noted[2] if epoch == self._check.noted[1] else 0)
        if is_served and (not locked or state.whole_from <= oldest):
            self._debt.serve(everything)
            self._source.close()
            return True
        if not locked:
            return False
        if is_served and state.whole_from < NOTHING_YET_MS:
            counted = self._began[2] if self._began[:2] == (epoch, state.copied) else []
            self._copy = _Copy(epoch, state.copied, counted, state.whole_from, oldest, self._until())
            self._debt.serve(everything)
        else:
            number = self._cache.begin_copy(epoch)
            places = self._source.counted(self._settings.events_topic)
            counted = [(one, place.topic_id, place.offset) for one, place in places.items()]
            self._cache.set_marks("begun", counted, epoch)
            self._began = epoch, number, counted
            self._copy = _Copy(epoch, number, counted, self._until(), oldest, self._until())
            self._debt.begin_everything()
        return True

    def _until(self) -> int:
        """No window that is counted now starts here or later, ms."""
        until = self._now_ms() + int(self._settings.max_future_s * 1000) + self._settings.window_ms
        return until - until % self._settings.window_ms

    def _copy_step(self, copy: _Copy) -> None:
        begin = max(copy.oldest, copy.until - copy.windows * self._settings.window_ms)
        rows = self._source.read(begin, copy.until)
        self._cache.write(rows, self._now_ms(), epoch=copy.epoch)
        metrics.CACHE_COPIED.inc(len(rows))
        copy.copied += len(rows)
        copy.until = begin
        metrics.REBUILD_PROGRESS.set(1 - (begin - copy.oldest) / max(1, copy.begun - copy.oldest))
        copy.densest = max(copy.densest, -(-len(rows) // copy.windows))
        most = ROWS_AT_ONCE // copy.densest if copy.densest else MOST_EMPTY_WINDOWS
        copy.windows = max(1, min(copy.windows * 2, most, HOUR_MS // self._settings.window_ms))
        if begin > copy.oldest:
            self._cache.tell_whole(copy.epoch, copy.number, begin)
            return
        self._cache.set_marks("settled", copy.counted, copy.epoch)
        self._cache.tell_whole(copy.epoch, copy.number, begin)
        log.info("Redis: the recent windows are copied, %s series of windows", copy.copied)
        self._copy = None
        self._source.close()  # the lock goes with the connection

    def _start_over(self) -> None:
        """What is under way is given up; the next check finds what is missing."""
        if self._copy is not None:
            epoch, number = self._copy.epoch, self._copy.number
            self._copy = None
            self._check.lack_everything(epoch, number - 1, "a copy was not completed")
        self._source.close()
        self._debt.connected = False

    # A window

    def _copy_window(self) -> None:
        self._cache.set_marks("owing", self._debt.flushed())
        window = self._debt.take_window()
        if window is None:
            return
        funnel, start = window
        try:
            rows = self._source.read(start, start + 1, funnel)
            self._cache.write(rows, self._now_ms())
        except BaseException:
            self._debt.owe([window])
            raise
        metrics.CACHE_COPIED.inc(len(rows))

    # Outages

    def _fail(self, error: Exception) -> None:
        self._start_over()
        self._cache.close()
        self.error = explain(error)
        metrics.REDIS_ERROR.set(1)
        servers.failed(TASK, error)

    def _works(self) -> None:
        metrics.REDIS_ERROR.set(0)
        if self._debt.settled and self._debt.connected and self._copy is None:
            metrics.REBUILD_PROGRESS.set(1)
        if self.error is not None:
            self.error = None
            servers.done(TASK)
