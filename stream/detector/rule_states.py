"""The alert states of one rule's series: restored before their series is seen, and kept by column afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.stream.detector.scope import within
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from funnelwatch.alert_rules.model import Rule
    from funnelwatch.stream.detector.counts import Column, Counts

QUIET = {State.OK, State.RESOLVED}


class RuleStates:
    """The states of one rule, by column of the counts.

    Attributes:
        states: of every series that has ever left ``ok``.
        awake: those of them that are not quiet.
        columns: all columns of the counts that are known here.
        mine: whether the rule is about each column.
        since: from when on the windows of each column may be evaluated, ms; -1 where all may.
        ended: when the alert of a column resolved because its series had ended, ms: no window before is evaluated
            again.
    """

    def __init__(self, funnel: str, rule: Rule, counts: Counts) -> None:
        self._funnel = funnel
        self._rule = rule
        self._counts = counts
        self.states: dict[Column, AlertState] = {}
        self.awake: dict[Column, AlertState] = {}
        self.columns: list[Column] = []
        self.mine = np.zeros(0, dtype=bool)
        self.since = np.zeros(0, dtype=np.int64)
        self.ended: dict[Column, int] = {}
        self._waiting: dict[tuple[str, tuple[tuple[str, str], ...]], AlertState] = {}

    def restore(self, state: AlertState) -> None:
        """Adopt a state; its series need not have been seen yet."""
        self._waiting[_key(state)] = state
        for column in self.columns:
            self._adopt(column)

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, with the next sequence; None if it is not ours, or over."""
        for column, state in self.states.items():
            if state.alert_id == message["alert_id"] and state.state in NOTIFIED:
                after = state.but(sequence=state.sequence + 1, reason=reason)
                self.keep(column, after)
                break
        else:
            for key, state in self._waiting.items():
                if state.alert_id == message["alert_id"] and state.state in NOTIFIED:
                    self._waiting[key] = after = state.but(sequence=state.sequence + 1, reason=reason)
                    break
            else:
                return None
        return Transition(after, message | {"sequence": after.sequence, "reason": str(reason)})

    def orphans(self) -> list[AlertState]:
        """States of alerts that fire about a series of which no remembered window has any event."""
        return [state for state in self._waiting.values() if state.state in NOTIFIED]

    def widen(self) -> None:
        """Take up columns that have come since."""
        known = len(self.columns)
        if len(self._counts.columns) == known:
            return
        fresh = list(self._counts.columns)[known:]
        mine = [column.level in self._rule.by and self._rule.covers(column.step) for column in fresh]
        self.mine = np.concatenate([self.mine, np.array(mine, dtype=bool)])
        self.since = np.concatenate([self.since, np.full(len(fresh), -1)])
        self.columns += fresh
        for column, state in self.states.items():
            self._forget(column, state.payload.get("since", -1), known)
        for column in fresh:
            self._adopt(column)

    def _adopt(self, column: Column) -> None:
        """Give a column the state that was restored for it."""
        key = (column.step, tuple(sorted(column.dimensions.items())))
        if column.level in self._rule.by and key in self._waiting:
            self.keep(column, self._waiting.pop(key))

    def keep(self, column: Column, state: AlertState) -> None:
        """Remember the state of a column, and what follows from it."""
        self.states[column] = state
        if state.state in QUIET:
            self.awake.pop(column, None)
        else:
            self.awake[column] = state
        if "ended_at" in state.payload:
            self.ended[column] = state.payload["ended_at"]
        since = state.payload.get("since", -1)
        if since > self.since[self._counts.columns[column]]:
            self._forget(column, since)

    def _forget(self, column: Column, since: int, begin: int = 0) -> None:
        """Evaluate a column, and those related to it, by the windows from its last recovery on only.

        The long spans of the scan remember a dip for an hour after it is over; without this it would alarm anew,
        at another level or at its own. ``begin``: leave the columns before that place as they are.
        """
        for place, other in enumerate(self.columns[begin:] if since >= 0 else (), begin):
            if other == column or within(other, column) or within(column, other):
                self.since[place] = max(self.since[place], since)

    def blank(self, column: Column) -> AlertState:
        """The state of a series that never left ``ok``."""
        return AlertState(self._rule.alert, self._funnel, column.step, column.dimensions)

    def keep_orphan(self, state: AlertState) -> None:
        """Remember the state of a series of which no remembered window has any event."""
        self._waiting[_key(state)] = state


def _key(state: AlertState) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The identity of a series of a rule."""
    return state.step, tuple(sorted(state.dimensions.items()))
