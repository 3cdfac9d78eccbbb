"""The rules that are usually written for a conversion rate, over all windows of all series at once.

Each takes the counts of the last evaluated week with its history and one threshold, and says where it alarms: a boolean
array (evaluated windows, series). Where a rule has a default, it is the first of its thresholds.

ThirdEye's rules are those of the StarTree ThirdEye detectors THRESHOLD, PERCENTAGE_CHANGE (against last week),
MEAN_VARIANCE (52 windows back; its default sensitivity of 5 is one standard deviation) and HOLT_WINTERS (additive here,
season of a day, bounds of one to three standard errors), as its documentation describes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.report.scenario import DAY_MS, WEEK_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.arrays import Floats
    from tests.report.scenario import Drawn, Scenario

    Score = Callable[[Scenario, Drawn], Floats]

MIN_IMPRESSIONS = 8
HOUR_WINDOWS = 60
RECENT = 52
ALPHA, GAMMA = 0.1, 0.2
REFERENCE_SHIFT = 0.8
"""The CUSUM is tuned to a drop to this share of the rate."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A usual rule: alarms where its score is above the threshold."""

    name: str
    score: Score
    usual: float
    """The threshold it is written with."""
    thresholds: tuple[float, ...]
    """Others, for its curve."""


def rates(drawn: Drawn) -> Floats:
    """Successes per impression, at most 1; not a number where fewer than MIN_IMPRESSIONS."""
    n = drawn.impressions
    return np.where(n >= MIN_IMPRESSIONS, np.minimum(drawn.successes / np.maximum(n, 1), 1.0), np.nan)


def below(scenario: Scenario, drawn: Drawn) -> Floats:
    """1 - rate."""
    return 1.0 - rates(drawn)[scenario.history :]


def below_previous(scenario: Scenario, drawn: Drawn) -> Floats:
    """1 - rate / rate of the window before."""
    rate = rates(drawn)[scenario.history - 1 :]
    return 1.0 - rate[1:] / np.maximum(rate[:-1], 1e-9)


def below_last_week(scenario: Scenario, drawn: Drawn) -> Floats:
    """1 - rate / rate of the same window last week."""
    rate, week = rates(drawn), WEEK_MS // scenario.window_ms
    return 1.0 - rate[scenario.history :] / np.maximum(rate[scenario.history - week : -week], 1e-9)


def trailing(values: Floats, first: int, back: int) -> Floats:
    """Sums over the ``back`` rows before each row from ``first`` on."""
    cum = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(np.nan_to_num(values), axis=0)])
    rows = np.arange(first, len(values))
    found: Floats = cum[rows] - cum[rows - back]
    return found


def mean_variance(scenario: Scenario, drawn: Drawn) -> Floats:
    """Standard deviations below the mean of the rates of the last 52 windows."""
    rate = rates(drawn)
    number = np.maximum(trailing((~np.isnan(rate)).astype(float), scenario.history, RECENT), 2.0)
    mean = trailing(rate, scenario.history, RECENT) / number
    square = trailing(rate**2, scenario.history, RECENT) / number
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-9))
    found: Floats = (mean - rate[scenario.history :]) / deviation
    return found


def z_test(n: Floats, x: Floats, before_n: Floats, before_x: Floats) -> Floats:
    """The two-sample z statistic of a drop."""
    pooled = (x + before_x) / np.maximum(n + before_n, 1.0)
    variance = pooled * (1.0 - pooled) * (1.0 / np.maximum(n, 1.0) + 1.0 / np.maximum(before_n, 1.0))
    gap = before_x / np.maximum(before_n, 1.0) - x / np.maximum(n, 1.0)
    return np.where(n >= MIN_IMPRESSIONS, gap / np.sqrt(np.maximum(variance, 1e-9)), np.nan)


def z_last_hour(scenario: Scenario, drawn: Drawn) -> Floats:
    """The window against the last hour."""
    n, x = drawn.impressions.astype(float), drawn.successes.astype(float)
    before = [trailing(values, scenario.history, HOUR_WINDOWS) for values in (n, x)]
    return z_test(n[scenario.history :], x[scenario.history :], *before)


def z_same_time(scenario: Scenario, drawn: Drawn) -> Floats:
    """The last five windows against the same ones, 15 windows wider to each side, one to three weeks ago."""
    n, x = drawn.impressions.astype(float), drawn.successes.astype(float)
    week, first = WEEK_MS // scenario.window_ms, scenario.history
    before = [np.zeros((scenario.rows - first, n.shape[1])) for _ in range(2)]
    for back in (1, 2, 3):
        if first - back * week < 0:
            continue
        for place, values in enumerate((n, x)):
            cum = np.concatenate([np.zeros((1, n.shape[1])), np.cumsum(values, axis=0)])
            rows = np.arange(first, scenario.rows) - back * week
            before[place] += cum[np.minimum(rows + 16, len(values))] - cum[np.maximum(rows - 19, 0)]
    now = [trailing(np.concatenate([values, values[:1]])[1:], first - 1, 5)[1:] for values in (n, x)]
    return z_test(now[0], now[1], *before)


def holt_winters(scenario: Scenario, drawn: Drawn) -> Floats:
    """Standard errors below a forecast of the rate one window ahead: level without trend, season of a day, additive."""
    rate = rates(drawn)
    day = DAY_MS // scenario.window_ms
    begin = max(0, scenario.history - 7 * day)
    level = np.nanmean(rate[begin : begin + day], axis=0)
    # The season begins smoothed over an hour, else it would be noise.
    width = max(1, min(HOUR_WINDOWS, day // 24))
    first = np.nan_to_num(rate[begin : begin + day] - level)
    season = np.stack([np.convolve(np.r_[one, one, one], np.ones(width) / width, "same")[day : 2 * day]
                       for one in first.T], axis=1)  # fmt: skip
    error = np.full(rate.shape[1], float(np.nanvar(first)))
    found = np.zeros((scenario.rows - scenario.history, rate.shape[1]))
    for row in range(begin + day, scenario.rows):
        place = (row - begin) % day
        miss = np.nan_to_num(rate[row] - level - season[place])
        if row >= scenario.history:
            found[row - scenario.history] = -miss / np.sqrt(np.maximum(error, 1e-9))
        level = level + ALPHA * miss
        season[place] += GAMMA * (1.0 - ALPHA) * miss
        error = 0.999 * error + 0.001 * miss**2
    return found


def cusum(scenario: Scenario, drawn: Drawn) -> Floats:
    """Bernoulli CUSUM (Reynolds & Stoumbos, 1999) against the mean rate of the history, for a drop to 80% of it."""
    n, x = drawn.impressions, drawn.successes
    usual = np.clip(
        x[: scenario.history].sum(axis=0) / np.maximum(n[: scenario.history].sum(axis=0), 1), 1e-3, 1 - 1e-3
    )
    low = REFERENCE_SHIFT * usual
    hit, miss = np.log(low / usual), np.log((1.0 - low) / (1.0 - usual))
    total = np.zeros(n.shape[1])
    found = np.zeros((scenario.rows - scenario.history, n.shape[1]))
    for row in range(scenario.history, scenario.rows):
        made = np.minimum(x[row], n[row])
        # Held at a height from which it comes down within some windows of ordinary traffic.
        total = np.clip(total + made * hit + (n[row] - made) * miss, 0.0, 60.0)
        found[row - scenario.history] = total
    return found


RIVALS = (
    Rival("rate below 0.6 (ThirdEye THRESHOLD)", below, 0.4, (0.3, 0.35, 0.45, 0.5, 0.6, 0.7)),
    Rival("20% below the window before", below_previous, 0.2, (0.1, 0.15, 0.3, 0.4, 0.5, 0.6)),
    Rival("20% below last week (ThirdEye PERCENTAGE_CHANGE)", below_last_week, 0.2, (0.1, 0.15, 0.3, 0.4, 0.5, 0.6)),
    Rival("mean - 1 sd of 52 windows (ThirdEye MEAN_VARIANCE)", mean_variance, 1.0, (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)),
    Rival("Holt-Winters, 2 standard errors (ThirdEye HOLT_WINTERS)", holt_winters, 2.0, (3.0, 4.0, 5.0, 6.0, 7.0)),
    Rival("z-test, last hour, z = 3", z_last_hour, 3.0, (4.0, 5.0, 6.0, 7.0, 8.0)),
    Rival("z-test, same time of week, z = 3", z_same_time, 3.0, (4.0, 5.0, 6.0, 7.0, 8.0)),
    Rival("Bernoulli CUSUM, h = 5", cusum, 5.0, (10.0, 20.0, 30.0, 45.0, 59.0)),
)


def alarms(score: Floats, threshold: float, quiet: int = 5) -> list[tuple[int, int]]:
    """(series, evaluated window) where alarms begin: above the threshold after ``quiet`` windows that were not."""
    above = np.nan_to_num(score, nan=-np.inf) > threshold
    before = np.zeros_like(above)
    for back in range(1, quiet + 1):
        before[back:] |= above[:-back]
    rows, series = np.nonzero(above & ~before)
    return list(zip(series.tolist(), rows.tolist(), strict=True))
