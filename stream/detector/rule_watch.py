"""One rule over one panel: judges its columns, moves their states on, and says what to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.detector.alert import alert_message
from stream.detector.judge import DropJudge, Judge, Sight, StretchJudge
from stream.detector.machine import step
from stream.detector.scan import LONGEST
from stream.detector.scope import Where, held_back, trace, within
from stream.detector.state import AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections import Counter

    from alert_rules.model import Rule
    from stream.detector.counts import Column, Counts
    from stream.detector.panel import Panel
    from stream.detector.scan import Scan

QUIET = {State.OK, State.RESOLVED}
MAX_LOSS_WINDOWS = 1440
"""A loss is added up over at most so many windows back."""


class RuleWatch:
    """The states of one rule's series."""

    def __init__(self, funnel: str, rule: Rule, panel: Panel, drill: Counts) -> None:
        self.funnel = funnel
        self.rule = rule
        self.panel = panel
        self.drill = drill
        self.states: dict[Column, AlertState] = {}
        """Of every series that has ever left ``ok``."""
        self._waiting: dict[tuple[str, tuple[tuple[str, str], ...]], AlertState] = {}
        self._columns: list[Column] = []
        self._mine = np.zeros(0, dtype=bool)
        self._since = np.zeros(0, dtype=np.int64)

    def restore(self, state: AlertState) -> None:
        """Take up a state; its series need not have been seen yet."""
        self._waiting[state.step, tuple(sorted(state.dimensions.items()))] = state
        for column in self._columns:
            self._adopt(column)
        self._forget()

    def judge(self, found: Scan, revision: int, reasons: Counter[Reason]) -> list[Transition]:
        """The transitions that the judged window of the panel causes."""
        self._widen()
        counts = self.panel.counts
        start = counts.start_of(self.panel.head)
        end = start + counts.window_ms
        judge: Judge
        if self.rule.kind == "drop":
            judge = DropJudge(self.rule, self.panel, found, (end - self._since) // counts.window_ms)
        else:
            judge = StretchJudge(self.rule, self.panel)
        places = set(np.flatnonzero(judge.alarm & self._mine).tolist())
        places |= {counts.columns[column] for column, state in self.states.items() if state.state not in QUIET}
        quiet = self._mine.copy()
        quiet[list(places)] = False
        for reason, number in zip(*np.unique(judge.reasons[quiet].astype(str), return_counts=True), strict=True):
            reasons[Reason(reason)] += int(number)
        sights = {self._columns[place]: self._sight(judge, place, end) for place in sorted(places)}
        held = self._held_back(sights)
        transitions = []
        for column, sight in sights.items():
            before = self.states.get(column) or self._blank(column)
            if column in held:
                reasons[Reason.HELD_BACK_BY] += 1
                continue
            if (before.last_window, before.payload.get("revision", 0)) >= (start, revision):
                continue
            move = step(self.rule, before, sight, start, end)
            quiet_reason = Reason(judge.reasons[counts.columns[column]])
            reasons[quiet_reason if move.reason is Reason.ORDINARY and not move.changed else move.reason] += 1
            if move.changed:
                after = move.state.but(payload={**move.state.payload, "revision": revision})
                self.states[column] = after
                transitions.append(Transition(after, self._message(column, after, sight) if move.publish else None))
                self._forget()
        return transitions

    def _sight(self, judge: Judge, place: int, end: int) -> Sight:
        """What is seen of one column, given its alert."""
        state = self.states.get(self._columns[place])
        if state is None or state.state in QUIET:
            return judge.sight(place, 0.0, 0)
        age = max(1, (end - state.started_at) // self.panel.counts.window_ms)
        return judge.sight(place, state.payload.get("drop", 0.0), age)

    def _held_back(self, sights: dict[Column, Sight]) -> dict[Column, Column]:
        """The alarming series that another level already tells, or is about to."""
        if len(self.rule.by) == 1:
            return {}
        fresh, active = {}, {}
        for column, sight in sights.items():
            state = self.states.get(column)
            burning = state is not None and state.state in {State.FIRING, State.NO_DATA}
            if burning:
                active[column] = sight
            elif sight.alarm:
                fresh[column] = sight
        if not fresh or len(fresh) + len(active) < 2:  # noqa: PLR2004
            return {}
        # Losses are compared over one stretch: the longest that any of the new ones is judged by.
        windows = max(sight.windows for sight in fresh.values())
        losses = self._losses([*fresh, *active], windows)
        return held_back({one: losses[one] for one in fresh}, {one: losses[one] for one in active})

    def _losses(self, columns: list[Column], windows: int) -> dict[Column, float]:
        """Expected minus seen successes of each series over the last windows; never below 0."""
        places = np.array([self.panel.counts.columns[column] for column in columns])
        expected, seen = self.panel.expectation(self.panel.head - windows + 1, places)
        return dict(zip(columns, np.maximum((expected - seen).sum(axis=0), 0.0).tolist(), strict=True))

    def _message(self, column: Column, state: AlertState, sight: Sight) -> dict[str, object]:
        """The alert to publish."""
        counts = self.panel.counts
        start = counts.start_of(self.panel.head)
        windows = (start - state.started_at) // counts.window_ms + 1
        lost = self._losses([column], min(windows, MAX_LOSS_WINDOWS))[column]
        where = (
            Where() if state.state is State.RESOLVED else trace(column, min(windows, LONGEST), self.panel, self.drill)
        )
        return alert_message(self.rule, state, sight, start, start + counts.window_ms, lost, where)

    def _widen(self) -> None:
        """Take up columns that have come since."""
        columns = list(self.panel.counts.columns)
        if len(columns) == len(self._columns):
            return
        fresh = columns[len(self._columns) :]
        mine = [column.level in self.rule.by and self.rule.judges(column.step) for column in fresh]
        self._mine = np.concatenate([self._mine, np.array(mine, dtype=bool)])
        self._columns = columns
        for column in fresh:
            self._adopt(column)
        self._forget()

    def _adopt(self, column: Column) -> None:
        """Give a column the state that was restored for it."""
        key = (column.step, tuple(sorted(column.dimensions.items())))
        if column.level in self.rule.by and key in self._waiting:
            self.states[column] = self._waiting.pop(key)

    def _forget(self) -> None:
        """From when on the windows of each column may be judged: after its last recovery, or that of a related one.

        The long stretches of the scan remember a dip for an hour after it is over; without this it would alarm anew,
        at another level or at its own.
        """
        self._since = np.full(len(self._columns), -1, dtype=np.int64)
        for column, state in self.states.items():
            since = state.payload.get("since", -1)
            if since < 0:
                continue
            for place, other in enumerate(self._columns):
                if other == column or within(other, column) or within(column, other):
                    self._since[place] = max(self._since[place], since)

    def _blank(self, column: Column) -> AlertState:
        """The state of a series that never left ``ok``."""
        return AlertState(self.rule.alert, self.funnel, column.step, column.dimensions)
