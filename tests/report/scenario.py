"""The simulated scenario of the detection report: seeded counts of many independent series, with incidents put in.

Counts are beta-binomial: a window of n impressions has a conversion drawn from a beta distribution, so that successes
have the variance n p (1 - p) (1 + (n - 1) rho). Every series has parameters of its own, drawn from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.arrays import Floats, Ints

MONDAY = 1_700_438_400_000
"""2023-11-20T00:00:00Z; where every simulation begins."""
MINUTE_MS = 60_000
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the series of one run have in common. Pairs are ranges from which each series draws uniformly."""

    per_minute: float = 200.0
    """Impressions a minute, averaged over a week."""
    window_ms: int = MINUTE_MS
    history_ms: int = 3 * WEEK_MS
    evaluated_ms: int = WEEK_MS
    rate: tuple[float, float] = (0.7, 0.95)
    rho: tuple[float, float] = (0.0, 0.005)
    daily: float = 0.6
    """Relative height of the daily season of the volume; 1 lets it fall to zero at night."""
    weekday: float = 0.1
    """Standard deviation of the logarithm of the volume of each day of the week."""
    swing: float = 0.15
    """Height of the daily season of the rate, in its log odds; that of the weekly season is a third of it."""
    lag_s: float = 0.0
    """Mean time from impression to success (exponential)."""
    holiday: float = 1.0
    """Factor on the volume of the third and fourth evaluated day."""
    outage_ms: int = 0
    """No impressions for so long, once in the last week of the history and once in the evaluated time."""
    bursts_a_day: float = 0.0
    """Push messages: the volume is 3 times the usual for 10 minutes, from one window to the next."""

    @property
    def history(self) -> int:
        """Windows before the first that is evaluated."""
        return self.history_ms // self.window_ms

    @property
    def rows(self) -> int:
        """Windows in all."""
        return (self.history_ms + self.evaluated_ms) // self.window_ms


@dataclass(frozen=True, slots=True)
class Incident:
    """One series loses a share of its successes from a window on."""

    series: int
    begin: int
    """First window with a loss."""
    length: int
    loss: float
    ramp: int = 0
    """Windows over which the loss grows evenly to its height; 0 is a step."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Counts by window and series: shape (rows, series)."""

    impressions: Ints
    successes: Ints
    """By the window in which the success came."""
    cohort: Ints
    """By the window of the impression; what comes later than the last window is counted all the same."""
    rate: Floats
    """The true rate without incidents and chance."""


def spread_incidents(  # noqa: PLR0917
    scenario: Scenario, series: range, loss: float, length_ms: int, ramp_ms: int, rng: np.random.Generator
) -> list[Incident]:
    """One incident a day and series, at a random time, not across midnight."""
    day, length = DAY_MS // scenario.window_ms, length_ms // scenario.window_ms
    days = scenario.evaluated_ms // DAY_MS
    return [
        Incident(one, scenario.history + which * day + int(rng.integers(0, day - length)), length, loss,
                 ramp_ms // scenario.window_ms)
        for one in series
        for which in range(days)
    ]  # fmt: skip


def draw(scenario: Scenario, series: int, seed: int, incidents: list[Incident] | tuple[Incident, ...] = ()) -> Drawn:
    """Counts of so many independent series; the same seed gives the same counts."""
    rng = np.random.default_rng(seed)
    shape = (scenario.rows, series)
    impressions = rng.poisson(volume(scenario, series, rng)).astype(np.int64)
    rate = true_rate(scenario, series, rng)
    keep = np.ones(shape)
    for one in incidents:
        through = np.arange(1, one.length + 1) / max(one.ramp, 1)
        rows = slice(one.begin, one.begin + one.length)
        keep[rows, one.series] *= 1.0 - one.loss * np.minimum(through, 1.0)[: len(keep[rows])]
    rho = rng.uniform(*scenario.rho, series)
    cohort = beta_binomial(impressions, rate, rho, keep, rng)
    return Drawn(impressions, delayed(cohort, scenario, rng) if scenario.lag_s else cohort, cohort, rate)


def volume(scenario: Scenario, series: int, rng: np.random.Generator) -> Floats:
    """Expected impressions of each window: daily and weekly season, and bursts. Shape (rows, series)."""
    at = scenario.window_ms * np.arange(scenario.rows)[:, None]
    peak = rng.uniform(0.0, 1.0, series)
    daily = 1.0 + scenario.daily * np.cos(2.0 * np.pi * (at / DAY_MS - peak))
    weekdays = np.exp(rng.normal(0.0, scenario.weekday, (7, series)))
    weekdays /= weekdays.mean(axis=0)
    expected: Floats = scenario.per_minute * scenario.window_ms / MINUTE_MS * daily * weekdays[at[:, 0] // DAY_MS % 7]
    day = DAY_MS // scenario.window_ms
    expected[scenario.history + 2 * day : scenario.history + 4 * day] *= scenario.holiday
    if scenario.outage_ms:
        week = WEEK_MS // scenario.window_ms
        for first in (scenario.history - week, scenario.history):
            for one, begin in enumerate(rng.integers(first, min(first + week, scenario.rows), series)):
                expected[begin : begin + scenario.outage_ms // scenario.window_ms, one] = 0.0
    if scenario.bursts_a_day:
        length = max(1, 10 * MINUTE_MS // scenario.window_ms)
        begun = rng.random(expected.shape) < scenario.bursts_a_day * scenario.window_ms / DAY_MS
        for _ in range(length):
            expected[begun] *= 3.0
            begun = np.roll(begun, 1, axis=0)
            begun[0] = False
    return expected


def true_rate(scenario: Scenario, series: int, rng: np.random.Generator) -> Floats:
    """Conversion of each window, with a daily and a weekly season in its log odds. Shape (rows, series)."""
    at = scenario.window_ms * np.arange(scenario.rows)[:, None]
    base = rng.uniform(*scenario.rate, series)
    odds = np.log(base / (1.0 - base)) + scenario.swing * np.cos(
        2.0 * np.pi * (at / DAY_MS - rng.uniform(0, 1, series))
    )
    odds = odds + scenario.swing / 3.0 * np.cos(2.0 * np.pi * (at / WEEK_MS - rng.uniform(0, 1, series)))
    rate: Floats = 1.0 / (1.0 + np.exp(-odds))
    return rate


def beta_binomial(n: Ints, rate: Floats, rho: Floats, keep: Floats, rng: np.random.Generator) -> Ints:
    """Successes of n: mean n p, variance n p (1 - p) (1 + (n - 1) rho); of each success a share ``keep`` is left."""
    size = 1.0 / np.maximum(rho, 1e-9) - 1.0
    drawn = np.where(rho > 0, rng.beta(rate * size, (1.0 - rate) * size), rate)
    return rng.binomial(n, np.clip(drawn, 0.0, 1.0) * keep).astype(np.int64)


def delayed(cohort: Ints, scenario: Scenario, rng: np.random.Generator) -> Ints:
    """The successes by the window in which they come."""
    result = np.zeros_like(cohort)
    for late, now in arriving(cohort, scenario, rng):
        result[late:] += now[: len(now) - late]
    return result


def arriving(cohort: Ints, scenario: Scenario, rng: np.random.Generator) -> Iterator[tuple[int, Ints]]:
    """The successes by how many windows late they come: exponential lag after an impression anywhere in its window."""
    left = cohort.copy()
    scale = scenario.window_ms / 1000.0 / scenario.lag_s
    # P(still to come k windows later), for an impression uniform within its window.
    still = [1.0] + [float((1.0 - np.exp(-scale)) / scale * np.exp(-scale * k)) for k in range(200)]
    for late in range(len(still) - 1):
        share = 1.0 - still[late + 1] / still[late]
        now = rng.binomial(left, share)
        left -= now
        yield late, now
        if still[late + 1] < 1e-4:
            break
