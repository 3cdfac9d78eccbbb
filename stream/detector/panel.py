"""A panel: all columns of the counts, scanned on one basis; keeps the ordinary rates of the last windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.times import HOUR_MS, WEEK_MS
from funnelwatch.stream.detector.baseline import WEEKS, Baseline, baseline
from funnelwatch.stream.detector.counts import MATURING, SHOWN
from funnelwatch.stream.detector.estimate import unknown
from funnelwatch.stream.detector.estimation import Estimation
from funnelwatch.stream.detector.scan import LONGEST, SCALES, TAU_RECENT, TAU_SEASONAL, Estimates, Scan, due, scan

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Flags, Floats
    from funnelwatch.stream.detector.baseline import Kind
    from funnelwatch.stream.detector.counts import Counts


MAX_LAGS = 13
"""A success may come in its own window or in this many less one after it; what is later counts as lost."""


YOUNG = (
    (6 * HOUR_MS, HOUR_MS // 4),
    (48 * HOUR_MS, HOUR_MS),
    (WEEK_MS, 6 * HOUR_MS),
    (WEEKS * WEEK_MS, 24 * HOUR_MS),
)
"""Up to such an age of the history, ms, the noise is estimated anew this often; then every REGULARLY."""
REGULARLY = 48 * HOUR_MS
SPREAD = 24
"""This share of the time between two estimates is given to work one out, window by window; then it comes into use."""

MIN_DROP_RECENT = 0.10
BURST = 2.0
"""Without a week of history, nothing fires while the volume is more than this many times its recent level."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a panel at consecutive rows."""

    first: int
    """The first evaluated row."""
    newest: int
    """The row that was the newest when the first one was evaluated."""
    scan: Scan
    """Shape (scales, rows, columns)."""
    now: Baseline
    """Shape (rows, columns)."""
    lost: Floats
    """Expected less seen successes of each evaluated row and the LONGEST - 1 before; 0 where nothing was expected."""
    evidence: dict[tuple[float, int], Evidence] = field(default_factory=dict)
    """Its evidence for rules, by least drop and impressions."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The findings of a scan for rules of one least drop and number of impressions; scores do not matter yet."""

    cold: Flags
    """Whether there is less than a week of history: shape (rows, columns)."""
    enough: Flags
    known: Flags
    burst: Flags
    """Without a week of history, too much traffic to trust: shape (scales, rows, columns)."""
    would: Floats
    """The score where the drop is large enough, traffic apart; else -inf."""

    @classmethod
    def of(cls, snapshot: Snapshot, min_drop: float, min_impressions: int) -> Evidence:
        """Expected rates and counts of some rows."""
        now, found = snapshot.now, snapshot.scan
        cold = ~now.seasonal
        drop = np.where(cold, max(min_drop, MIN_DROP_RECENT), min_drop)
        enough = found.impressions >= min_impressions
        burst = cold & (found.impressions > BURST * SCALES[:, None, None] * now.per_window)
        would = np.where(now.known & enough & (found.drop >= drop), found.score, -np.inf)
        return cls(cold, enough[-1], now.known, burst, would)


class Panel:
    """Scans every column at the newest windows that have matured."""

    def __init__(self, counts: Counts, basis: str, maturity_ms: int, kind: Kind) -> None:
        self.counts = counts
        self.basis = basis
        self.kind: Kind = kind
        late = -(-maturity_ms // counts.window_ms)
        self.lags = min(1 + late, MAX_LAGS) if basis == "window" else 1
        self.behind = late if basis in MATURING else 0
        """How many windows the evaluated one is behind the newest: cohorts and sessions are evaluated when mature."""
        self.estimates: Estimates = unknown(0, self.lags)
        self._steps: list[str] = []
        self._epoch = -1
        self._next: Estimation | None = None
        self._next_epoch = -1
        self._number = -1
        self._rate = np.full((LONGEST, 0), 0.5)
        self._known = np.zeros((LONGEST, 0), dtype=bool)

    def steady_until(self, begin: int) -> int:
        """Up to which row, exclusive, the newest rows from ``begin`` on are evaluated by one estimate of the noise."""
        head = begin - self.behind
        if head < 0:
            return min(self.behind, self.counts.rows)
        epoch, every = self._epoch_of(head)
        until = epoch + every + every // SPREAD
        ages = [age // self.counts.window_ms for age, _ in YOUNG if age // self.counts.window_ms > head]
        end = min([-(-until // self.counts.window_ms) - self.counts.first, *ages])
        return min(max(end, head + 1) + self.behind, self.counts.rows)

    def snapshot(self, begin: int, end: int) -> Snapshot | None:
        """Scan the rows that are evaluated when the newest are [begin, end); None while they have not matured."""
        first, last = begin - self.behind, end - 1 - self.behind
        if first < 0 or not self.counts.columns:
            return None
        self._widen()
        self._estimate(first)
        self._prepare(last)
        now, rate, known = self._remember(first, last)
        n = self.counts.each(SHOWN[self.basis], first - LONGEST - self.lags + 1, last + 1, slice(None))
        x = self.counts.each(self.basis, first - LONGEST + 1, last + 1, slice(None))
        clumps = 1.0 + np.maximum(now.per_window - 1.0, 0.0) * self.estimates.rho
        doubt = (1.0 - now.rate) / np.maximum(now.rate * now.strength, 1e-12) * clumps
        # The mean of k moving averages rests on k - 1 windows more than one of them.
        doubt = doubt * now.width / (now.width + SCALES[:, None, None] - 1.0)
        tau = np.where(now.seasonal, TAU_SEASONAL, TAU_RECENT)
        lost = np.where(known, due(n[1:], self.estimates.kernel) * rate - x, 0.0)
        return Snapshot(first, begin, scan(n, x, rate, known, self.estimates, tau**2 + doubt), now, lost)

    def expectation(self, begin: int, head: int, column: int) -> tuple[Floats, Floats]:
        """Expected and seen successes of each row in [begin, head], of one column."""
        near, only = self.counts.only(np.array([column])), np.array([0])
        found = baseline(near, self.basis, np.arange(begin, head + 1), self.kind)
        n = near.each(SHOWN[self.basis], begin - self.lags + 1, head + 1, only)
        x = near.each(self.basis, begin, head + 1, only)
        expected = due(n, self.estimates.kernel[:, [column]]) * found.rate
        return np.where(found.known, expected, 0.0)[:, 0], np.where(found.known, x, 0.0)[:, 0]

    def _widen(self) -> None:
        """Take up columns that have come since: no baseline yet."""
        have, want = len(self._steps), len(self.counts.columns)
        if have == want:
            return
        self._steps += [column.step for column in islice(self.counts.columns, have, None)]
        self.estimates = self._of_all(self.estimates)
        more = ((0, 0), (0, want - have))
        self._rate = np.pad(self._rate, more, constant_values=0.5)
        self._known = np.pad(self._known, more)

    def _of_all(self, estimates: Estimates) -> Estimates:
        """With columns that these estimates do not know: the noise of the unknown, the lag of their step."""
        have, want = len(estimates.rho), len(self._steps)
        if have == want:
            return estimates
        more = unknown(want - have, self.lags)
        known = self._steps[:have]
        for place, step in enumerate(self._steps[have:]):
            if step in known:
                more.kernel[:, place] = estimates.kernel[:, known.index(step)]
        return Estimates(
            np.concatenate([estimates.rho, more.rho]),
            np.concatenate([estimates.kernel, more.kernel], axis=1),
            np.concatenate([estimates.sigma, more.sigma], axis=1),
        )

    def _epoch_of(self, head: int) -> tuple[int, int]:
        """The event time that ends the history from which the noise of this row is known, and how often that moves on.

        It comes into use a share of that time later.
        """
        age = head * self.counts.window_ms
        every = next((every for limit, every in YOUNG if age < limit), REGULARLY)
        return (self.counts.start_of(head) - every // SPREAD) // every * every, every

    def _estimate(self, head: int) -> None:
        """Take the estimate of the noise into use that is the one for this row."""
        epoch, _ = self._epoch_of(head)
        if epoch != self._epoch:
            estimation = self._begun(epoch)
            estimation.advance(1.0)
            self.estimates = self._of_all(estimation.estimates)
            self._epoch, self._next = epoch, None

    def _prepare(self, head: int) -> None:
        """Work at the next estimate as much as is due by this row."""
        epoch, every = self._epoch_of(head)
        late = self.counts.start_of(head + 1) - epoch - every
        if late > 0:
            self._next = self._begun(epoch + every)
            self._next.advance(late * SPREAD / every)

    def _begun(self, epoch: int) -> Estimation:
        """The estimation of this epoch that is under way, or a new one."""
        if self._next is None or self._next_epoch != epoch:
            self._next_epoch = epoch
            self._next = Estimation(self.counts, self.basis, -(-epoch // self.counts.window_ms), self.lags)
        return self._next

    def _remember(self, first: int, last: int) -> tuple[Baseline, Floats, Flags]:
        """The baseline of the rows [first, last]; rate and whether it is known, of the LONGEST - 1 before them as well.

        The rates of the last LONGEST rows are kept as they were when those rows were evaluated.
        """
        kept = self._number - self.counts.first if self._number >= 0 else first - LONGEST - 1
        if kept < first - LONGEST:
            kept = first - LONGEST
            self._rate, self._known = self._rate[:0], self._known[:0]
        begin = min(first, kept + 1)
        found = baseline(self.counts, self.basis, np.arange(begin, last + 1), self.kind)
        rate = np.concatenate([self._rate, found.rate[kept + 1 - begin :]])[first - last - LONGEST :]
        known = np.concatenate([self._known, found.known[kept + 1 - begin :]])[first - last - LONGEST :]
        self._rate, self._known, self._number = rate[-LONGEST:], known[-LONGEST:], self.counts.first + last
        return found.rows(first - begin), rate, known
