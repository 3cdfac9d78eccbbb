"""The window of a time.

Windows are half-open, ``[start, end)``, of one length, and begin at whole multiples of it since the epoch, so that
every process and every day uses the same borders. Times are milliseconds, UTC.
"""

from __future__ import annotations


def window_start(ts: int, window_ms: int) -> int:
    """The start of the window that ``ts`` belongs to; ``ts == start`` does, ``ts == start + window_ms`` does not."""
    return ts - ts % window_ms


def last_closed(watermark: int, window_ms: int) -> int:
    """Windows that start before this have ended at or before the watermark: they can close.

    ``watermark`` promises that no event with a smaller ts is expected, so the window ``[start, end)`` is
    complete once ``end <= watermark``.
    """
    return window_start(watermark, window_ms)
