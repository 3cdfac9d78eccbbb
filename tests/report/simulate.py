"""Runs the simulations of the detection report and keeps what they came to."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tests.report.cases import BEYOND, BURST, DROPS, SCORE, SCORES, THICK, THIN, Drop
from tests.report.measure import Delays, delays, false_alarms
from tests.report.people import Compared, compare
from tests.report.rivals import RIVALS, alarms
from tests.report.runner import run
from tests.report.scenario import DAY_MS, MINUTE_MS, WEEK_MS, Incident, draw, spread_incidents

if TYPE_CHECKING:
    from tests.report.runner import Alarm
    from tests.report.scenario import Scenario

HOUR_MS = 60 * MINUTE_MS
GRID = 40


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is simulated."""

    thick: int = 300
    """Series without incidents, for a week, at 200 a minute."""
    thin: int = 400
    """The same at 15 a minute."""
    incidents: int = 120
    """Series with seven incidents each, for every kind of drop."""
    rivals: int = 60
    people: int = 40
    """Series of each kind of traffic that bases are compared on."""
    beyond: float = 1.0

    def scaled(self, share: float) -> Sizes:
        """A share of it all; twice that share where false alarms are counted."""
        often = min(1.0, 2.0 * share)  # of what is rare, more is needed
        thick, thin = round(often * self.thick), round(often * self.thin)
        return Sizes(
            thick,
            thin,
            max(10, round(share * self.incidents)),
            max(10, round(share * self.rivals)),
            max(4, round(share * self.people)),
            often,
        )


@dataclass
class Results:
    """Everything the report says."""

    false: dict[str, dict[float, float]] = field(default_factory=dict)
    """False alarms per series in 30 days, by scenario and score."""
    delays: dict[tuple[str, Drop, float], Delays] = field(default_factory=dict)
    rivals: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    """By rule, for many thresholds: false alarms at 200 a minute; of 20% drops the share caught within 5 windows, and
    the median delay."""
    usual: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By rule: false alarms at the threshold it is written with, at 200 and at 15 a minute."""
    bursts: dict[str, tuple[float, Delays]] = field(default_factory=dict)
    """By basis: false alarms per series and week, delays of a 30% drop."""
    beyond: dict[str, float] = field(default_factory=dict)
    people: Compared = field(default_factory=Compared)
    shift: tuple[int, int, int, int] = (0, 0, 0, 0)
    """A drop of 15% that stays: series, those with exactly one alarm in five weeks, alarms, alarms resolved by then."""


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def starts(found: list[Alarm]) -> list[tuple[int, int]]:
    """Series and window of each alarm."""
    return [(one.series, one.row) for one in found]


def simulate(seed: int, sizes: Sizes) -> Results:
    """All of it; every part has a seed of its own, made of this one."""
    results = Results()
    for number, (name, scenario, series) in enumerate((("200", THICK, sizes.thick), ("15", THIN, sizes.thin))):
        say(f"false alarms at {name} a minute")
        drawn = draw(scenario, series, seed * 100 + number)
        found = run(scenario, drawn, list(SCORES))
        results.false[name] = {score: false_alarms(starts(one), scenario, series) for score, one in found.items()}
        say(f"drops at {name} a minute")
        _drops(results, name, scenario, sizes.incidents, seed * 100 + 10 + number)
    say("the usual rules")
    _rivals(results, sizes.rivals, seed * 100 + 20)
    for number, basis in enumerate(("window", "cohort")):
        say(f"bursts on the {basis} basis")
        results.bursts[basis] = _bursts(basis, max(10, sizes.incidents // 2), seed * 100 + 30 + number)
    for number, case in enumerate(BEYOND):
        say(case.name)
        series = max(10, round(case.series * sizes.beyond))
        past = _past(case.scenario, series, seed * 100 + number) if case.past else []
        drawn = draw(case.scenario, series, seed * 100 + 40 + number, past)
        found = run(case.scenario, drawn, [SCORE], maturity="5m" if case.scenario.lag_s else "2m")[SCORE]
        results.beyond[case.name] = false_alarms(starts(found), case.scenario, series)
    say("people who reload and retry, and bots")
    results.people = compare(sizes.people, seed * 100 + 70)
    say("a drop that stays")
    results.shift = _shift(max(6, round(20 * sizes.beyond)), seed * 100 + 90)
    return results


def _past(scenario: Scenario, series: int, seed: int) -> list[Incident]:
    """Incidents of 30% in the history, three hours, once a week."""
    rng = np.random.default_rng(seed)
    week, length = WEEK_MS // scenario.window_ms, 3 * HOUR_MS // scenario.window_ms
    return [
        Incident(one, first + int(rng.integers(0, week - length)), length, 0.3)
        for one in range(series)
        for first in range(0, scenario.history, week)
    ]


def with_drops(scenario: Scenario, kinds: tuple[Drop, ...], series: int, seed: int) -> list[list[Incident]]:
    """Incidents of each kind, in ``series`` series of its own."""
    rng = np.random.default_rng([seed, 1])
    return [
        spread_incidents(
            scenario, range(place * series, (place + 1) * series), kind.loss, HOUR_MS, kind.ramp_ms, rng
        )
        for place, kind in enumerate(kinds)
    ]  # fmt: skip


def _drops(results: Results, name: str, scenario: Scenario, series: int, seed: int) -> None:
    """Every kind of drop, at every score."""
    groups = with_drops(scenario, DROPS, series, seed)
    drawn = draw(scenario, series * len(DROPS), seed, [one for group in groups for one in group])
    for score, found in run(scenario, drawn, list(SCORES)).items():
        for kind, group in zip(DROPS, groups, strict=True):
            results.delays[name, kind, score] = delays(starts(found), group)


def _rivals(results: Results, series: int, seed: int) -> None:
    """The usual rules on the same scenarios, over their thresholds; drops are of 20% at 200 a minute."""
    calm, thin = draw(THICK, series, seed), draw(THIN, series, seed + 1)
    (group,) = with_drops(THICK, (DROPS[2],), series, seed + 2)
    dropping = draw(THICK, series, seed + 2, group)
    for rival in RIVALS:
        quiet, bad = rival.score(THICK, calm), rival.score(THICK, dropping)
        high = np.nan_to_num(quiet, nan=-np.inf, posinf=0.0)
        usual = [rival.usual, *np.quantile(high, 1.0 - np.geomspace(0.05, 2e-6, GRID)).tolist()]
        curve = []
        for threshold in usual:
            late = delays([(one, row + THICK.history) for one, row in alarms(bad, threshold)], group)
            curve.append(
                (false_alarms(alarms(quiet, threshold), THICK, series), late.within(5), late.quantile(0.5))
            )  # fmt: skip
        results.rivals[rival.name] = curve
        thin_false = false_alarms(alarms(rival.score(THIN, thin), rival.usual), THIN, series)
        results.usual[rival.name] = (curve[0][0], thin_false)


def _bursts(basis: str, series: int, seed: int) -> tuple[float, Delays]:
    """Bursts of three times the volume, success 90 s late: false alarms a week, delays of a 30% drop.

    On the cohort basis a window is evaluated 5 minutes later, when it has matured: the delay counts evaluated windows.
    """
    (group,) = with_drops(BURST, (DROPS[1],), series, seed)
    group = [replace(one, series=one.series + series) for one in group]
    drawn = draw(BURST, 2 * series, seed, group)
    found = starts(run(BURST, drawn, [SCORE], basis, "5m")[SCORE])
    false = sum(one < series for one, _ in found) / series
    return false, delays([one for one in found if one[0] >= series], group)


def _shift(series: int, seed: int) -> tuple[int, int, int, int]:
    """A drop of 15% that stays for five weeks: it must be told once, and not flap."""
    scenario = replace(THICK, window_ms=5 * MINUTE_MS, evaluated_ms=5 * WEEK_MS)
    group = [
        Incident(one, scenario.history + DAY_MS // scenario.window_ms, scenario.rows, 0.15) for one in range(series)
    ]
    found = run(scenario, draw(scenario, series, seed, group), [SCORE])[SCORE]
    number = [sum(one.series == place for one in found) for place in range(series)]
    return series, number.count(1), len(found), sum(one.end >= 0 for one in found)
