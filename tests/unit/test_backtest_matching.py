"""Which alerts are about which incidents, case by case."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from funnelwatch.stream.backtest.incidents import ECHO_WINDOWS, GRACE_WINDOWS, Incident, Raised, match
from funnelwatch.stream.backtest.report import Evaluated, figures

W = 60_000
IOS = {"os": "iOS"}
HIT = Incident(100 * W, 120 * W, {"funnel": "f", "step": "A", "os": "iOS"})


def alert(
    first: int, last: int | None = None, step: str = "A", dimensions: dict[str, str] | None = None, funnel: str = "f"
) -> Raised:
    """An alert raised in window ``first`` and resolved in window ``last``."""
    end = None if last is None else (last + 1) * W
    return Raised("R", funnel, step, IOS if dimensions is None else dimensions, first * W, end, {}, 5.0)


@dataclass
class Case:
    """An alert, what is said of it, and the delay of the incident; None: missed."""

    alert: Raised
    verdict: str
    delay: int | None
    incident: Incident = field(default=HIT)


CASES = {
    "in its first window": Case(alert(100, 101), "incident", 1),
    "in its third window": Case(alert(102, 130), "incident", 3),
    "in its last window": Case(alert(119), "incident", 20),
    "in the last window of the grace": Case(alert(119 + GRACE_WINDOWS), "incident", 20 + GRACE_WINDOWS),
    "after the grace": Case(alert(120 + GRACE_WINDOWS), "echo", None),
    "in the last window of the echo": Case(alert(119 + GRACE_WINDOWS + ECHO_WINDOWS), "echo", None),
    "after the echo": Case(alert(120 + GRACE_WINDOWS + ECHO_WINDOWS), "false alarm", None),
    "in the window before": Case(alert(99, 99), "false alarm", None),
    "before, and still firing": Case(alert(50, 110), "false alarm", 0),
    "before, and never resolved": Case(alert(50), "false alarm", 0),
    "on the whole step": Case(alert(101, dimensions={}), "incident", 2),
    "on a narrower series": Case(alert(101, dimensions={"os": "iOS", "browser": "Safari"}), "incident", 2),
    "on another os": Case(alert(101, dimensions={"os": "Android"}), "false alarm", None),
    "on another step": Case(alert(101, step="B"), "false alarm", None),
    "on another funnel": Case(alert(101, funnel="g"), "false alarm", None),
    "of an incident of every step": Case(alert(101, step="B"), "incident", 2, Incident(100 * W, 120 * W)),
    "of an incident within a window": Case(alert(100), "incident", 1, Incident(100 * W + 20_000, 100 * W + 40_000)),
    "of an incident that starts within a window": Case(alert(101), "incident", 2, Incident(100 * W + 1, 120 * W)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_and_an_incident(name: str) -> None:
    """Verdict, detection and delay."""
    case = CASES[name]
    found = match([case.alert], [case.incident], [], W)

    assert found.verdicts == [case.verdict]
    assert found.incidents == [0 if case.verdict == "incident" else None]
    assert (found.found[0].detected, found.found[0].delay_windows) == (case.delay is not None, case.delay)
    assert found.found[0].by == (None if case.delay is None else 0)


def test_the_first_of_several_alerts_tells_the_delay() -> None:
    """All of them are true."""
    found = match([alert(110), alert(104, dimensions={})], [HIT], [], W)

    assert found.verdicts == ["incident", "incident"]
    assert (found.found[0].delay_windows, found.found[0].by) == (5, 1)


def test_alerts_on_incidents_that_are_not_evaluated_are_neither_true_nor_false() -> None:
    """An incident that began in the warm-up."""
    assert match([alert(101), alert(150), alert(101, step="B")], [], [HIT], W).verdicts == [
        "left out",
        "left out",
        "false alarm",
    ]


def test_figures_are_those_of_a_calculation_by_hand() -> None:
    """Two series, one of which began half way; three incidents of which two are found; one false alarm."""
    month = 30 * 86_400_000
    second = Incident(1000 * W, 1010 * W, {"step": "B"})
    missed = Incident(2000 * W, 2010 * W, {"step": "B"})
    evaluated = Evaluated(
        W, 0, month, {("f", "A"): -5, ("f", "B"): month // 2}, [HIT, second, missed], [], GRACE_WINDOWS
    )
    alerts = [alert(100, 121), alert(125, 126), alert(500, 501), alert(1003, 1010, "B")]

    assert figures(evaluated, alerts)[1] == {
        "alerts": 4,
        "false_alarms": 1,
        "false_alarms_per_series_30d": pytest.approx(1 / 1.5),
        "incidents_detected": 2,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "delay_p50_windows": 1.0,
        "delay_p90_windows": 4.0,
    }


def test_shares_of_nothing_are_none() -> None:
    """No alerts, no incidents: neither precision nor recall nor delay."""
    found = figures(Evaluated(W, 0, W, {("f", "A"): 0}, [], [], 5), [])[1]

    assert [found[name] for name in ("precision", "recall", "delay_p50_windows", "delay_p90_windows")] == [None] * 4
