"""The scan: how far the last k windows lie below expectation, for several k at once (DETECTION.md, steps 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Flags, Floats

SCALES = np.array([1, 2, 3, 5, 8, 13, 21, 34, 60])
"""Lengths k of the evaluated spans, in windows."""
PIECES = ((1, 1), (2, 1), (3, 2), (5, 3), (8, 5), (13, 8), (21, 13), (34, 21, 5))
"""The shorter lengths that make up each length but the first, the latest first."""
LONGEST = int(SCALES[-1])
SHORT = 4
"""The first so many scales are the short ones, k <= 5, which forget a dip soon after it is over."""
MONTH = 43_200.0
ALLOWANCE = 0.5 * (np.sqrt(2.0 * np.log(MONTH)) - np.sqrt(2.0 * np.log(MONTH / SCALES)))
"""Added to the score of each scale. A month of minutes has 43,200 spans of one window, and of 60 windows 60 times
fewer that do not overlap: with one threshold for all, a long span would have to be more unusual than a short one.
The largest of M / k standard normals is about sqrt(2 ln(M / k)): a share of the difference, after the multiscale test
of Dümbgen & Spokoiny (2001); not all of it, for long spans suffer more from errors of the baseline."""
CONTINUITY = 0.5
"""Added to a count below what is expected: the tail of a whole number begins half a step above it."""
TAU_SEASONAL = 0.01
TAU_RECENT = 0.03
STEADY = 0.95
"""A recovery is discounted by the noise of this rate where the rate is higher."""
TOLERATED = 4.5
"""So many deviations of the expectation itself are tolerated by the second score (`beyond_tolerance`): the threshold of
the shipped rule, so that the second score exceeds the first one only where the first one fails, at rates near 1."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """The noise of each column, estimated from history."""

    rho: Floats
    """Overdispersion: variance of x is n p (1 - p) (1 + (n - 1) rho). Shape (columns,)."""
    kernel: Floats
    """Share of the successes that come 0, 1, 2… windows after their impression. Shape (lags, columns)."""
    sigma: Floats
    """Spread of z on history where no incident was, at least 1. Shape (scales, columns)."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Sums and scores over the last k windows: each of shape (scales, rows, columns)."""

    impressions: Floats
    """Impressions whose success is due in the span; a fraction where success lags its impression."""
    successes: Floats
    expected: Floats
    variance: Floats
    z: Floats
    scale: Floats
    """Divisor of z."""
    beyond: Floats
    """How far below the lowest tolerated rate, in ordinary deviations; -inf where it is not below."""

    @property
    def score(self) -> Floats:
        """How far below expectation, in ordinary deviations, comparable between scales."""
        larger = np.maximum(self.z / self.scale, self.beyond)
        score: Floats = larger + ALLOWANCE.reshape(-1, *(1,) * (self.z.ndim - 1))
        return score

    @property
    def drop(self) -> Floats:
        """Relative drop: 1 - seen / expected; 0 where nothing was expected."""
        return np.where(self.expected > 0, 1.0 - self.successes / np.maximum(self.expected, 1e-12), 0.0)

    def at(self, row: int, column: int) -> Scan:
        """The numbers of one row and column: shape (scales,)."""
        parts = (self.impressions, self.successes, self.expected, self.variance, self.z, self.scale, self.beyond)
        return Scan(*(part[:, row, column] for part in parts))


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
    """Weights of earlier impressions in the variance, per p², that chance adds at an end of a span.

    A success of a cohort of which a share F has come by the span's end falls in or out of it: F (1 - F) each, for
    every cohort that straddles the end. Inside a span this cancels, so only the two ends count.
    """
    reached = np.cumsum(kernel, axis=0)
    weights: Floats = np.maximum(reached * (1.0 - reached), 0.0)
    return weights


def scan(  # noqa: PLR0917
    impressions: Floats, successes: Floats, rate: Floats, known: Flags, estimates: Estimates, base: Floats
) -> Scan:
    """Scan the spans that end with each of the evaluated rows.

    Args:
        impressions: of the evaluated rows and the LONGEST + lags - 1 before them, oldest first: shape (…, columns).
        successes: of the evaluated rows and the LONGEST - 1 before them.
        rate: expected rate of each of those.
        known: whether that rate is known; a window without is left out.
        estimates: the noise of each column.
        base: squares of (tau, relative standard error of the mean rate of a span), added up: what the sum may be off
            in proportion to itself. Shape (scales, rows, columns).
    """
    rows = base.shape[1]
    n = np.where(known, due(impressions[1:], estimates.kernel), 0.0)
    spread = n * rate * (1.0 - rate)
    parts = np.stack([n, np.where(known, successes, 0.0), n * rate, spread, spread * np.maximum(n - 1.0, 0.0)])
    total, seen, expected, plain, clumped = span_sums(parts, rows)
    open_ends = due(impressions, split(estimates.kernel))
    last = np.arange(LONGEST, LONGEST + rows)
    ends = open_ends[last] + open_ends[last - SCALES[:, None]]
    variance = plain + estimates.rho * clumped + rate[-rows:] ** 2 * ends
    share = estimates.rho * clumped / np.maximum(variance, 1e-12)
    binomial = expected * (1.0 - expected / np.maximum(total, 1e-12))
    whole = np.minimum(seen + CONTINUITY, np.maximum(seen, expected))
    z = deviance_root(whole, total, expected, share) * np.sqrt(binomial / np.maximum(variance, 1e-12))
    scale = np.sqrt(estimates.sigma[:, None] ** 2 + base * expected**2 / np.maximum(variance, 1e-12))
    # The average of n - 1 over the impressions: how much the overdispersion of one window multiplies its variance.
    crowd = estimates.rho * clumped / np.maximum(plain, 1e-12)
    beyond = beyond_tolerance(total, whole, expected, crowd, ends, base) / estimates.sigma[:, None]
    return Scan(total, seen, expected, variance, z, scale, beyond)


def beyond_tolerance(  # noqa: PLR0917
    total: Floats, seen: Floats, expected: Floats, crowd: Floats, ends: Floats, base: Floats
) -> Floats:
    """How far the successes lie below the lowest rate that is still tolerated, in its ordinary deviations.

    The expectation may be off by ``sqrt(base)`` in proportion to itself. The first score adds that error to the
    variance. Where the rate is (nearly) 1, binomial variance is (nearly) 0, the error is many deviations, and no drop,
    not even one to nothing, exceeds it. Here the error shifts the null hypothesis instead: z tests against the rate
    that is TOLERATED times the error lower, with the variance of that rate.

    Lagging success adds ``ends`` to the variance, which is symmetric while the binomial part is skew. The third
    cumulant of the sum is that of the binomial part alone, so of the skewness correction in the deviance, taken
    relative to the whole variance, the square of the binomial share holds (Cornish-Fisher, first order).

    Args:
        total: impressions of each span; all arrays have the shape (scales, rows, columns).
        seen: successes, continuity included.
        expected: successes.
        crowd: overdispersion: the variance is 1 + crowd times the binomial one.
        ends: impressions whose success may fall to either side of an end of the span.
        base: squares of the relative error of the expectation.

    Returns:
        -inf where the successes do not lie below what is tolerated.
    """
    tolerated = expected * (1.0 - TOLERATED * np.sqrt(base))
    result = np.full(expected.shape, -np.inf)
    some = (tolerated > seen) & (total > 0)
    if not some.any():
        return result
    n, x, mean, more = total[some], seen[some], tolerated[some], crowd[some]
    rate = mean / n
    binomial = mean * (1.0 - rate)
    skew = binomial * (1.0 + more)
    variance = skew + rate**2 * ends[some]
    root = deviance_root(x, n, mean, more / (1.0 + more)) * np.sqrt(binomial / variance)
    plain = (mean - x) / np.sqrt(variance)
    result[some] = plain + (skew / variance) ** 2 * (root - plain)
    return result


def span_sums(parts: Floats, rows: int) -> Floats:
    """Sums over the last k rows, for every scale and each of the last ``rows`` rows.

    The scales are Fibonacci numbers, and 60 = 34 + 21 + 5: each sum is that of two or three shorter ones. So a sum is
    of the same numbers in the same order however many rows are asked for at once, and equal to the last bit.

    Args:
        parts: shape (parts, rows + LONGEST - 1, columns).
        rows: how many rows are evaluated.

    Returns:
        Shape (parts, scales, rows, columns).
    """
    length = parts.shape[1]
    sums = {1: parts}
    for scale, pieces in zip(SCALES[1:].tolist(), PIECES, strict=True):
        total = sums[pieces[0]][:, scale - pieces[0] :]
        offset = scale - pieces[0]
        for piece in pieces[1:]:
            offset -= piece
            total = total + sums[piece][:, offset : offset + length - scale + 1]
        sums[scale] = total
    return np.stack([sums[scale][:, -rows:] for scale in SCALES.tolist()], axis=1)


def deviance_root(seen: Floats, total: Floats, expected: Floats, clumped: Floats | float = 0.0) -> Floats:
    """Signed root of the deviance of ``seen`` of ``total`` against ``expected``; positive for a drop.

    ``clumped`` is the share of the variance that is overdispersion. The log density of a binomial share x around p
    falls with the divergence KL(x, p), that of a beta share with KL(p, x), which is twice as skew. The skewness of a
    beta-binomial is 1 + w times that of a binomial of the same variance, w being that share: so is that of the mean of
    both divergences with weights 1 - w and w. Without it, strongly overdispersed rates near 1 look like drops. Where it
    would make a drop more unusual, at low rates, it overshoots (KL(p, 0) is infinite), and the plain one is taken.
    """
    total = np.maximum(total, seen)
    safe = expected > 0
    missed = np.maximum(total - seen, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(seen > 0, np.log(seen / np.where(safe, expected, 1.0)), 0.0)
        miss = np.where(missed > 0, np.log(missed / np.where(safe, total - expected, 1.0)), 0.0)
    half = seen * hit + missed * miss
    turned = np.where((seen > 0) & (seen < expected), -expected * hit - (total - expected) * miss, half)
    mean = half + clumped * np.minimum(turned - half, 0.0)
    deviance = np.where(safe, 2.0 * np.maximum(mean, 0.0), 0.0)
    root: Floats = np.sign(expected - seen) * np.sqrt(deviance)
    return root


def recovery(found: Scan, drop: float) -> Floats:
    """Log likelihood ratio of "back to what is expected" against "still lower by ``drop``", for every scale.

    The likelihoods are binomial, divided by the overdispersion of the span. Unlike the score, this does not remember
    a dip: windows of the dip count against recovery, so the largest over the scales is a CUSUM for it (Page, 1954), and
    thin series, which say little in 5 windows, may take longer spans. Of the shape of the scan.
    """
    n, x, expected = found.impressions, found.successes, found.expected
    n = np.maximum(n, x)
    rate = np.clip(expected / np.maximum(n, 1e-12), 1e-6, 1.0 - 1e-6)
    lower = rate * (1.0 - min(max(drop, 0.01), 0.99))
    ratio = x * np.log(rate / lower) + (n - x) * np.log((1.0 - rate) / (1.0 - lower))
    # Lagging success has a variance of its own, which must not outweigh everything beside a binomial one of nearly 0.
    over = np.maximum(found.variance / np.maximum(n * rate * (1.0 - np.minimum(rate, STEADY)), 1e-12), 1.0)
    result: Floats = np.where(n > 0, ratio / over, 0.0)
    return result
