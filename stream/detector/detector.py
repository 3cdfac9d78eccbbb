"""The detector of one funnel: its rules over its closed windows."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.alert_rules.instruments import ImpressionsRule, instruments
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, in_order
from funnelwatch.schemas.times import DAY_MS
from funnelwatch.stream.detector.baseline import WIDE_MS, memory_ms
from funnelwatch.stream.detector.counts import SHOWN, Counts
from funnelwatch.stream.detector.drill import Drill
from funnelwatch.stream.detector.impressions import ImpressionsEvaluator
from funnelwatch.stream.detector.instrument import explained, firing
from funnelwatch.stream.detector.panel import MAX_LAGS, Panel
from funnelwatch.stream.detector.rule_evaluator import RuleEvaluator
from funnelwatch.stream.detector.scan import LONGEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from funnelwatch.alert_rules.instruments import Instrument
    from funnelwatch.alert_rules.model import Rule, Rules
    from funnelwatch.schemas.counts import ClosedWindow, Series
    from funnelwatch.stream.detector.baseline import Kind
    from funnelwatch.stream.detector.state import AlertState, Reason, Transition

    PanelKey = tuple[str, int, Kind]

CELLS = 8192
"""So many windows x columns are evaluated at once: enough to keep numpy busy, few enough to stay in the cache."""
LEARNED_CELLS = 262_144
"""And so many are taken in at once as history."""


class Detector:
    """All rules of one funnel over its closed windows; holds the counts history in numpy arrays; pure.

    Its result for a window follows from the counts before it, the restored states and the rules, not from when or how
    often it was started. Two detectors, one that saw every window and one that learned the same counts as history and
    was given the last windows only, agree up to floating-point rounding as long as the counts that reached them were
    the same in time: a late revision of a window that noise was already estimated from, or that a rate of the last hour
    rests on, is used by the first one only from the next estimate on (at most two days later), by the second at once.
    """

    def __init__(
        self, funnel: str, rules: Rules, window_ms: int, dimensions: Collection[str] = DIMENSION_FIELDS
    ) -> None:
        self.funnel = funnel
        self.window_ms = window_ms
        self.rules = rules.of_funnel(funnel)
        margin = max(3 * DAY_MS, 2 * WIDE_MS + (LONGEST + MAX_LAGS + 2) * window_ms)
        self.history_ms = memory_ms(window_ms) + margin
        """How far back history is to reach that is learned."""
        self.reasons: Counter[Reason] = Counter()
        """How often each reason was given: one for every evaluated series and window."""
        limit = -(-self.history_ms // window_ms)
        about = [rule for rule in instruments(rules, funnel) if isinstance(rule, ImpressionsRule)]
        # A rule for every funnel may name a dimension that this one has not: all its series would be one there.
        named = dict.fromkeys(level for rule in (*self.rules, *about) for level in rule.by)
        levels = [level for level in named if set(level) <= set(dimensions)]
        bases = dict.fromkeys(rule.basis for rule in self.rules)
        channels = list(dict.fromkeys(["impressions", *(name for one in bases for name in (SHOWN[one], one))]))
        self.counts = Counts(levels, channels, window_ms, limit)
        finer = list(dict.fromkeys(_finer(levels, in_order(dimensions))))
        self.drill = Drill(finer, channels, window_ms, self.history_ms, LONGEST + MAX_LAGS + 2)
        self._panels: dict[PanelKey, Panel] = {}
        self._evaluators = [
            (key, RuleEvaluator(funnel, rule, self._panels[key], self.drill)) for key, rule in self._keys()
        ]
        self.impressions = ImpressionsEvaluator(funnel, about, self.counts)
        """The funnel's instrumentation; evaluated against the wall clock, so only in live detection."""
        self._revisions: dict[int, int] = {}
        self._known: set[Series] = set()
        self._newest = -1

    def restore(self, states: Iterable[AlertState]) -> None:
        """Take up the states that an earlier detector left; those of rules that are gone are ignored."""
        by_rule = {evaluator.rule.alert: evaluator for _, evaluator in self._evaluators}
        for state in states:
            if state.funnel == self.funnel:
                (by_rule.get(state.rule) or self.impressions).restore(state)

    def observe_live(
        self, window: ClosedWindow, now: int, fires: Sequence[tuple[Instrument, AlertState]]
    ) -> list[Transition]:
        """Evaluate one closed window as `observe` does, and the funnel's instrumentation with it.

        Args:
            window: that has just been closed, or revised.
            now: the wall clock, ms.
            fires: signals of the pipeline that fire, each with its state. They, and those of the funnel, inhibit the
                alerts that they explain.
        """
        moves = []
        if not window.revision and window.window_start > self._newest:
            moves = self.impressions.observe(window.window_start, now)
        everything = [*fires, *firing(self.impressions.rules, self.impressions.states.values())]
        for _, evaluator in self._evaluators:
            evaluator.explained = partial(explained, everything) if everything else None
        return moves + self.observe(window)

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, for this reason; None if the alert is over."""
        evaluators: list[RuleEvaluator | ImpressionsEvaluator] = [
            *(evaluator for _, evaluator in self._evaluators),
            self.impressions,
        ]
        return next((move for evaluator in evaluators if (move := evaluator.renotify(message, reason))), None)

    def observe(self, window: ClosedWindow) -> list[Transition]:
        """Evaluate one closed window; windows come in order, and may come again or revised.

        A window left out counts as one without events. A revision of an older window changes history, and corrects the
        alerts that were about it. What was already seen, and a window older than what is remembered, is ignored.
        """
        start = window.window_start
        if self._revisions.get(start, -1) >= window.revision:
            return []
        block = Block.of(start, window.series)
        if start < self._newest or (start == self._newest and self.counts.rows):
            self._revise(block, window.revision)
            corrections = [
                move for _, evaluator in self._evaluators for move in evaluator.correct(start, window.revision)
            ]
            if start < self._newest:
                return corrections
            return corrections + self._evaluate(self.counts.rows - 1, window.revision)
        self._newest = start
        self._see(start, window.revision)
        return self._advance(block, window.revision)

    def observe_block(self, block: Block) -> list[Transition]:
        """Evaluate consecutive closed windows, newer than all before; the same as `observe` of one after the other.

        Raises:
            ValueError: they are not newer.
        """
        self._follow(block)
        return self._advance(block, 0)

    @property
    def maturities_ms(self) -> list[int]:
        """How far behind the newest window those are that rules on a maturing basis evaluate, ms."""
        return sorted({panel.behind * self.window_ms for panel in self._panels.values() if panel.behind})

    @property
    def counts_sessions(self) -> bool:
        """Whether a rule is on the session basis."""
        return "session" in self.counts.channels

    def mature(self, block: Block) -> None:
        """Replace the counts of one observed window by those that it has grown to, just before they are evaluated.

        Its cohort and session successes had only begun to come when it closed. This corrects no alert.
        """
        self._replace(block)

    def learn(self, block: Block) -> None:
        """Take in consecutive closed windows, newer than all before, as history that is not evaluated.

        They count as observed: one of them that comes again is a revision, and is evaluated only if it is the newest.

        Raises:
            ValueError: they are not newer.
        """
        self._follow(block)
        began = block.began()
        fresh = [place for place, one in enumerate(block.series) if one not in self._known]
        counted = sorted((int(began[place]), place) for place in fresh if began[place] < len(block))
        new = [block.series[place] for _, place in counted]
        # Columns are made in the order in which they would be live.
        self._known.update(new)
        self.counts.places(new)
        self.drill.know(new)
        wanted = np.ones(len(block.series), dtype=bool)
        wanted[fresh] = began[fresh] < len(block)
        block = block.only(wanted)
        limit = max(1, LEARNED_CELLS // max(1, len(self.counts.columns)))
        for begin in range(0, len(block), limit):
            part = block.part(begin, min(begin + limit, len(block)), self.window_ms)
            self.counts.append(part)
            self.drill.learn(part)

    def _follow(self, block: Block) -> None:
        """Move on to the end of a block."""
        if block.start <= self._newest:
            raise ValueError(f"funnel {self.funnel}: windows must be newer than {self._newest}, not {block.start}")
        self._newest = block.start + (len(block) - 1) * self.window_ms

    def _advance(self, block: Block, revision: int) -> list[Transition]:
        """Add windows to the counts and evaluate them."""
        transitions: list[Transition] = []
        for part in self._parts(block):
            self.counts.append(part)
            self.drill.append(part)
            transitions += self._evaluate(self.counts.rows - len(part), revision)
        return transitions

    def _parts(self, block: Block) -> Iterator[Block]:
        """The block in parts of some windows, one at least; each series that is new begins at the start of one.

        A series begins with the first window in which it counts anything.
        """
        began = np.zeros(len(block.series), dtype=np.intp)
        fresh = [place for place, one in enumerate(block.series) if one not in self._known]
        if fresh:
            began[fresh] = block.began()[fresh]
        limit = max(1, CELLS // max(1, len(self.counts.columns), len(block.series)))
        cuts = sorted({0, *range(0, len(block), limit), *began.tolist(), len(block)})
        for begin, end in pairwise(cuts):
            self._known.update(block.series[place] for place in fresh if began[place] == begin)
            yield block.part(begin, end, self.window_ms).only(began <= begin)

    def _keys(self) -> Iterator[tuple[PanelKey, Rule]]:
        """The rules, each with the key of its panel, which is made here; rules that read the same share one."""
        for rule in self.rules:
            kind: Kind = rule.baseline if rule.kind == "drop" else "auto"
            key = (rule.basis, rule.maturity_ms, kind)
            if key not in self._panels:
                self._panels[key] = Panel(self.counts, *key)
            yield key, rule

    def _revise(self, block: Block, revision: int) -> None:
        """Take in a revision of a window."""
        self._replace(block)
        self._see(block.start, revision)

    def _replace(self, block: Block) -> None:
        """Take in other counts of a window that is known, if it is still remembered."""
        self._known.update(block.series)
        if 0 <= self.counts.row_of(block.start) < self.counts.rows:
            self.counts.revise(block)
        self.drill.revise(block)

    def _see(self, start: int, revision: int) -> None:
        """Remember the revision; those of windows long past are forgotten from time to time."""
        self._revisions[start] = revision
        if len(self._revisions) > 2 * self.counts.limit:
            oldest = self._newest - self.history_ms
            self._revisions = {at: number for at, number in self._revisions.items() if at >= oldest}

    def _evaluate(self, begin: int, revision: int) -> list[Transition]:
        """Every rule over the rows from ``begin`` on, as many at once as are held against one estimate of noise."""
        transitions: list[Transition] = []
        while begin < self.counts.rows:
            end = min((panel.steady_until(begin) for panel in self._panels.values()), default=self.counts.rows)
            snapshots = {key: panel.snapshot(begin, end) for key, panel in self._panels.items()}
            moves: list[tuple[int, Transition]] = []
            for key, evaluator in self._evaluators:
                snapshot = snapshots[key]
                if snapshot is not None:
                    moves += evaluator.evaluate(snapshot, revision, self.reasons)
            # As if the windows had come one by one: each by all rules, before the next.
            transitions += [move for _, move in sorted(moves, key=itemgetter(0))]
            begin = end
        return transitions


def _finer(levels: Iterable[tuple[str, ...]], dimensions: Iterable[str]) -> list[tuple[str, ...]]:
    """The levels one dimension finer than each of these, for tracing a loss."""
    return [in_order((*level, name)) for level in levels for name in dimensions if name not in level]
