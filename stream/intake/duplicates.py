"""Duplicates: the same ``event_id`` twice within the horizon is counted once.

The horizon is measured in Kafka's own timestamps of the partition's records, not in wall time, so that reading the
log again finds the same duplicates. An event and its repetition have the same session and so the same partition;
hence each partition remembers for itself, and what it remembers is rebuilt by reading the horizon before the place
where counting goes on. An event is a duplicate if the same id stands anywhere in the horizon before it, as a duplicate
or not: so a reader of one horizon finds the same duplicates as a reader of the whole log.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.intake.hash_table import HashTable

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Ints, Words

NEVER = -(2**62)
"""When an id was last seen that was not."""


class SeenIds:
    """The event ids of one partition, each with the Kafka timestamp (ms) of its latest record.

    Ids are kept in two generations: when the younger spans a horizon it becomes the elder and the former elder is
    forgotten whole, which costs nothing an event. So an id is remembered for one to two horizons, but only within one
    is it a duplicate. ``limit`` bounds a generation; a generation that is full is ended early, and then the horizon
    is shorter than asked for (``shortened`` counts how often).

    Ids are held as 64-bit digests: among a million ids the chance that a fresh one is taken for a duplicate is 5e-14.
    """

    def __init__(self, horizon_ms: int, limit: int = 1_000_000) -> None:
        self.horizon_ms = horizon_ms
        self.shortened = 0
        self._limit = limit
        self._young = HashTable()
        self._old = HashTable()
        self._young_since: int | None = None
        self._to_forget: SimpleQueue[Words] = SimpleQueue()

    def forget(self, digests: Words) -> None:
        """Forget ids whose events could not be counted, so that a replay of them counts. From any thread."""
        self._to_forget.put(digests)

    def are_new(self, digests: Words, log_times: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Remember ids, one after the other; False for each that is a duplicate within the horizon before it.

        Args:
            digests: of the ids, as ``funnelwatch.schemas.page`` makes them.
            log_times: Kafka's timestamp of each one's record, ms.
        """
        while not self._to_forget.empty():
            forgotten = self._to_forget.get()
            for generation in (self._young, self._old):
                generation.put(forgotten, np.full(forgotten.size, NEVER, np.int64))
        new = np.ones(digests.size, np.bool_)
        at = 0
        while self.horizon_ms and at < digests.size:
            until = self._begin(log_times[at:], at)
            new[at:until] = self._are_new(digests[at:until], log_times[at:until])
            at = until
        return new

    def _begin(self, log_times: Ints, at: int) -> int:
        """Begin a generation where that is due; up to where ids can be remembered without another look."""
        first = int(log_times[0])
        if self._young_since is None:
            self._young_since = first
        full = len(self._young) >= self._limit
        if full or first - self._young_since > self.horizon_ms:
            self.shortened += full
            self._old, self._young, self._young_since = self._young, HashTable(), first
        beyond = np.flatnonzero(log_times > self._young_since + self.horizon_ms)
        span = int(beyond[0]) if beyond.size else log_times.size
        return at + min(span, self._limit - len(self._young))

    def _are_new(self, digests: Words, log_times: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        young = self._young
        # Before the look-up: growing moves all slots, and the slots found are used again for the put.
        young.reserve(digests.size)
        slots, last = young.look_up(digests, NEVER)
        fresh = last == NEVER
        known = digests[~fresh]
        # An id that is seen again moves to the young generation, so the old one never has a later time of it.
        if len(self._old):
            last[fresh] = self._old.get(digests[fresh], NEVER)
        latest = np.maximum(last, log_times)
        before = len(young)
        young.put(digests, latest, slots)
        # Without repetitions within the batch, which is the rule, nothing has to be sorted.
        if len(young) - before == digests.size - known.size and np.unique(known).size == known.size:
            return log_times - last > self.horizon_ms
        # The same id several times: each is compared with the latest of those before it.
        order = np.argsort(digests, kind="stable")
        begins = np.r_[True, digests[order][1:] != digests[order][:-1]]
        run = np.cumsum(begins) - 1
        apart = run * (int(latest.max()) - int(log_times.min()) + 1)
        so_far = np.maximum.accumulate(latest[order] + apart) - apart
        earlier = np.where(begins, last[order], np.r_[0, so_far[:-1]])
        ends = np.r_[begins[1:], True]
        young.put(digests[order][ends], so_far[ends])
        new = np.empty(digests.size, np.bool_)
        new[order] = log_times[order] - earlier > self.horizon_ms
        return new

    def __len__(self) -> int:
        """How many ids are remembered."""
        return len(self._young) + len(self._old)
