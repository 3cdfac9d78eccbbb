"""The evaluation of one rule in some windows: for every column whether it alarms, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.detector.counts import SHOWN
from funnelwatch.stream.detector.panel import Evidence
from funnelwatch.stream.detector.scan import SCALES, SHORT, deviance_root, recovery
from funnelwatch.stream.detector.state import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.alert_rules.model import ChangeRule, DropRule, ThresholdRule
    from funnelwatch.schemas.arrays import Indexes
    from funnelwatch.stream.detector.panel import Panel, Snapshot

RECOVERY = 5.0
"""Log likelihood ratio at which "recovered" is believed: a false one comes about once in e^5 windows."""
REGRESSION = 0.7
"""A drop is largest in the windows that gave the alarm; what goes on is expected to be this much of it."""
ORDINARY_SD = 3.0
"""The ordinary interval is this many deviations to each side."""
QUIET_REASONS = (Reason.ORDINARY, Reason.COLD_START, Reason.LOW_VOLUME, Reason.NO_BASELINE)
"""Reasons why a window is no alarm; evaluators give the index in this list."""
ORDINARY, COLD_START, LOW_VOLUME, NO_BASELINE = range(4)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The numbers that the evaluated window shows of one column."""

    alarm: bool
    recovered: int
    """Length in windows of the span that is back to ordinary; 0 when it is not."""
    enough: bool
    """Whether there are enough impressions to know anything."""
    windows: int
    """Length in windows of the span that these numbers are about."""
    impressions: float
    successes: float
    expected: float
    low: float
    """Lower and upper end of the ordinary rate."""
    high: float
    score: float
    recent_baseline: bool = False
    gone: bool = False
    """Whether the series has ended."""

    @property
    def drop(self) -> float:
        """Relative drop, 0 to 1."""
        return 1.0 - self.successes / self.expected if self.expected > 0 else 0.0


class DropEvaluator:
    """A drop rule over one scan; arrays are of shape (rows, columns)."""

    def __init__(self, rule: DropRule, snapshot: Snapshot, since: Indexes) -> None:
        """``since``: by row and column, how many of the last windows count (those after the last recovery)."""
        key = (rule.min_drop, rule.min_impressions)
        if key not in snapshot.evidence:
            snapshot.evidence[key] = Evidence.of(snapshot, *key)
        evidence = snapshot.evidence[key]
        self.found = snapshot.scan
        self.cold = evidence.cold
        would = evidence.would
        if since.size and since.min() < SCALES[-1]:
            would = np.where(SCALES[:, None, None] <= since, would, -np.inf)
        scores = np.where(evidence.burst, -np.inf, would) if self.cold.any() else would
        self.score = scores.max(axis=0)
        self.scores = scores
        self.alarm = self.score > rule.score
        self.threshold = rule.score
        self.enough = evidence.known & evidence.enough
        self.reasons = np.full(self.cold.shape, ORDINARY, dtype=np.int8)
        if scores is not would:
            self.reasons[(would.max(axis=0) > rule.score) & ~self.alarm] = COLD_START
        self.reasons[~evidence.enough] = LOW_VOLUME
        self.reasons[~evidence.known] = NO_BASELINE

    def evaluation_of(self, row: int, column: int, drop: float, age: int) -> Evaluation:
        """The numbers of one column; ``drop`` and ``age`` (windows) are those of its alert, 0 where there is none."""
        scale = int(self.scores[:, row, column].argmax())
        if not np.isfinite(self.score[row, column]):
            scale = min(SHORT - 1, max(0, int(np.searchsorted(SCALES, age, side="right")) - 1))
        part = self.found.at(row, column)
        n, x, expected = float(part.impressions[scale]), float(part.successes[scale]), float(part.expected[scale])
        deviation = float(np.sqrt(part.variance[scale]) * part.scale[scale])
        rate, width = expected / max(n, 1e-12), ORDINARY_SD * deviation / max(n, 1e-12)
        return Evaluation(
            alarm=bool(self.alarm[row, column]),
            recovered=self._recovered(row, column, drop, age),
            enough=bool(self.enough[row, column]),
            windows=int(SCALES[scale]),
            impressions=n,
            successes=x,
            expected=expected,
            low=max(0.0, rate - width),
            high=min(1.0, rate + width),
            score=float(part.score[scale]),
            recent_baseline=bool(self.cold[row, column]),
        )

    def _recovered(self, row: int, column: int, drop: float, age: int) -> int:
        """The span, of those within the alert's age, that is back to ordinary; 0 when none is."""
        short_alarm = self.scores[:SHORT, row, column].max() > self.threshold
        if not age or short_alarm or not self.enough[row, column]:
            return 0
        ratios = np.where(age >= SCALES, recovery(self.found.at(row, column), REGRESSION * drop), -np.inf)
        best = int(ratios.argmax())
        return int(SCALES[best]) if ratios[best] >= RECOVERY else 0


class SpanEvaluator:
    """A threshold or change rule: the rate over the last span against a fixed or an earlier one."""

    def __init__(
        self, rule: ThresholdRule | ChangeRule, panel: Panel, snapshot: Snapshot, ended: Mapping[int, int] | None = None
    ) -> None:
        """``ended``: the row from which on to evaluate a column, of those whose alert has ended with its series."""
        counts = panel.counts
        self.windows = max(1, rule.over_ms // counts.window_ms)
        end = np.arange(snapshot.first + 1, snapshot.first + 1 + len(snapshot.now.known))
        begin = end - self.windows
        shown = SHOWN[panel.basis]
        self.n = counts.sums(shown, begin, end)
        self.x = counts.sums(panel.basis, begin, end)
        for place, row in (ended or {}).items():
            column, later = np.array([place]), np.minimum(np.maximum(begin, row), end)
            self.n[:, column] = counts.sums(shown, later, end, column)
            self.x[:, column] = counts.sums(panel.basis, later, end, column)
        if rule.kind == "change":
            back = rule.offset_ms // counts.window_ms
            before = counts.sums(shown, begin - back, end - back)
            known = before >= rule.min_impressions
            earlier = counts.sums(panel.basis, begin - back, end - back) / np.maximum(before, 1.0)
            self.reference, self.limit = earlier, earlier * (1.0 - rule.drop)
        else:
            known = np.ones(self.n.shape, dtype=bool)
            self.reference = self.limit = np.full(self.n.shape, rule.below)
        self.reference = np.clip(self.reference, 0.0, 1.0)
        full = self.n >= rule.min_impressions
        self.enough = known & full
        self.alarm = self.enough & (self.x < self.limit * self.n)
        self.reasons = np.full(self.n.shape, ORDINARY, dtype=np.int8)
        self.reasons[~full] = LOW_VOLUME
        self.reasons[~known] = NO_BASELINE

    def evaluation_of(self, row: int, column: int, drop: float, age: int) -> Evaluation:
        """The numbers of one column; the score is the binomial deviation from the reference rate."""
        n, x = self.n[row, [column]], self.x[row, [column]]
        expected = n * self.reference[row, column]
        return Evaluation(
            alarm=bool(self.alarm[row, column]),
            recovered=int(self.enough[row, column] and not self.alarm[row, column]),
            enough=bool(self.enough[row, column]),
            windows=self.windows,
            impressions=float(n[0]),
            successes=float(x[0]),
            expected=float(expected[0]),
            low=float(np.clip(self.limit[row, column], 0.0, 1.0)),
            high=1.0,
            score=float(deviance_root(x, n, np.clip(expected, 0.0, n * (1.0 - 1e-9)))[0]),
        )


Evaluator = DropEvaluator | SpanEvaluator
