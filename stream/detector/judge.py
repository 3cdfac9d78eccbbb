"""What one rule sees in one window: for every column whether it is alarming, and by what numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream.detector.scan import SCALES, SHORT, deviance_root, recovery
from stream.detector.state import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alert_rules.model import ChangeRule, DropRule, ThresholdRule
    from stream.detector.panel import Panel
    from stream.detector.scan import Scan

MIN_DROP_RECENT = 0.10
BURST = 2.0
"""Without a week of history, nothing is said while the volume is more than this many times its recent level."""
RECOVERY = 5.0
"""Log likelihood ratio at which "recovered" is believed: a false one comes about once in e^5 windows."""
REGRESSION = 0.7
"""A drop is largest in the windows that gave the alarm; what goes on is expected to be this much of it."""
ORDINARY_SD = 3.0
"""The ordinary interval is this many deviations to each side."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the judged window shows of one column."""

    alarm: bool
    recovered: int
    """Length in windows of the stretch that is back to ordinary; 0 when it is not."""
    enough: bool
    """Whether there are enough impressions to say anything."""
    windows: int
    """Length in windows of the stretch that these numbers are about."""
    impressions: float
    successes: float
    expected: float
    low: float
    """Lower and upper end of the ordinary rate."""
    high: float
    score: float
    recent_baseline: bool = False

    @property
    def drop(self) -> float:
        """Relative drop, 0 to 1."""
        return 1.0 - self.successes / self.expected if self.expected > 0 else 0.0


class DropJudge:
    """A drop rule over one scan."""

    def __init__(self, rule: DropRule, panel: Panel, found: Scan, since: NDArray[np.intp]) -> None:
        """``since``: per column, how many of the last windows may be judged (those after the last recovery)."""
        now = panel.now
        assert now is not None
        self.found = found
        self.cold = ~now.seasonal[0]
        known = now.known[0]
        drop = np.where(self.cold, max(rule.min_drop, MIN_DROP_RECENT), rule.min_drop)
        enough = found.impressions >= rule.min_impressions
        allowed = known & enough & (found.drop >= drop) & (SCALES[:, None] <= since)
        burst = self.cold & (found.impressions > BURST * SCALES[:, None] * now.per_window[0])
        would = np.where(allowed, found.score, -np.inf)
        scores = np.where(burst, -np.inf, would)
        self.best = scores.argmax(axis=0)
        self.score = scores.max(axis=0)
        self.alarm = self.score > rule.score
        self.short_alarm = scores[:SHORT].max(axis=0) > rule.score
        self.enough = known & enough[-1]
        self.reasons = np.full(len(known), Reason.ORDINARY, dtype=object)
        self.reasons[(would.max(axis=0) > rule.score) & ~self.alarm] = Reason.COLD_START
        self.reasons[~enough[-1]] = Reason.LOW_VOLUME
        self.reasons[~known] = Reason.NO_BASELINE

    def sight(self, column: int, drop: float, age: int) -> Sight:
        """The numbers of one column; ``drop`` and ``age`` (windows) are those of its alert, 0 where there is none."""
        scale = int(self.best[column])
        part = self.found
        if not np.isfinite(self.score[column]):
            scale = min(SHORT - 1, max(0, int(np.searchsorted(SCALES, age, side="right")) - 1))
        n, x = float(part.impressions[scale, column]), float(part.successes[scale, column])
        expected = float(part.expected[scale, column])
        deviation = float(np.sqrt(part.variance[scale, column]) * part.scale[scale, column])
        rate, width = expected / max(n, 1e-12), ORDINARY_SD * deviation / max(n, 1e-12)
        return Sight(
            alarm=bool(self.alarm[column]),
            recovered=self._recovered(column, drop, age),
            enough=bool(self.enough[column]),
            windows=int(SCALES[scale]),
            impressions=n,
            successes=x,
            expected=expected,
            low=max(0.0, rate - width),
            high=min(1.0, rate + width),
            score=float(part.score[scale, column]),
            recent_baseline=bool(self.cold[column]),
        )

    def _recovered(self, column: int, drop: float, age: int) -> int:
        """The stretch, of those within the alert's age, that is back to ordinary; 0 when none is."""
        if not age or self.short_alarm[column] or not self.enough[column]:
            return 0
        one = type(self.found)(*(getattr(self.found, name)[:, [column]] for name in SCAN_FIELDS))
        ratios = np.where(age >= SCALES, recovery(one, np.array([REGRESSION * drop]))[:, 0], -np.inf)
        best = int(ratios.argmax())
        return int(SCALES[best]) if ratios[best] >= RECOVERY else 0


SCAN_FIELDS = ("impressions", "successes", "expected", "variance", "z", "scale")


class StretchJudge:
    """A threshold or change rule: the rate over the last stretch against a fixed or an earlier one."""

    def __init__(self, rule: ThresholdRule | ChangeRule, panel: Panel) -> None:
        counts = panel.counts
        self.windows = max(1, rule.over_ms // counts.window_ms)
        end = np.array([panel.head + 1])
        begin = end - self.windows
        self.n = counts.stretch("impressions", begin, end)[0]
        self.x = counts.stretch(panel.basis, begin, end)[0]
        if rule.kind == "change":
            back = rule.offset_ms // counts.window_ms
            before = counts.stretch("impressions", begin - back, end - back)[0]
            known = before >= rule.min_impressions
            earlier = counts.stretch(panel.basis, begin - back, end - back)[0] / np.maximum(before, 1.0)
            self.reference, self.limit = earlier, earlier * (1.0 - rule.drop)
        else:
            known = np.ones(len(self.n), dtype=bool)
            self.reference = self.limit = np.full(len(self.n), rule.below)
        self.reference = np.clip(self.reference, 0.0, 1.0)
        full = self.n >= rule.min_impressions
        self.enough = known & full
        self.alarm = self.enough & (self.x < self.limit * self.n)
        self.reasons = np.full(len(self.n), Reason.ORDINARY, dtype=object)
        self.reasons[~full] = Reason.LOW_VOLUME
        self.reasons[~known] = Reason.NO_BASELINE

    def sight(self, column: int, drop: float, age: int) -> Sight:
        """The numbers of one column; the score is the binomial deviation from the reference rate."""
        n, x = self.n[[column]], self.x[[column]]
        expected = n * self.reference[column]
        return Sight(
            alarm=bool(self.alarm[column]),
            recovered=int(self.enough[column] and not self.alarm[column]),
            enough=bool(self.enough[column]),
            windows=self.windows,
            impressions=float(n[0]),
            successes=float(x[0]),
            expected=float(expected[0]),
            low=float(np.clip(self.limit[column], 0.0, 1.0)),
            high=1.0,
            score=float(deviance_root(x, n, np.clip(expected, 0.0, n * (1.0 - 1e-9)))[0]),
        )


Judge = DropJudge | StretchJudge
