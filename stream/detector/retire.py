"""Alerts whose rule is gone: they are resolved, since no rule is left to resolve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.instruments import ImpressionsRule
from funnelwatch.alert_rules.metrics import MetricRule
from funnelwatch.alert_rules.model import BaseRule, NamedRule
from funnelwatch.stream.detector.state import AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


NOTIFIED = {State.FIRING, State.NO_DATA}
"""States of an alert that was published and is not over."""


def retire(
    states: Iterable[AlertState], rules: Iterable[NamedRule], last_message: Callable[[str], dict[str, Any] | None]
) -> list[Transition]:
    """The transitions of the states that no rule is about any more.

    A rule that was edited and still evaluates the series goes on with its state. Where it was removed, or evaluates
    other steps or dimensions now, an alert that was published is resolved, with the reason RULE_REMOVED and the numbers
    of its last message; one that was pending is forgotten.

    Args:
        states: of one funnel, as they were saved.
        rules: of every kind that speak about this funnel now.
        last_message: the last message of an alert_id, if there is one.
    """
    by_name = {rule.alert: rule for rule in rules}
    transitions = []
    for state in states:
        if state.rule.startswith("@"):  # no alert: what somebody must remember besides
            continue
        rule = by_name.get(state.rule)
        if rule is not None and applies_to(rule, state):
            continue
        if state.state is State.PENDING:
            transitions.append(Transition(state.but(state=State.OK, reason=Reason.RULE_REMOVED, alert_id="")))
        elif state.state in NOTIFIED:
            after = state.but(state=State.RESOLVED, reason=Reason.RULE_REMOVED, sequence=state.sequence + 1)
            message = last_message(state.alert_id)
            alert = message and message | {"state": "resolved", "reason": str(after.reason), "sequence": after.sequence}
            transitions.append(Transition(after, alert))
    return transitions


def applies_to(rule: NamedRule, state: AlertState) -> bool:
    """Whether the rule, as it is now, evaluates the series of this state."""
    if isinstance(rule, BaseRule) and not rule.judges(state.step):
        return False
    if isinstance(rule, BaseRule | ImpressionsRule):
        return any(set(level) == set(state.dimensions) for level in rule.by)
    if isinstance(rule, MetricRule):
        return set(rule.by) == set(state.dimensions)
    return True
