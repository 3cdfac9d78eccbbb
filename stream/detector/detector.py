"""The detector of one funnel: its rules over its closed windows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from alert_rules.model import DIMENSIONS
from stream.detector.baseline import WEEK_MS, WEEKS, WIDE_MS
from stream.detector.counts import Counts
from stream.detector.panel import MAX_LAGS, Panel
from stream.detector.rule_watch import RuleWatch
from stream.detector.scan import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alert_rules.model import Rule, Rules
    from stream.detector.baseline import Kind
    from stream.detector.state import AlertState, Reason, Transition
    from stream.model import ClosedWindow, Series, Tally

DAY_MS = 86_400_000


class Detector:
    """All rules of one funnel over its closed windows; holds the counts history in numpy arrays; pure.

    What it says of a window follows from the counts before it, the restored states and the rules, not from when or how
    often it was started. Two detectors, one that saw every window and one that was preloaded with the same counts and
    given the last windows only, agree up to floating-point rounding as long as the counts that reached them were the
    same in time: a late revision of a window that noise was already estimated from, or that a rate of the last hour
    rests on, is used by the first one only from the next estimate on (at most 6 hours later), by the second at once.
    """

    def __init__(self, funnel: str, rules: Rules, window_ms: int) -> None:
        self.funnel = funnel
        self.window_ms = window_ms
        self.rules = rules.of_funnel(funnel)
        margin = max(DAY_MS, 2 * WIDE_MS + (LONGEST + MAX_LAGS + 2) * window_ms)
        self.history_ms = WEEKS * WEEK_MS + margin
        """How far back `preload` wants rows."""
        self.reasons: Counter[Reason] = Counter()
        """How often each reason was given: one for every evaluated series and window."""
        limit = -(-self.history_ms // window_ms)
        levels = list(dict.fromkeys(level for rule in self.rules for level in rule.by))
        channels = ["impressions", *dict.fromkeys(rule.basis for rule in self.rules)]
        self.counts = Counts(levels, channels, window_ms, limit)
        finer = list(dict.fromkeys(_finer(levels)))
        self.drill = Counts(finer, channels, window_ms, limit)
        self._panels: dict[tuple[str, int, Kind], Panel] = {}
        self._watches = [RuleWatch(funnel, rule, self._panel(rule), self.drill) for rule in self.rules]
        self._preloaded: list[tuple[int, Series, Tally]] = []
        self._revisions: dict[int, int] = {}
        self._newest = -1
        self._begun = False

    def preload(self, rows: Iterable[tuple[int, Series, Tally]]) -> None:
        """Take in history, before the first window: (window_start, series, tally), sparse, in any order.

        These windows count as observed: one of them that comes again is taken as a revision, and judged only if it is
        the newest. So rows of windows that are still to be judged must not be among them.

        Raises:
            RuntimeError: a window was already observed.
        """
        if self._begun:
            raise RuntimeError(f"funnel {self.funnel}: history must be preloaded before the first window")
        self._preloaded += rows

    def restore(self, states: Iterable[AlertState]) -> None:
        """Take up the states that an earlier detector left; those of rules that are gone are ignored."""
        by_rule = {watch.rule.alert: watch for watch in self._watches}
        for state in states:
            if state.funnel == self.funnel and state.rule in by_rule:
                by_rule[state.rule].restore(state)

    def observe(self, window: ClosedWindow) -> list[Transition]:
        """Judge one closed window; windows come in order, and may come again or revised.

        A window left out counts as one without events. A revision of an older window changes history only. What was
        already seen, and a window older than what is remembered, is ignored.
        """
        start = window.window_start
        self._begin()
        if self._revisions.get(start, -1) >= window.revision:
            return []
        if start < self._newest or (start == self._newest and self.counts.rows):
            self._revise(window)
            if start < self._newest:
                return []
        else:
            self.counts.append(start, window.series)
            self.drill.append(start, window.series)
        self._newest = start
        self._see(start, window.revision)
        return self._judge(window)

    def _panel(self, rule: Rule) -> Panel:
        """The panel that the rule reads, shared by rules that read the same."""
        kind: Kind = rule.baseline if rule.kind == "drop" else "auto"
        key = (rule.basis, rule.maturity_ms, kind)
        if key not in self._panels:
            self._panels[key] = Panel(self.counts, *key)
        return self._panels[key]

    def _begin(self) -> None:
        """Turn what was preloaded into history, once."""
        if self._begun:
            return
        self._begun = True
        self.counts.load(self._preloaded)
        self.drill.load(self._preloaded)
        if self._preloaded:
            self._newest = self.counts.start_of(self.counts.rows - 1)
        self._preloaded = []

    def _revise(self, window: ClosedWindow) -> None:
        """Take in other counts of a window that is known, if it is still remembered."""
        for counts in (self.counts, self.drill):
            if 0 <= counts.row_of(window.window_start) < counts.rows:
                counts.revise(window.window_start, window.series)
        self._see(window.window_start, window.revision)

    def _see(self, start: int, revision: int) -> None:
        """Remember the revision; those of windows long past are forgotten from time to time."""
        self._revisions[start] = revision
        if len(self._revisions) > 2 * self.counts.limit:
            oldest = self._newest - self.history_ms
            self._revisions = {at: number for at, number in self._revisions.items() if at >= oldest}

    def _judge(self, window: ClosedWindow) -> list[Transition]:
        """Every rule over the newest window."""
        scans = {key: panel.advance() for key, panel in self._panels.items()}
        transitions: list[Transition] = []
        for watch in self._watches:
            found = next(scans[key] for key, panel in self._panels.items() if panel is watch.panel)
            if found is not None:
                transitions += watch.judge(found, window.revision, self.reasons)
        return transitions


def _finer(levels: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The levels one dimension finer than each of these, for tracing a loss."""
    return [
        tuple(part for part in DIMENSIONS if part in level or part == name)
        for level in levels
        for name in DIMENSIONS
        if name not in level
    ]
