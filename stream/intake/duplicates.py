"""Duplicates: the same ``event_id`` twice within the horizon is counted once.

The horizon is measured in Kafka's own timestamps of the partition's records, not in wall time, so that reading the
log again finds the same duplicates. An event and its repetition have the same session and so the same partition;
hence each partition remembers for itself, and what it remembers is rebuilt by reading the horizon before the place
where counting goes on. An event is a duplicate if the same id stands anywhere in the horizon before it, as a duplicate
or not: so a reader of one horizon finds the same duplicates as a reader of the whole log.
"""

from __future__ import annotations

import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.native.library import enough_memory, native

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Flags, Words
    from funnelwatch.stream.intake.batches import Rows


class SeenIds:
    """The event ids of one partition, each with the Kafka timestamp (ms) of its latest record.

    Ids are kept in two generations: when the younger spans a horizon it becomes the elder and the former elder is
    forgotten whole, which costs nothing an event. So an id is remembered for one to two horizons, but only within one
    is it a duplicate. ``limit`` bounds a generation; a generation that is full is ended early, and then the horizon
    is shorter than asked for (``shortened`` counts how often).

    Ids are held as 64-bit digests: among a million ids the chance that a fresh one is taken for a duplicate is 5e-14.
    """

    def __init__(self, horizon_ms: int, limit: int = 1_000_000) -> None:
        library = native()
        self.horizon_ms = horizon_ms
        self._handle = library.fw_seen_new(horizon_ms, limit)
        enough_memory(self._handle)
        weakref.finalize(self, library.fw_seen_free, self._handle)
        self._to_forget: SimpleQueue[Words] = SimpleQueue()

    @property
    def shortened(self) -> int:
        """How often a generation was ended early."""
        return int(native().fw_seen_shortened(self._handle))

    def forget(self, digests: Words) -> None:
        """Forget ids whose events could not be counted, so that a replay of them counts. From any thread."""
        self._to_forget.put(digests)

    def are_new(self, rows: Rows, now_ms: int) -> Flags:
        """Remember the ids of records, one after the other; False for each that is a duplicate within the horizon.

        Args:
            rows: the records (``ROW``); their ids and Kafka timestamps count.
            now_ms: a timestamp ahead of the clock counts as now: it must not end a generation early.
        """
        library = native()
        while not self._to_forget.empty():
            forgotten = self._to_forget.get()
            library.fw_seen_forget(self._handle, forgotten.size, forgotten.ctypes.data)
        new = np.ones(rows.size, np.bool_)
        if self.horizon_ms:
            rows = np.ascontiguousarray(rows)
            found = library.fw_seen_are_new(self._handle, rows.size, rows.ctypes.data, now_ms, new.ctypes.data)
            enough_memory(found >= 0)
        return new

    def __len__(self) -> int:
        """How many ids are remembered."""
        return int(native().fw_seen_size(self._handle))
