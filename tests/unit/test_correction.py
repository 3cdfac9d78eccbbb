"""Late data about a window that was alerted on is said, once a revision, and the same at every replay."""

from __future__ import annotations

import pytest

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.state import AlertState, State, Transition
from tests.unit.detector_sim import learn

W = 60_000
DROP = "maturity: 0s"
THRESHOLD = "kind: threshold, below: 0.7, over: 2m"


def window(i: int, made: int, revision: int = 0, shown: int = 200) -> ClosedWindow:
    """One window of one series."""
    return ClosedWindow("f", i * W, (i + 1) * W, revision, {Series.of("f", "A"): CountRow(shown, made)})


def detector(rule: str = DROP) -> Detector:
    """With one rule."""
    rules = Rules(tuple(parse_rules(f"groups:\n- name: g\n  rules:\n  - {{alert: D, {rule}}}\n")))
    return Detector("f", rules, W)


BEFORE = [window(i, 160) for i in range(118)]
DIP = [window(118, 60), window(119, 60)]


def remember_published(moves: list[Transition]) -> list[str]:
    """State, reason and sequence of each message."""
    return [f"{move.alert['state']} {move.alert['reason']} {move.alert['sequence']}" for move in moves if move.alert]


def run(windows: list[ClosedWindow], rule: str = DROP) -> list[str]:
    """What is said of the windows."""
    one = detector(rule)
    return remember_published([move for window in windows for move in one.observe(window)])


NOTIFIED = "firing FIRST_DROP 0"
CASES: dict[str, tuple[list[ClosedWindow], list[str]]] = {
    "nothing late": ([], [NOTIFIED]),
    "the dip was only late data: taken back, and resolved by the next window": (
        [window(118, 158, 1), window(120, 160)],
        [NOTIFIED, "firing CORRECTED 1", "resolved RECOVERED 2"],
    ),
    "half of it was late data": ([window(118, 110, 1)], [NOTIFIED, "firing CORRECTED 1"]),
    "a few late events are not said": ([window(118, 64, 1)], [NOTIFIED]),
    "small changes add up": (
        [window(118, 70, 1), window(118, 80, 2), window(118, 90, 3)],
        [NOTIFIED, "firing CORRECTED 1"],
    ),
    "the same revision again is nothing": (
        [window(118, 110, 1), window(118, 110, 1)],
        [NOTIFIED, "firing CORRECTED 1"],
    ),
    "an older revision after a newer one is nothing": (
        [window(118, 110, 2), window(118, 60, 1)],
        [NOTIFIED, "firing CORRECTED 1"],
    ),
    "more impressions by half, at the same rate": ([window(118, 120, 1, 400)], [NOTIFIED, "firing CORRECTED 1"]),
    "a window before the alert is history only": ([window(100, 20, 1)], [NOTIFIED]),
    "taken back and then confirmed": (
        [window(118, 158, 1), window(118, 60, 2)],
        [NOTIFIED, "firing CORRECTED 1", "firing CORRECTED 2"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_revision_of_a_window_that_was_alerted_on(name: str) -> None:
    """What is said of it, with the sequence going on."""
    late, expected = CASES[name]

    assert run([*BEFORE, DIP[0], window(119, 150), *late]) == expected
    assert run([*BEFORE, DIP[0], window(119, 150), *late]) == expected


def test_a_resolved_alert_is_corrected_too_and_stays_resolved() -> None:
    """Whoever writes the report on the incident reads the right numbers."""
    said = run([*BEFORE, *DIP, *(window(i, 160) for i in range(120, 128)), window(118, 150, 1)])

    assert said[-2:] == ["resolved RECOVERED 1", "resolved CORRECTED 2"]


def test_a_drop_that_goes_on_is_not_resolved_by_the_correction_of_its_first_window() -> None:
    """The alert keeps firing while the windows after it alarm."""
    said = run([*BEFORE, *DIP, window(118, 158, 1), window(120, 60), window(121, 60)])

    assert said == [NOTIFIED, "firing CORRECTED 1"]


def test_a_threshold_is_corrected_by_its_own_limit() -> None:
    """Taken back when the rate over the stretch is not below it."""
    late = [window(118, 158, 1), window(119, 158, 1), window(120, 160)]

    assert run([*BEFORE, *DIP, *late], THRESHOLD)[:2] == [NOTIFIED, "firing CORRECTED 1"]
    assert run([*BEFORE, *DIP, *late], THRESHOLD)[-1].startswith("resolved RECOVERED")


def test_a_detector_that_was_restarted_corrects_what_its_predecessor_told() -> None:
    """What was told is kept with the state; that the counts of the database are ahead changes nothing."""
    first = detector()
    kept: dict[str, str] = {}
    for one in [*BEFORE, *DIP]:
        kept |= {move.state.key: move.state.to_json() for move in first.observe(one)}
    second = detector()
    counted = [*BEFORE, window(118, 158), DIP[1]]  # the late events are in the database already
    learn(second, counted)
    second.restore(AlertState.from_json(text) for text in kept.values())
    moves = second.observe(window(118, 158, 1))

    assert remember_published(moves) == ["firing CORRECTED 1"]
    alert = moves[0].alert
    assert alert is not None
    assert (alert["successes"], alert["impressions"]) == (158, 200)
    assert alert["lost_conversions"] == pytest.approx(2.0, abs=1.0)
    assert moves[0].state.state is State.FIRING
    assert remember_published(second.observe(window(118, 158, 1))) == []


def test_late_data_of_an_earlier_alert_does_not_stay_for_the_next() -> None:
    """A small change of the first alert, not said, is forgotten when another begins, which is corrected by its own."""
    first = [*BEFORE, *DIP, window(118, 64, 1), *(window(i, 160) for i in range(120, 140))]

    said = run([*first, window(140, 60), window(140, 110, 1)])

    assert said == [NOTIFIED, "resolved RECOVERED 1", NOTIFIED, "firing CORRECTED 1"]
