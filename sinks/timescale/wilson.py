"""How far a rate that was seen may be from the one behind it."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % at each end."""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a binomial proportion, by default with 95 % coverage, as ``(low, high)`` in 0 to 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212: the proportions p for which ``|successes / trials - p|`` is at
    most ``z * sqrt(p * (1 - p) / trials)``. Unlike the usual ``p ± z * sd`` it stays within 0 to 1 and holds for few
    trials and for rates near the ends.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials have no interval")
    seen = successes / trials
    share = z * z / trials
    middle = (seen + share / 2) / (1 + share)
    half = z / (1 + share) * sqrt(seen * (1 - seen) / trials + share / (4 * trials))
    # At the ends the formula gives exactly 0 and 1; floating point does not.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high
