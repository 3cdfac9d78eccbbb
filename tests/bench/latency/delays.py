"""What is reckoned from what was seen: delays, whether an alert came that had to come, whether the lag grew. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENOUGH_FOR_P99 = 100
"""Of fewer delays the 99th percentile is not told: it would be the largest, or nearly."""

GROWS_S = 0.5
"""A rate is not sustained if the lag, in seconds of events, has grown by this from the first to the last third."""

KEPT = 0.95
"""The share of a rate that has to be produced for it to be called reached."""


def summary(delays_ms: Sequence[float]) -> dict[str, int | None]:
    """How many delays there are, and p50, p99 and max of them, ms; None where there are too few."""
    if not delays_ms:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(delays_ms, [50, 99])
    enough = len(delays_ms) >= ENOUGH_FOR_P99
    return {
        "n": len(delays_ms),
        "p50": round(p50),
        "p99": round(p99) if enough else None,
        "max": round(max(delays_ms)),
    }


@dataclass(frozen=True)
class Due:
    """From when to when a window has to be due to be measured, ms; it is due at its end and the allowed disorder."""

    disorder_ms: int
    since_ms: float
    until_ms: float

    def delay(self, window_end: int, read_ms: float) -> float | None:
        """How long after it was due something about a window was read, ms; None if it is not measured."""
        due = window_end + self.disorder_ms
        return read_ms - due if self.since_ms <= due < self.until_ms else None


@dataclass(frozen=True)
class Change:
    """A window in which the conversion of a series has crossed the threshold: an alert must say so."""

    window: int
    series: str
    state: str


def changes(made: Iterable[tuple[int, str, bool]]) -> set[Change]:
    """The alerts that must come.

    Args:
        made: window, series, and whether its conversion was below the threshold, of each window, in order.
    """
    below: dict[str, bool] = {}
    found = set()
    for window, series, is_below in made:
        if is_below != below.get(series, False):
            found.add(Change(window, series, "firing" if is_below else "resolved"))
        below[series] = is_below
    return found


def alert_delays(
    expected: Iterable[Change], read: Iterable[tuple[dict[str, Any], float]], rule: str, window_ms: int, due: Due
) -> dict[str, Any]:
    """Delays of the alerts that had to come, each with the first message that says it.

    Args:
        expected: what has to be said.
        read: messages of alerts, and when a consumer had each, ms.
        rule: the one whose messages count.
        window_ms: length of a window.
        due: which windows are measured.

    Returns:
        ``summary``, the number of windows that the alerts are of, and how many have not come.
    """
    said: dict[Change, float] = {}
    for alert, at in read:
        if alert["rule"] == rule:
            change = Change(alert["window_start"], alert["dimensions"].get("os", ""), alert["state"])
            said[change] = min(at, said.get(change, at))
    delays, windows, missing = [], set(), 0
    for change in expected:
        end = change.window + window_ms
        if due.delay(end, 0) is None:
            continue
        at = said.get(change)
        if at is None:
            missing += 1
        else:
            delays.append(at - end - due.disorder_ms)
            windows.add(change.window)
    return {**summary(delays), "windows": len(windows), "missing": missing}


@dataclass(frozen=True)
class Sample:
    """How much there was at a time, s: records on the topic, and records that are dealt with."""

    at_s: float
    produced: int
    counted: int


def throughput(samples: Sequence[Sample], asked: int) -> dict[str, Any]:
    """Whether a rate was reached, and whether counting kept up with it.

    Args:
        samples: at even distances, in order, three at least.
        asked: the rate, events/s.

    Returns:
        ``asked``, ``reached`` and ``counted``, events/s; ``lag_s``, the median lag of the last third in seconds of
        events; ``lag_grew_s``, by how much it is larger than that of the first third; ``kept_up``, whether that is
        little.
    """
    first, last = samples[0], samples[-1]
    seconds = last.at_s - first.at_s
    reached, counted = (last.produced - first.produced) / seconds, (last.counted - first.counted) / seconds
    third = max(1, len(samples) // 3)
    lags = [(one.produced - one.counted) / max(reached, 1) for one in samples]
    before, after = median(lags[:third]), median(lags[-third:])
    return {
        "asked": asked,
        "reached": round(reached),
        "counted": round(counted),
        "lag_s": round(after, 2),
        "lag_grew_s": round(after - before, 2),
        "kept_up": after - before <= GROWS_S,
    }


def slower(result: dict[str, Any]) -> int:
    """The rate to try next where counting did not keep up: nine tenths of what it did, in thousands of events/s."""
    return max(1_000, int(min(result["asked"], result["counted"]) * 0.9) // 1_000 * 1_000)
