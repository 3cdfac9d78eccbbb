"""The state machine edge by edge: what each thing that a window can show does in each state; and each reason once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import DropRule, Rules
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.evaluation import Evaluation
from funnelwatch.stream.detector.machine import step
from funnelwatch.stream.detector.state import AlertState, Reason, State

W = 60_000
NOW = 100 * W
RULE = DropRule.model_validate({"alert": "D", "for": "2m", "keep_firing_for": "2m"})
AT_ONCE = DropRule.model_validate({"alert": "D"})


def sight(alarm: bool = False, recovered: bool = False, enough: bool = True, drop: float = 0.25) -> Evaluation:
    """What a window shows."""
    return Evaluation(
        alarm=alarm, recovered=int(recovered), enough=enough, windows=1, impressions=100.0,
        successes=80.0 * (1.0 - drop), expected=80.0, low=0.7, high=0.9, score=20.0 * drop,
    )  # fmt: skip


ORDINARY = sight(drop=0.0)
ALARM = sight(alarm=True)
WORSE = sight(alarm=True, drop=0.75)
RECOVERED = sight(recovered=True, drop=0.0)
TOO_FEW = sight(enough=False)


def state(at: State, **payload: float) -> AlertState:
    """A state of long enough ago; what was said was said twenty windows before."""
    known = at is not State.OK
    told = {"published_at": NOW - 20 * W, "drop": 0.25, "score": 5.0, "recovered_at": -1}
    return AlertState(
        "D", "f", "A", {}, at, "id" if known else "", 0 if known else -1, NOW - 20 * W, NOW - W,
        payload={**told, **payload},
    )  # fmt: skip


OK = state(State.OK)
PENDING = state(State.PENDING, pending_since=NOW - W)
PENDING_LONG = state(State.PENDING, pending_since=NOW - 2 * W)
FIRING = state(State.FIRING)
JUST_SAID = state(State.FIRING, published_at=NOW - W)
KEPT = state(State.FIRING, recovered_at=NOW - W)
KEPT_LONG = state(State.FIRING, recovered_at=NOW - 2 * W)
NO_DATA = state(State.NO_DATA)
RESOLVED = state(State.RESOLVED)


@dataclass(frozen=True)
class Edge:
    """From a state, by what a window shows, to a state, with a reason; whether it is said."""

    before: AlertState
    shown: Evaluation
    after: State
    reason: Reason
    said: bool = False
    rule: DropRule = RULE


EDGES = {
    "ok, ordinary": Edge(OK, ORDINARY, State.OK, Reason.ORDINARY),
    "ok, too few": Edge(OK, TOO_FEW, State.OK, Reason.ORDINARY),
    "ok, recovered": Edge(OK, RECOVERED, State.OK, Reason.ORDINARY),
    "ok, alarm, with for": Edge(OK, ALARM, State.PENDING, Reason.FOR_NOT_REACHED),
    "ok, alarm, without for": Edge(OK, ALARM, State.FIRING, Reason.FIRST_DROP, said=True, rule=AT_ONCE),
    "pending, ordinary": Edge(PENDING, ORDINARY, State.OK, Reason.ORDINARY),
    "pending, recovered": Edge(PENDING, RECOVERED, State.OK, Reason.ORDINARY),
    "pending, too few": Edge(PENDING, TOO_FEW, State.OK, Reason.ORDINARY),
    "pending, alarm, not yet": Edge(PENDING, ALARM, State.PENDING, Reason.FOR_NOT_REACHED),
    "pending, alarm, long enough": Edge(PENDING_LONG, ALARM, State.FIRING, Reason.FIRST_DROP, said=True),
    "firing, ordinary": Edge(FIRING, ORDINARY, State.FIRING, Reason.STILL_FIRING),
    "firing, alarm": Edge(FIRING, ALARM, State.FIRING, Reason.STILL_FIRING),
    "firing, worse": Edge(FIRING, WORSE, State.FIRING, Reason.WORSENED, said=True),
    "firing, worse, just said": Edge(JUST_SAID, WORSE, State.FIRING, Reason.STILL_FIRING),
    "firing, too few": Edge(FIRING, TOO_FEW, State.NO_DATA, Reason.NO_DATA),
    "firing, recovered, kept": Edge(FIRING, RECOVERED, State.FIRING, Reason.KEPT_FIRING),
    "firing, recovered, not kept": Edge(FIRING, RECOVERED, State.RESOLVED, Reason.RECOVERED, said=True, rule=AT_ONCE),
    "kept, ordinary, not yet": Edge(KEPT, ORDINARY, State.FIRING, Reason.KEPT_FIRING),
    "kept, ordinary, long enough": Edge(KEPT_LONG, ORDINARY, State.RESOLVED, Reason.RECOVERED, said=True),
    "kept, recovered, long enough": Edge(KEPT_LONG, RECOVERED, State.RESOLVED, Reason.RECOVERED, said=True),
    "kept, alarm": Edge(KEPT, ALARM, State.FIRING, Reason.STILL_FIRING),
    "kept, alarm, though long enough": Edge(KEPT_LONG, ALARM, State.FIRING, Reason.STILL_FIRING),
    "kept, too few": Edge(KEPT, TOO_FEW, State.NO_DATA, Reason.NO_DATA),
    "no data, too few": Edge(NO_DATA, TOO_FEW, State.NO_DATA, Reason.NO_DATA),
    "no data, ordinary": Edge(NO_DATA, ORDINARY, State.FIRING, Reason.STILL_FIRING),
    "no data, alarm": Edge(NO_DATA, ALARM, State.FIRING, Reason.STILL_FIRING),
    "no data, worse": Edge(NO_DATA, WORSE, State.FIRING, Reason.WORSENED, said=True),
    "no data, recovered, kept": Edge(NO_DATA, RECOVERED, State.FIRING, Reason.KEPT_FIRING),
    "no data, recovered": Edge(NO_DATA, RECOVERED, State.RESOLVED, Reason.RECOVERED, said=True, rule=AT_ONCE),
    "resolved, ordinary": Edge(RESOLVED, ORDINARY, State.RESOLVED, Reason.ORDINARY),
    "resolved, too few": Edge(RESOLVED, TOO_FEW, State.RESOLVED, Reason.ORDINARY),
    "resolved, recovered": Edge(RESOLVED, RECOVERED, State.RESOLVED, Reason.ORDINARY),
    "resolved, alarm, with for": Edge(RESOLVED, ALARM, State.PENDING, Reason.FOR_NOT_REACHED),
    "resolved, alarm, without for": Edge(RESOLVED, ALARM, State.FIRING, Reason.FIRST_DROP, said=True, rule=AT_ONCE),
}


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_leads_where_it_should(name: str) -> None:
    """State and reason after the window; what is said has the next sequence, of a new alert where one begins."""
    edge = EDGES[name]
    move = step(edge.rule, edge.before, edge.shown, NOW, NOW + W)

    assert (move.state.state, move.reason, move.publish) == (edge.after, edge.reason, edge.said)
    assert move.changed or move.state == edge.before
    if edge.reason is Reason.FIRST_DROP:
        assert move.state.sequence == 0 or edge.before is PENDING_LONG
        assert move.state.alert_id
    elif edge.said:
        assert (move.state.alert_id, move.state.sequence) == ("id", 1)


def test_every_state_is_left_by_everything_that_a_window_can_show() -> None:
    """The table above forgets no pair of state and sight."""
    shown = {id(one): name for name, one in {"-": ORDINARY, "!": ALARM, "ok": RECOVERED, "?": TOO_FEW}.items()}
    pairs = {(edge.before.state, shown.get(id(edge.shown), "*")) for edge in EDGES.values()}

    assert {(at, one) for at in State for one in shown.values()} <= pairs


def window(i: int, shown: int, made: int, os: str = "iOS") -> ClosedWindow:
    """One window of one series."""
    return ClosedWindow("f", i * W, (i + 1) * W, 0, {Series.of("f", "A", os=os): CountRow(shown, made)})


USUAL = [window(i, 200, 160) for i in range(120)]
DROP = window(120, 200, 60)
REASONS: dict[Reason, tuple[str, list[ClosedWindow]]] = {
    Reason.ORDINARY: ("by: [os]", USUAL),
    Reason.LOW_VOLUME: ("by: [os], min_impressions: 1000", USUAL),
    Reason.NO_BASELINE: ("by: [os]", USUAL[:5]),
    Reason.COLD_START: ("by: [os]", [*USUAL, window(120, 20_000, 12_000)]),
    Reason.FOR_NOT_REACHED: ("by: [os], for: 5m", [*USUAL, DROP]),
    Reason.FIRST_DROP: ("by: [os]", [*USUAL, DROP]),
    Reason.STILL_FIRING: ("by: [os]", [*USUAL, DROP, window(121, 200, 60)]),
    Reason.WORSENED: (
        "by: [os]",
        [*USUAL, *(window(i, 200, 120) for i in range(120, 126)), *(window(i, 200, 10) for i in range(126, 140))],
    ),
    Reason.KEPT_FIRING: (
        "by: [os], keep_firing_for: 9m",
        [*USUAL, DROP, *(window(i, 200, 160) for i in range(121, 128))],
    ),
    Reason.RECOVERED: ("by: [os]", [*USUAL, DROP, *(window(i, 200, 160) for i in range(121, 130))]),
    Reason.INHIBITED_BY: ("by: [[], [os]]", [*USUAL, DROP]),
    Reason.NO_DATA: ("by: [os]", [*USUAL, DROP, *(window(i, 0, 0) for i in range(121, 185))]),
}
ELSEWHERE = {
    Reason.WIDENED: "test_grouping",
    Reason.CORRECTED: "test_correction",
    Reason.SILENCE_ENDED: "test_grouping",
    Reason.RULE_REMOVED: "test_live_rules",
    Reason.SERIES_GONE: "test_absence",
    Reason.IMPRESSIONS_COLLAPSED: "test_impressions",
    Reason.DEAD_LETTERS_RISE: "test_pipeline_watch",
    Reason.PARTITION_SILENT: "test_pipeline_watch",
    Reason.WATERMARK_STUCK: "test_pipeline_watch",
    Reason.LIMIT_CROSSED: "test_metric_rules",
}
"""Reasons that no evaluation of a series has, and the tables of cases that they have."""


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_given_and_counted(reason: Reason) -> None:
    """By a detector, over the windows that call for it."""
    rule, windows = REASONS[reason]
    rules = Rules(tuple(parse_rules(f"groups:\n- name: g\n  rules:\n  - {{alert: D, maturity: 0s, {rule}}}\n")))
    detector = Detector("f", rules, W)
    for one in windows:
        detector.observe(one)

    assert detector.reasons[reason] > 0, detector.reasons


def test_no_reason_is_forgotten() -> None:
    """A reason that is added needs a case."""
    assert set(REASONS) | set(ELSEWHERE) == set(Reason)
