"""Each edge of the alert's state machine, one window at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from funnelwatch.alert_rules.model import DropRule
from funnelwatch.stream.detector.counts import Column
from funnelwatch.stream.detector.evaluation import Evaluation
from funnelwatch.stream.detector.machine import step
from funnelwatch.stream.detector.scope import inhibited
from funnelwatch.stream.detector.state import AlertState

W = 60_000


def sight(what: str) -> Evaluation:
    """A window: ``-`` ordinary, ``!`` a drop, ``*`` a worse one, ``ok`` recovered, ``?`` no data, ``x`` series gone."""
    made = {"!": 60.0, "*": 20.0}.get(what, 80.0)
    return Evaluation(
        alarm=what in "!*",
        recovered=int(what == "ok"),
        enough=what not in "?x",
        gone=what == "x",
        windows=1,
        impressions=100.0,
        successes=made,
        expected=80.0,
        low=0.7,
        high=0.9,
        score={"!": 5.0, "*": 15.0}.get(what, 0.0),
    )


@dataclass
class Case:
    """Windows, and what the machine says of each: state/reason, with a + where it is published."""

    windows: str
    said: str
    pending: str = "0s"
    keep: str = "0s"


CASES = {
    "quiet stays ok": Case("- - ?", "ok/ORDINARY ok/ORDINARY ok/ORDINARY"),
    "a drop fires at once and recovers": Case(
        "- ! ! ok -",
        "ok/ORDINARY firing/FIRST_DROP+ firing/STILL_FIRING resolved/RECOVERED+ resolved/ORDINARY",
    ),
    "for waits, and forgets a short drop": Case(
        "! - ! ! !",
        "pending/FOR_NOT_REACHED ok/ORDINARY pending/FOR_NOT_REACHED pending/FOR_NOT_REACHED firing/FIRST_DROP+",
        pending="2m",
    ),
    "neither ordinary nor alarming is still firing": Case(
        "! - -", "firing/FIRST_DROP+ firing/STILL_FIRING firing/STILL_FIRING"
    ),
    "keep_firing_for waits before it resolves": Case(
        "! ok - ok", "firing/FIRST_DROP+ firing/KEPT_FIRING firing/KEPT_FIRING resolved/RECOVERED+", keep="2m"
    ),
    "a relapse while kept firing is the same alert": Case(
        "! ok ! ok - -",
        "firing/FIRST_DROP+ firing/KEPT_FIRING firing/STILL_FIRING "
        "firing/KEPT_FIRING firing/KEPT_FIRING resolved/RECOVERED+",
        keep="2m",
    ),
    "no data is not recovery": Case(
        "! ? ? ! ok", "firing/FIRST_DROP+ no_data/NO_DATA no_data/NO_DATA firing/STILL_FIRING resolved/RECOVERED+"
    ),
    "recovery after no data is said": Case("! ? ok", "firing/FIRST_DROP+ no_data/NO_DATA resolved/RECOVERED+"),
    "a series that has ended resolves its alert": Case(
        "! ? x ?", "firing/FIRST_DROP+ no_data/NO_DATA resolved/SERIES_GONE+ resolved/ORDINARY"
    ),
    "a series that ends while long stretches still alarm resolves as well": Case(
        "! x", "firing/FIRST_DROP+ resolved/SERIES_GONE+"
    ),
    "a series that comes back after its end begins a new alert": Case(
        "! x !", "firing/FIRST_DROP+ resolved/SERIES_GONE+ firing/FIRST_DROP+"
    ),
    "no data while pending is forgotten": Case("! ?", "pending/FOR_NOT_REACHED ok/ORDINARY", pending="2m"),
    "much worse is said, but not too soon": Case(
        "! * * * * * * * * * * *",
        "firing/FIRST_DROP+ " + "firing/STILL_FIRING " * 9 + "firing/WORSENED+ firing/STILL_FIRING",
    ),
    "as bad as said is not said again": Case("! " * 14, "firing/FIRST_DROP+ " + "firing/STILL_FIRING " * 13),
    "a second drop is a new alert": Case("! ok !", "firing/FIRST_DROP+ resolved/RECOVERED+ firing/FIRST_DROP+"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_machine_goes_where_it_should(name: str) -> None:
    """States, reasons and messages of a sequence of windows; sequences count up from 0 within one id."""
    case = CASES[name]
    rule = DropRule.model_validate({"alert": "D", "for": case.pending, "keep_firing_for": case.keep})
    state = AlertState("D", "f", "A", {"os": "iOS"})
    told: list[str] = []
    messages: list[tuple[str, int]] = []
    for i, what in enumerate(case.windows.split()):
        move = step(rule, state, sight(what), i * W, (i + 1) * W)
        if move.publish:
            messages.append((move.state.alert_id, move.state.sequence))
        assert move.changed or move.state == state
        # What is kept must survive the database.
        state = AlertState.from_json(move.state.to_json())
        told.append(f"{state.state}/{move.reason}{'+' if move.publish else ''}")

    assert told == case.said.split()
    for alert in {alert for alert, _ in messages}:
        assert [number for one, number in messages if one == alert] == list(
            range(sum(one == alert for one, _ in messages))
        )


def test_two_incidents_have_two_ids_and_a_replay_has_the_same() -> None:
    """The id follows from rule, series and start, nothing else."""
    rule = DropRule.model_validate({"alert": "D"})

    def ids() -> list[str]:
        state, found = AlertState("D", "f", "A", {}), []
        for i, what in enumerate(["!", "ok", "!"]):
            state = step(rule, state, sight(what), i * W, (i + 1) * W).state
            found.append(state.alert_id)
        return found

    first, resolved, second = ids()
    assert first == resolved
    assert first != second
    assert ids() == [first, resolved, second]


ALL = Column((), "A", ())
IOS = Column(("os",), "A", ("iOS",))
ANDROID = Column(("os",), "A", ("Android",))
OTHER_STEP = Column((), "B", ())


@pytest.mark.parametrize(
    ("fresh", "active", "expected"),
    [
        ({ALL: 100.0, IOS: 95.0}, {}, {ALL: IOS}),
        ({ALL: 100.0, IOS: 50.0, ANDROID: 50.0}, {}, {IOS: ALL, ANDROID: ALL}),
        ({IOS: 50.0}, {ALL: 100.0}, {IOS: ALL}),
        ({ALL: 100.0}, {IOS: 60.0}, {ALL: IOS}),
        ({ALL: 100.0}, {IOS: 20.0}, {}),
        ({ALL: 100.0, ANDROID: 80.0}, {IOS: 20.0}, {ALL: ANDROID}),
        ({ALL: 100.0}, {OTHER_STEP: 100.0}, {}),
        ({IOS: 50.0, ANDROID: 50.0}, {}, {}),
    ],
)
def test_one_incident_is_told_by_the_scope_that_explains_it(
    fresh: dict[Column, float], active: dict[Column, float], expected: dict[Column, Column]
) -> None:
    """One os that has lost nearly all is told by itself, a loss of all by the whole, and never across steps."""
    assert inhibited(fresh, active) == expected
