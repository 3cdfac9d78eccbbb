"""Rules about counters and timers, evaluated on their sums over a span of time: pure, one window at a time.

They are not windows that close: a span is evaluated once, when it has ended by the wall clock, long enough ago for what
is on time to be counted. What comes later is counted, and not evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.metrics import MetricThresholdRule
from funnelwatch.stream.detector.instrument import Finding, advance, minutes, renotify
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.alert_rules.metrics import MetricRules
    from funnelwatch.stream.detector.state import Reason, Transition


@dataclass(frozen=True, slots=True)
class MetricSnapshot:
    """A rule's counter or timer over a span.

    Attributes:
        dimensions: the values of those that the rule evaluates by.
        samples: how many over the span that ends now.
        value: what the rule is about; None where there were too few samples.
        samples_before: the same over the span that a ``change`` rule compares with.
        value_before: likewise.
    """

    dimensions: Mapping[str, str]
    samples: int
    value: float | None
    samples_before: int = 0
    value_before: float | None = None


class MetricEvaluator:
    """The rules about counters and timers, with the states of their alerts."""

    def __init__(self, rules: Iterable[MetricRules], states: Iterable[AlertState], window_ms: int) -> None:
        self.rules = tuple(rules)
        names = {rule.alert for rule in self.rules}
        self.states = {state.key: state for state in states if state.rule in names}
        self._window_ms = window_ms

    def observe(self, end: int, snapshots: Mapping[str, Sequence[MetricSnapshot]]) -> list[Transition]:
        """The transitions of the window that ends at ``end`` (ms); snapshots by name of the rule."""
        moves = []
        for rule in self.rules:
            seen = snapshots.get(rule.alert, ())
            goes_on = not rule.by or any(snapshot.samples for snapshot in seen)
            for snapshot in (*seen, *self._absent(rule, seen)):
                found = finding(rule, snapshot)
                blank = AlertState(rule.alert, EVERY_FUNNEL, "*", dict(snapshot.dimensions))
                before = self.states.get(blank.key, blank)
                if before.state is State.NO_DATA and not found.enough and goes_on:
                    since = before.payload.get("no_data_since", before.last_window)
                    found = replace(found, gone=end - since >= rule.resolve_without_data_ms)
                if (move := advance(rule, before, found, end - self._window_ms, end)) is not None:
                    self.states[blank.key] = move.state
                    moves.append(move)
        return moves

    def _absent(self, rule: MetricRules, seen: Sequence[MetricSnapshot]) -> list[MetricSnapshot]:
        """A snapshot without samples for each series that fires and is not known any more."""
        known = {tuple(sorted(snapshot.dimensions.items())) for snapshot in seen}
        return [
            MetricSnapshot(state.dimensions, 0, None)
            for state in self.states.values()
            if state.rule == rule.alert
            and state.state in NOTIFIED
            and tuple(sorted(state.dimensions.items())) not in known
        ]

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, for this reason; None if the alert is over."""
        return renotify(self.states, message, reason)


def finding(rule: MetricRules, snapshot: MetricSnapshot) -> Finding:
    """The finding of a rule on a snapshot: whether its value is on the wrong side of the limit."""
    value, enough = snapshot.value or 0.0, snapshot.value is not None and snapshot.samples >= rule.needed
    if isinstance(rule, MetricThresholdRule):
        falls = rule.below is not None
        limit = rule.below if rule.below is not None else rule.above or 0.0
        than = f"the limit is {limit:g}"
    else:
        before = snapshot.value_before or 0.0
        enough = enough and before > 0 and snapshot.samples_before >= max(rule.needed, 1)
        falls = rule.drop is not None
        limit = before * (1 - rule.drop if rule.drop is not None else 1 + (rule.rise or 0.0))
        than = f"it was {before:g} at {rule.offset_ms / 3_600_000:g} h before"
    wrong = enough and (value < limit if falls else value > limit)
    # Too low: the expected value, then the seen one. Too high: the seen value, then the highest allowed.
    total, seen = (limit, value) if falls else (value, limit)
    about = "".join(f" {name}={text or '(none)'}" for name, text in {**rule.where, **snapshot.dimensions}.items())
    unit = " ms" if rule.value not in {"total", "samples"} else ""
    return Finding(
        alarm=wrong,
        recovered=enough and not wrong,
        total=total,
        seen=min(seen, total),
        usual=total,
        what=f"{rule.metric}{about}: {rule.value} over {minutes(rule.over_ms)} is {value:g}{unit}; {than}{unit}",
        first=f"`funnelwatch metrics {rule.metric} --since 2h` tells it by any dimension (--by); what was released?",
        facts={},
        enough=enough,
    )
