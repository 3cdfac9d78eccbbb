"""Tests of rules, run by the production evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, in_order
from funnelwatch.schemas.times import DAY_MS
from funnelwatch.stream.backtest.table import moment
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.state import AlertState, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from funnelwatch.alert_rules.cases import AlertPart, CasePart, EventPart, HistoryPart, SeriesPart
    from funnelwatch.alert_rules.model import Rules
    from funnelwatch.schemas.arrays import Floats, Ints
    from funnelwatch.stream.detector.state import Transition


SESSIONS_END = CountRow._fields.index("session_successes") + 1
"""The fields that a test gives, from the first: those of ordered funnels come after them."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where alerts at one time are not those expected."""

    at_ms: int
    """Since the start of the first window."""
    missing: list[str]
    """Expected and not there, as text."""
    unexpected: list[str]
    """There and not expected."""


def run_case(case: CasePart, rules: Rules, window_ms: int) -> list[Mismatch]:
    """Where the alerts of a test are not as expected; empty when it passes.

    Raises:
        ValueError: the test says what cannot be; the message is for the person who wrote it.
    """
    try:
        start = moment(case.start)
    except ValueError as error:
        raise ValueError(f"start: {error}") from None
    if start % window_ms:
        raise ValueError(f"start: {case.start} does not begin a window")
    parts = {_series(case.funnel, one): one for one in case.series}
    if len(parts) < len(case.series):
        raise ValueError("series: one stands twice")
    _reject_events(case, rules)
    dimensions = in_order([*DIMENSION_FIELDS, *(name for one in (*case.series, *case.events) for name in one.values)])
    detector = Detector(case.funnel, rules, window_ms, dimensions)
    _learn(detector, case, parts, start)
    tallies = _tallies(case, parts, window_ms)
    series = list(tallies)
    states: dict[str, AlertState] = {}
    messages: dict[str, dict[str, Any]] = {}
    wrong, done = [], 0
    for expected in case.expect:
        end = expected.at // window_ms
        if end > done and series:
            counts = np.stack([tallies[one][done:end] for one in series], axis=1)
            block = Block.dense(start + done * window_ms, series, counts)
            _take(detector.observe_block(block), states, messages)
            done = end
        mismatch = _compare(expected.alerts, states.values(), messages, rules)
        if mismatch is not None:
            wrong.append(Mismatch(expected.at, *mismatch))
    return wrong


def _take(moves: Iterable[Transition], states: dict[str, AlertState], messages: dict[str, dict[str, Any]]) -> None:
    """Remember states and last messages."""
    for move in moves:
        states[move.state.key] = move.state
        if move.alert is not None:
            messages[move.state.key] = move.alert


def _compare(
    expected: Iterable[AlertPart],
    states: Iterable[AlertState],
    messages: dict[str, dict[str, Any]],
    rules: Rules,
) -> tuple[list[str], list[str]] | None:
    """Missing and unexpected alerts; None: all is as expected. Resolved ones need not be expected."""
    severities = {rule.alert: rule.severity for rule in rules.rules}
    left = {
        (state.rule, state.step, tuple(sorted(state.dimensions.items()))): state
        for state in states
        if state.state is not State.OK
    }
    missing, unexpected = [], []
    for one in expected:
        state = left.pop((one.alert, one.step, tuple(sorted(one.values.items()))), None)
        named = {"state": one.state, "severity": one.severity, "reason": one.reason, **(one.labels or {})}
        wanted = {name: value for name, value in named.items() if value is not None}
        if state is None:
            missing.append(_line(one.alert, one.step, one.values, wanted))
            continue
        message = messages.get(state.key, {}) if state.state is not State.PENDING else {}
        found = {
            "state": str(state.state),
            "severity": message.get("severity", severities.get(state.rule, "")),
            "reason": str(message.get("reason", state.reason)),
            **message.get("labels", {}),
        }
        if any(found.get(name) != value for name, value in wanted.items()):
            missing.append(_line(one.alert, one.step, one.values, wanted))
            shown = {name: found.get(name, "(none)") for name in wanted}
            unexpected.append(_line(one.alert, one.step, one.values, shown))
    for state in left.values():
        if state.state is not State.RESOLVED:
            shown = {"state": str(state.state), "reason": str(state.reason)}
            unexpected.append(_line(state.rule, state.step, state.dimensions, shown))
    return (missing, unexpected) if missing or unexpected else None


def _line(alert: str, step: str, dimensions: dict[str, str], rest: dict[str, str]) -> str:
    """An alert as text: ``firing ConversionDrop VERIFY_SMS_CODE os=iOS severity=critical``."""
    rest = dict(rest)
    where = [f"{name}={value}" for name, value in dimensions.items()] or ["all"]
    return " ".join([rest.pop("state"), alert, step, *where, *(f"{name}={value}" for name, value in rest.items())])


def _series(funnel: str, part: SeriesPart | EventPart) -> Series:
    """The series that a part is about."""
    return Series.of(funnel, part.step, **part.values)


def _learn(detector: Detector, case: CasePart, parts: dict[Series, SeriesPart], start: int) -> None:
    """Give the detector what was before the first window."""
    histories = {one: part.history or case.history for one, part in parts.items()}
    known = {one: history for one, history in histories.items() if history is not None}
    if not known:
        return
    rows = max(round(history.days * DAY_MS) // detector.window_ms for history in known.values())
    counts = np.zeros((rows, len(known), len(CountRow._fields)), dtype=np.int64)
    for place, history in enumerate(known.values()):
        own = round(history.days * DAY_MS) // detector.window_ms
        begin = start - own * detector.window_ms
        shown, made = _history(history, begin + detector.window_ms * np.arange(own), place)
        counts[rows - own :, place, :SESSIONS_END] = _fields(shown, made, shown, made)
    detector.learn(Block.dense(start - rows * detector.window_ms, list(known), counts))


def _history(history: HistoryPart, starts: Ints, place: int) -> tuple[Ints, Ints]:
    """Impressions and successes of each window: even, or drawn by chance where there is a seed."""
    shown = history.impressions * (1.0 + history.daily * np.sin(2.0 * np.pi * (starts % DAY_MS / DAY_MS - 0.375)))
    if history.seed is None:
        whole = _whole(shown)
        return whole, _whole(whole * history.rate)
    rng = np.random.default_rng([history.seed, place])
    drawn = rng.poisson(shown)
    rate = np.full(len(starts), history.rate)
    if history.overdispersion and 0 < history.rate < 1:
        strength = 1.0 / history.overdispersion - 1.0
        rate = rng.beta(rate * strength, (1.0 - rate) * strength)
    return drawn, rng.binomial(drawn, rate)


def _whole(values: NDArray[Any]) -> Ints:
    """Whole numbers whose running sum is as near as can be to that of the values."""
    return np.diff(np.round(np.cumsum(values)), prepend=0.0).astype(np.int64)


def _tallies(case: CasePart, parts: dict[Series, SeriesPart], window_ms: int) -> dict[Series, Ints]:
    """The counts of the windows, up to the last time that something is expected at: shape (windows, fields)."""
    rows = max(1, case.expect[-1].at // window_ms)
    found: dict[Series, Ints] = {}
    for series, part in parts.items():
        shown = _column(part.impressions, rows)
        made = _column(part.successes, rows) if part.rate is None else _whole(shown * _column(part.rate, rows))
        saw = shown if part.sessions is None else _column(part.sessions, rows)
        passed = np.minimum(made, saw) if part.session_successes is None else _column(part.session_successes, rows)
        found[series] = np.zeros((rows, len(CountRow._fields)), dtype=np.int64)
        found[series][:, :SESSIONS_END] = _fields(shown, made, saw, passed)
    for event in case.events:
        tally = found.setdefault(_series(case.funnel, event), np.zeros((rows, len(CountRow._fields)), dtype=np.int64))
        fields = [(0, event.at)]
        if event.phase == "POST_VERIFICATION":
            place = 1 if event.status == "SUCCESS" else 2
            fields = [(place, event.at), (place + 2, event.at - event.duration)]
        for field, at in fields:
            if 0 <= at // window_ms < rows:
                tally[at // window_ms, field] += event.times
    return found


def _fields(shown: NDArray[Any], made: NDArray[Any], saw: NDArray[Any], passed: NDArray[Any]) -> NDArray[Any]:
    """The first fields of a CountRow: impressions and successes, and the sessions that saw and completed the step."""
    missed = np.maximum(shown - made, 0)
    return np.stack([shown, made, missed, made, missed, saw, passed], axis=1)


def _reject_events(case: CasePart, rules: Rules) -> None:
    """Raise a ValueError where events are about a step that a rule counts sessions of: events here have none."""
    steps = {event.step for event in case.events}
    for rule in rules.of_funnel(case.funnel):
        step = next(filter(rule.covers, sorted(steps)), None)
        if rule.basis == "session" and step is not None:
            raise ValueError(
                f"events: those of {step} belong to no session, which rule {rule.alert} counts (basis: session); "
                f"right would be a series with sessions and session_successes"
            )


def _column(values: tuple[float | None, ...] | None, rows: int) -> Floats:
    """The values of the windows; nothing where they are absent."""
    column = np.zeros(rows)
    given = [value or 0.0 for value in (values or ())][:rows]
    column[: len(given)] = given
    return column
