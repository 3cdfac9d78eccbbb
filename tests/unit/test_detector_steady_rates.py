"""Steps that (nearly) always succeed: a collapse is alerted at once, although their rate has no binomial noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.stream.detector.scan import LONGEST, SCALES, Estimates, Scan, scan
from tests.report.measure import delays
from tests.report.runner import run
from tests.report.scenario import DAY_MS, Drawn, Incident, Scenario, draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.report.runner import Alarm

SCORE = 4.5
RATES = (0.97, 0.99, 0.999, 0.9999, 1.0)
WEEKLY, COLD = 8 * DAY_MS, DAY_MS // 2


def steady(scenario: Scenario, incidents: Iterable[Incident] = (), seed: int = 3) -> Drawn:
    """One series for each rate, in the order of RATES."""
    parts = []
    for place, rate in enumerate(RATES):
        own = replace(scenario, rate=(min(rate, 1 - 1e-12),) * 2, daily=0.3)
        mine = [replace(one, series=0) for one in incidents if one.series == place]
        parts.append(draw(own, 1, seed + place, mine))
    names = ("impressions", "successes", "cohort", "rate")
    return Drawn(*(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names))


def collapses(scenario: Scenario, loss: float) -> list[Incident]:
    """Three hours of one day, in each series: an hour long each."""
    hours = (4, 11, 19)
    return [Incident(one, scenario.history + 60 * hour, 60, loss) for one in range(len(RATES)) for hour in hours]


def alarms(scenario: Scenario, drawn: Drawn) -> list[Alarm]:
    """What the shipped rule raises."""
    return run(scenario, drawn, [SCORE])[SCORE]


@pytest.mark.parametrize("history_ms", [WEEKLY, COLD], ids=["weekly baseline", "cold start"])
@pytest.mark.parametrize("loss", [0.6, 1.0], ids=["-60%", "-100%"])
@pytest.mark.parametrize(("per_minute", "allowed"), [(200.0, 1), (15.0, 3)], ids=["200 a minute", "15 a minute"])
def test_a_collapse_of_a_step_that_always_succeeds_is_alerted_at_once(
    history_ms: int, loss: float, per_minute: float, allowed: int
) -> None:
    """Each of five rates from 0.97 to 1, three times: within 1 window at 200 a minute, within 3 at 15; and it ends."""
    scenario = Scenario(per_minute=per_minute, history_ms=history_ms, evaluated_ms=DAY_MS)
    incidents = collapses(scenario, loss)

    found = alarms(scenario, steady(scenario, incidents))

    late = delays([(one.series, one.row) for one in found], incidents)
    assert max(late.windows) <= allowed
    assert all(one.end > 0 for one in found)


@pytest.mark.parametrize("loss", [0.6, 1.0], ids=["-60%", "-100%"])
def test_successes_that_lag_delay_the_alert_by_few_windows(loss: float) -> None:
    """Twenty seconds to succeed: what straddles a window's end hides neither a collapse nor its end."""
    scenario = Scenario(history_ms=WEEKLY, evaluated_ms=DAY_MS, lag_s=20.0)
    incidents = collapses(scenario, loss)

    found = alarms(scenario, steady(scenario, incidents))

    late = delays([(one.series, one.row) for one in found], incidents)
    assert max(late.windows) <= 2
    assert all(0 < one.end - one.row <= 60 + 15 for one in found)


@pytest.mark.parametrize("lag_s", [0.0, 20.0])
@pytest.mark.parametrize("per_minute", [200.0, 15.0])
def test_steps_that_always_succeed_raise_no_false_alarm(per_minute: float, lag_s: float) -> None:
    """Two quiet days of each rate, on a weekly baseline and from a cold start."""
    for history_ms in (WEEKLY, COLD):
        scenario = Scenario(per_minute=per_minute, history_ms=history_ms, evaluated_ms=2 * DAY_MS, lag_s=lag_s)
        assert alarms(scenario, steady(scenario)) == []


def flat(n: int, seen: int, rate: float, base: float) -> Scan:
    """An hour of equal windows."""
    return scan(
        np.full((LONGEST + 1, 1), float(n)), np.full((LONGEST, 1), float(seen)), np.full((LONGEST, 1), rate),
        np.ones((LONGEST, 1), dtype=bool), Estimates(np.zeros(1), np.ones((1, 1)), np.ones((len(SCALES), 1))),
        np.full((len(SCALES), 1, 1), base),
    )  # fmt: skip


@given(n=st.integers(1, 300), rate=st.floats(0.02, 0.85), hit=st.floats(0.0, 1.0), tau=st.sampled_from([0.01, 0.03]))
@settings(max_examples=200)
def test_at_ordinary_rates_the_tolerance_alone_raises_nothing(n: int, rate: float, hit: float, tau: float) -> None:
    """Up to 0.85 the first score decides, as it was tuned; the second one exceeds the threshold only where both do."""
    found = flat(n, round(hit * rate * n), rate, tau**2)

    first = found.z / found.scale
    assert not np.any((found.beyond > SCORE) & (first <= SCORE) & (found.drop < 0.3))


def test_nothing_within_the_tolerance_counts() -> None:
    """A rate of 0.9999 that falls by 4% lies within 4.5 times the 1% by which an expectation may be off."""
    assert np.all(flat(200, 192, 0.9999, 1e-4).beyond == -np.inf)
    assert np.all(flat(200, 180, 0.9999, 1e-4).beyond[-1] > SCORE)
