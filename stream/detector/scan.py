"""The scan: how far the last k windows lie below expectation, for several k at once (DETECTION.md, steps 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SCALES = np.array([1, 2, 3, 5, 8, 13, 21, 34, 60])
"""Lengths k of the judged stretches, in windows."""
LONGEST = int(SCALES[-1])
SHORT = 4
"""The first so many scales are the short ones, k <= 5, which forget a dip soon after it is over."""
TAU_SEASONAL = 0.01
TAU_RECENT = 0.03


@dataclass(frozen=True, slots=True)
class Estimates:
    """What history says about the noise of each column."""

    rho: Floats
    """Overdispersion: variance of x is n p (1 - p) (1 + (n - 1) rho). Shape (columns,)."""
    kernel: Floats
    """Share of the successes that come 0, 1, 2… windows after their impression. Shape (lags, columns)."""
    sigma: Floats
    """Spread of z on history where no incident was, at least 1. Shape (scales, columns)."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Sums and scores over the last k windows: each of shape (scales, columns)."""

    impressions: Floats
    """Impressions whose success is due in the stretch; a fraction where success lags its impression."""
    successes: Floats
    expected: Floats
    variance: Floats
    z: Floats
    scale: Floats
    """What z is divided by."""

    @property
    def score(self) -> Floats:
        """How far below expectation, in ordinary deviations."""
        score: Floats = self.z / self.scale
        return score

    @property
    def drop(self) -> Floats:
        """Relative drop: 1 - seen / expected; 0 where nothing was expected."""
        return np.where(self.expected > 0, 1.0 - self.successes / np.maximum(self.expected, 1e-12), 0.0)


def due(impressions: Floats, kernel: Floats) -> Floats:
    """Impressions whose success is due in each window: the earlier ones count by the share that comes this late.

    ``impressions`` has (lags - 1) more rows in front than the result.
    """
    lags = len(kernel)
    rows = len(impressions) - lags + 1
    total: Floats = impressions[lags - 1 :] * kernel[0]
    for lag in range(1, lags):
        total = total + impressions[lags - 1 - lag : lags - 1 - lag + rows] * kernel[lag]
    return total


def split(kernel: Floats) -> Floats:
    """Weights of earlier impressions in the variance, per p², that chance adds at an end of a stretch.

    A success of a cohort of which a share F has come by the stretch's end falls in or out of it: F (1 - F) each, for
    every cohort that straddles the end. Inside a stretch this cancels, so only the two ends count.
    """
    reached = np.cumsum(kernel, axis=0)
    weights: Floats = np.maximum(reached * (1.0 - reached), 0.0)
    return weights


def scan(  # noqa: PLR0917
    impressions: Floats, successes: Floats, rate: Floats, known: NDArray[np.bool_], estimates: Estimates, base: Floats
) -> Scan:
    """Scan the last windows.

    Args:
        impressions: of the last LONGEST + lags windows, oldest first: shape (LONGEST + lags, columns).
        successes: of the last LONGEST windows.
        rate: expected rate of each of the last LONGEST windows.
        known: whether that rate is known; a window without is left out.
        estimates: the noise of each column.
        base: squares of (tau, relative standard error of the rate) of the newest window, added up: what the sum may
            be off in proportion to itself. Shape (columns,).
    """
    n = np.where(known, due(impressions[1:], estimates.kernel), 0.0)
    spread = n * rate * (1.0 - rate)
    parts = np.stack([n, np.where(known, successes, 0.0), n * rate, spread, spread * np.maximum(n - 1.0, 0.0)])
    sums = np.cumsum(parts[:, ::-1], axis=1)[:, SCALES - 1]
    total, seen, expected = sums[0], sums[1], sums[2]
    open_ends = due(impressions, split(estimates.kernel))
    ends = open_ends[-1] + open_ends[LONGEST - SCALES]
    variance = sums[3] + estimates.rho * sums[4] + rate[-1] ** 2 * ends
    z = deviance_root(seen, total, expected) * np.sqrt(
        expected * (1.0 - expected / np.maximum(total, 1e-12)) / np.maximum(variance, 1e-12)
    )
    scale = np.sqrt(estimates.sigma**2 + base * expected**2 / np.maximum(variance, 1e-12))
    return Scan(total, seen, expected, variance, z, scale)


def deviance_root(seen: Floats, total: Floats, expected: Floats) -> Floats:
    """Signed root of the binomial deviance of ``seen`` of ``total`` against ``expected``; positive for a drop."""
    total = np.maximum(total, seen)
    safe = expected > 0
    missed = np.maximum(total - seen, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(seen > 0, seen * np.log(seen / np.where(safe, expected, 1.0)), 0.0)
        miss = np.where(missed > 0, missed * np.log(missed / np.where(safe, total - expected, 1.0)), 0.0)
    deviance = np.where(safe, 2.0 * np.maximum(hit + miss, 0.0), 0.0)
    root: Floats = np.sign(expected - seen) * np.sqrt(deviance)
    return root


def recovery(found: Scan, drop: Floats) -> Floats:
    """Log likelihood ratio of "back to what is expected" against "still lower by ``drop``", for every scale.

    The likelihoods are binomial, divided by the overdispersion of the stretch. Unlike the score, this does not remember
    a dip: windows of the dip count against recovery, so the largest over the scales is a CUSUM for it (Page, 1954), and
    thin series, which say little in 5 windows, may take longer stretches. Shape (scales, columns).
    """
    n, x, expected = found.impressions, found.successes, found.expected
    n = np.maximum(n, x)
    rate = np.clip(expected / np.maximum(n, 1e-12), 1e-6, 1.0 - 1e-6)
    lower = rate * (1.0 - np.clip(drop, 0.01, 0.99))
    ratio = x * np.log(rate / lower) + (n - x) * np.log((1.0 - rate) / (1.0 - lower))
    over = np.maximum(found.variance / np.maximum(n * rate * (1.0 - rate), 1e-12), 1.0)
    result: Floats = np.where(n > 0, ratio / over, 0.0)
    return result
