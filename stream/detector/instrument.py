"""Signals of instrumentation: the state machine, the message, and the conversion alerts that a signal explains.

Rules about counters and timers share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.instruments import DeadLettersRule, ImpressionsRule, InstrumentRule, SilentRule
from funnelwatch.stream.detector.alert import alert_message
from funnelwatch.stream.detector.evaluation import Evaluation
from funnelwatch.stream.detector.machine import step
from funnelwatch.stream.detector.scope import Where
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.alert_rules.instruments import Instrument
    from funnelwatch.alert_rules.metrics import MetricRules

REASONS = {
    "impressions": Reason.IMPRESSIONS_COLLAPSED,
    "dead_letters": Reason.DEAD_LETTERS_RISE,
    "silent": Reason.PARTITION_SILENT,
    "watermark": Reason.WATERMARK_STUCK,
}
SILENT_EXPLAINS = 1.5
"""A silent partition explains a drop of up to this many times its share of the traffic."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The current value of a signal."""

    alarm: bool
    recovered: bool
    total: float
    """The whole: the usual impressions, or all records."""
    seen: float
    """How much of it is there: impressions, or records that were not rejected."""
    usual: float
    """How much of it is usually there."""
    what: str
    """The problem, in a sentence."""
    first: str
    """The first thing to check, in a sentence."""
    facts: dict[str, float]
    """Data for `explained`; kept with the state."""
    enough: bool = True
    """Whether there is enough to know anything."""
    gone: bool = False
    """Whether what it is about has ended."""


def advance(
    rule: Instrument | MetricRules, before: AlertState, found: Finding, start: int, end: int
) -> Transition | None:
    """The transition of a state after ``[start, end)`` has shown this; None if nothing changes."""
    evaluation = Evaluation(
        alarm=found.alarm,
        recovered=int(found.recovered and not found.alarm),
        enough=found.enough,
        windows=max(1, rule.over_ms // (end - start)),
        impressions=found.total,
        successes=found.seen,
        expected=found.usual,
        low=found.usual / max(found.total, 1e-12),
        high=1.0,
        score=0.0,
        gone=found.gone,
    )
    move = step(rule, before, evaluation, start, end)
    if not move.changed:
        return None
    state = move.state
    if move.reason is Reason.FIRST_DROP:
        signal = rule.signal if isinstance(rule, InstrumentRule) else ""
        state = state.but(reason=REASONS.get(signal, Reason.LIMIT_CROSSED))
    if found.alarm:
        state = state.but(payload={**state.payload, **found.facts})
    if not move.publish:
        return Transition(state)
    alert = alert_message(rule, state, evaluation, start, end, 0.0, Where())
    given = alert["annotations"]
    alert["annotations"] = {"summary": found.what, "look_first": found.first, **given}
    return Transition(state, alert)


def explained(
    fires: Iterable[tuple[Instrument, AlertState]], dimensions: dict[str, str], evaluation: Evaluation, end: int
) -> bool:
    """Whether a conversion alert about to fire is explained by an instrumentation alert that fires.

    Each inhibits for its ``inhibit_for`` at most, counted from when it could first fire: a drop that lasts longer is
    published whatever else fires.

    Args:
        fires: signals that fire, with their states.
        dimensions: of the series that alarms.
        evaluation: its numbers.
        end: of the evaluated window, ms.
    """
    for rule, state in fires:
        if not state.started_at <= end <= state.started_at + rule.over_ms + rule.inhibit_for_ms:
            continue
        if isinstance(rule, ImpressionsRule):
            if state.dimensions.items() <= dimensions.items():
                return True
        elif isinstance(rule, DeadLettersRule):
            if evaluation.expected - evaluation.successes <= state.payload.get("rejected", 0):
                return True
        elif isinstance(rule, SilentRule) and evaluation.drop <= SILENT_EXPLAINS * state.payload.get("share", 0.0):
            return True
    return False


def firing(rules: Iterable[Instrument], states: Iterable[AlertState]) -> list[tuple[Instrument, AlertState]]:
    """The signals that fire, each with its rule."""
    by_name = {rule.alert: rule for rule in rules}
    return [(by_name[one.rule], one) for one in states if one.state is State.FIRING and one.rule in by_name]


def renotify(states: dict[str, AlertState], message: dict[str, Any], reason: Reason) -> Transition | None:
    """Publish the last message of an alert once more, with the next sequence; None if none of these is that alert."""
    for key, state in states.items():
        if state.alert_id == message["alert_id"] and state.state in NOTIFIED:
            states[key] = after = state.but(sequence=state.sequence + 1, reason=reason)
            return Transition(after, message | {"sequence": after.sequence, "reason": str(reason)})
    return None


def minutes(ms: float) -> str:
    """A duration in a sentence."""
    return f"{ms / 60_000:g} min"
