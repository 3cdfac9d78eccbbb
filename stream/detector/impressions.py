"""The signal ``impressions``: every step of a funnel has far fewer impressions than is usual. Pure.

It is hard to raise falsely, and takes that it is late, or silent, for it:

- usual is the lowest of the same time of up to three past weeks, and at least two must be known: a quiet night, a
  weekly low and a cold start are usual, or unknown;
- each quarter of the hour before must have had more than twice as much: a holiday fades, it does not collapse;
- that hour must have been evaluated live, soon after it happened: the end of a backfill is the end of no traffic;
- every step must have collapsed: a step that nobody passes leaves the next one without impressions, but not itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.times import HOUR_MS, WEEK_MS
from funnelwatch.stream.detector.baseline import WEEKS
from funnelwatch.stream.detector.instrument import Finding, advance, minutes, renotify
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.alert_rules.instruments import ImpressionsRule
    from funnelwatch.schemas.arrays import Floats
    from funnelwatch.stream.detector.counts import Column, Counts

AROUND_MS = 20 * 60_000
"""The usual level is pooled over this much more to each side."""
MIN_WEEKS = 2
SUDDEN = 0.5
"""A collapse leaves less than this share of the level of each quarter of the hour before."""
LIVE_MS = 5 * 60_000
"""A window is live that is evaluated within this after its end."""
BACK = 2.5
"""It is over when there are this many times what the rule calls a collapse."""
THIN = 0.25
"""Steps of which less than this share of ``min_expected`` is usual do not count."""
LIVE = "@live"
"""Stands for the rule in the state that remembers since when the funnel has been evaluated live."""


class ImpressionsEvaluator:
    """The rules of one funnel on impressions; reads the counts of its detector.

    Args:
        funnel: the funnel.
        rules: about it.
        counts: of the detector, with the levels of the rules.
    """

    def __init__(self, funnel: str, rules: Iterable[ImpressionsRule], counts: Counts) -> None:
        self.funnel = funnel
        self.rules = tuple(rules)
        self.counts = counts
        self.states: dict[str, AlertState] = {}
        self._live = AlertState(LIVE, funnel, "*", {}, payload={"since": -1})

    def restore(self, state: AlertState) -> None:
        """Take up a state that an earlier watch left; that of a rule that is gone is ignored."""
        if state.rule == LIVE:
            self._live = state
        elif any(rule.alert == state.rule for rule in self.rules):
            self.states[state.key] = state

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, for this reason; None if the alert is over."""
        return renotify(self.states, message, reason)

    def observe(self, start: int, now: int) -> list[Transition]:
        """Evaluate the windows before the one that starts then, which has just been closed.

        Args:
            start: of the newest window, which the counts do not have yet.
            now: the wall clock, ms.
        """
        moves = []
        end = start + self.counts.window_ms
        since = self._live.payload["since"]
        if now - end > LIVE_MS:
            since = -1
        elif since < 0:
            since = start
        if since != self._live.payload["since"]:
            self._live = self._live.but(payload={"since": since})
            moves.append(Transition(self._live))
        if since < 0 or not self.counts.rows:
            return moves
        for rule in self.rules:
            moves += self._evaluate(rule, since)
        return moves

    def _evaluate(self, rule: ImpressionsRule, since: int) -> list[Transition]:
        counts = self.counts
        head = counts.rows - 1
        start = counts.start_of(head)
        length = max(1, rule.over_ms // counts.window_ms)
        n = _sum(counts, head - length + 1, head + 1)
        recent = _steady(counts, head - length + 1, length)
        usual = _usual(counts, head, length)
        live = since <= start + counts.window_ms - rule.over_ms - HOUR_MS
        moves = []
        groups = self._groups(rule)
        for dimensions, places in groups:
            key = AlertState(rule.alert, self.funnel, "*", dimensions).key
            before = self.states.get(key, AlertState(rule.alert, self.funnel, "*", dimensions))
            found = self._finding(rule, dimensions, n[places], recent[places], usual[places])
            found = found if live else replace(found, alarm=False)
            if move := advance(rule, before, found, start, start + counts.window_ms):
                self.states[key] = move.state
                moves.append(move)
        return moves + self._forgotten(rule, [dimensions for dimensions, _ in groups], start)

    def _forgotten(self, rule: ImpressionsRule, known: list[dict[str, str]], start: int) -> list[Transition]:
        """Resolve alerts about a scope that had no event for as long as counts are remembered."""
        if self.counts.rows * self.counts.window_ms < rule.resolve_without_data_ms:
            return []
        moves = []
        for key, state in list(self.states.items()):
            if state.rule == rule.alert and state.state in NOTIFIED and state.dimensions not in known:
                what = f"{self.funnel}: no event of this scope is known any more"
                ended = Finding(False, False, 0.0, 0.0, 0.0, what, "", {}, enough=False, gone=True)
                if move := advance(rule, state, ended, start, start + self.counts.window_ms):
                    self.states[key] = move.state
                    moves.append(move)
        return moves

    def _groups(self, rule: ImpressionsRule) -> list[tuple[dict[str, str], list[int]]]:
        """The columns of all steps, by what else they are about."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
        column: Column
        for column, place in self.counts.columns.items():
            if column.level in rule.by:
                groups[tuple(column.dimensions.items())].append(place)
        return [(dict(key), places) for key, places in groups.items()]

    def _finding(
        self,
        rule: ImpressionsRule,
        dimensions: dict[str, str],
        n: Floats,
        recent: Floats,
        usual: Floats,
    ) -> Finding:
        """The impressions of the steps of one scope."""
        counted = usual >= THIN * rule.min_expected
        total, expected = float(n[counted].sum()), float(usual[counted].sum())
        collapsed = bool(counted.any() and (n[counted] < rule.below * usual[counted]).all())
        enough = expected >= rule.min_expected
        scope = ", ".join(f"{name} {value}" for name, value in dimensions.items()) or "every os, browser and version"
        return Finding(
            alarm=enough and collapsed and total < SUDDEN * float(recent[counted].sum()),
            recovered=total >= min(BACK * rule.below, 1.0) * expected or not enough,
            total=expected,
            seen=min(total, expected),
            usual=expected,
            what=(
                f"{self.funnel} ({scope}): {total:.0f} impressions of all steps in {minutes(rule.over_ms)}, "
                f"where at least {expected:.0f} are usual at this time of the week"
            ),
            first=(
                "Do the apps still send, and can people still reach them? Look at the newest release, then at the "
                "errors of the producers; `funnelwatch rate --since 2h --every 5m --by os` shows who stopped when."
            ),
            facts={},
        )


def _sum(counts: Counts, begin: int, end: int) -> Floats:
    """Impressions of every column in rows [begin, end)."""
    found: Floats = counts.sums("impressions", np.array([begin]), np.array([end]))[0]
    return found


def _steady(counts: Counts, end: int, length: int) -> Floats:
    """The lowest quarter of the hour before a row, for ``length`` rows: traffic that has just begun is not steady."""
    quarter = max(1, HOUR_MS // 4 // counts.window_ms)
    found = [_sum(counts, end - (i + 1) * quarter, end - i * quarter) for i in range(4)]
    lowest: Floats = np.min(found, axis=0) * (length / quarter)
    return lowest


def _usual(counts: Counts, head: int, length: int) -> Floats:
    """The lowest of the past weeks' impressions in a span like the last one; 0 where too few weeks are known."""
    around, week = AROUND_MS // counts.window_ms, WEEK_MS // counts.window_ms
    found = []
    for number in range(1, WEEKS + 1):
        begin, end = head - length + 1 - number * week - around, head + 1 - number * week + around
        if begin >= 0:
            found.append(_sum(counts, begin, end) * length / (end - begin))
    if len(found) < MIN_WEEKS:
        return np.zeros(len(counts.columns))
    lowest: Floats = np.min(found, axis=0)
    return lowest
