"""What is ordinary for a series at a time: the seasonal rate of past weeks, or the recent one while there is no week.

Both look only backwards, and depend on nothing but counts and the time of the judged window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.detector.counts import Counts

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

MINUTE_MS = 60_000
WEEK_MS = 604_800_000
WEEKS = 3
NARROW_MS = 15 * MINUTE_MS
WIDE_MS = 60 * MINUTE_MS
THIN_PER_MINUTE = 60.0
"""Below this many impressions a minute, the wider stretch is pooled."""
MIN_WEEK = 20.0
"""A week with fewer impressions in the pooled stretch says nothing."""
RECENT_MS = 6 * WIDE_MS
RECENT_GAP_MS = 10 * MINUTE_MS
MIN_RECENT_MS = 30 * MINUTE_MS
MIN_RECENT = 100.0
MEDIAN_LOSS = 1.35
"""Variance of the median of three over that of their mean (normal): what the median costs."""

Kind = Literal["auto", "seasonal", "recent"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The ordinary rate for some rows (first axis) and every column (second axis)."""

    rate: Floats
    """Expected successes per impression, strictly between 0 and 1; 0.5 where not known."""
    strength: Floats
    """Impressions that the rate rests on."""
    per_window: Floats
    """Mean impressions of one window in what the rate rests on."""
    width: Floats
    """Windows that are pooled around one time: rates of times as close as that share counts."""
    seasonal: NDArray[np.bool_]
    known: NDArray[np.bool_]

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


def baseline(counts: Counts, basis: str, rows: Rows, kind: Kind = "auto") -> Baseline:
    """The baseline for those rows: seasonal where there is a past week, else recent (``auto``), or only one of them."""
    found = recent(counts, basis, rows) if kind == "recent" else seasonal(counts, basis, rows)
    if kind != "auto" or found.known.all():
        return found
    other = recent(counts, basis, rows)
    return Baseline(
        np.where(found.known, found.rate, other.rate),
        np.where(found.known, found.strength, other.strength),
        np.where(found.known, found.per_window, other.per_window),
        np.where(found.known, found.width, other.width),
        found.seasonal,
        found.known | other.known,
    )


def seasonal(counts: Counts, basis: str, rows: Rows) -> Baseline:
    """The median over past weeks of the rate pooled around the same minute of the week (DETECTION.md, step 1)."""
    week = WEEK_MS // counts.window_ms
    centres = (rows[None, :] - week * np.arange(1, WEEKS + 1)[:, None]).ravel()
    shape = (WEEKS, len(rows), len(counts.columns))
    narrow, wide = NARROW_MS // counts.window_ms, WIDE_MS // counts.window_ms
    n_narrow = counts.stretch("impressions", centres - narrow, centres + narrow + 1).reshape(shape)
    n_wide = counts.stretch("impressions", centres - wide, centres + wide + 1).reshape(shape)
    weeks = np.maximum((centres + wide >= 0).reshape(WEEKS, len(rows), 1).sum(axis=0), 1)
    minutes = (2 * narrow + 1) * counts.window_ms / MINUTE_MS * weeks
    thin = n_narrow.sum(axis=0) < THIN_PER_MINUTE * minutes
    x = counts.stretch(basis, centres - wide, centres + wide + 1).reshape(shape)
    if not thin.all():
        x = np.where(thin, x, counts.stretch(basis, centres - narrow, centres + narrow + 1).reshape(shape))
    n = np.where(thin, n_wide, n_narrow)
    usable = n >= MIN_WEEK
    rate = np.where(usable, x / np.maximum(n, 1.0), 0.0)
    number = usable.sum(axis=0)
    total = np.where(usable, n, 0.0).sum(axis=0)
    ends = rate.max(axis=0) + np.where(usable, rate, np.inf).min(axis=0)
    middle = np.where(number == WEEKS, rate.sum(axis=0) - ends, rate.sum(axis=0) / np.maximum(number, 1))
    width = np.where(thin, 2.0 * wide + 1.0, 2.0 * narrow + 1.0)
    windows = width * np.maximum(number, 1)
    known = number > 0
    strength = np.where(number == WEEKS, total / MEDIAN_LOSS, total)
    return Baseline(_inside(middle, total, known), strength, total / windows, width, known, known)


def recent(counts: Counts, basis: str, rows: Rows) -> Baseline:
    """The rate pooled over the last 6 hours, ending 10 minutes before the row (DETECTION.md, step 7)."""
    gap, length = RECENT_GAP_MS // counts.window_ms, max(1, RECENT_MS // counts.window_ms)
    end = rows - gap
    n = counts.stretch("impressions", end - length, end)
    x = counts.stretch(basis, end - length, end)
    # Rows since the first that is remembered: the level must not be thinned by a time before there were counts.
    windows = np.clip(end, 1, length)[:, None]
    known = (n >= MIN_RECENT) & (end * counts.window_ms >= MIN_RECENT_MS)[:, None]
    rate = _inside(x / np.maximum(n, 1.0), n, known)
    return Baseline(rate, n, n / windows, np.broadcast_to(float(length), n.shape), np.zeros_like(known), known)


def _inside(rate: Floats, n: Floats, known: NDArray[np.bool_]) -> Floats:
    """The rate, kept half a success away from 0 and 1, where no deviance could be computed."""
    edge = 0.5 / (n + 1.0)
    return np.where(known, np.clip(rate, edge, 1.0 - edge), 0.5)
