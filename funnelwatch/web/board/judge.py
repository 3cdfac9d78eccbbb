"""What a rate is called on the board: pure, so that each word has a test."""

from __future__ import annotations

from typing import Literal

from stream.wilson import wilson_interval

State = Literal["alert", "low", "ok", "few", "unknown", "over"]

TOO_FEW = 20
"""Of fewer impressions no rate is shown."""
DOUBT = 3.0
"""The interval by which "low" is said: 99.7 %, since a dozen numbers are looked at all day."""
NOTICEABLE = 0.95
"""A rate above this share of the expected one is not called low, however sure it is."""


def judge(impressions: int, successes: int, expected: float | None, *, alerting: bool) -> State:
    """One word for a rate.

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
    _, high = wilson_interval(successes, impressions, DOUBT)
    return "low" if high < expected and successes < NOTICEABLE * expected * impressions else "ok"
