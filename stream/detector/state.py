"""States, reasons and transitions of alerts: what is kept of an alert between windows, and over restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.alert_ids import series_key
from funnelwatch.alert_rules.instruments import ImpressionsRule
from funnelwatch.alert_rules.metrics import MetricRule
from funnelwatch.alert_rules.model import BaseRule, NamedRule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable


class State(StrEnum):
    """The state of an alert."""

    OK = "ok"
    PENDING = "pending"
    """Above the threshold, not yet for as long as the rule's ``for``."""
    FIRING = "firing"
    RESOLVED = "resolved"
    NO_DATA = "no_data"
    """Was firing, and now there are too few impressions to know anything; neither resolved nor repeated."""


class Reason(StrEnum):
    """Why an evaluation ended as it did. Every evaluation has exactly one; all are counted."""

    ORDINARY = "ORDINARY"
    LOW_VOLUME = "LOW_VOLUME"
    """Fewer impressions than the rule asks for, at every scale."""
    NO_BASELINE = "NO_BASELINE"
    """Too little history to know the expected rate."""
    COLD_START = "COLD_START"
    """Would be a drop, but under a week of history and the volume has just risen: not trusted."""
    FOR_NOT_REACHED = "FOR_NOT_REACHED"
    FIRST_DROP = "FIRST_DROP"
    STILL_FIRING = "STILL_FIRING"
    WORSENED = "WORSENED"
    KEPT_FIRING = "KEPT_FIRING"
    """Recovered, but not yet for as long as the rule's ``keep_firing_for``."""
    RECOVERED = "RECOVERED"
    INHIBITED_BY = "INHIBITED_BY"
    """Another level of the same rule already fires for it, or an instrumentation alert explains it."""
    NO_DATA = "NO_DATA"
    CORRECTED = "CORRECTED"
    """Late data has changed the outcome of what was published, or its numbers by much."""
    WIDENED = "WIDENED"
    """More steps have dropped with those that were published."""
    IMPRESSIONS_COLLAPSED = "IMPRESSIONS_COLLAPSED"
    DEAD_LETTERS_RISE = "DEAD_LETTERS_RISE"
    PARTITION_SILENT = "PARTITION_SILENT"
    WATERMARK_STUCK = "WATERMARK_STUCK"
    LIMIT_CROSSED = "LIMIT_CROSSED"
    """A counter or timer is on the wrong side of its rule's limit."""
    SILENCE_ENDED = "SILENCE_ENDED"
    """It still fires, and a silence had muted its last message."""
    SERIES_GONE = "SERIES_GONE"
    """The series has ended while its alert fired: no data for ``resolve_without_data`` while the funnel went on."""
    RULE_REMOVED = "RULE_REMOVED"
    """The rule was removed, or does not evaluate this series any more, while the alert was firing."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of one rule and series; times are int milliseconds UTC, -1 for never."""

    rule: str
    funnel: str
    step: str
    dimensions: dict[str, str]
    state: State = State.OK
    alert_id: str = ""
    sequence: int = -1
    """Sequence of the last message of this alert_id; -1 before the first."""
    started_at: int = -1
    last_window: int = -1
    """Start of the window that caused this state."""
    reason: Reason = Reason.ORDINARY
    payload: dict[str, Any] = field(default_factory=dict)
    """Further data of the state machine; JSON values only."""

    @property
    def key(self) -> str:
        """The same for the same rule and series, always."""
        return series_key(self.rule, self.funnel, self.step, self.dimensions)

    def but(self, **changes: Any) -> AlertState:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """As text, for the database."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> AlertState:
        """From the text that `to_json` made.

        Raises:
            ValueError: it is not such a text.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "state": State(fields["state"]), "reason": Reason(fields["reason"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an alert state: {text[:200]}") from error


@dataclass(frozen=True, slots=True)
class Transition:
    """A change to persist, and the alert to publish with it, if any."""

    state: AlertState
    alert: dict[str, Any] | None = None
    """The fields of ``schemas/alert.avsc``."""


NOTIFIED = {State.FIRING, State.NO_DATA}
"""States of an alert that was published and is not over."""


def retire(
    states: Iterable[AlertState],
    rules: Iterable[NamedRule],
    last_message: Callable[[str], dict[str, Any] | None],
    dimensions: Collection[str] | None = None,
) -> list[Transition]:
    """The transitions of the states that no rule is about any more.

    A rule that was edited and still evaluates the series goes on with its state. Where it was removed, or evaluates
    other steps or dimensions now, an alert that was published is resolved, with the reason RULE_REMOVED and the numbers
    of its last message; one that was pending is forgotten.

    Args:
        states: of one funnel, as they were saved.
        rules: of every kind that speak about this funnel now.
        last_message: the last message of an alert_id, if there is one.
        dimensions: of the funnel; None: any.
    """
    by_name = {rule.alert: rule for rule in rules}
    transitions = []
    for state in states:
        if state.rule.startswith("@"):  # no alert, but further state of a detector
            continue
        rule = by_name.get(state.rule)
        if rule is not None and applies_to(rule, state, dimensions):
            continue
        if state.state is State.PENDING:
            transitions.append(Transition(state.but(state=State.OK, reason=Reason.RULE_REMOVED, alert_id="")))
        elif state.state in NOTIFIED:
            after = state.but(state=State.RESOLVED, reason=Reason.RULE_REMOVED, sequence=state.sequence + 1)
            message = last_message(state.alert_id)
            alert = message and message | {"state": "resolved", "reason": str(after.reason), "sequence": after.sequence}
            transitions.append(Transition(after, alert))
    return transitions


def applies_to(rule: NamedRule, state: AlertState, dimensions: Collection[str] | None = None) -> bool:
    """Whether the rule, as it is now, evaluates the series of this state."""
    if isinstance(rule, BaseRule) and not rule.covers(state.step):
        return False
    if isinstance(rule, BaseRule | ImpressionsRule):
        is_known = dimensions is None or set(state.dimensions) <= set(dimensions)
        return is_known and any(set(level) == set(state.dimensions) for level in rule.by)
    if isinstance(rule, MetricRule):
        return set(rule.by) == set(state.dimensions)
    return True
