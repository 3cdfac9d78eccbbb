"""One rule over one panel: evaluates its columns, moves their states on, and makes the messages to publish."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.stream.detector.absence import Absence
from funnelwatch.stream.detector.alert import alert_message
from funnelwatch.stream.detector.correction import corrected, published_numbers, remember_published
from funnelwatch.stream.detector.counts import SHOWN
from funnelwatch.stream.detector.evaluation import QUIET_REASONS, DropEvaluator, Evaluation, Evaluator, SpanEvaluator
from funnelwatch.stream.detector.machine import step
from funnelwatch.stream.detector.rule_states import RuleStates
from funnelwatch.stream.detector.scan import LONGEST
from funnelwatch.stream.detector.scope import Where, inhibited, trace
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from numpy.typing import NDArray

    from funnelwatch.alert_rules.model import Rule
    from funnelwatch.stream.detector.counts import Column
    from funnelwatch.stream.detector.drill import Drill
    from funnelwatch.stream.detector.panel import Panel, Snapshot

    Explained = Callable[[dict[str, str], Evaluation, int], bool]

MAX_LOSS_WINDOWS = 1440
"""A loss is added up over at most so many windows back."""


class RuleEvaluator:
    """The states of one rule's series."""

    def __init__(self, funnel: str, rule: Rule, panel: Panel, drill: Drill) -> None:
        self.funnel = funnel
        self.rule = rule
        self.panel = panel
        self.drill = drill
        self.explained: Explained | None = None
        """Asked before an alert begins to fire: whether it is inhibited; None: never."""
        self._series = RuleStates(funnel, rule, panel.counts)
        self._absence = Absence(
            panel.counts, SHOWN[panel.basis], rule.resolve_without_data_ms, max(rule.min_impressions, 1)
        )

    @property
    def states(self) -> dict[Column, AlertState]:
        """The state of every series that has ever left ``ok``."""
        return self._series.states

    def restore(self, state: AlertState) -> None:
        """Adopt a state; its series need not have been seen yet."""
        self._series.restore(state)

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, with the next sequence; None if it is not ours, or over."""
        return self._series.renotify(message, reason)

    def correct(self, start: int, revision: int) -> list[Transition]:
        """The corrections of published messages that a revision of the window that starts then brings."""
        self._series.widen()
        counts = self.panel.counts
        row = counts.row_of(start)
        if not 0 <= row < counts.rows:
            return []
        transitions = []
        for column, state in list(self._series.states.items()):
            [(n, x)] = self._counted(column, row, row)
            after, is_published = corrected(self.rule, state, start, counts.window_ms, revision, n, x)
            if after is state:
                continue
            self._series.keep(column, after)
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
        self._series.widen()
        rows = len(snapshot.now.known)
        moves: list[tuple[int, Transition]] = []
        evaluator: Evaluator | None = None
        row = 0
        while row < rows:
            if evaluator is None:
                evaluator = self._evaluator(snapshot)
                alarming = np.flatnonzero((evaluator.alarm & self._series.mine).any(axis=1))
            busy = (
                row
                if self._series.awake or self._series.orphans()
                else int(next(iter(alarming[np.searchsorted(alarming, row) :]), rows))
            )
            if busy > row:
                self._count(reasons, evaluator.reasons[row:busy, self._series.mine])
            if busy < rows:
                since = self._series.since.copy()
                found = self._go_through(evaluator, snapshot, busy, revision, reasons)
                moves += [(snapshot.newest + busy, move) for move in found]
                if not np.array_equal(since, self._series.since):
                    evaluator = None
            row = busy + 1
        return moves

    def _evaluator(self, snapshot: Snapshot) -> Evaluator:
        """Evaluates the rule for each row and column, given the recoveries so far."""
        counts = self.panel.counts
        if self.rule.kind != "drop":
            ended = {counts.columns[column]: counts.row_of(at) for column, at in self._series.ended.items()}
            return SpanEvaluator(self.rule, self.panel, snapshot, ended)
        ends = counts.start_of(snapshot.first + 1) + counts.window_ms * np.arange(len(snapshot.now.known))
        return DropEvaluator(self.rule, snapshot, (ends[:, None] - self._series.since) // counts.window_ms)

    def _go_through(
        self, evaluator: Evaluator, snapshot: Snapshot, row: int, revision: int, reasons: Counter[Reason]
    ) -> list[Transition]:
        """The transitions that one window causes, the ``row`` of a snapshot."""
        counts = self.panel.counts
        head = snapshot.first + row
        start = counts.start_of(head)
        end = start + counts.window_ms
        places = set(np.flatnonzero(evaluator.alarm[row] & self._series.mine).tolist())
        places |= {counts.columns[column] for column in self._series.awake}
        quiet = self._series.mine.copy()
        quiet[list(places)] = False
        self._count(reasons, evaluator.reasons[row, quiet])
        evaluations = {
            self._series.columns[place]: self._evaluation_of(evaluator, row, place, end) for place in sorted(places)
        }
        held = self._inhibited(evaluations, snapshot, row)
        transitions = self._evaluate_orphans(head, revision)
        for column, evaluation in evaluations.items():
            before = self._series.states.get(column) or self._series.blank(column)
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
                self._series.keep(column, after)
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
        """Evaluates one column, given its alert."""
        state = self._series.awake.get(self._series.columns[place])
        if state is None:
            return evaluator.evaluation_of(row, place, 0.0, 0)
        age = max(1, (end - state.started_at) // self.panel.counts.window_ms)
        evaluation = evaluator.evaluation_of(row, place, state.payload.get("drop", 0.0), age)
        if state.state not in NOTIFIED:
            return evaluation
        head = self.panel.counts.row_of(end) - 1
        gone = self._absence.is_gone(state, place, self._funnel(self._series.columns[place].level), head)
        return replace(evaluation, gone=True) if gone else evaluation

    def _funnel(self, level: tuple[str, ...]) -> list[int]:
        """The columns that add up to the funnel."""
        return [place for column, place in self.panel.counts.columns.items() if column.level == level]

    def _evaluate_orphans(self, head: int, revision: int) -> list[Transition]:
        """Resolve what fires about a series that is not known any more."""
        start = self.panel.counts.start_of(head)
        transitions = []
        for state in self._series.orphans():
            if self._absence.is_gone(state, None, self._funnel(self.panel.counts.levels[0]), head):
                after = state.but(
                    state=State.RESOLVED,
                    reason=Reason.SERIES_GONE,
                    sequence=state.sequence + 1,
                    last_window=start,
                    payload={**state.payload, "revision": revision},
                )
                self._series.keep_orphan(after)
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
            state = self._series.states.get(column)
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
        n = counts.each(SHOWN[self.panel.basis], first, last + 1, place)[:, 0]
        x = counts.each(self.panel.basis, first, last + 1, place)[:, 0]
        return list(zip(n.tolist(), x.tolist(), strict=True))
