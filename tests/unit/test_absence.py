"""An alert whose series ends resolves with its own reason while the funnel goes on; it never fires for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.alert_rules.instruments import ImpressionsRule, SilentRule
from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.metrics import MetricRules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.schemas.pipeline import PartitionSnapshot, PipelineSnapshot
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.metrics import MetricEvaluator, MetricSnapshot
from funnelwatch.stream.detector.pipeline import PipelineEvaluator
from funnelwatch.stream.detector.state import AlertState, Reason, State
from tests.unit.detector_sim import learn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from funnelwatch.alert_rules.model import NamedRule
    from funnelwatch.stream.detector.state import Transition

W = 60_000
USUAL = 120
"""Windows before the drop."""

Counts = tuple[int, int]


@dataclass(frozen=True)
class Life:
    """What the broken series (version 2.0, os Old, step A) and the rest of the funnel count in each phase."""

    broken: Callable[[int], Counts]
    """Impressions and successes, by minutes since the drop began."""
    rest: Callable[[int], int] = lambda minute: 200
    """Impressions of each of the others."""
    by: str = "[app_version]"
    after: str = "1h"


def window(life: Life, number: int) -> ClosedWindow:
    """One closed window."""
    minute = number - USUAL
    n, x = (200, 160) if minute < 0 else life.broken(minute)
    rest = 200 if minute < 0 else life.rest(minute)
    counts = {
        Series.of("f", "A", os="Old", app_version="2.0"): CountRow(n, x),
        Series.of("f", "A", os="New", app_version="2.1"): CountRow(rest, rest * 8 // 10),
        Series.of("f", "B", os="New", app_version="2.1"): CountRow(rest, rest * 8 // 10),
    }
    kept = {series: tally for series, tally in counts.items() if any(tally)}
    return ClosedWindow("f", number * W, (number + 1) * W, 0, kept)


def detector(life: Life) -> Detector:
    """With one rule."""
    text = f"{{alert: D, maturity: 0s, by: {life.by}, resolve_without_data: {life.after}}}"
    return Detector("f", Rules(tuple(parse_rules(f"groups:\n- name: g\n  rules:\n  - {text}\n"))), W)


def remember_published(moves: Iterable[tuple[int, Transition]]) -> list[tuple[int, str, str]]:
    """Minute, state and reason of each message."""
    return [(at, move.alert["state"], move.alert["reason"]) for at, move in moves if move.alert]


def live(life: Life, minutes: int) -> list[tuple[int, Transition]]:
    """What is published, window by window."""
    found = detector(life)
    return [(number - USUAL, move) for number in range(USUAL + minutes) for move in found.observe(window(life, number))]


def broken_until(minute: int, then: Counts = (0, 0)) -> Callable[[int], Counts]:
    """Converts at a third until it ends."""
    return lambda at: (200, 60) if at < minute else then


@pytest.mark.parametrize("by", ["[app_version]", "[os]", "[[], [os]]", "[[], [app_version]]"])
def test_an_alert_of_a_series_that_ends_resolves_after_an_hour_without_data(by: str) -> None:
    """A version retired by its own fix, an os renamed: also where the total inhibited nothing or something."""
    found = remember_published(live(Life(broken_until(20), by=by), 200))

    assert found[0][1:] == ("firing", "FIRST_DROP")
    ended = [one for one in found if one[1] == "resolved"]
    firing = [one for one in found if one[2] == "FIRST_DROP"]
    assert len(ended) == len(firing)
    assert {reason for _, _, reason in ended} <= {"SERIES_GONE", "RECOVERED"}
    assert max(at for at, _, _ in ended) <= 20 + 60 + 2


def test_the_alert_of_a_step_that_is_removed_resolves() -> None:
    """The other step goes on."""
    life = Life(broken_until(20), by="[[]]")
    found = detector(life)
    moves = []
    for number in range(USUAL + 120):
        one = window(life, number)
        kept = {series: tally for series, tally in one.series.items() if number < USUAL + 20 or series.step == "B"}
        one = ClosedWindow("f", one.window_start, one.window_end, 0, kept)
        moves += [(number - USUAL, move) for move in found.observe(one)]

    assert [reason for _, _, reason in remember_published(moves)] == ["FIRST_DROP", "SERIES_GONE"]


def test_the_time_is_the_rules() -> None:
    """Ten minutes, although the long stretches of the scan still see the drop."""
    found = remember_published(live(Life(broken_until(20), after="10m"), 60))

    assert found[-1] == (29, "resolved", "SERIES_GONE")


@pytest.mark.parametrize(
    "kind", ["kind: threshold, below: 0.5", "kind: change, drop: 0.3, offset: 3h"], ids=["threshold", "change"]
)
@pytest.mark.parametrize(("then", "again"), [((0, 0), []), ((200, 160), []), ((200, 60), ["FIRST_DROP"])])
def test_a_stretch_longer_than_the_time_does_not_fire_again_for_what_has_ended(
    kind: str, then: Counts, again: list[str]
) -> None:
    """The last two hours hold the drop for long after; only what comes after the end is evaluated."""
    life = Life(lambda at: (200, 60) if at < 100 else ((0, 0) if at < 130 else then), after="10m")
    text = f"{{alert: D, {kind}, over: 2h, maturity: 0s, by: [app_version], resolve_without_data: 10m}}"
    found = Detector("f", Rules(tuple(parse_rules(f"groups:\n- name: g\n  rules:\n  - {text}\n"))), W)

    moves = [(number, move) for number in range(USUAL + 400) for move in found.observe(window(life, number))]

    reasons = [reason for _, _, reason in remember_published(moves)]
    end = reasons.index("SERIES_GONE")
    assert (reasons[0], [reason for reason in reasons[end:] if reason == "FIRST_DROP"]) == ("FIRST_DROP", again)


def test_a_few_stragglers_keep_no_alert_alive() -> None:
    """One impression every 20 minutes is no data; the series has ended an hour after it became too thin to evaluate."""
    life = Life(lambda at: (200, 60) if at < 20 else ((1, 0) if at % 20 == 0 else (0, 0)))

    assert [reason for _, _, reason in remember_published(live(life, 300))] == ["FIRST_DROP", "SERIES_GONE"]


def test_a_silent_funnel_resolves_nothing() -> None:
    """An outage or a night without traffic: the alert waits."""
    asleep = Life(broken_until(20), rest=lambda at: 200 if at < 20 else 0)

    assert [reason for _, _, reason in remember_published(live(asleep, 400))] == ["FIRST_DROP"]


@pytest.mark.parametrize(("back", "expected"), [(205, ["FIRST_DROP"]), (10**6, ["FIRST_DROP", "SERIES_GONE"])])
def test_an_outage_of_the_funnel_is_no_time_without_data(back: int, expected: list[str]) -> None:
    """After three hours the others come back first, the broken series five minutes later, or never."""
    life = Life(lambda at: (200, 60) if at < 20 or at >= back else (0, 0), rest=lambda at: 0 if 20 <= at < 200 else 200)
    found = remember_published(live(life, 320))

    assert [reason for _, _, reason in found] == expected
    assert all(at >= 200 + 40 for at, state, _ in found if state == "resolved")


def test_a_series_that_fades_with_its_funnel_is_not_gone() -> None:
    """By night all have a fiftieth: too few to evaluate, and no sign of an end."""
    night = Life(
        lambda at: (200, 60) if at < 20 else (int(at % 15 == 0), 0),
        rest=lambda at: 200 if at < 20 else int(at % 15 == 0),
    )

    assert [reason for _, _, reason in remember_published(live(night, 400))] == ["FIRST_DROP"]


def test_the_last_message_tells_the_drop_and_not_an_empty_window() -> None:
    """The numbers are those of the message before."""
    first, last = [move.alert for _, move in live(Life(broken_until(20)), 200) if move.alert]

    assert last["alert_id"] == first["alert_id"]
    assert (last["sequence"], last["state"], last["reason"]) == (first["sequence"] + 1, "resolved", "SERIES_GONE")
    assert (last["rate"], last["impressions"]) == (first["rate"], first["impressions"])


def test_a_detector_that_is_restarted_resolves_at_the_same_time() -> None:
    """After each of some windows a new one learns the counts and takes up the states."""
    life = Life(broken_until(20))
    whole = remember_published(live(life, 200))
    for at in (25, 50, 79):
        first, later = detector(life), detector(life)
        states: dict[str, AlertState] = {}
        for number in range(USUAL + at):
            states |= {move.state.key: move.state for move in first.observe(window(life, number))}
        learn(later, [window(life, number) for number in range(USUAL + at)])
        later.restore(AlertState.from_json(state.to_json()) for state in states.values())
        moves = [
            (number - USUAL, move)
            for number in range(USUAL + at, USUAL + 200)
            for move in later.observe(window(life, number))
        ]
        assert remember_published(moves) == whole[1:]


def test_an_alert_about_a_series_that_nobody_remembers_resolves() -> None:
    """Its events are older than the counts: the restored alert has no column, and must end all the same."""
    life = Life(broken_until(0))
    firing = AlertState("D", "f", "A", {"app_version": "0.9"}, State.FIRING, "a1", 0, 5 * W, 6 * W, Reason.FIRST_DROP)
    found = detector(life)
    found.restore([firing])

    moves = [(number, move) for number in range(120) for move in found.observe(window(life, number))]

    ended = [(number, move.state) for number, move in moves if move.state.alert_id == "a1"]
    assert [(number, state.state, state.reason) for number, state in ended] == [
        (59, State.RESOLVED, Reason.SERIES_GONE)
    ]


@pytest.mark.parametrize("seen", [False, True], ids=["nobody remembers its series", "its series goes on"])
def test_an_alert_is_published_once_more_when_its_silence_ends(seen: bool) -> None:
    """The message has the next number and the reason, and the state is kept; an alert of nobody gives none."""
    life = Life(broken_until(60))
    dimensions = {"app_version": "2.0" if seen else "0.9"}
    firing = AlertState("D", "f", "A", dimensions, State.FIRING, "a1", 4, 5 * W, 6 * W, Reason.FIRST_DROP)
    found = detector(life)
    if seen:
        found.observe(window(life, 0))
    found.restore([firing])

    again = [found.renotify({"alert_id": "a1", "sequence": 4}, Reason.SILENCE_ENDED) for _ in range(2)]

    assert [(one.alert["sequence"], one.alert["reason"]) for one in again if one and one.alert] == [
        (5, "SILENCE_ENDED"),
        (6, "SILENCE_ENDED"),
    ]
    assert found.renotify({"alert_id": "another", "sequence": 4}, Reason.SILENCE_ENDED) is None


def a_rule(kind: Any, text: str) -> NamedRule:
    """One rule of a kind."""
    [made] = parse_rules(f"groups:\n  - name: g\n    rules:\n      - {text}\n")
    assert isinstance(made, kind)
    return made


@pytest.mark.parametrize("vanish", [True, False], ids=["the series is not looked at any more", "it has no samples"])
def test_an_alert_about_a_timer_without_samples_resolves_while_others_have_some(vanish: bool) -> None:
    """The provider was replaced; its p90 is unknown for an hour."""
    rule: Any = a_rule(
        MetricRules, "{alert: Slow, kind: threshold, metric: sms, value: p90, above: 800, by: [provider]}"
    )
    watch = MetricEvaluator([rule], [], W)
    moves = []
    for minute in range(80):
        looks = [MetricSnapshot({"provider": "new"}, 50, 100.0)]
        if minute < 5:
            looks.append(MetricSnapshot({"provider": "old"}, 50, 900.0))
        elif not vanish:
            looks.append(MetricSnapshot({"provider": "old"}, 0, None))
        moves += [(minute, move) for move in watch.observe((minute + 1) * W, {"Slow": looks})]

    assert remember_published(moves) == [(0, "firing", "LIMIT_CROSSED"), (64, "resolved", "SERIES_GONE")]


def test_a_counter_that_falls_to_zero_is_data_and_keeps_firing() -> None:
    """Nothing sent is exactly what the rule is about."""
    rule: Any = a_rule(MetricRules, "{alert: Few, kind: threshold, metric: sms, below: 10, by: [os]}")
    watch = MetricEvaluator([rule], [], W)
    moves = []
    for minute in range(200):
        looks = [MetricSnapshot({"os": "iOS"}, 0, 0.0), MetricSnapshot({"os": "Android"}, 50, 50.0)]
        moves += [(minute, move) for move in watch.observe((minute + 1) * W, {"Few": looks})]

    assert remember_published(moves) == [(0, "firing", "LIMIT_CROSSED")]


def test_an_alert_about_a_partition_that_no_longer_exists_resolves() -> None:
    """The topic was made again with fewer."""
    rule: Any = a_rule(SilentRule, "{alert: Silent, kind: instrumentation, signal: silent}")
    firing = AlertState("Silent", "*", "*", {"partition": "3"}, State.FIRING, "a1", 0, 0, 0, Reason.PARTITION_SILENT)
    watch = PipelineEvaluator([rule], [firing])

    moves = watch.observe(PipelineSnapshot(10 * W, {0: PartitionSnapshot(5, 5, 0, idle=True)}, 2))

    assert [(move.state.state, move.state.reason) for move in moves if move.alert] == [
        (State.RESOLVED, Reason.SERIES_GONE)
    ]


def test_an_alert_about_impressions_of_a_scope_that_nobody_remembers_resolves() -> None:
    """An os that had no event for as long as counts are remembered."""
    rule: Any = a_rule(ImpressionsRule, "{alert: Few, kind: instrumentation, signal: impressions, by: [os]}")
    found = Detector("f", Rules((rule,)), W)
    found.restore([AlertState("Few", "f", "*", {"os": "Gone"}, State.FIRING, "a1", 0, 0, 0)])
    moves = []
    for number in range(80):
        one = window(Life(broken_until(0)), number)
        moves += [(number, move) for move in found.observe_live(one, one.window_end, [])]

    assert remember_published(moves) == [(60, "resolved", "SERIES_GONE")]
