"""Counts one dimension finer than the evaluated levels, from which a loss is traced to a value; in little memory.

The newest windows are kept one by one, because a loss is measured over them. All of them are kept in rows of a quarter
of an hour, because a baseline pools half an hour or more around one time of the week::

    windows  |....|....|....|....|....|....|....|....|   one by one: the last hours
    rows     |   15 min    |   15 min    |  the newest   all weeks; the newest row grows with each window
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.times import HOUR_MS, MINUTE_MS
from funnelwatch.stream.detector.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from funnelwatch.schemas.counts import Series

ROW_MS = 15 * MINUTE_MS
KEPT_MS = 6 * HOUR_MS
"""Windows are kept one by one for this long, or for ``least`` of them: late events come within it, nearly all."""


class Drill:
    """Counts of the columns of some levels.

    Attributes:
        windows: the newest windows, one by one.
        rows: all windows, added up to rows.

    Args:
        levels: the levels.
        channels: kinds of counts (``funnelwatch.stream.detector.counts.CHANNELS``).
        window_ms: length of a window.
        history_ms: how far back rows are kept.
        least: at least so many windows are kept one by one.
    """

    def __init__(
        self, levels: Iterable[tuple[str, ...]], channels: Iterable[str], window_ms: int, history_ms: int, least: int
    ) -> None:
        row_ms = max(1, ROW_MS // window_ms) * window_ms
        self.windows = Counts(levels, channels, window_ms, max(least, -(-KEPT_MS // window_ms)))
        self.rows = Counts(self.windows.levels, self.windows.channels, row_ms, -(-history_ms // row_ms))

    def append(self, block: Block) -> None:
        """Add the newest windows; windows left out before them count nothing."""
        self.know(block.series)
        self.windows.append(block)
        self._append_rows(block)

    def learn(self, block: Block) -> None:
        """Add the newest windows as ``append`` does, where no loss in any of them but the last is traced."""
        self.know(block.series)
        first = max(0, len(block) - self.windows.limit)
        self.windows.append(block.part(first, len(block), self.windows.window_ms))
        self._append_rows(block)

    def _append_rows(self, block: Block) -> None:
        window_ms, row_ms = self.windows.window_ms, self.rows.window_ms
        first = block.start // row_ms
        start, length = first * row_ms, (block.start + (len(block) - 1) * window_ms) // row_ms - first + 1
        rows = (block.start + block.rows * window_ms) // row_ms - first
        whole = Block(start, block.series, rows, block.places, block.tallies, length)
        if self.rows.rows and self.rows.row_of(start) == self.rows.rows - 1:
            self.rows.add(whole.part(0, 1, row_ms))
            whole = whole.part(1, length, row_ms)
        if len(whole):
            self.rows.append(whole)

    def know(self, series: Sequence[Series]) -> None:
        """Have columns for these series, made in this order where they are new."""
        self.windows.places(series)
        self.rows.places(series)

    def revise(self, block: Block) -> None:
        """Replace the counts of one window, if it is still kept one by one; older ones stay as they were."""
        if 0 <= self.windows.row_of(block.start) < self.windows.rows:
            change = self.windows.revise(block)
            # Both have the same columns at the same places, since both see the same series in the same order.
            self.rows.places(block.series)
            self.rows.shift(block.start, change)
