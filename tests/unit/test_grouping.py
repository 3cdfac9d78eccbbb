"""Steps that drop together are one alert, whose sequence goes on, over restarts too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.alert_rules.alert_ids import alert_id
from funnelwatch.stream.detector.grouping import Incidents
from funnelwatch.stream.detector.state import AlertState, Reason, State, Transition

W = 60_000
LOST = {"A": 40.0, "B": 60.0, "C": 20.0}
SAYS = {
    "!": (State.FIRING, Reason.FIRST_DROP),
    "w": (State.FIRING, Reason.WORSENED),
    "c": (State.FIRING, Reason.CORRECTED),
    "o": (State.RESOLVED, Reason.RECOVERED),
    "x": (State.RESOLVED, Reason.RULE_REMOVED),
    "k": (State.RESOLVED, Reason.CORRECTED),
}


@dataclass
class Scenario:
    """The series of one rule, what is kept of them, and what was published."""

    kept: dict[str, AlertState] = field(default_factory=dict)
    said: list[dict[str, Any]] = field(default_factory=list)
    incidents: Incidents = field(init=False)

    def __post_init__(self) -> None:
        """Begin without anything that is kept."""
        self.restart()

    def restart(self) -> None:
        """As another worker begins, with what is in the database."""
        states = [AlertState.from_json(state.to_json()) for state in self.kept.values()]
        self.incidents = Incidents(W, states, self.last)

    def last(self, alert: str) -> dict[str, Any] | None:
        """The last message of an alert."""
        return next((one for one in reversed(self.said) if one["alert_id"] == alert), None)

    def window(self, number: int, what: str) -> list[str]:
        """One window, such as ``A! B/iOS!``; what is published of it."""
        moves = [self.move(number, one[:-1], one[-1]) for one in what.split()]
        published = []
        for move in self.incidents.group(moves):
            self.kept[move.state.key] = move.state
            if move.alert:
                self.said.append(move.alert)
                steps = "+".join(move.alert["steps"]) or move.alert["step"]
                published.append(f"{move.alert['reason']}:{steps}:{move.alert['sequence']}")
        return published

    def move(self, number: int, series: str, what: str) -> Transition:
        """What the state machine of a series says."""
        step, _, system = series.partition("/")
        dimensions = {"os": system} if system else {}
        rule = "Other" if step == "O" else "Drop"
        blank = AlertState(rule, "f", step, dimensions)
        before = self.kept.get(blank.key, blank)
        state, reason = SAYS[what]
        if what == "!":
            began = number * W
            own = alert_id(rule, "f", step, dimensions, began)
            before = before.but(started_at=began, alert_id=own, sequence=-1)
        after = before.but(state=state, reason=reason, sequence=before.sequence + 1, last_window=number * W)
        alert = {
            "alert_id": after.alert_id, "sequence": after.sequence, "rule": rule, "funnel": "f", "step": step,
            "dimensions": dimensions, "state": "resolved" if state is State.RESOLVED else "firing",
            "reason": str(reason), "window_start": number * W, "window_end": (number + 1) * W, "rate": 0.4,
            "expected_rate": 0.8, "lost_conversions": LOST.get(step, 1.0), "annotations": {}, "steps": [],
        }  # fmt: skip
        return Transition(after, alert)


CASES: dict[str, tuple[list[str], list[list[str]]]] = {
    "one step is told as it is": (
        ["A!", "Aw", "Ao"],
        [["FIRST_DROP:A:0"], ["WORSENED:A:1"], ["RECOVERED:A:2"]],
    ),
    "all steps at once are one message, led by the one that lost most": (
        ["A! B! C!", "Ao Bo Co"],
        [["FIRST_DROP:A+B+C:0"], ["RECOVERED:A+B+C:1"]],
    ),
    "a step that follows joins": (["A!", "B!"], [["FIRST_DROP:A:0"], ["WIDENED:A+B:1"]]),
    "several that follow together are one message": (["A!", "B! C!"], [["FIRST_DROP:A:0"], ["WIDENED:A+B+C:1"]]),
    "it is over when all are": (
        ["A! B!", "Bo", "Ao"],
        [["FIRST_DROP:A+B:0"], [], ["RECOVERED:A+B:1"]],
    ),
    "its leader speaks for it, the others do not": (
        ["A! B!", "Aw", "Bw", "Bc"],
        [["FIRST_DROP:A+B:0"], [], ["WORSENED:A+B:1"], ["CORRECTED:A+B:2"]],
    ),
    "a drop that began much later is another incident": (
        ["A!", *[""] * 15, "B!"],
        [["FIRST_DROP:A:0"], *[[]] * 15, ["FIRST_DROP:B:0"]],
    ),
    "another os is another incident": (["A/iOS! B/Android!"], [["FIRST_DROP:B:0", "FIRST_DROP:A:0"]]),
    "one os and all together are one": (["A/iOS! B!"], [["FIRST_DROP:A+B:0"]]),
    "another rule is another incident": (["A! O!"], [["FIRST_DROP:A:0", "FIRST_DROP:O:0"]]),
    "the same step by another os does not join": (["A!", "A/iOS!"], [["FIRST_DROP:A:0"], ["FIRST_DROP:A:0"]]),
    "after it is over a step begins anew": (
        ["A! B!", "Ao Bo", "A!"],
        [["FIRST_DROP:A+B:0"], ["RECOVERED:A+B:1"], ["FIRST_DROP:A:0"]],
    ),
    "a step that relapses joins again": (
        ["A! B!", "Ao", "A!", "Ao", "Bo"],
        [["FIRST_DROP:A+B:0"], [], ["WIDENED:A+B:1"], [], ["RECOVERED:A+B:2"]],
    ),
    "a step that relapses much later, while others still fire, joins again": (
        ["A! B!", "Bo", *[""] * 20, "B!", "Ao Bo"],
        [["FIRST_DROP:A+B:0"], [], *[[]] * 20, ["WIDENED:A+B:1"], ["RECOVERED:A+B:2"]],
    ),
    "a step that relapses joins again though another of its kind has joined meanwhile": (
        ["A/iOS! B!", "A/iOSo", "A/Android!", "A/iOS!", "A/iOSo A/Androido Bo"],
        [["FIRST_DROP:A+B:0"], [], ["WIDENED:A+B:1"], ["WIDENED:A+B:2"], ["RECOVERED:A+B:3"]],
    ),
    "a rule that is removed resolves it once": (["A! B!", "Ax Bx"], [["FIRST_DROP:A+B:0"], ["RULE_REMOVED:A+B:1"]]),
    "late data about it after it is over": (
        ["A! B!", "Ao Bo", "Bk", "Ak"],
        [["FIRST_DROP:A+B:0"], ["RECOVERED:A+B:1"], ["CORRECTED:A+B:2"], []],
    ),
    "one that was worse goes on counting when it widens": (
        ["A!", "Aw", "B!", "Ao Bo"],
        [["FIRST_DROP:A:0"], ["WORSENED:A:1"], ["WIDENED:A+B:2"], ["RECOVERED:A+B:3"]],
    ),
}


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted after each window"])
@pytest.mark.parametrize("name", CASES)
def test_an_incident_is_told_once(name: str, restarts: bool) -> None:
    """Reason, steps and sequence of each window's messages, whoever goes on with it."""
    windows, expected = CASES[name]
    scenario = Scenario()
    for number, (window, messages) in enumerate(zip(windows, expected, strict=True)):
        assert scenario.window(number, window) == messages, f"window {number}"
        if restarts:
            scenario.restart()
    for alert in {one["alert_id"] for one in scenario.said}:
        sequences = [one["sequence"] for one in scenario.said if one["alert_id"] == alert]
        assert sequences == list(range(len(sequences)))


def test_what_it_has_reached_stands_in_the_message() -> None:
    """The other steps, with their rates, and the state that the incident has."""
    scenario = Scenario()
    scenario.window(0, "A! B!")
    scenario.window(1, "Ao Bo")

    first, last = scenario.said
    assert (first["step"], first["steps"]) == ("B", ["A", "B"])
    assert first["annotations"]["also_at"] == "A 40.0% where 80.0% is expected"
    assert (first["state"], last["state"], last["window_start"]) == ("firing", "resolved", W)


def test_an_incident_is_said_again_after_a_silence_while_any_of_it_fires() -> None:
    """Even if its leader is over."""
    scenario = Scenario()
    scenario.window(0, "A! B!")
    scenario.window(1, "Bo")
    scenario.restart()
    again = scenario.incidents.renotify(scenario.said[-1], Reason.SILENCE_ENDED)

    assert again is not None
    assert again.alert is not None
    assert (again.alert["reason"], again.alert["sequence"], again.alert["state"]) == ("SILENCE_ENDED", 1, "firing")
    assert scenario.incidents.renotify({**scenario.said[-1], "alert_id": "another"}, Reason.SILENCE_ENDED) is None


SERIES = ["A", "B", "O", "A/iOS", "B/iOS", "A/Android", "C/Android"]


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.sampled_from(SERIES), st.sampled_from("wcok")), max_size=5, unique_by=lambda one: one[0]
            ),
            st.integers(1, 20),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_no_series_is_told_by_two_alerts_at_once(windows: list[tuple[list[tuple[str, str]], int, bool]]) -> None:
    """Whatever fires, recovers, relapses or is corrected, in whatever order, over restarts; sequences have no gaps."""
    scenario = Scenario()
    number = 0
    fires: set[str] = set()
    fired: set[str] = set()
    for moves, pause, restarts in windows:
        said = []
        for series, what in moves:
            if series in fires:
                said.append(series + ("c" if what == "k" else what))
                fires -= {series} if what == "o" else set()
            elif what == "k" and series in fired:
                said.append(series + "k")
            else:
                said.append(series + "!")
                fires.add(series)
                fired.add(series)
        scenario.window(number, " ".join(said))
        number += pause
        if restarts:
            scenario.restart()
    open_: dict[tuple[str, str, str], str] = {}
    sequences: dict[str, int] = {}
    for one in scenario.said:
        assert one["sequence"] == sequences.get(one["alert_id"], -1) + 1
        sequences[one["alert_id"]] = one["sequence"]
        subject = (one["rule"], one["step"], str(one["dimensions"]))
        assert open_.get(subject, one["alert_id"]) == one["alert_id"]
        if one["state"] == "firing":
            open_[subject] = one["alert_id"]
        else:
            open_.pop(subject, None)
    assert bool(open_) == bool(fires)


def test_an_incident_names_each_of_its_series_with_the_values_that_it_is_evaluated_by() -> None:
    """A silence for one os must not mute the step that dropped on all of them."""
    scenario = Scenario()
    scenario.window(0, "B!")
    scenario.window(1, "A/iOS! C!")

    assert scenario.said[0].get("series", []) == []
    assert scenario.said[1]["series"] == [
        {"step": "B", "dimensions": {}},
        {"step": "A", "dimensions": {"os": "iOS"}},
        {"step": "C", "dimensions": {}},
    ]
