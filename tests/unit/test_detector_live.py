"""The detector on simulated traffic: the demo's incident, restarts, revisions, gaps, and the targets at small scale."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pytest

from funnelwatch.alert_rules.loader import load_rules, parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.state import AlertState, Reason, State, Transition
from tests.unit.detector_sim import DAY_MS, MONDAY, Sim, learn

MINUTE = 60_000
SCHEMA = Path(__file__).parents[2] / "schemas" / "alert.avsc"


def rules(text: str) -> Rules:
    """One rule, written in flow style."""
    return Rules(tuple(parse_rules(f"groups:\n- name: g\n  rules:\n  - {{alert: D, {text}}}\n")))


def fed(detector: Detector, windows: list[ClosedWindow]) -> list[Transition]:
    """All transitions of some windows."""
    return [move for window in windows for move in detector.observe(window)]


def said(moves: list[Transition]) -> list[dict[str, Any]]:
    """The published messages."""
    return [move.alert for move in moves if move.alert is not None]


@cache
def demo(seed: int, window_ms: int, hour: int) -> tuple[list[ClosedWindow], int, int]:
    """The demo: 8 thin days, then traffic 20 times denser, and iOS loses 40 % of VERIFY_SMS_CODE for five minutes."""
    live = MONDAY + 8 * DAY_MS + hour * 60 * MINUTE
    begin = live + 10 * MINUTE

    def loss(start: int, step: str, system: str) -> float:
        hit = begin <= start < begin + 5 * MINUTE and (step, system) == ("VERIFY_SMS_CODE", "iOS")
        return 0.4 if hit else 0.0

    sim = Sim(seed, window_ms, per_minute=8, loss=loss, volume=lambda start: 20.0 if start >= live else 1.0)
    return list(sim.windows((begin + 17 * MINUTE - MONDAY) // window_ms)), live, begin


@pytest.mark.parametrize(("seed", "window_ms", "hour"), [(1, 60_000, 14), (2, 60_000, 9), (3, 15_000, 18)])
def test_the_demo_is_told_once_in_time_and_at_the_right_place(seed: int, window_ms: int, hour: int) -> None:
    """No alarm in ten live minutes; iOS within three minutes of impressions that fail; resolved after recovery."""
    windows, live, begin = demo(seed, window_ms, hour)
    detector = Detector("sign_up", load_rules(None), window_ms)
    learn(detector, [window for window in windows if window.window_start < live])
    moves = fed(detector, [window for window in windows if window.window_start >= live])
    alerts = said(moves)

    first = alerts[0]
    assert first["window_end"] > begin
    assert (first["step"], first["reason"], first["sequence"]) == ("VERIFY_SMS_CODE", "FIRST_DROP", 0)
    assert first["dimensions"] == {"os": "iOS"} or first["where_value"] == "iOS"
    assert first["window_end"] - begin <= 3 * MINUTE
    assert abs(first["started_at"] - begin) <= 2 * MINUTE
    assert alerts[-1]["state"] == "resolved"
    assert alerts[-1]["alert_id"] == first["alert_id"]
    assert {alert["step"] for alert in alerts} == {"VERIFY_SMS_CODE"}
    assert [alert["sequence"] for alert in alerts] == list(range(len(alerts)))


def test_an_alert_has_exactly_the_fields_of_its_schema() -> None:
    """What is published can be encoded, and its texts are filled in."""
    windows, live, _ = demo(1, 60_000, 14)
    detector = Detector("sign_up", load_rules(None), MINUTE)
    learn(detector, [window for window in windows if window.window_start < live])
    alert = said(fed(detector, [window for window in windows if window.window_start >= live]))[0]
    schema = fastavro.schema.load_schema(str(SCHEMA))

    assert set(alert) == {field["name"] for field in schema["fields"]}
    assert fastavro.validation.validate(alert, schema, strict=True)
    assert json.loads(json.dumps(alert)) == alert
    assert alert["expected_low"] < alert["expected_rate"] < alert["expected_high"]
    assert alert["rate"] < alert["expected_low"]
    assert alert["lost_conversions"] > 0
    assert "VERIFY_SMS_CODE (os=iOS) converts" in alert["annotations"]["summary"]
    assert "{{" not in str(alert["annotations"])


@pytest.mark.parametrize("cut_minutes", [-30, 3, 8])
def test_a_detector_that_was_restarted_says_what_one_that_never_stopped_says(cut_minutes: int) -> None:
    """Learned counts and restored states, before, in and after the incident: the same messages, to rounding."""
    windows, live, begin = demo(1, 60_000, 14)
    start = next(i for i, window in enumerate(windows) if window.window_start >= live - 60 * MINUTE)
    cut = next(i for i, window in enumerate(windows) if window.window_start >= begin + cut_minutes * MINUTE)
    whole = Detector("sign_up", load_rules(None), MINUTE)
    learn(whole, windows[:start])
    moves = fed(whole, windows[start:])

    first = Detector("sign_up", load_rules(None), MINUTE)
    learn(first, windows[:start])
    before = fed(first, windows[start:cut])
    kept = {move.state.key: move.state.to_json() for move in before}
    second = Detector("sign_up", load_rules(None), MINUTE)
    learn(second, windows[:cut])
    second.restore(AlertState.from_json(text) for text in kept.values())
    after = fed(second, windows[cut:])

    assert len(said(moves)) >= 2
    for ours, theirs in zip(said(before + after), said(moves), strict=True):
        for name, value in theirs.items():
            if name != "annotations":
                assert ours[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_windows_that_come_again_change_nothing() -> None:
    """At-least-once delivery: the same window and revision twice gives no second message."""
    windows, live, _ = demo(2, 60_000, 9)
    detector = Detector("sign_up", load_rules(None), MINUTE)
    learn(detector, [window for window in windows if window.window_start < live])
    recent = [window for window in windows if window.window_start >= live]
    alerts = said(fed(detector, recent))

    assert alerts
    assert fed(detector, recent) == []


def test_a_revision_of_an_older_window_changes_history_only() -> None:
    """Later windows are evaluated by the revised counts, and the revision itself says nothing."""
    quiet = {Series.of("f", "A", os="iOS"): CountRow(100, 80)}
    windows = [ClosedWindow("f", i * MINUTE, (i + 1) * MINUTE, 0, quiet) for i in range(60)]
    detector = Detector("f", rules("by: [os]"), MINUTE)
    fed(detector, windows)
    worse = replace(windows[50], revision=1, series={Series.of("f", "A", os="iOS"): CountRow(100, 20)})

    assert detector.observe(worse) == []
    assert detector.counts.each("window", 50, 51, slice(None)).tolist() == [[20.0]]
    assert detector.observe(replace(worse, revision=0, series=quiet)) == []
    assert detector.counts.each("window", 50, 51, slice(None)).tolist() == [[20.0]]


def test_a_late_revision_of_the_newest_window_is_evaluated() -> None:
    """A drop that only late events show is told at once."""

    def window(i: int, made: int, revision: int = 0) -> ClosedWindow:
        return ClosedWindow("f", i * MINUTE, (i + 1) * MINUTE, revision, {Series.of("f", "A"): CountRow(200, made)})

    detector = Detector("f", rules("maturity: 0s"), MINUTE)
    assert fed(detector, [window(i, 160) for i in range(120)]) == []
    alerts = said(detector.observe(window(119, 40, 1)))

    assert [alert["reason"] for alert in alerts] == ["FIRST_DROP"]
    assert alerts[0]["labels"]["baseline"] == "recent"
    assert alerts[0]["severity"] == "warning"


def test_a_gap_of_years_costs_nothing_and_forgets_what_is_too_old() -> None:
    """Windows left out are not looped over."""
    series = {Series.of("f", "A", os="iOS"): CountRow(100, 80)}
    detector = Detector("f", rules("by: [os]"), 1000)
    for start in (0, 1000, 50_000, 500_000_000, 10**12, 10**12 + 1000):
        assert detector.observe(ClosedWindow("f", start, start + 1000, 0, series)) == []

    assert detector.counts.rows == 2


def test_a_funnel_wide_drop_is_one_alert_and_not_one_for_each_os() -> None:
    """The widest scope that explains it is notified, the others are inhibited and counted."""
    begin = MONDAY + 2 * DAY_MS
    sim = Sim(6, per_minute=60, loss=lambda start, step, _: 0.5 if start >= begin and step == "INPUT_NAME" else 0.0)
    windows = list(sim.windows((begin - MONDAY) // MINUTE + 8))
    detector = Detector("sign_up", load_rules(None), MINUTE)
    learn(detector, windows[:-9])
    alerts = said(fed(detector, windows[-9:]))

    assert {json.dumps(alert["dimensions"]) for alert in alerts} == {"{}"}
    assert alerts[0]["where_dimension"] == ""
    assert detector.reasons[Reason.INHIBITED_BY] > 0


def test_a_shift_of_traffic_to_a_weaker_os_is_not_taken_for_its_drop() -> None:
    """The alert names the value whose own rate fell, not the one that merely grew."""

    def window(i: int) -> ClosedWindow:
        late = i >= 117
        tallies = {
            Series.of("f", "A", os="weak"): CountRow(200, 80) if late else CountRow(100, 40),
            Series.of("f", "A", os="hit"): CountRow(200, 60) if late else CountRow(200, 180),
            Series.of("f", "A", os="fine"): CountRow(200, 180),
        }
        return ClosedWindow("f", i * MINUTE, (i + 1) * MINUTE, 0, tallies)

    detector = Detector("f", rules("maturity: 0s"), MINUTE)
    alert = said(fed(detector, [window(i) for i in range(120)]))[0]

    assert (alert["where_dimension"], alert["where_value"]) == ("os", "hit")
    assert alert["where_share"] == pytest.approx(1.0)


def test_cohort_rules_evaluate_a_window_when_it_has_matured() -> None:
    """The evaluated window is the maturity behind the newest, so successes still to come are not missed."""

    def window(i: int, made: int) -> ClosedWindow:
        return ClosedWindow("f", i * MINUTE, (i + 1) * MINUTE, 0, {Series.of("f", "A"): CountRow(200, 0, 0, made)})

    detector = Detector("f", rules("basis: cohort, maturity: 2m"), MINUTE)
    moves = fed(detector, [window(i, 160 if i < 118 else 20) for i in range(120)])
    assert said(moves) == []
    alerts = said(detector.observe(window(120, 20)))

    assert [alert["window_start"] for alert in alerts] == [118 * MINUTE]


def session_window(i: int, passed: int, revision: int = 0) -> ClosedWindow:
    """A window of 100 sessions, each of which loads the page twice."""
    series = {Series.of("f", "A"): CountRow(200, passed, sessions=100, session_successes=passed)}
    return ClosedWindow("f", i * MINUTE, (i + 1) * MINUTE, revision, series)


def test_a_session_rule_divides_by_sessions_and_says_so() -> None:
    """The message has sessions in place of impressions, and the rate of people."""
    detector = Detector("f", rules("basis: session, maturity: 2m"), MINUTE)
    assert said(fed(detector, [session_window(i, 80 if i < 118 else 10) for i in range(120)])) == []
    [alert] = said(detector.observe(session_window(120, 10)))

    assert (alert["basis"], alert["window_start"]) == ("session", 118 * MINUTE)
    assert (alert["impressions"], alert["successes"], alert["rate"]) == (100, 10, 0.1)
    assert alert["expected_rate"] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("grown", [True, False])
def test_a_session_rule_evaluates_what_a_window_has_grown_to(grown: bool) -> None:
    """A closed window has the successes that came before it closed; those of its maturity are taken in later."""
    detector = Detector("f", rules("basis: session, maturity: 2m"), MINUTE)
    learn(detector, [session_window(i, 80) for i in range(120)])
    alerts = []
    for i in range(120, 126):
        for maturity in detector.maturities_ms:
            before = session_window(i - maturity // MINUTE, 80)
            if grown:
                detector.mature(Block.of(before.window_start, before.series))
        alerts += said(detector.observe(session_window(i, 30)))

    assert bool(alerts) != grown


def test_a_revision_corrects_an_alert_about_sessions() -> None:
    """Late data changes sessions and their successes; the alert is published again with them."""
    detector = Detector("f", rules("basis: session, maturity: 2m"), MINUTE)
    fed(detector, [session_window(i, 80 if i < 118 else 10) for i in range(121)])
    [alert] = said(detector.observe(session_window(118, 50, 1)))

    assert (alert["reason"], alert["impressions"], alert["successes"]) == ("CORRECTED", 100, 50)


@pytest.mark.parametrize(
    ("rule", "made", "expected"),
    [
        ("kind: threshold, below: 0.6, over: 5m", 110, True),
        ("kind: threshold, below: 0.6, over: 5m", 130, False),
        ("kind: threshold, below: 0.6, over: 5m, min_impressions: 1001", 110, False),
        ("kind: change, drop: 0.2, over: 5m, offset: 1h", 110, True),
        ("kind: change, drop: 0.4, over: 5m, offset: 1h", 110, False),
    ],
)
def test_simple_kinds_fire_on_their_numbers_only(rule: str, made: int, expected: bool) -> None:
    """A fixed threshold and a change against an hour before; a minimum of impressions is part of either."""
    windows = [
        ClosedWindow(
            "f", i * MINUTE, (i + 1) * MINUTE, 0, {Series.of("f", "A"): CountRow(200, 160 if i < 80 else made)}
        )
        for i in range(90)
    ]
    alerts = said(fed(Detector("f", rules(rule), MINUTE), windows))

    assert bool(alerts) == expected


def test_targets_at_small_scale() -> None:
    """24 series, 200 a minute, six hours: at most one false alarm; drops are told within the windows asked for."""
    steps = {f"S{i}": (0.7, 0.75, 0.8)[i // 4] for i in range(12)}
    drops = {f"S{i}": (0.6, 0.3, 0.2, 0.1)[i % 4] for i in range(12)}
    noon = MONDAY + 21 * DAY_MS + 12 * 60 * MINUTE
    live, hit = noon + 2 * 60 * MINUTE, noon + 8 * 60 * MINUTE

    # Only the hours of the week that the evaluated ones are compared with have traffic.
    def volume(start: int) -> float:
        return 1.0 if 0 <= (start - noon) % (7 * DAY_MS) < 9 * 60 * MINUTE else 0.0

    sim = Sim(
        11, steps=steps, systems=("a", "b"), per_minute=300, other_lag_s=0.001, volume=volume,
        loss=lambda start, step, system: drops[step] if start >= hit and system == "a" else 0.0,
    )  # fmt: skip
    windows = [one for one in sim.windows((hit - MONDAY) // MINUTE + 20) if volume(one.window_start)]
    detector = Detector("sign_up", rules("by: [os]"), MINUTE)
    learn(detector, [window for window in windows if window.window_start < live])
    moves = fed(detector, [window for window in windows if window.window_start >= live])
    alerts = [alert for alert in said(moves) if alert["state"] == "firing"]

    true = [alert for alert in alerts if alert["window_start"] >= hit and alert["dimensions"] == {"os": "a"}]
    assert len(alerts) - len(true) <= 1
    delays = {
        step: min([alert["window_start"] for alert in true if alert["step"] == step], default=hit + DAY_MS) - hit
        for step in drops
    }
    # A tenth off, at this overdispersion, is two deviations a window: only how many are told in time can be asked for.
    allowed = {0.6: (1, 3), 0.3: (2, 2), 0.2: (5, 2), 0.1: (20, 2)}
    for drop, (windows_allowed, at_least) in allowed.items():
        found = sorted(delays[step] // MINUTE + 1 for step, one in drops.items() if one == drop)
        assert sum(delay <= windows_allowed for delay in found) >= at_least, (drop, found)


def test_every_evaluation_has_a_counted_reason() -> None:
    """As many reasons as series and windows."""
    windows = list(Sim(1, per_minute=40).windows(100))
    detector = Detector("sign_up", load_rules(None), MINUTE)
    fed(detector, windows)

    assert sum(detector.reasons.values()) == 100 * 16
    assert detector.reasons[Reason.NO_BASELINE] > 0
    assert detector.reasons[Reason.ORDINARY] > 0


def test_states_survive_text() -> None:
    """What the database keeps is what was given to it, and what it cannot be is rejected."""
    state = AlertState("R", "f", "A", {"os": "iOS"}, State.FIRING, "id", 2, 5, 6, Reason.WORSENED, {"drop": 0.5})

    assert AlertState.from_json(state.to_json()) == state
    with pytest.raises(ValueError, match="not an alert state"):
        AlertState.from_json('{"rule": "R"}')
