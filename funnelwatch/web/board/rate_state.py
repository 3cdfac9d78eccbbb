"""The state of a rate on the board, in one word; a pure function."""

from __future__ import annotations

from math import inf, sqrt
from typing import Literal

State = Literal["alert", "low", "ok", "few", "unknown", "over"]

TOO_FEW = 20
"""The board shows no rate of fewer impressions."""
DOUBT = 3.0
"""Standard deviations by which a rate must be below to be called low, since a dozen rates are compared all day."""
NOTICEABLE = 0.95
"""A rate above this share of the expected one is not called low, however sure it is."""


def rate_state(
    impressions: int, successes: int, expected: float | None, strength: float = inf, *, alerting: bool = False
) -> State:
    """The state of a rate, in one word.

    Args:
        impressions: how many were shown it.
        successes: how many of them made it.
        expected: what is ordinary, above 0 and below 1; None where nothing is known.
        strength: impressions that the expected rate rests on: of few, it is uncertain itself.
        alerting: an alert about it fires.

    Returns:
        ``alert``: an alert about it fires. ``few``: fewer than ``TOO_FEW`` impressions. ``over``: more successes than
        impressions, as they answer earlier ones. ``unknown``: nothing is known of what to expect. ``low``: less than
        expected, surely and noticeably, though no alert fires (yet). ``ok``: as expected, or better.
    """
    if alerting:
        return "alert"
    if impressions < TOO_FEW:
        return "few"
    if successes > impressions:
        return "over"
    if expected is None:
        return "unknown"
    rate = successes / impressions
    deviation = sqrt(expected * (1 - expected) * (1 / impressions + 1 / strength))
    return "low" if expected - rate > DOUBT * deviation and rate < NOTICEABLE * expected else "ok"
