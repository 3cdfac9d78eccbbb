"""The state machine of one alert: pure, one window at a time.

::

    ok -> pending (only with `for`) -> firing -> resolved -> (as ok)
               |                        |   ^       ^
               v                        v   |       | the series has ended
               ok                      no_data -----+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.alert_rules.alert_ids import alert_id
from funnelwatch.stream.detector.state import AlertState, Reason, State

if TYPE_CHECKING:
    from funnelwatch.alert_rules.model import NamedRule
    from funnelwatch.stream.detector.evaluation import Evaluation

WORSE_DROP = 1.5
WORSE_SCORE = 1.3
WORSE_AFTER = 10
"""An alert is published again when drop and score are this many times the published ones, this many windows later."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the machine went."""

    state: AlertState
    reason: Reason
    publish: bool = False
    changed: bool = False


def step(rule: NamedRule, state: AlertState, evaluation: Evaluation, start: int, end: int) -> Step:
    """The next state after the window [start, end) has shown ``evaluation``."""
    if state.state in {State.OK, State.RESOLVED}:
        return _begin(rule, state, evaluation, start, end)
    if state.state is State.PENDING:
        if not evaluation.alarm:
            return _to(state, Reason.ORDINARY, start, state=State.OK, alert_id="", sequence=-1, started_at=-1)
        return _wait(rule, state, evaluation, start)
    if evaluation.gone or not evaluation.enough:
        return _starve(state, evaluation, start, end)
    return _burn(rule, state, evaluation, start, end)


def _begin(rule: NamedRule, state: AlertState, evaluation: Evaluation, start: int, end: int) -> Step:
    """From quiet: fire, or wait where the rule has `for`."""
    if not evaluation.alarm:
        return Step(state, Reason.ORDINARY)
    began = end - evaluation.windows * (end - start)
    fresh = state.but(
        started_at=began,
        alert_id=alert_id(state.rule, state.funnel, state.step, state.dimensions, began),
        sequence=-1,
        payload={**state.payload, "pending_since": start, "recovered_at": -1},
    )
    return _wait(rule, fresh, evaluation, start)


def _wait(rule: NamedRule, state: AlertState, evaluation: Evaluation, start: int) -> Step:
    """Alarming: fire when it has been so for long enough."""
    if start - state.payload["pending_since"] >= rule.for_ms:
        return _publish(state, Reason.FIRST_DROP, evaluation, start, State.FIRING)
    if state.state is State.PENDING:
        return Step(state, Reason.FOR_NOT_REACHED)
    return _to(state, Reason.FOR_NOT_REACHED, start, state=State.PENDING)


def _starve(state: AlertState, evaluation: Evaluation, start: int, end: int) -> Step:
    """Firing, and the rate is not known: has the series ended?"""
    if evaluation.gone:
        # The long spans still hold the drop; only what comes from now on is evaluated.
        ended = state.but(payload={**state.payload, "since": end, "ended_at": end})
        return _publish(ended, Reason.SERIES_GONE, evaluation, start, State.RESOLVED)
    if state.state is State.NO_DATA:
        return Step(state, Reason.NO_DATA)
    payload = {**state.payload, "no_data_since": start}
    return _to(state, Reason.NO_DATA, start, state=State.NO_DATA, payload=payload)


def _burn(  # noqa: PLR0911
    rule: NamedRule, state: AlertState, evaluation: Evaluation, start: int, end: int
) -> Step:
    """Firing: has it recovered, or become worse?"""
    length = end - start
    awake = state.but(state=State.FIRING)
    recovered_at = state.payload.get("recovered_at", -1)
    if recovered_at >= 0 and evaluation.alarm:
        return _to(awake, Reason.STILL_FIRING, start, payload={**state.payload, "recovered_at": -1})
    if recovered_at < 0 and evaluation.recovered:
        since = end - evaluation.recovered * length
        payload = {**state.payload, "recovered_at": start, "since": since}
        awake = awake.but(payload=payload)
        recovered_at = start
    if recovered_at >= 0:
        if start - recovered_at >= rule.keep_firing_for_ms:
            return _publish(awake, Reason.RECOVERED, evaluation, start, State.RESOLVED)
        if recovered_at == start or awake.state is not state.state:
            return _to(awake, Reason.KEPT_FIRING, start)
        return Step(state, Reason.KEPT_FIRING)
    worse = (
        evaluation.alarm
        and start - state.payload["published_at"] >= WORSE_AFTER * length
        and evaluation.drop >= WORSE_DROP * state.payload["drop"]
        and evaluation.score >= WORSE_SCORE * state.payload["score"]
    )
    if worse:
        return _publish(awake, Reason.WORSENED, evaluation, start, State.FIRING)
    if awake.state is not state.state:
        return _to(awake, Reason.STILL_FIRING, start)
    return Step(state, Reason.STILL_FIRING)


def _publish(state: AlertState, reason: Reason, evaluation: Evaluation, start: int, to: State) -> Step:
    """A change that is published."""
    payload = dict(state.payload)
    if to is State.FIRING:
        payload |= {"published_at": start, "drop": evaluation.drop, "score": evaluation.score}
    new = state.but(state=to, reason=reason, last_window=start, sequence=state.sequence + 1, payload=payload)
    return Step(new, reason, publish=True, changed=True)


def _to(old: AlertState, reason: Reason, start: int, **changes: object) -> Step:
    """A change that is kept and not published."""
    return Step(old.but(reason=reason, last_window=start, **changes), reason, changed=True)
