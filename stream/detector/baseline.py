"""The expected rate of a series at a time: the seasonal rate of past weeks, or the recent one in the first week.

Both look only backwards, and depend on nothing but counts and the time of the evaluated window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from funnelwatch.schemas.times import MINUTE_MS, WEEK_MS
from funnelwatch.stream.detector.counts import SHOWN

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Flags, Floats, Indexes
    from funnelwatch.stream.detector.counts import Counts


WEEKS = 3
NARROW_MS = 15 * MINUTE_MS
WIDE_MS = 60 * MINUTE_MS
THIN_PER_MINUTE = 60.0
"""Below this many impressions a minute, the wider span is pooled."""
MIN_WEEK = 20.0
"""A week with fewer impressions in the pooled span is left out."""
RECENT_MS = 6 * WIDE_MS
RECENT_GAP_MS = 10 * MINUTE_MS
MIN_RECENT_MS = 30 * MINUTE_MS
MIN_RECENT = 100.0
MEDIAN_LOSS = 1.35
"""Variance of the median of three over that of their mean (normal): what the median costs."""
COARSE_MS = 60 * MINUTE_MS
"""From this length on windows are coarse: spans are days long then, and so may be what they are compared with."""
QUARTER_MS = 6 * WIDE_MS
ENOUGH = 400.0
"""More coarse windows are pooled where there are fewer impressions than this: an error of 2.5% at a rate of 0.8."""
LONG_WEEKS = 13
MIN_LONG = 30.0

Kind = Literal["auto", "seasonal", "recent"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The ordinary rate for some rows (first axis) and every column (second axis)."""

    rate: Floats
    """Expected successes per impression (session basis: per session), strictly between 0 and 1; 0.5 where not known."""
    strength: Floats
    """Impressions that the rate rests on."""
    per_window: Floats
    """Mean impressions of one window in what the rate rests on."""
    width: Floats
    """Windows that are pooled around one time: rates of times as close as that share counts."""
    seasonal: Flags
    known: Flags

    def rows(self, begin: int) -> Baseline:
        """Without the rows before ``begin``."""
        return Baseline(
            self.rate[begin:],
            self.strength[begin:],
            self.per_window[begin:],
            self.width[begin:],
            self.seasonal[begin:],
            self.known[begin:],
        )


def memory_ms(window_ms: int) -> int:
    """How far back the baselines of such windows snapshot."""
    return (LONG_WEEKS if window_ms >= COARSE_MS else WEEKS) * WEEK_MS


def baseline(counts: Counts, basis: str, rows: Indexes, kind: Kind = "auto") -> Baseline:
    """The baseline for those rows: seasonal where there is a past week, else recent (``auto``), or only one of them."""
    if kind == "recent":
        return recent(counts, basis, rows)
    found = seasonal(counts, basis, rows)
    if counts.window_ms >= COARSE_MS:
        whole = long(counts, basis, rows)
        found = _either(whole.known & (found.strength < np.minimum(ENOUGH, whole.strength)), whole, found)
    if kind == "seasonal" or found.known.all():
        return found
    return _either(found.known, found, recent(counts, basis, rows))


def _either(first: Flags, one: Baseline, other: Baseline) -> Baseline:
    """``one`` where ``first``, else the other."""
    return Baseline(
        np.where(first, one.rate, other.rate),
        np.where(first, one.strength, other.strength),
        np.where(first, one.per_window, other.per_window),
        np.where(first, one.width, other.width),
        np.where(first, one.seasonal, other.seasonal),
        np.where(first, one.known, other.known),
    )


def seasonal(counts: Counts, basis: str, rows: Indexes) -> Baseline:
    """The median over past weeks of the rate pooled around the same minute of the week (DETECTION.md, step 1)."""
    week = WEEK_MS // counts.window_ms
    centres = rows[None, :] - week * np.arange(1, WEEKS + 1)[:, None]
    narrow, wide, quarter = (length // counts.window_ms for length in (NARROW_MS, WIDE_MS, QUARTER_MS))
    weeks = np.maximum((centres + wide >= 0).sum(axis=0), 1)[:, None]
    minutes = (2 * narrow + 1) * counts.window_ms / MINUTE_MS * weeks
    n = _around(counts, SHOWN[basis], centres, narrow)
    thin = n.sum(axis=0) < THIN_PER_MINUTE * minutes
    x = np.zeros_like(n) if thin.all() else _around(counts, basis, centres, narrow)
    half = np.where(thin, float(wide), float(narrow))
    if thin.any():
        n = np.where(thin, _around(counts, SHOWN[basis], centres, wide), n)
        x = np.where(thin, _around(counts, basis, centres, wide), x)
    if counts.window_ms >= COARSE_MS:
        thin = n.sum(axis=0) < ENOUGH
        half = np.where(thin, float(quarter), half)
        n = np.where(thin, _around(counts, SHOWN[basis], centres, quarter), n)
        x = np.where(thin, _around(counts, basis, centres, quarter), x)
    usable = n >= MIN_WEEK
    rate = np.where(usable, x / np.maximum(n, 1.0), 0.0)
    number = usable.sum(axis=0)
    total = np.where(usable, n, 0.0).sum(axis=0)
    ends = rate.max(axis=0) + np.where(usable, rate, np.inf).min(axis=0)
    middle = np.where(number == WEEKS, rate.sum(axis=0) - ends, rate.sum(axis=0) / np.maximum(number, 1))
    width = 2.0 * half + 1.0
    known = number > 0
    strength = np.where(number == WEEKS, total / MEDIAN_LOSS, total)
    windows = width * np.maximum(number, 1)
    return Baseline(_inside(middle, total, known), strength, total / windows, width, known, known)


def _around(counts: Counts, channel: str, centres: Indexes, half: int) -> Floats:
    """Sums over ``half`` rows before and after each of the centres (weeks, rows): shape (weeks, rows, columns)."""
    places = centres.ravel()
    return counts.sums(channel, places - half, places + half + 1).reshape(*centres.shape, len(counts.columns))


def long(counts: Counts, basis: str, rows: Indexes) -> Baseline:
    """The rate pooled over LONG_WEEKS, ending a week before the row: for series too thin to have a season."""
    week = WEEK_MS // counts.window_ms
    end, begin = rows - week, rows - LONG_WEEKS * week
    n = counts.sums(SHOWN[basis], begin, end)
    x = counts.sums(basis, begin, end)
    known = n >= MIN_LONG
    windows = np.maximum(np.clip(end, 0, counts.rows) - np.clip(begin, 0, counts.rows), 1)[:, None].astype(np.float64)
    return Baseline(
        _inside(x / np.maximum(n, 1.0), n, known), n, n / windows, np.broadcast_to(windows, n.shape), known, known
    )


def recent(counts: Counts, basis: str, rows: Indexes) -> Baseline:
    """The rate pooled over the last 6 hours, ending 10 minutes before the row (DETECTION.md, step 7)."""
    gap, length = RECENT_GAP_MS // counts.window_ms, max(1, RECENT_MS // counts.window_ms)
    end = rows - gap
    n = counts.sums(SHOWN[basis], end - length, end)
    x = counts.sums(basis, end - length, end)
    # Indexes since the first that is remembered: the level must not be thinned by a time before there were counts.
    windows = np.clip(end, 1, length)[:, None]
    known = (n >= MIN_RECENT) & (end * counts.window_ms >= MIN_RECENT_MS)[:, None]
    rate = _inside(x / np.maximum(n, 1.0), n, known)
    return Baseline(rate, n, n / windows, np.broadcast_to(float(length), n.shape), np.zeros_like(known), known)


def _inside(rate: Floats, n: Floats, known: Flags) -> Floats:
    """The rate, kept half a success away from 0 and 1, where no deviance could be computed."""
    edge = 0.5 / (n + 1.0)
    return np.where(known, np.clip(rate, edge, 1.0 - edge), 0.5)
