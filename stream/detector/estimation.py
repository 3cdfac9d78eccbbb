"""The estimates of noise, worked out piece by piece.

Made now and then at fixed event times from whole windows before that time, so that they do not depend on when or how
often the program was started.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.times import WEEK_MS
from funnelwatch.stream.detector.baseline import WEEKS
from funnelwatch.stream.detector.estimate import (
    estimate_lags,
    overdispersion,
    sampled_hours,
    share_out,
    spread,
    unknown,
    view,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.arrays import Indexes
    from funnelwatch.stream.detector.counts import Counts
    from funnelwatch.stream.detector.scan import Estimates

    Span = tuple[int, int]
    """Rows [begin, end)."""

BLOCK = 16
"""Columns treated at a time: few enough to stay in the cache."""


def estimate(counts: Counts, basis: str, end: int, lags: int) -> Estimates:
    """The estimates from the windows before row ``end``, all at once; see `Estimation`."""
    whole = Estimation(counts, basis, counts.first + end, lags)
    whole.advance(1.0)
    return whole.estimates


class Estimation:
    """Estimates that are worked out piece by piece, so that no single window has to wait for all of them.

    From the windows before number ``end`` (start // window length), of the three weeks before it at most. The pieces
    say together what they would say at once, as long as those windows are remembered and are not revised meanwhile.

    Args:
        counts: history; it may go on meanwhile. Columns that come later have no part.
        basis: of the successes.
        end: the number of the window after the last that is used.
        lags: how many windows after its own a success may come; 1 says that it never comes later (cohort basis).
    """

    def __init__(self, counts: Counts, basis: str, end: int, lags: int) -> None:
        columns = len(counts.columns)
        self.estimates = unknown(columns, lags)
        """Of use once all is done."""
        self._counts = counts
        self._basis = basis
        self._end = end
        self._slope = np.zeros(columns)
        self._doubt = np.full(columns, np.inf)
        blocks = [np.arange(first, min(first + BLOCK, columns)) for first in range(0, columns, BLOCK)]
        self._pieces: list[Callable[[Span], None]] = [
            self._lags, *(partial(self._overdispersion, part) for part in blocks),
            self._share_out, *(partial(self._spread, part) for part in blocks),
        ]  # fmt: skip
        self._done = 0

    def advance(self, share: float) -> None:
        """Work until this share of the pieces is done."""
        due = min(len(self._pieces), ceil(share * len(self._pieces)))
        while self._done < due:
            end = self._end - self._counts.first
            span = max(0, end - WEEKS * (WEEK_MS // self._counts.window_ms)), end
            if span[1] - span[0] > 1:
                self._pieces[self._done](span)
            self._done += 1

    def _lags(self, span: Span) -> None:
        if len(self.estimates.kernel) > 1:
            estimate_lags(self._counts, self._basis, *span, self.estimates.kernel)

    def _overdispersion(self, part: Indexes, span: Span) -> None:
        rows = sampled_hours(self._counts, *span)
        near, kernel = self._counts.only(part), self.estimates.kernel[:, part]
        seen = view(near, self._basis, span, rows, kernel, np.arange(len(part)))
        self._slope[part], self._doubt[part] = overdispersion(seen)

    def _share_out(self, _: Span) -> None:
        names = [(column.step, column.level) for column in islice(self._counts.columns, len(self._slope))]
        groups = {name: number for number, name in enumerate(dict.fromkeys(names))}
        if names:
            numbers = np.array([groups[name] for name in names])
            self.estimates.rho[:] = share_out(self._slope, self._doubt, numbers)

    def _spread(self, part: Indexes, span: Span) -> None:
        if span[1] - span[0] > WEEK_MS // self._counts.window_ms:
            near, kernel = self._counts.only(part), self.estimates.kernel[:, part]
            rho = self.estimates.rho[part]
            self.estimates.sigma[:, part] = spread(near, self._basis, span, np.arange(len(part)), kernel, rho)
