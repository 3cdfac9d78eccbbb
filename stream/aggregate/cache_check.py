"""Compares the marks in Redis with the database's progress: whether the cache has what its marks claim.

Where they agree nothing is copied. Where they do not, the recent windows are owed, and ``cache_rebuild`` copies them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.redis.cache import CountCache
    from funnelwatch.sinks.redis.keys import Mark
    from funnelwatch.sinks.redis.state import CacheState
    from funnelwatch.sinks.timescale.cache import CacheSource, Place
    from funnelwatch.stream.aggregate.cache_debt import CacheDebt
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment

log = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
"""The marks are compared this often, so that a Redis that was emptied or restored is noticed without events."""

CHECKS = 10
"""A mark that is behind in so many checks in a row is a gap; in fewer it is a flush that is being written."""


class CacheCheck:
    """Checks the cache, and notes what it lacks. For the thread of ``CacheRebuild``.

    Attributes:
        at: monotonic time of the next check, s.
        noted: why everything is owed: the number of the debt, the epoch of the cache, and its copies then.
    """

    def __init__(  # noqa: PLR0917
        self,
        settings: Settings,
        source: CacheSource,
        cache: CountCache,
        debt: CacheDebt,
        assigned: Callable[[], Mapping[int, PartitionAssignment]],
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self.at = 0.0
        self.noted: tuple[int, str, int] = 0, "", 0
        self._settings = settings
        self._source = source
        self._cache = cache
        self._debt = debt
        self._assigned = assigned
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._verified: dict[int, PartitionAssignment] = {}
        self._behind = 0

    def is_due(self) -> bool:
        """Whether it is time for a check, or a partition is new to this worker."""
        if self._monotonic() >= self.at or not self._debt.connected:
            return True
        return any(self._verified.get(number) is not one for number, one in self._assigned().items())

    def run(self) -> bool:
        """Check that Redis has what its marks claim; False if a later check must decide."""
        debt = self._debt
        mine = self._assigned()
        # What is noted as flushed before this is in the marks that are read after it.
        expected = {number: max(one.counted_from, debt.flushed_to(number)) for number, one in mine.items()}
        if not debt.connected:
            self._cache.probe()
            self._cache.learn_repairs()
        before = self._cache.state()
        counted = self._source.counted(self._settings.events_topic)
        state = self._cache.state()
        self.at = self._monotonic() + CHECK_EVERY_S
        if not state.epoch:
            self.lack_everything("", 0, "it is empty")
        elif any(_is_ahead(counted.get(number), mark) for number, mark in before.marks.items()):
            log.warning("Redis: has more than the database, which was set back: the cache is cleared")
            self._cache.clear()
            self.lack_everything("", 0, "it was cleared")
        else:
            behind = [number for number in mine if self._is_behind(mine[number], expected[number], state, counted)]
            self._behind = self._behind + 1 if behind else 0
            if 0 < self._behind < CHECKS:
                self.at = self._monotonic()
                return False
            if behind:
                self.lack_everything(state.epoch, state.copies, f"it is behind in partitions {sorted(behind)}")
            self._check_owing(state, mine)
            self._check_whole(state)
        self._behind = 0
        self._verified = dict(mine)
        debt.keep(mine)
        debt.verified = frozenset(mine)
        return True

    def _is_behind(
        self, mine: PartitionAssignment, expected: int, state: CacheState, counted: Mapping[int, Place]
    ) -> bool:
        number = mine.partition
        place, mark = counted.get(number), state.marks.get(number)
        if mark is None and place is not None and not place.any:
            self._cache.set_marks("settled", [(number, place.topic_id, place.offset)], state.epoch)
            return False
        return mark is None or mark.topic_id != mine.topic_id or mark.offset < self._debt.least(number, expected)

    def _check_owing(self, state: CacheState, mine: Mapping[int, PartitionAssignment]) -> None:
        """What the last worker of a partition left out is ours now; what we left out is settled once more."""
        owing = {number: mark.owes for number, mark in state.marks.items() if number in mine and mark.owes is not None}
        came = [number for number in owing if self._verified.get(number) is not mine[number]]
        left_out = max((owing[number] for number in came), default=-1)
        if left_out >= state.copied:
            self.lack_everything(state.epoch, left_out, f"something of partitions {sorted(came)} was left out")
        elif owing:
            self._debt.unsettle()

    def _check_whole(self, state: CacheState) -> None:
        """A copy that nobody goes on with is gone on with; nothing else is missing."""
        if state.whole_from > self._cache.oldest(self._now_ms()) and not self._debt.everything:
            if self._source.lock(self._settings.redis_prefix):
                self.lack_everything(state.epoch, state.copied - 1, "a copy was not completed")
            else:
                self._source.close()

    def lack_everything(self, epoch: str, copies: int, why: str) -> None:
        """Everything is missing but for what copies with a higher number have."""
        number = self._debt.lack_everything()
        if number is not None:
            log.info("Redis: the recent windows are to be copied: %s", why)
            self.noted = number, epoch, copies


def _is_ahead(place: Place | None, mark: Mark) -> bool:
    return place is not None and mark.topic_id == place.topic_id and mark.offset > place.offset
