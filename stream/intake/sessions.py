"""Sessions: what an event adds to the counts of people, told by the events of its session before it.

docs/sessions.md has the definitions. A session is of one funnel and one partition. It begins with an event that comes
the session window or more after the last one of its id, and counts for one session window from then on; both by Kafka's
own timestamps, so that reading the log again finds the same sessions.

To know at one place of the log whatever counts from there on, a reader begins two session windows before it. It may
take an event of the first of them for the beginning of a session that has begun earlier; whatever it takes for one
counts nothing any more at that place.
"""

from __future__ import annotations

import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.native.library import CREDIT, enough_memory, native

if TYPE_CHECKING:
    from funnelwatch.stream.intake.batches import Credits, Rows
    from funnelwatch.stream.native.series_numbers import Places

CREDITS_AN_EVENT = 4
"""An impression may be the first of its step and reach it, while the success of both has come before."""


class Sessions:
    """The sessions of one partition.

    Sessions are kept in two generations, as event ids are (``SeenIds``): one is forgotten once it has had no event for
    one and a half to three session windows. So it is known for a window also where Kafka's timestamps are up to a
    quarter of it out of order. ``limit`` bounds a generation; one that is full ends early, and then a session that goes
    on may be taken for a new one (``shortened`` counts how often).

    Ids are held as keyed 64-bit digests of funnel and session, in memory only.

    Args:
        longest_ms: the longest session window of any funnel, ms.
        limit: sessions of a generation.
    """

    def __init__(self, longest_ms: int, limit: int) -> None:
        library = native()
        self._handle = library.fw_sessions_new(longest_ms + longest_ms // 2, limit)
        enough_memory(self._handle)
        weakref.finalize(self, library.fw_sessions_free, self._handle)
        self._to_void: SimpleQueue[Rows] = SimpleQueue()

    @property
    def shortened(self) -> int:
        """How often a generation was ended early."""
        return int(native().fw_sessions_shortened(self._handle))

    def void(self, rows: Rows) -> None:
        """Let the sessions of events that could not be counted count nothing more. From any thread."""
        self._to_void.put(np.ascontiguousarray(rows))

    def credited(self, rows: Rows, places: Places, now_ms: int) -> Credits:
        """What events add by their sessions, one after the other; the sessions are remembered.

        Args:
            rows: accepted events (``ROW``), none of them a duplicate.
            places: where the series of each number stands (``PLACE``).
            now_ms: a timestamp ahead of the clock counts as now.

        Returns:
            Rows of ``CREDIT``: one more in a column of the counts of a series, in the window of a moment; each with the
            offset of its event.
        """
        library = native()
        while not self._to_void.empty():
            void = self._to_void.get()
            enough_memory(library.fw_sessions_void(self._handle, void.size, void.ctypes.data, places.ctypes.data))
        rows = np.ascontiguousarray(rows)
        found = np.empty(rows.size * CREDITS_AN_EVENT, CREDIT)
        count = library.fw_sessions_credits(
            self._handle, rows.size, rows.ctypes.data, places.ctypes.data, now_ms, found.ctypes.data
        )
        enough_memory(count >= 0)
        return found[:count].copy()

    def __len__(self) -> int:
        """How many sessions are remembered."""
        return int(native().fw_sessions_size(self._handle))
