"""A panel: all columns of the counts, scanned on one basis; keeps the ordinary rates of the last windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.detector.baseline import Baseline, baseline
from stream.detector.estimate import RHO_UNKNOWN, estimate, unknown
from stream.detector.scan import LONGEST, TAU_RECENT, TAU_SEASONAL, Estimates, Scan, due, scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.detector.baseline import Kind
    from stream.detector.counts import Counts

HOUR_MS = 3_600_000
MAX_LAGS = 13
"""A success may come in its own window or in this many less one after it; what is later counts as lost."""


def estimate_every(age_ms: int) -> int:
    """How often the noise is estimated anew, ms of event time: often while there is little history."""
    if age_ms < 6 * HOUR_MS:
        return HOUR_MS // 4
    return HOUR_MS if age_ms < 48 * HOUR_MS else 6 * HOUR_MS


class Panel:
    """Scans every column at the newest window that has matured."""

    def __init__(self, counts: Counts, basis: str, maturity_ms: int, kind: Kind) -> None:
        self.counts = counts
        self.basis = basis
        self.kind: Kind = kind
        late = -(-maturity_ms // counts.window_ms)
        self.lags = min(1 + late, MAX_LAGS) if basis == "window" else 1
        self.behind = late if basis == "cohort" else 0
        """How many windows the judged one is behind the newest: cohorts are judged when they have matured."""
        self.estimates: Estimates = unknown(0, self.lags)
        self.now: Baseline | None = None
        """The baseline of the judged window; one row."""
        self._steps: list[str] = []
        self._epoch = -1
        self._number = -1
        self._rate = np.full((LONGEST, 0), 0.5)
        self._known = np.zeros((LONGEST, 0), dtype=bool)

    @property
    def head(self) -> int:
        """The judged row; negative while none has matured."""
        return self.counts.rows - 1 - self.behind

    def advance(self) -> Scan | None:
        """Scan at the judged row; None while there is none."""
        head = self.head
        if head < 0 or not self.counts.columns:
            return None
        self._widen()
        self._estimate(head)
        now = self._remember(head)
        n = self.counts.each("impressions", head - LONGEST - self.lags + 1, head + 1, slice(None))
        x = self.counts.each(self.basis, head - LONGEST + 1, head + 1, slice(None))
        clumps = 1.0 + np.maximum(now.per_window[0] - 1.0, 0.0) * self.estimates.rho
        doubt = (1.0 - now.rate[0]) / np.maximum(now.rate[0] * now.strength[0], 1e-12) * clumps
        tau = np.where(now.seasonal[0], TAU_SEASONAL, TAU_RECENT)
        return scan(n, x, self._rate, self._known, self.estimates, tau**2 + doubt)

    def expectation(self, begin: int, columns: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected and seen successes of each row in [begin, head], of some columns: shape (rows, columns) each."""
        head = self.head
        found = baseline(self.counts, self.basis, np.arange(begin, head + 1), self.kind)
        n = self.counts.each("impressions", begin - self.lags + 1, head + 1, columns)
        x = self.counts.each(self.basis, begin, head + 1, columns)
        known = found.known[:, columns]
        expected = due(n, self.estimates.kernel[:, columns]) * found.rate[:, columns]
        return np.where(known, expected, 0.0), np.where(known, x, 0.0)

    def _widen(self) -> None:
        """Take up columns that have come since: no baseline yet, the noise of the unknown, the lag of their step."""
        have, want = len(self._steps), len(self.counts.columns)
        if have == want:
            return
        kernel = unknown(want - have, self.lags).kernel
        fresh = list(self.counts.columns)[have:]
        for place, column in enumerate(fresh):
            if column.step in self._steps:
                kernel[:, place] = self.estimates.kernel[:, self._steps.index(column.step)]
        self._steps += [column.step for column in fresh]
        more = ((0, 0), (0, want - have))
        self.estimates = Estimates(
            np.pad(self.estimates.rho, more[1], constant_values=RHO_UNKNOWN),
            np.concatenate([self.estimates.kernel, kernel], axis=1),
            np.pad(self.estimates.sigma, more, constant_values=1.0),
        )
        self._rate = np.pad(self._rate, more, constant_values=0.5)
        self._known = np.pad(self._known, more)

    def _estimate(self, head: int) -> None:
        """Estimate the noise anew where a new stretch of event time has begun."""
        every = estimate_every(head * self.counts.window_ms)
        epoch = self.counts.start_of(head) // every * every
        if epoch != self._epoch:
            self._epoch = epoch
            before = max(0, -(-epoch // self.counts.window_ms) - self.counts.first)
            self.estimates = estimate(self.counts, self.basis, before, self.lags)

    def _remember(self, head: int) -> Baseline:
        """Bring the ordinary rates of the last LONGEST rows up to ``head``; the baseline of ``head``."""
        number = self.counts.first + head
        fresh = LONGEST if self._number < 0 else min(number - self._number, LONGEST)
        self._number = number
        rows = np.arange(head - max(fresh, 1) + 1, head + 1)
        found = baseline(self.counts, self.basis, rows, self.kind)
        if fresh:
            self._rate = np.concatenate([self._rate[fresh:], found.rate])
            self._known = np.concatenate([self._known[fresh:], found.known])
        self.now = Baseline(
            rate=found.rate[-1:],
            strength=found.strength[-1:],
            per_window=found.per_window[-1:],
            seasonal=found.seasonal[-1:],
            known=found.known[-1:],
        )
        return self.now
