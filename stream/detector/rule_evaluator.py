"""One rule over one panel: evaluates its columns, moves their states on, and makes the messages to publish."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.stream.detector.absence import Absence
from funnelwatch.stream.detector.alert import alert_message
from funnelwatch.stream.detector.correction import corrected, published_numbers, remember_published
from funnelwatch.stream.detector.evaluation import QUIET_REASONS, DropEvaluator, Evaluation, Evaluator, SpanEvaluator
from funnelwatch.stream.detector.machine import step
from funnelwatch.stream.detector.retire import NOTIFIED
from funnelwatch.stream.detector.scan import LONGEST
from funnelwatch.stream.detector.scope import Where, inhibited, trace, within
from funnelwatch.stream.detector.state import AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from numpy.typing import NDArray

    from funnelwatch.alert_rules.model import Rule
    from funnelwatch.stream.detector.counts import Column, Counts
    from funnelwatch.stream.detector.panel import Panel, Snapshot

    Explained = Callable[[dict[str, str], Evaluation, int], bool]

QUIET = {State.OK, State.RESOLVED}
MAX_LOSS_WINDOWS = 1440
"""A loss is added up over at most so many windows back."""


class RuleEvaluator:
    """The states of one rule's series."""

    def __init__(self, funnel: str, rule: Rule, panel: Panel, drill: Counts) -> None:
        self.funnel = funnel
        self.rule = rule
        self.panel = panel
        self.drill = drill
        self.explained: Explained | None = None
        """Asked before an alert begins to fire: whether it is inhibited; None: never."""
        self.states: dict[Column, AlertState] = {}
        """Of every series that has ever left ``ok``."""
        self._awake: dict[Column, AlertState] = {}
        """Those of them that are not quiet."""
        self._waiting: dict[tuple[str, tuple[tuple[str, str], ...]], AlertState] = {}
        self._columns: list[Column] = []
        self._absence = Absence(panel.counts, rule.resolve_without_data_ms, max(rule.min_impressions, 1))
        self._mine = np.zeros(0, dtype=bool)
        self._since = np.zeros(0, dtype=np.int64)
        """From when on the windows of each column may be evaluated, ms; -1 where all may."""
        self._ended: dict[Column, int] = {}
        """When the alert of a column resolved because its series had ended, ms: no window before is evaluated again."""

    def restore(self, state: AlertState) -> None:
        """Take up a state; its series need not have been seen yet."""
        self._waiting[_key(state)] = state
        for column in self._columns:
            self._adopt(column)

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, with the next sequence; None if it is not ours, or over."""
        for column, state in self.states.items():
            if state.alert_id == message["alert_id"] and state.state in NOTIFIED:
                after = state.but(sequence=state.sequence + 1, reason=reason)
                self._keep(column, after)
                break
        else:
            for key, state in self._waiting.items():
                if state.alert_id == message["alert_id"] and state.state in NOTIFIED:
                    self._waiting[key] = after = state.but(sequence=state.sequence + 1, reason=reason)
                    break
            else:
                return None
        return Transition(after, message | {"sequence": after.sequence, "reason": str(reason)})

    def correct(self, start: int, revision: int) -> list[Transition]:
        """The corrections of published messages that a revision of the window that starts then brings."""
        self._widen()
        counts = self.panel.counts
        row = counts.row_of(start)
        if not 0 <= row < counts.rows:
            return []
        transitions = []
        for column, state in list(self.states.items()):
            [(n, x)] = self._counted(column, row, row)
            after, is_published = corrected(self.rule, state, start, counts.window_ms, revision, n, x)
            if after is state:
                continue
            self._keep(column, after)
            alert = None
            if is_published:
                window, evaluation, lost, where = published_numbers(after)
                alert = alert_message(self.rule, after, evaluation, window, window + counts.window_ms, lost, where)
            transitions.append(Transition(after, alert))
        return transitions

    def evaluate(self, snapshot: Snapshot, revision: int, reasons: Counter[Reason]) -> list[tuple[int, Transition]]:
        """The transitions that the evaluated windows cause, each with the row that was the newest then.

        Windows in which nothing alarms while no alert is awake are only counted; the others are gone through one by
        one. What a recovery changes about the windows after it is taken in at once.
        """
        self._widen()
        rows = len(snapshot.now.known)
        moves: list[tuple[int, Transition]] = []
        evaluator: Evaluator | None = None
        row = 0
        while row < rows:
            if evaluator is None:
                evaluator = self._evaluator(snapshot)
                alarming = np.flatnonzero((evaluator.alarm & self._mine).any(axis=1))
            busy = (
                row
                if self._awake or self._orphans()
                else int(next(iter(alarming[np.searchsorted(alarming, row) :]), rows))
            )
            if busy > row:
                self._count(reasons, evaluator.reasons[row:busy, self._mine])
            if busy < rows:
                since = self._since.copy()
                found = self._go_through(evaluator, snapshot, busy, revision, reasons)
                moves += [(snapshot.newest + busy, move) for move in found]
                if not np.array_equal(since, self._since):
                    evaluator = None
            row = busy + 1
        return moves

    def _evaluator(self, snapshot: Snapshot) -> Evaluator:
        """What the rule sees of each row and column, by what is known of recoveries so far."""
        counts = self.panel.counts
        if self.rule.kind != "drop":
            ended = {counts.columns[column]: counts.row_of(at) for column, at in self._ended.items()}
            return SpanEvaluator(self.rule, self.panel, snapshot, ended)
        ends = counts.start_of(snapshot.first + 1) + counts.window_ms * np.arange(len(snapshot.now.known))
        return DropEvaluator(self.rule, snapshot, (ends[:, None] - self._since) // counts.window_ms)

    def _go_through(
        self, evaluator: Evaluator, snapshot: Snapshot, row: int, revision: int, reasons: Counter[Reason]
    ) -> list[Transition]:
        """The transitions that one window causes, the ``row`` of a snapshot."""
        counts = self.panel.counts
        head = snapshot.first + row
        start = counts.start_of(head)
        end = start + counts.window_ms
        places = set(np.flatnonzero(evaluator.alarm[row] & self._mine).tolist())
        places |= {counts.columns[column] for column in self._awake}
        quiet = self._mine.copy()
        quiet[list(places)] = False
        self._count(reasons, evaluator.reasons[row, quiet])
        evaluations = {
            self._columns[place]: self._evaluation_of(evaluator, row, place, end) for place in sorted(places)
        }
        held = self._inhibited(evaluations, snapshot, row)
        transitions = self._evaluate_orphans(head, revision)
        for column, evaluation in evaluations.items():
            before = self.states.get(column) or self._blank(column)
            if column in held or self._is_explained(column, before, evaluation, end):
                reasons[Reason.INHIBITED_BY] += 1
                continue
            if (before.last_window, before.payload.get("revision", 0)) >= (start, revision):
                continue
            move = step(self.rule, before, evaluation, start, end)
            quiet_reason = QUIET_REASONS[evaluator.reasons[row, counts.columns[column]]]
            reasons[quiet_reason if move.reason is Reason.ORDINARY and not move.changed else move.reason] += 1
            if move.changed:
                after = move.state.but(payload={**move.state.payload, "revision": revision})
                alert = None
                if move.publish:
                    after, alert = self._message(column, after, evaluation, snapshot, row)
                transitions.append(Transition(after, alert))
                self._keep(column, after)
        return transitions

    def _is_explained(self, column: Column, before: AlertState, evaluation: Evaluation, end: int) -> bool:
        """Whether something else than a drop of the conversion explains an alarm that is not published yet."""
        if self.explained is None or not evaluation.alarm or before.state in NOTIFIED:
            return False
        return self.explained(column.dimensions, evaluation, end)

    @staticmethod
    def _count(reasons: Counter[Reason], found: NDArray[np.int8]) -> None:
        """Count reasons of windows in which nothing happened."""
        for reason, number in zip(QUIET_REASONS, np.bincount(found.ravel(), minlength=4).tolist(), strict=True):
            if number:
                reasons[reason] += number

    def _evaluation_of(self, evaluator: Evaluator, row: int, place: int, end: int) -> Evaluation:
        """What is seen of one column, given its alert."""
        state = self._awake.get(self._columns[place])
        if state is None:
            return evaluator.evaluation_of(row, place, 0.0, 0)
        age = max(1, (end - state.started_at) // self.panel.counts.window_ms)
        evaluation = evaluator.evaluation_of(row, place, state.payload.get("drop", 0.0), age)
        if state.state not in NOTIFIED:
            return evaluation
        head = self.panel.counts.row_of(end) - 1
        gone = self._absence.is_gone(state, place, self._funnel(self._columns[place].level), head)
        return replace(evaluation, gone=True) if gone else evaluation

    def _funnel(self, level: tuple[str, ...]) -> list[int]:
        """The columns that add up to the funnel."""
        return [place for column, place in self.panel.counts.columns.items() if column.level == level]

    def _orphans(self) -> list[AlertState]:
        """States of alerts that fire about a series of which no remembered window has any event."""
        return [state for state in self._waiting.values() if state.state in NOTIFIED]

    def _evaluate_orphans(self, head: int, revision: int) -> list[Transition]:
        """Resolve what fires about a series that is not known any more."""
        start = self.panel.counts.start_of(head)
        transitions = []
        for state in self._orphans():
            if self._absence.is_gone(state, None, self._funnel(self.rule.by[0]), head):
                after = state.but(
                    state=State.RESOLVED,
                    reason=Reason.SERIES_GONE,
                    sequence=state.sequence + 1,
                    last_window=start,
                    payload={**state.payload, "revision": revision},
                )
                self._waiting[_key(after)] = after
                transitions.append(Transition(after, self._farewell(after, start)))
        return transitions

    def _farewell(self, state: AlertState, start: int) -> dict[str, Any] | None:
        """The last message about a series that has ended: with the numbers that were published before."""
        if "published" not in state.payload:
            return None
        _, evaluation, lost, _ = published_numbers(state)
        return alert_message(self.rule, state, evaluation, start, start + self.panel.counts.window_ms, lost, Where())

    def _inhibited(self, evaluations: dict[Column, Evaluation], snapshot: Snapshot, row: int) -> dict[Column, Column]:
        """The alarming series that another level of the rule inhibits, each with the series of that level."""
        if len(self.rule.by) == 1:
            return {}
        fresh, active = {}, {}
        for column, evaluation in evaluations.items():
            state = self.states.get(column)
            burning = state is not None and state.state in {State.FIRING, State.NO_DATA}
            if burning:
                active[column] = evaluation
            elif evaluation.alarm:
                fresh[column] = evaluation
        if not fresh or len(fresh) + len(active) < 2:  # noqa: PLR2004
            return {}
        # Losses are compared over one span: the longest that any of the new ones is evaluated by.
        windows = max(evaluation.windows for evaluation in fresh.values())
        losses = self._losses([*fresh, *active], windows, snapshot, row)
        return inhibited({one: losses[one] for one in fresh}, {one: losses[one] for one in active})

    def _losses(self, columns: list[Column], windows: int, snapshot: Snapshot, row: int) -> dict[Column, float]:
        """Expected minus seen successes of each series over the last windows up to a row; never below 0."""
        head = snapshot.first + row
        lost = {}
        for column in columns:
            place = self.panel.counts.columns[column]
            if windows <= LONGEST:
                each = snapshot.lost[row + LONGEST - windows : row + LONGEST, place]
            else:
                each = np.subtract(*self.panel.expectation(head - windows + 1, head, place))
            lost[column] = max(float(each.sum()), 0.0)
        return lost

    def _message(
        self, column: Column, state: AlertState, evaluation: Evaluation, snapshot: Snapshot, row: int
    ) -> tuple[AlertState, dict[str, Any]]:
        """The alert to publish, and the state that remembers its numbers."""
        counts = self.panel.counts
        head = snapshot.first + row
        start = counts.start_of(head)
        if state.reason is Reason.SERIES_GONE and (message := self._farewell(state, start)):
            return state, message
        windows = (start - state.started_at) // counts.window_ms + 1
        lost = self._losses([column], min(windows, MAX_LOSS_WINDOWS), snapshot, row)[column]
        where = Where()
        if state.state is not State.RESOLVED:
            where = trace(column, head, min(windows, LONGEST), self.panel, self.drill)
            state = remember_published(
                state, evaluation, start, self._counted(column, head - evaluation.windows + 1, head), lost, where
            )
        return state, alert_message(self.rule, state, evaluation, start, start + counts.window_ms, lost, where)

    def _counted(self, column: Column, first: int, last: int) -> list[tuple[float, float]]:
        """Impressions and successes of a column in each of these rows."""
        counts, place = self.panel.counts, np.array([self.panel.counts.columns[column]])
        n = counts.each("impressions", first, last + 1, place)[:, 0]
        x = counts.each(self.panel.basis, first, last + 1, place)[:, 0]
        return list(zip(n.tolist(), x.tolist(), strict=True))

    def _widen(self) -> None:
        """Take up columns that have come since."""
        known = len(self._columns)
        if len(self.panel.counts.columns) == known:
            return
        fresh = list(self.panel.counts.columns)[known:]
        mine = [column.level in self.rule.by and self.rule.judges(column.step) for column in fresh]
        self._mine = np.concatenate([self._mine, np.array(mine, dtype=bool)])
        self._since = np.concatenate([self._since, np.full(len(fresh), -1)])
        self._columns += fresh
        for column, state in self.states.items():
            self._forget(column, state.payload.get("since", -1), known)
        for column in fresh:
            self._adopt(column)

    def _adopt(self, column: Column) -> None:
        """Give a column the state that was restored for it."""
        key = (column.step, tuple(sorted(column.dimensions.items())))
        if column.level in self.rule.by and key in self._waiting:
            self._keep(column, self._waiting.pop(key))

    def _keep(self, column: Column, state: AlertState) -> None:
        """Remember the state of a column, and what follows from it."""
        self.states[column] = state
        if state.state in QUIET:
            self._awake.pop(column, None)
        else:
            self._awake[column] = state
        if "ended_at" in state.payload:
            self._ended[column] = state.payload["ended_at"]
        since = state.payload.get("since", -1)
        if since > self._since[self.panel.counts.columns[column]]:
            self._forget(column, since)

    def _forget(self, column: Column, since: int, begin: int = 0) -> None:
        """Evaluate a column, and those related to it, by the windows from its last recovery on only.

        The long spans of the scan remember a dip for an hour after it is over; without this it would alarm anew,
        at another level or at its own. ``begin``: leave the columns before that place as they are.
        """
        for place, other in enumerate(self._columns[begin:] if since >= 0 else (), begin):
            if other == column or within(other, column) or within(column, other):
                self._since[place] = max(self._since[place], since)

    def _blank(self, column: Column) -> AlertState:
        """The state of a series that never left ``ok``."""
        return AlertState(self.rule.alert, self.funnel, column.step, column.dimensions)


def _key(state: AlertState) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The identity of a series of a rule."""
    return state.step, tuple(sorted(state.dimensions.items()))
