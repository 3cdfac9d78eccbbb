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
"""An alert is said again when drop and score are this many times what was said, this many windows after it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the machine went."""

    state: AlertState
    reason: Reason
    publish: bool = False
    changed: bool = False


def step(rule: NamedRule, state: AlertState, sight: Evaluation, start: int, end: int) -> Step:
    """The next state after the window [start, end) has shown ``sight``."""
    if state.state in {State.OK, State.RESOLVED}:
        return _begin(rule, state, sight, start, end)
    if state.state is State.PENDING:
        if not sight.alarm:
            return _to(state, Reason.ORDINARY, start, state=State.OK, alert_id="", sequence=-1, started_at=-1)
        return _wait(rule, state, sight, start)
    if sight.gone or not sight.enough:
        return _starve(state, sight, start, end)
    return _burn(rule, state, sight, start, end)


def _begin(rule: NamedRule, state: AlertState, sight: Evaluation, start: int, end: int) -> Step:
    """From quiet: fire, or wait where the rule says so."""
    if not sight.alarm:
        return Step(state, Reason.ORDINARY)
    began = end - sight.windows * (end - start)
    fresh = state.but(
        started_at=began,
        alert_id=alert_id(state.rule, state.funnel, state.step, state.dimensions, began),
        sequence=-1,
        payload={**state.payload, "pending_since": start, "recovered_at": -1},
    )
    return _wait(rule, fresh, sight, start)


def _wait(rule: NamedRule, state: AlertState, sight: Evaluation, start: int) -> Step:
    """Alarming: fire when it has been so for long enough."""
    if start - state.payload["pending_since"] >= rule.for_ms:
        return _say(state, Reason.FIRST_DROP, sight, start, State.FIRING)
    if state.state is State.PENDING:
        return Step(state, Reason.FOR_NOT_REACHED)
    return _to(state, Reason.FOR_NOT_REACHED, start, state=State.PENDING)


def _starve(state: AlertState, sight: Evaluation, start: int, end: int) -> Step:
    """Firing, and nothing can be said of the rate: has the series ended?"""
    if sight.gone:
        # The long stretches still hold the drop; only what comes from now on is judged.
        ended = state.but(payload={**state.payload, "since": end, "ended_at": end})
        return _say(ended, Reason.SERIES_GONE, sight, start, State.RESOLVED)
    if state.state is State.NO_DATA:
        return Step(state, Reason.NO_DATA)
    payload = {**state.payload, "no_data_since": start}
    return _to(state, Reason.NO_DATA, start, state=State.NO_DATA, payload=payload)


def _burn(  # noqa: PLR0911
    rule: NamedRule, state: AlertState, sight: Evaluation, start: int, end: int
) -> Step:
    """Firing: has it recovered, or become worse?"""
    length = end - start
    awake = state.but(state=State.FIRING)
    recovered_at = state.payload.get("recovered_at", -1)
    if recovered_at >= 0 and sight.alarm:
        return _to(awake, Reason.STILL_FIRING, start, payload={**state.payload, "recovered_at": -1})
    if recovered_at < 0 and sight.recovered:
        since = end - sight.recovered * length
        payload = {**state.payload, "recovered_at": start, "since": since}
        awake = awake.but(payload=payload)
        recovered_at = start
    if recovered_at >= 0:
        if start - recovered_at >= rule.keep_firing_for_ms:
            return _say(awake, Reason.RECOVERED, sight, start, State.RESOLVED)
        if recovered_at == start or awake.state is not state.state:
            return _to(awake, Reason.KEPT_FIRING, start)
        return Step(state, Reason.KEPT_FIRING)
    worse = (
        sight.alarm
        and start - state.payload["said_at"] >= WORSE_AFTER * length
        and sight.drop >= WORSE_DROP * state.payload["drop"]
        and sight.score >= WORSE_SCORE * state.payload["score"]
    )
    if worse:
        return _say(awake, Reason.WORSENED, sight, start, State.FIRING)
    if awake.state is not state.state:
        return _to(awake, Reason.STILL_FIRING, start)
    return Step(state, Reason.STILL_FIRING)


def _say(state: AlertState, reason: Reason, sight: Evaluation, start: int, to: State) -> Step:
    """A change that is published."""
    payload = dict(state.payload)
    if to is State.FIRING:
        payload |= {"said_at": start, "drop": sight.drop, "score": sight.score}
    new = state.but(state=to, reason=reason, last_window=start, sequence=state.sequence + 1, payload=payload)
    return Step(new, reason, publish=True, changed=True)


def _to(old: AlertState, reason: Reason, start: int, **changes: object) -> Step:
    """A change that is kept and not published."""
    return Step(old.but(reason=reason, last_window=start, **changes), reason, changed=True)
