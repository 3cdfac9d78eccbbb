"""What the cache in Redis lacks, as far as this worker knows: the counting adds to it, the rebuild pays it off.

The counting never waits for Redis for longer than one call. A write that fails, or that is not tried because Redis is
away, leaves its windows here; too many of them, or a gap that nobody can explain, leave everything. Thread-safe.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from funnelwatch.sinks.redis.state import MoveMark

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from funnelwatch.schemas.counts import PartitionCounts

    Window = tuple[str, int]
    """Funnel and start, ms."""

    PartitionPlace = tuple[int, str, int]
    """Partition, topic id, offset."""

MOST_WINDOWS = 500
"""With more of them everything is copied, newest first."""

MOST_DELAYED = 1_000


class CacheDebt:
    """Windows, or everything, that must be copied from the database to the cache.

    Attributes:
        woken: set when there is something to do at once.
        connected: whether flushes write to Redis themselves; the rebuild sets it once Redis has answered.
        verified: partitions of this worker that were compared with the database since it has them. Kept by the
            rebuild.
    """

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.connected = False
        self.verified: frozenset[int] = frozenset()
        self._lock = threading.Lock()
        self._everything = False
        self._generation = 0
        self._settled = True
        self._windows: dict[Window, None] = {}
        self._least: dict[int, int] = {}
        self._flushed: dict[int, tuple[str, int]] = {}
        self._delayed: list[int | None] = []

    # The counting thread

    def marks(self, batches: Iterable[PartitionCounts], topic_id: str) -> list[MoveMark]:
        """How a flush moves the marks of its partitions on."""
        with self._lock:
            owes = self._everything or bool(self._windows)
            return [
                MoveMark(
                    batch.partition,
                    topic_id,
                    self._least_of(batch.partition, batch.start_offset),
                    batch.next_offset,
                    # A mark that was not compared yet stays as its last worker left it.
                    batch.partition in self._least or (owes and batch.partition in self.verified),
                )
                for batch in batches
            ]

    def _least_of(self, partition: int, offset: int) -> int:
        return min(offset, self._least.get(partition, offset))

    def wrote(self, marks: Iterable[MoveMark]) -> None:
        """Note that a flush is in the cache."""
        with self._lock:
            self._note(marks)

    def owe(self, windows: Iterable[Window], marks: Iterable[MoveMark] = ()) -> None:
        """Note windows of a flush that are not in the cache."""
        with self._lock:
            self._settled = False
            self._note(marks)
            self._windows |= dict.fromkeys(windows)
            self._least |= {mark.partition: mark.least for mark in marks}
            if len(self._windows) > MOST_WINDOWS:
                self._lack_everything()
                self._windows = {}
        self.woken.set()

    def _note(self, marks: Iterable[MoveMark]) -> None:
        self._flushed |= {mark.partition: (mark.topic_id, mark.to) for mark in marks}

    def delay(self, oldest: Iterable[int | None]) -> None:
        """Note the times (ms) of the oldest records of a flush that is not in the cache yet; of many only some."""
        with self._lock:
            if len(self._delayed) < MOST_DELAYED:
                self._delayed += oldest

    def owe_everything(self) -> None:
        """Note that the cache lacks nobody knows what."""
        with self._lock:
            self._lack_everything()
        self.woken.set()

    def _lack_everything(self) -> int:
        self._everything, self._settled = True, False
        self._generation += 1
        return self._generation

    # The rebuild's thread

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self._settled

    @property
    def everything(self) -> int:
        """0; where all recent windows must be copied, another number each time that this is noted."""
        return self._generation if self._everything else 0

    def lack_everything(self) -> int | None:
        """As ``owe_everything``, and the number of that; None where everything is owed already."""
        with self._lock:
            return None if self._everything else self._lack_everything()

    @property
    def owes_windows(self) -> bool:
        """Whether some windows must be copied."""
        return bool(self._windows)

    def least(self, partition: int, offset: int) -> int:
        """How far behind the mark of a partition may be that is counted up to this offset."""
        with self._lock:
            return self._least_of(partition, offset)

    def begin_everything(self) -> None:
        """A copy of everything has begun, with nothing read yet: it reads whatever was owed before."""
        with self._lock:
            self._everything = False
            self._windows, self._least = {}, {}

    def serve(self, everything: int) -> None:
        """A copy that was begun before has all that was missing when everything was owed for this number."""
        with self._lock:
            if self._generation == everything:
                self._everything = False

    def take_window(self) -> Window | None:
        """A window that is about to be copied; to be owed again if that fails."""
        with self._lock:
            window = next(iter(self._windows), None)
            if window is not None:
                del self._windows[window]
            return window

    def flushed_to(self, partition: int) -> int:
        """How far this worker has flushed a partition; 0 where it has not."""
        with self._lock:
            return self._flushed.get(partition, ("", 0))[1]

    def flushed(self) -> list[PartitionPlace]:
        """Of each partition that was verified how far this worker has flushed it."""
        with self._lock:
            return [(number, *place) for number, place in self._flushed.items() if number in self.verified]

    def places_to_settle(self) -> list[PartitionPlace] | None:
        """As ``flushed``; None where something is owed still."""
        with self._lock:
            if self._everything or self._windows:
                return None
            return [(number, *place) for number, place in self._flushed.items() if number in self.verified]

    def settle(self) -> list[int | None]:
        """Nothing is left, unless something came meanwhile; the times that were noted with ``delay``."""
        with self._lock:
            if self._everything or self._windows:
                return []
            self._settled = True
            self._least = {}
            delayed, self._delayed = self._delayed, []
            return delayed

    def unsettle(self) -> None:
        """The marks of this worker are to be settled once more."""
        with self._lock:
            self._settled = False

    def keep(self, partitions: Collection[int]) -> None:
        """Forget what is known of all other partitions: other workers have them."""
        with self._lock:
            self._flushed = {number: place for number, place in self._flushed.items() if number in partitions}
            self._least = {number: offset for number, offset in self._least.items() if number in partitions}
